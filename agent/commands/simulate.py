"""`isochrone-agent simulate`: the scripted endpoint, until it is told to stop."""

import argparse
import asyncio
import contextlib
import json
import os
import selectors
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from agent.errors import ConfigError
from isochrone.config import Duration

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from io import FileIO

    from agent.simulator import Script, Seen


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the subcommand."""
    parser = subparsers.add_parser("simulate", help="a scripted endpoint, to try an agent without a model or a key")
    parser.add_argument("--listen", default="127.0.0.1:9000", metavar="HOST:PORT", help="port 0 takes a free one")
    parser.add_argument("--ttft", type=_duration, default=Duration(0.3), help="time to first token (300ms)")
    parser.add_argument("--tpot", type=_duration, default=Duration(0.02), help="time per output token (20ms)")
    parser.add_argument("--tokens", type=_count, default=32, help="tokens in one answer (32)")
    parser.add_argument(
        "--rtt", type=_duration, default=Duration(0), help="delay of every answer, as by distance (0ms)"
    )
    parser.add_argument("--jitter", type=_share, default=0.0, help="spread of all times, 0 to 1 of themselves (0)")
    parser.add_argument("--script", type=Path, metavar="FILE", help="named scenarios, TOML or JSON, chosen by model")
    parser.add_argument(
        "--tls", action="store_true", help="serve https, with a certificate for this machine's loopback"
    )
    parser.add_argument(
        "--log", type=Path, metavar="FILE", help="append what the kernel saw of each stream, one JSON line"
    )
    parser.add_argument("--until-eof", action="store_true", help="stop when standard input ends, too")
    parser.add_argument("--json", action="store_true", help='say {"url": ...} once it listens')
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Serve until SIGINT or SIGTERM; exit 0, or 2 on wrong usage."""
    try:
        script = _script(args)
        host, port = _listen(args.listen)
        with asyncio.Runner(loop_factory=_precise_loop) as runner:
            return runner.run(_serve(script, (host, port), args))
    except ConfigError as exc:
        sys.stderr.write(f"isochrone-agent simulate: {exc}\n")
        return 2


def _precise_loop() -> asyncio.AbstractEventLoop:
    """Return a loop on select(2), which wakes to the microsecond; epoll rounds every wait up to a millisecond."""
    return asyncio.SelectorEventLoop(selectors.SelectSelector())


async def _serve(script: "Script", listen: tuple[str, int], args: argparse.Namespace) -> int:
    from agent.simulator import LOOPBACK_PEM, Simulator, server_context  # noqa: PLC0415  other commands stay light

    with _log(args.log) as log:
        simulator = Simulator(script, tls=server_context() if args.tls else None, on_stream=log)
        try:
            url = await simulator.start(*listen)
        except OSError as exc:
            raise ConfigError(
                f"--listen {listen[0]}:{listen[1]}: {exc.strerror}: choose another port, as in --listen 127.0.0.1:9001"
            ) from exc
        stop = asyncio.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        if args.until_eof:
            asyncio.get_running_loop().add_reader(sys.stdin.fileno(), _watch_input, stop)
        trust = f"SSL_CERT_FILE={LOOPBACK_PEM} " if args.tls else ""
        said = json.dumps({"url": url}) if args.json else f"listening: {trust}isochrone-agent probe {url} --model any"
        with contextlib.suppress(BrokenPipeError):
            sys.stdout.write(f"{said}\n")
            sys.stdout.flush()
        await stop.wait()
        await simulator.close()
    return 0


@contextlib.contextmanager
def _log(path: Path | None) -> "Iterator[Callable[[Seen], None] | None]":
    if path is None:
        yield None
        return
    try:
        file = path.open("ab", buffering=0)
    except OSError as exc:
        raise ConfigError(f"--log {path}: {exc.strerror}") from exc
    with file:
        yield lambda seen: _append(file, seen)


def _append(file: "FileIO", seen: "Seen") -> None:
    file.write(msgspec.json.encode(seen) + b"\n")


def _watch_input(stop: asyncio.Event) -> None:
    with contextlib.suppress(BlockingIOError, InterruptedError):
        if not os.read(sys.stdin.fileno(), 1024):
            asyncio.get_running_loop().remove_reader(sys.stdin.fileno())
            stop.set()


def _script(args: argparse.Namespace) -> "Script":
    from agent.simulator import Scenario, Script, load_script  # noqa: PLC0415  other commands stay light

    base = Scenario(ttft=args.ttft, tpot=args.tpot, tokens=args.tokens, rtt=args.rtt, jitter=args.jitter)
    return Script(default=base) if args.script is None else load_script(args.script, base)


def _listen(text: str) -> tuple[str, int]:
    host, colon, port = text.rpartition(":")
    if not colon or not port.isdecimal() or int(port) >= 2**16:
        raise ConfigError(f"--listen {text}: write HOST:PORT, as in 127.0.0.1:9000")
    return host.strip("[]") or "127.0.0.1", int(port)


def _duration(text: str) -> Duration:
    if text == "0":
        return Duration(0)
    try:
        return Duration.parse(text)
    except ValueError as exc:
        raise argparse.ArgumentTypeError(str(exc)) from exc


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) > 100_000:  # noqa: PLR2004  the scenario's bound
        raise argparse.ArgumentTypeError(f"{text!r} is not a count from 0 to 100000")
    return int(text)


def _share(text: str) -> float:
    with contextlib.suppress(ValueError):
        if 0 <= float(text) <= 1:
            return float(text)
    raise argparse.ArgumentTypeError(f"{text!r} is not a share from 0 to 1")
