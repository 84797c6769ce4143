"""`isochrone-agent probe URL`: one endpoint, now, without a collector."""

import argparse
import asyncio
import os
import re
import sys
from collections.abc import AsyncIterator
from ipaddress import ip_address
from typing import TYPE_CHECKING, Final

import msgspec

from agent.errors import ConfigError
from isochrone.config import (
    PROVIDERS,
    ApiKey,
    Assignment,
    Duration,
    InferenceOptions,
    Module,
    Provider,
    RttOptions,
    dec_hook,
)
from isochrone.configcheck import method_fault
from isochrone.outcome import Outcome, Prober, RttMethod
from isochrone.result import Result
from isochrone.wire import full_json

if TYPE_CHECKING:
    from agent.floor import Ends, Place
    from agent.waterfall import Style

_DEFAULT_TIMEOUT: Final = {Prober.RTT: Duration(10), Prober.INFERENCE: Duration(60)}
_MAX_COUNT: Final = 10_000
_INTERRUPTED: Final = 130


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the subcommand."""
    parser = subparsers.add_parser(
        "probe",
        help="measure one endpoint now, without a collector",
        description="Where the time goes: DNS, TCP, TLS, wait, first token, stream. Without --model: round trips.",
        epilog="exit status: 0 all well, 1 a probe failed, 2 wrong usage",
    )
    parser.add_argument("url", metavar="URL", help="base URL, as in https://api.openai.com/v1")
    parser.add_argument("--provider", default=Provider.OPENAI.value, choices=PROVIDERS, help="wire format (openai)")
    parser.add_argument("--model", metavar="NAME", help="model to ask; without it the round trip is measured")
    parser.add_argument("--api-key-env", metavar="NAME", help="environment variable that holds the key")
    parser.add_argument(
        "--module-option",
        metavar="KEY=VALUE",
        action="append",
        default=[],
        help="timeout=60s, max_output_tokens=32, stall_timeout=10s, first_token_timeout=30s; "
        "without --model: timeout=10s, method=tcp (or http, tls, icmp), count=5, spacing=200ms",
    )
    parser.add_argument("--count", type=_count, default=1, metavar="N", help="how many probes (1)")
    connection = parser.add_mutually_exclusive_group()
    connection.add_argument(
        "--cold",
        dest="connection",
        action="store_const",
        const="cold",
        help="open a connection for each probe (default)",
    )
    connection.add_argument(
        "--warm", dest="connection", action="store_const", const="warm", help="use one that stands already"
    )
    versions = parser.add_mutually_exclusive_group()
    for version in (4, 6):
        versions.add_argument(
            f"-{version}",
            f"--ipv{version}",
            dest="ip_version",
            action="store_const",
            const=version,
            help=f"dial an IPv{version} address alone",
        )
    parser.add_argument("--http2", action="store_true", help="speak HTTP/2 instead of HTTP/1.1 (https alone)")
    parser.add_argument(
        "--location",
        metavar="PLACE",
        help="where this machine stands, LAT,LON in degrees or a cloud's region (aws/eu-central-1): shows how far the "
        "round trip is from light in fibre; a latitude with a minus takes an equals sign, --location=-33.9,18.4",
    )
    parser.add_argument(
        "--endpoint-location",
        metavar="PLACE",
        help="where the endpoint stands; without it, its host name or its answer may tell",
    )
    parser.add_argument("--json", action="store_true", help="one result per line, in the wire's field names")
    parser.add_argument("--debug", action="store_true", help="each moment with its time, on standard error")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Probe `--count` times; exit 0 when all went well, 1 when one failed, 2 on wrong usage."""
    from agent.transport import AgentLoop  # noqa: PLC0415  other commands stay light

    try:
        target = assignment(args)
        key = _key(args.api_key_env)
        ends = _ends(args)
    except ConfigError as exc:
        sys.stderr.write(f"isochrone-agent probe: {exc}\n")
        return 2
    try:
        with asyncio.Runner(loop_factory=AgentLoop) as runner:
            results = runner.run(_probe(args, target, key, ends=ends))
    except KeyboardInterrupt:
        return _INTERRUPTED
    return 0 if all(result.outcome is Outcome.OK for result in results) else 1


def assignment(args: argparse.Namespace) -> Assignment:
    """Return the target that the arguments describe; raise ConfigError that says what is wrong with them."""
    from agent.transport import parse_origin  # noqa: PLC0415  other commands stay light

    try:
        origin = parse_origin(args.url)
    except ValueError as exc:
        raise ConfigError(str(exc)) from exc
    _check_ip_version(origin.host, args.ip_version)
    if args.http2 and origin.scheme != "https":
        raise ConfigError("--http2 is agreed on by TLS: it takes an https:// URL")
    module = _module(args)
    method = (module.rtt or RttOptions()).method
    if args.http2 and not args.model and method is not RttMethod.HTTP:
        raise ConfigError(f"--http2 changes nothing of round trips by {method}: leave it out, or give a --model")
    fault = method_fault(args.url, module)
    if fault is not None:
        raise ConfigError(f"--module-option method=tls {fault}")
    fields = {
        "endpoint": _name(origin.host),
        "module": "probe",
        "url": args.url,
        "options": module,
        "provider": args.provider if args.model else None,
        "model": args.model,
        "api_key": ApiKey(env=args.api_key_env) if args.api_key_env else None,
        "ip_version": args.ip_version,
        "http2": args.http2,
    }
    try:
        return msgspec.convert(fields, Assignment, dec_hook=_dec_hook)
    except msgspec.ValidationError as exc:
        raise ConfigError(str(exc)) from exc


