"""Who gets results beside the database: the settings of the OTLP and remote-write exports, off by default."""

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final, TypeVar
from urllib.parse import unquote, urlsplit

import msgspec

from collector.errors import SettingsError
from isochrone.durations import parse_duration

DEFAULT_MAX_AGE_SECONDS: Final = 3_600.0
"""Of a sample: a Prometheus without an out-of-order window refuses what is older than an hour."""
LONGEST_SECONDS: Final = 7 * 86_400.0
"""No result comes later than that (collector.ingest)."""
DEFAULT_QUEUE_RESULTS: Final = 20_000
MAX_QUEUE_RESULTS: Final = 1_000_000
"""A result that waits takes about 2 KB of memory."""

_HEADER_NAME: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110 5.6.2
_HEADER_VALUE: Final = re.compile(r"[\x20-\x7e]+")
_OURS: Final = frozenset(
    {"content-type", "content-encoding", "content-length", "host", "transfer-encoding", "connection"}
)
"""Headers that the protocol sets."""

Headers = tuple[tuple[str, str], ...]
_T = TypeVar("_T")


class Receiver(msgspec.Struct, frozen=True, kw_only=True):
    """Where to send, and what to say with it. Headers and query may hold secrets: `repr` leaves them out."""

    url: str
    headers: Headers = ()

    def __repr__(self) -> str:
        return f"Receiver(url={_plain(self.url)!r}, headers={[name for name, _ in self.headers]!r})"


class RemoteWrite(msgspec.Struct, frozen=True, kw_only=True):
    """A Prometheus, or what takes its remote write."""

    receiver: Receiver
    max_age_seconds: float = DEFAULT_MAX_AGE_SECONDS
    out_of_order_seconds: float = 0.0
    """How far a sample may lie behind the newest of its series: what the receiver allows. 0: not at all."""


class Receivers(msgspec.Struct, frozen=True, kw_only=True):
    """All of them; None: nothing is sent."""

    otlp: Receiver | None = None
    remote_write: RemoteWrite | None = None
    queue_results: int = DEFAULT_QUEUE_RESULTS
    """How many may wait for each receiver; beyond it the oldest are dropped and counted."""
    ca_file: Path | None = None
    """Authorities to trust instead of the system's."""


def load_receivers(environment: Mapping[str, str]) -> Receivers:
    """Return what `ISOCHRONE_OTLP_*`, `ISOCHRONE_REMOTE_WRITE_*` and `ISOCHRONE_EXPORT_*` say; raise SettingsError."""
    ca_file = environment.get("ISOCHRONE_EXPORT_CA_FILE")
    queue = environment.get("ISOCHRONE_EXPORT_QUEUE_RESULTS")
    return Receivers(
        otlp=_receiver(environment, "ISOCHRONE_OTLP"),
        remote_write=_remote_write(environment),
        queue_results=DEFAULT_QUEUE_RESULTS
        if queue is None
        else _read("ISOCHRONE_EXPORT_QUEUE_RESULTS", queue, _count),
        ca_file=None if ca_file is None else _readable(ca_file),
    )


def _remote_write(environment: Mapping[str, str]) -> RemoteWrite | None:
    receiver = _receiver(environment, "ISOCHRONE_REMOTE_WRITE")
    max_age = _span(environment, "ISOCHRONE_REMOTE_WRITE_MAX_AGE", DEFAULT_MAX_AGE_SECONDS)
    out_of_order = _span(environment, "ISOCHRONE_REMOTE_WRITE_OUT_OF_ORDER", 0.0)
    if receiver is None:
        return None
    return RemoteWrite(receiver=receiver, max_age_seconds=max_age, out_of_order_seconds=out_of_order)


