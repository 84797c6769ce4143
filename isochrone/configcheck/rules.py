"""The rules across fields of a target file: times that fit together, names that exist, addresses to dial. Pure.

They look only at parts whose shape is good, so that one mistake is told once.
"""

import re
from collections.abc import Iterator, Mapping
from ipaddress import ip_address
from typing import Final
from urllib.parse import SplitResult, parse_qsl, urlsplit

import msgspec

from isochrone.config import Duration, Endpoint, InferenceOptions, Location, Module, Selector, Site
from isochrone.configcheck.shape import Path, closest
from isochrone.durations import format_duration
from isochrone.names import printable
from isochrone.outcome import Prober, RttMethod

MAX_INTERVAL_SECONDS: Final = 86_400.0
"""One day: a rarer probe can hold no promise about a day."""
MIN_TIMEOUT_SECONDS: Final = 0.01
RESERVED_ENVIRONMENT: Final = "ISOCHRONE_"
"""Environment names of the agent's own settings: none of them holds an endpoint's key."""

_SECRET_PARAMETER: Final = re.compile(r"key|token|secret|sig|pass|auth|credential", re.IGNORECASE)


class Finding(msgspec.Struct, frozen=True):
    """A rule that a well-formed part breaks."""

    path: Path
    message: str
    value: str | None = None


def findings(document: object, built: Mapping[Path, object]) -> Iterator[Finding]:
    """Yield every broken rule. `built` holds the well-formed parts by their path, `document` the whole as read."""
    if not isinstance(document, dict):
        return
    modules = document.get("modules")
    known = set(modules) if isinstance(modules, dict) else None
    names: dict[str, Path] = {}
    regions: dict[str, Path] = {}
    for path, part in built.items():
        yield from _part(path, part)
        match path, part:
            case (("regions", _, "name"), str()):
                yield from _twice(path, part, regions)
            case ((_, _, "name"), str()):
                yield from _twice(path, part, names)
            case ((kind, _, "modules"), tuple()):
                yield from _module_names(path, part, known)
                yield from _methods(path, part, built)
                yield from _site(path, part, built) if kind == "sites" else ()