def _check_ip_version(host: str, wanted: int | None) -> None:
    try:
        version = ip_address(host).version
    except ValueError:
        return
    if wanted not in {None, version}:
        raise ConfigError(f"--ipv{wanted}: {host} is an IPv{version} address: leave the option out, or give a name")


def _module(args: argparse.Namespace) -> Module:
    prober = Prober.RTT if args.model is None else Prober.INFERENCE
    if prober is Prober.RTT and args.connection is not None:
        raise ConfigError(f"--{args.connection} goes with --model")
    options = {"rtt": RttOptions, "inference": InferenceOptions}
    allowed = ("timeout", *options[prober].__struct_fields__)
    given = dict(_option(text, allowed) for text in args.module_option)
    if args.connection is not None:
        given["connection"] = args.connection
    timeout = given.pop("timeout", None)
    fields = {
        "prober": prober,
        "interval": Duration(0),
        "timeout": _DEFAULT_TIMEOUT[prober] if timeout is None else timeout,
        prober.value: given,
    }
    try:
        return msgspec.convert(fields, Module, dec_hook=_dec_hook, strict=False)
    except msgspec.ValidationError as exc:
        choices = f" (there are: {', '.join(RttMethod)})" if "`$.rtt.method`" in str(exc) else ""
        raise ConfigError(f"--module-option: {str(exc).replace('$.', '')}{choices}") from exc


def _option(text: str, allowed: tuple[str, ...]) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not equals or key not in allowed:
        raise ConfigError(f"--module-option {text}: write KEY=VALUE with one of {', '.join(allowed)}")
    return key, value


def _dec_hook(kind: type, value: object) -> object:
    return value if isinstance(value, Duration) else dec_hook(kind, value)


def _key(name: str | None) -> str | None:
    if name is None:
        return None
    value = os.environ.get(name, "").strip()
    if not value:
        raise ConfigError(f"--api-key-env {name}: that variable is not set: export {name}=...")
    return value


def _name(host: str) -> str:
    return re.sub(r"[^a-z0-9._-]+", "-", host.lower()).strip("-._")[:64] or "endpoint"


def _ends(args: argparse.Namespace) -> "Ends | None":
    """Return where the machine and the endpoint stand; None when nobody tells where the machine does."""
    if args.location is None:
        if args.endpoint_location is not None:
            raise ConfigError("--endpoint-location goes with --location, where this machine stands")
        return None
    from agent.floor import find_ends  # noqa: PLC0415  other commands stay light
    from agent.transport import parse_origin  # noqa: PLC0415  other commands stay light

    here = _place("--location", args.location)
    there = None if args.endpoint_location is None else _place("--endpoint-location", args.endpoint_location)
    return find_ends(parse_origin(args.url).host, here=here, there=there)


def _place(option: str, text: str) -> "Place":
    from agent.floor import parse_place  # noqa: PLC0415  other commands stay light

    try:
        return parse_place(text)
    except ValueError as exc:
        raise ConfigError(f"{option}: {exc}") from exc


async def _probe(args: argparse.Namespace, target: Assignment, key: str | None, *, ends: "Ends | None") -> list[Result]:
    from agent.waterfall import summary  # noqa: PLC0415  other commands stay light

    style = _style()
    results = []
    async for result in _results(target, key, count=args.count):
        results.append(result)
        _show(result, args, style, ends=ends)
    if args.count > 1 and not args.json:
        sys.stdout.write(summary(results, style=style) + "\n")
    return results


async def _results(target: Assignment, key: str | None, *, count: int) -> AsyncIterator[Result]:
    from agent.clock import SystemClock  # noqa: PLC0415  other commands stay light
    from agent.probes import Probes  # noqa: PLC0415  other commands stay light

    probes = Probes(SystemClock(), lambda _: key or "")
    try:
        for seq in range(count):
            yield msgspec.structs.replace(await probes.run(target), seq=seq)
    finally:
        await probes.close()


def _show(result: Result, args: argparse.Namespace, style: "Style", *, ends: "Ends | None") -> None:
    from agent.floor import flagged, json_fields, judge  # noqa: PLC0415  other commands stay light
    from agent.waterfall import render, timed_events  # noqa: PLC0415  other commands stay light

    floor = None if ends is None else judge(result, ends)
    result = result if floor is None else flagged(result, floor)
    if args.debug:
        sys.stderr.write(timed_events(result) + "\n")
    if args.json:
        line = full_json(result, **({} if floor is None else json_fields(floor))).decode()
    else:
        line = render(result, url=_title(args), style=style, floor=floor) + "\n"
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def _title(args: argparse.Namespace) -> str:
    url = args.url.partition("?")[0]
    return f"{url}  {args.model}" if args.model else url


def _style() -> "Style":
    from agent.waterfall import Style  # noqa: PLC0415  other commands stay light

    plain = not sys.stdout.isatty() or "NO_COLOR" in os.environ or os.environ.get("TERM") == "dumb"
    encoding = (sys.stdout.encoding or "").lower().replace("-", "")
    return Style(color=not plain, blocks=encoding == "utf8")


def _count(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= _MAX_COUNT:
        raise argparse.ArgumentTypeError(f"{text!r} is not a count from 1 to {_MAX_COUNT}")
    return int(text)
