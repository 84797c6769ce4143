"""`isochrone-agent selftest`: how true this host's measurements are."""

import argparse
import asyncio
import contextlib
import os
import shutil
import signal
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

import msgspec

from agent.errors import AgentError

if TYPE_CHECKING:
    from agent.selftest.measure import Progress, Report

EXIT_CANNOT: Final = 1
_INTERRUPTED: Final = 130
_NO_TERMINAL: Final = 132
"""Columns where nobody tells: the whole table."""
_MOST_STREAMS: Final = 256
"""The simulator waits on select(2), which knows 1024 descriptors."""


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the subcommand."""
    parser = subparsers.add_parser(
        "selftest",
        help="tell how true this host's measurements are, in less than a minute",
        description="Measures its own simulator with 1, 8, 32 and 128 streams at once, on an idle and on a busy core, "
        "plain and over TLS, and holds what comes out against what the simulator's kernel saw.",
        epilog="exit status: 0 this host can measure to 1 ms, 1 it cannot, 2 wrong usage",
    )
    parser.add_argument(
        "--streams", type=_streams, metavar="N", help=f"so many at once (1 to {_MOST_STREAMS}), and no other number"
    )
    parser.add_argument("--json", action="store_true", help="one JSON document instead of the table")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Measure and tell; exit 0 when this host can measure to 1 ms, 1 when it cannot."""
    from agent.selftest.report import render  # noqa: PLC0415  other commands stay light

    try:
        report = _measure(args.streams)
    except AgentError as exc:
        sys.stderr.write(f"isochrone-agent selftest: {exc}\n")
        return EXIT_CANNOT
    except (KeyboardInterrupt, asyncio.CancelledError):
        return _INTERRUPTED
    width = shutil.get_terminal_size((_NO_TERMINAL, 24)).columns if sys.stdout.isatty() else _NO_TERMINAL
    said = msgspec.json.encode(report).decode() if args.json else render(report, color=_has_color(), width=width)
    sys.stdout.write(f"{said}\n")
    return 0 if report.verdict.can_measure_to_1_ms else EXIT_CANNOT


def _measure(streams: int | None) -> "Report":
    from agent.selftest.measure import STREAMS, measure  # noqa: PLC0415  other commands stay light
    from agent.transport import AgentLoop  # noqa: PLC0415  as above

    async def until_told() -> "Report":
        loop = asyncio.get_running_loop()
        with _progress() as progress:
            work = loop.create_task(measure(STREAMS if streams is None else (streams,), progress=progress))
            for number in (signal.SIGTERM, signal.SIGHUP):
                loop.add_signal_handler(number, work.cancel)
            return await work

    with asyncio.Runner(loop_factory=AgentLoop) as runner:
        return runner.run(until_told())


@contextlib.contextmanager
def _progress() -> "Iterator[Progress]":
    """Give what shows how far it is, on one line of a terminal."""
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    try:
        yield lambda text: _show(f"\r\x1b[K{text}")
    finally:
        _show("\r\x1b[K")


def _show(text: str) -> None:
    sys.stderr.write(text)
    sys.stderr.flush()


def _has_color() -> bool:
    return sys.stdout.isatty() and "NO_COLOR" not in os.environ and os.environ.get("TERM") != "dumb"


def _streams(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= _MOST_STREAMS:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of streams from 1 to {_MOST_STREAMS}")
    return int(text)