def _receiver(environment: Mapping[str, str], prefix: str) -> Receiver | None:
    headers = (*_headers(environment, f"{prefix}_HEADERS"), *_headers_of_file(environment, f"{prefix}_HEADERS_FILE"))
    url = environment.get(f"{prefix}_URL")
    if url is None:
        if headers:
            raise SettingsError(f"{prefix}_HEADERS is set and {prefix}_URL is not: set both, or neither")
        return None
    return Receiver(url=_url(f"{prefix}_URL", url), headers=headers)


def _url(name: str, text: str) -> str:
    try:
        parts = urlsplit(text)
        host, _ = parts.hostname, parts.port
    except ValueError as exc:
        raise SettingsError(f"{name}: {exc}: write the whole address") from exc
    if parts.username is not None or parts.password is not None:
        # What is left of the @ may be a password: it is not repeated.
        raise SettingsError(
            f"{name} holds a user or a password: put them into {name.removesuffix('_URL')}_HEADERS_FILE"
        )
    if parts.scheme not in {"http", "https"} or not host or len(parts.path) <= 1 or parts.fragment:
        raise SettingsError(
            f"{name}={_plain(text)!r}: write the whole address with its path, as in {_EXAMPLES[name.split('_')[1]]}"
        )
    return text


def _plain(url: str) -> str:
    """Return a URL without its query, which may hold a key."""
    return url.partition("?")[0]


_EXAMPLES: Final = {"OTLP": "http://otel-collector:4318/v1/metrics", "REMOTE": "http://prometheus:9090/api/v1/write"}


def _headers(environment: Mapping[str, str], name: str) -> Headers:
    """Read `name=value,name=value`, values percent-encoded where need be: as `OTEL_EXPORTER_OTLP_HEADERS`."""
    text = environment.get(name, "")
    pairs = [pair.partition("=") for pair in text.split(",") if pair.strip()]
    return tuple(_header(key, unquote(value), place=name, form="name=value,name=value") for key, _, value in pairs)


def _headers_of_file(environment: Mapping[str, str], name: str) -> Headers:
    path = environment.get(name)
    if path is None:
        return ()
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as exc:
        why = exc.strerror if isinstance(exc, OSError) else "it is no text"
        raise SettingsError(f"{name}={path!r} cannot be read: {why}") from exc
    pairs = [line.partition(":") for line in lines if line.strip()]
    return tuple(
        _header(key, value, place=f"{name}={path!r}", form="Name: value, one on a line") for key, _, value in pairs
    )


def _header(name: str, value: str, *, place: str, form: str) -> tuple[str, str]:
    """Return a good header. The text of the error holds neither name nor value: either may be the secret."""
    name, value = name.strip(), value.strip()
    if _HEADER_NAME.fullmatch(name) is None or _HEADER_VALUE.fullmatch(value) is None:
        raise SettingsError(f"{place} holds what is no header: write {form}, in printable ASCII")
    if name.lower() in _OURS:
        raise SettingsError(f"{place} sets {name}, which the protocol sets: leave it out")
    return name, value


def _readable(path: str) -> Path:
    try:
        Path(path).read_bytes()
    except OSError as exc:
        raise SettingsError(
            f"ISOCHRONE_EXPORT_CA_FILE={path!r} cannot be read: {exc.strerror}: give a PEM file of certificates"
        ) from exc
    return Path(path)


def _span(environment: Mapping[str, str], name: str, default: float) -> float:
    text = environment.get(name)
    return default if text is None else _read(name, text, _seconds)


def _seconds(text: str) -> float:
    seconds = parse_duration(text)
    if seconds > LONGEST_SECONDS:
        raise ValueError("write at most 7d: no result comes later")
    return seconds


def _count(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 0 < int(text[:20]) <= MAX_QUEUE_RESULTS:
        raise ValueError(f"write a whole number from 1 to {MAX_QUEUE_RESULTS}")
    return int(text)


def _read(name: str, text: str, parse: Callable[[str], _T]) -> _T:
    try:
        return parse(text)
    except ValueError as exc:
        raise SettingsError(f"{name}={text!r}: {exc}") from exc