def url_fault(url: str) -> str | None:
    """Return what is wrong with the address of an endpoint, or None. The text never repeats what could be a secret."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as exc:
        return f"is no address: {printable(str(exc))}"
    if parts.username is not None or parts.password is not None:
        return "carries a user name or password (not shown): name the key under api_key instead"
    if any(_SECRET_PARAMETER.search(name) for name, _ in parse_qsl(parts.query, keep_blank_values=True)):
        return "carries what looks like a key in its query (not shown): name the key under api_key instead"
    return _address_fault(url, parts, port)


def method_fault(url: str, module: Module) -> str | None:
    """Return why `module` cannot measure the way to `url`, or None."""
    if module.rtt is not None and module.rtt.method is RttMethod.TLS and urlsplit(url).scheme != "https":
        return "measures by tls, and the url is http://: write https://, or take another method"
    return None


def _address_fault(url: str, parts: SplitResult, port: int | None) -> str | None:
    text = printable(repr(url), limit=120)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        return f"{text} is no address: write http:// or https:// and a host"
    if port == 0:
        return f"{text} has the port 0, which nothing can dial"
    if parts.fragment:
        return f"{text} has a #fragment, which is never sent: leave it out"
    if any(not character.isprintable() or character.isspace() for character in url):
        return f"{text} has spaces or control characters: write them as %20 and the like"
    return None


def _part(path: Path, part: object) -> Iterator[Finding]:
    match path, part:
        case (_, Module()):
            yield from _module(path, part)
        case (_, Endpoint()):
            yield from _endpoint(path, part)
            yield from _ip_version(path, part)
        case (_, Site()):
            yield from _ip_version(path, part)
        case (_, Location()):
            yield from _location(path, part)
        case (_, Selector()):
            yield from _selector(path, part)
        case ((_, _, "url"), str()):
            yield from _url(path, part)


def _url(path: Path, url: str) -> Iterator[Finding]:
    fault = url_fault(url)
    if fault is not None:
        yield Finding(path, fault)


def _module(path: Path, module: Module) -> Iterator[Finding]:
    interval, timeout = module.interval, module.timeout
    if interval < timeout:
        yield _duration((*path, "interval"), interval, f"is shorter than the timeout ({format_duration(timeout)})")
    if interval > MAX_INTERVAL_SECONDS:
        yield _duration((*path, "interval"), interval, "is longer than a day (1d)")
    if timeout < MIN_TIMEOUT_SECONDS:
        yield _duration((*path, "timeout"), timeout, f"is shorter than {format_duration(MIN_TIMEOUT_SECONDS)}")
    if module.prober is Prober.RTT and module.inference is not None:
        yield Finding((*path, "inference"), "belongs to the prober inference, this module has rtt: leave it out")
    if module.prober is Prober.INFERENCE and module.rtt is not None:
        yield Finding((*path, "rtt"), "belongs to the prober rtt, this module has inference: leave it out")
    if module.rtt is not None and module.rtt.spacing * (module.rtt.count - 1) >= timeout:
        text = f"{module.rtt.count} samples every {format_duration(module.rtt.spacing)} do not fit into the timeout"
        yield Finding((*path, "rtt"), f"{text} ({format_duration(timeout)})")
    if module.inference is not None:
        yield from _inference((*path, "inference"), module.inference)


def _inference(path: Path, options: InferenceOptions) -> Iterator[Finding]:
    for name in ("first_token_timeout", "stall_timeout"):
        value: Duration = getattr(options, name)
        if value < MIN_TIMEOUT_SECONDS:
            yield _duration((*path, name), value, f"is shorter than {format_duration(MIN_TIMEOUT_SECONDS)}")


def _duration(path: Path, value: float, fault: str) -> Finding:
    text = format_duration(value)
    return Finding(path, f"{text} {fault}", text)


def _twice(path: Path, name: str, seen: dict[str, Path]) -> Iterator[Finding]:
    first = seen.setdefault(name, path)
    if first != path:
        yield Finding(path, f"{name!r} is the name of {first[0]}[{first[1]}] already", name)


def _module_names(path: Path, names: tuple[str, ...], known: set[str] | None) -> Iterator[Finding]:
    if not names:
        yield Finding(path, "is empty: name at least one module")
    for index, name in enumerate(names):
        if name in names[:index]:
            yield Finding((*path, index), f"{name!r} stands here twice", name)
        if known is not None and name not in known:
            there = printable(", ".join(sorted(known))) or "none"
            yield Finding((*path, index), f"no module {name!r}{closest(name, known)}; there are: {there}", name)


def _endpoint(path: Path, endpoint: Endpoint) -> Iterator[Finding]:
    key, budget = endpoint.api_key, endpoint.budget
    if key is not None and key.env is not None and key.env.upper().startswith(RESERVED_ENVIRONMENT):
        yield Finding((*path, "api_key", "env"), f"{key.env!r} names a setting of the agent itself, not a key", key.env)
    if endpoint.http2 and url_fault(endpoint.url) is None and urlsplit(endpoint.url).scheme != "https":
        yield Finding((*path, "http2"), "is agreed on by TLS: it takes an https:// url", "true")
    if budget is not None and budget.usd_per_day is not None and endpoint.price is None:
        yield Finding((*path, "budget", "usd_per_day"), "needs a price: {input_per_million, output_per_million}")


def _ip_version(path: Path, item: Endpoint | Site) -> Iterator[Finding]:
    version = _literal_version(item.url)
    if item.ip_version is not None and version not in {None, item.ip_version}:
        text = f"{item.ip_version} does not fit the address in the url, which is IPv{version}: leave it out"
        yield Finding((*path, "ip_version"), text, str(item.ip_version))


def _literal_version(url: str) -> int | None:
    """Return the IP version of the address that stands in `url`; None: it names a host."""
    try:
        return ip_address(urlsplit(url).hostname or "").version
    except ValueError:
        return None


def _methods(path: Path, names: tuple[str, ...], built: Mapping[Path, object]) -> Iterator[Finding]:
    url = built.get((*path[:-1], "url"))
    for index, name in enumerate(names):
        module = built.get(("modules", name))
        if isinstance(module, Module) and isinstance(url, str) and url_fault(url) is None:
            fault = method_fault(url, module)
            if fault is not None:
                yield Finding((*path, index), f"{name!r} {fault}", name)


def _site(path: Path, names: tuple[str, ...], built: Mapping[Path, object]) -> Iterator[Finding]:
    for index, name in enumerate(names):
        module = built.get(("modules", name))
        if isinstance(module, Module) and module.prober is not Prober.RTT:
            text = f"{name!r} asks a model ({module.prober}), and a site has none: only rtt modules"
            yield Finding((*path, index), text, name)


def _selector(path: Path, selector: Selector) -> Iterator[Finding]:
    for name in ("names", "regions", "labels"):
        condition = getattr(selector, name)
        if condition is not None and not condition:
            yield Finding((*path, name), "is empty: say which agents probe, or leave it out for all")


def _location(path: Path, location: Location) -> Iterator[Finding]:
    if (location.latitude is None) != (location.longitude is None):
        missing = "latitude" if location.latitude is None else "longitude"
        yield Finding((*path, missing), "missing: latitude and longitude stand together or not at all")
