"""The collector's settings: read once from `ISOCHRONE_*`, checked, frozen."""

import re
from collections.abc import Callable, Mapping
from datetime import timedelta
from hashlib import sha256
from ipaddress import ip_network
from itertools import pairwise
from pathlib import Path
from typing import Final, TypeVar

import msgspec

from collector.errors import SettingsError
from collector.receivers import Receivers, load_receivers
from isochrone.durations import format_duration, parse_duration

DEFAULT_LISTEN: Final = "127.0.0.1:8420"
DEFAULT_FLUSH_SECONDS: Final = 10.0
DEFAULT_LATE_SECONDS: Final = 300.0
"""A result older than this at ingest is stored, and left out of the live metrics."""
DEFAULT_BATCHES_PER_SECOND: Final = 2.0
DEFAULT_CONNECTIONS_PER_ADDRESS: Final = 64
DEFAULT_MAX_SERIES: Final = 500_000
"""About 100 MB here, and what one Prometheus takes from one collector without a thought."""
DEFAULT_SERIES_TTL: Final = timedelta(days=1)
MIN_SERIES_TTL: Final = timedelta(minutes=1)
MAX_SERIES_TTL: Final = timedelta(days=365)
MAX_BOUNDS: Final = 200
MAX_BOUND: Final = 1_000_000.0
"""From here on Prometheus' clients write bounds with an exponent, and each in its own way."""
MAX_PORT: Final = 65_535
MIN_KEEP: Final = timedelta(days=8)
"""A result may be seven days old when it comes (collector.ingest), and so may the batch that repeats it: nothing may be
dropped that could still be added to, or come again. The eighth day is the margin."""
MAX_KEEP: Final = timedelta(days=3_650)
DEFAULT_KEEP_RESULTS: Final = timedelta(days=30)
DEFAULT_KEEP_BATCHES: Final = timedelta(days=14)
DEFAULT_KEEP_RUNS: Final = timedelta(days=30)
DEFAULT_KEEP_MINUTES: Final = timedelta(days=30)
DEFAULT_KEEP_HOURS: Final = timedelta(days=730)
MAX_READ_TOKEN: Final = 249
"""Longest read token, in characters."""

_READ_TOKEN: Final = re.compile(rf"[\x21-\x7e]{{1,{MAX_READ_TOKEN}}}")
"""What can stand in a header behind `Bearer`."""

_T = TypeVar("_T")


class Listen(msgspec.Struct, frozen=True):
    """Where the server listens; port 0 lets the kernel choose."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class Keep(msgspec.Struct, frozen=True, kw_only=True):
    """How long what is stored is kept."""

    results: timedelta
    batches: timedelta
    """Rows of the ledger, by which a batch that comes again is known."""
    runs: timedelta
    """Books of agents' runs that are over; then they are added up."""
    minutes: timedelta
    hours: timedelta


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that an operator may set."""

    database_url: str
    """libpq URL: `postgresql://user@host/database`, or `postgresql://postgres:@/database?host=/socket/folder`."""
    read_database_url: str | None = None
    """A replica that readers are served from; None: they read where batches are written."""
    listen: Listen = Listen("127.0.0.1", 8420)
    flush_seconds: float = DEFAULT_FLUSH_SECONDS
    """How long agents gather results before they send them."""
    late_seconds: float = DEFAULT_LATE_SECONDS
    read_token_sha256: str | None = None
    """None: reading is open."""
    batches_per_second: float = DEFAULT_BATCHES_PER_SECOND
    """Of one agent, after a burst; more are answered 429."""
    connections_per_address: int = DEFAULT_CONNECTIONS_PER_ADDRESS
    """Open at once from one address, loopback and proxies apart; more are closed."""
    trusted_proxies: tuple[str, ...] | None = None
    """Networks of load balancers whose X-Forwarded-For tells the client's address; None: the peer is the client."""
    max_db_bytes: int | None = None
    """Batches are refused from 90 % of it on. None: no bound."""
    max_series: int = DEFAULT_MAX_SERIES
    """Series of probes in `/metrics`; targets beyond have none."""
    series_ttl: timedelta = DEFAULT_SERIES_TTL
    """Series of a region and an endpoint go when nothing came for so long."""
    time_bounds: tuple[float, ...] | None = None
    """Of the histograms in seconds; None: from 0.1 ms to 120 s, each 1.25 times the one before."""
    rate_bounds: tuple[float, ...] | None = None
    """Of the histogram in tokens per second; None: from 0.5 to 5,000, likewise."""
    keep_results: timedelta = DEFAULT_KEEP_RESULTS
    keep_batches: timedelta = DEFAULT_KEEP_BATCHES
    keep_runs: timedelta = DEFAULT_KEEP_RUNS
    keep_minutes: timedelta = DEFAULT_KEEP_MINUTES
    keep_hours: timedelta = DEFAULT_KEEP_HOURS
    commit_by_agent: bool = False
    """Batches of different agents share no transaction: for a Citus, where the agent decides on the shard."""
    receivers: Receivers = Receivers()
    """Who gets results beside the database."""
    targets: Path | None = None
    """The target file, loaded at the start and again on SIGHUP and `POST /-/reload`."""

    @property
    def keep(self) -> Keep:
        """How long what is stored is kept."""
        return Keep(
            results=self.keep_results,
            batches=self.keep_batches,
            runs=self.keep_runs,
            minutes=self.keep_minutes,
            hours=self.keep_hours,
        )


def load_settings(
    environment: Mapping[str, str], *, targets: Path | None = None, listen: str | None = None
) -> Settings:
    """Return the settings in `environment`, flags winning; raise SettingsError naming the variable and its value."""
    settings = Settings(
        database_url=database_url(environment),
        read_database_url=_postgres_url("ISOCHRONE_READ_DATABASE_URL", environment.get("ISOCHRONE_READ_DATABASE_URL")),
        listen=_read("ISOCHRONE_LISTEN", listen or environment.get("ISOCHRONE_LISTEN", DEFAULT_LISTEN), parse_listen),
        flush_seconds=_number(environment, "ISOCHRONE_FLUSH_SECONDS", DEFAULT_FLUSH_SECONDS),
        late_seconds=_number(environment, "ISOCHRONE_LATE_SECONDS", DEFAULT_LATE_SECONDS),
        read_token_sha256=_token_digest(environment.get("ISOCHRONE_READ_TOKEN_FILE")),
        batches_per_second=_number(environment, "ISOCHRONE_BATCHES_PER_SECOND", DEFAULT_BATCHES_PER_SECOND),
        connections_per_address=_count(environment, "ISOCHRONE_CONNECTIONS_PER_ADDRESS")
        or DEFAULT_CONNECTIONS_PER_ADDRESS,
        trusted_proxies=_networks("ISOCHRONE_TRUSTED_PROXIES", environment.get("ISOCHRONE_TRUSTED_PROXIES")),
        max_db_bytes=_count(environment, "ISOCHRONE_MAX_DB_BYTES"),
        max_series=_count(environment, "ISOCHRONE_MAX_SERIES") or DEFAULT_MAX_SERIES,
        series_ttl=_given(environment, "ISOCHRONE_SERIES_TTL", _series_ttl) or DEFAULT_SERIES_TTL,
        time_bounds=_given(environment, "ISOCHRONE_TIME_BOUNDS", parse_bounds),
        rate_bounds=_given(environment, "ISOCHRONE_RATE_BOUNDS", parse_bounds),
        keep_results=_keep(environment, "ISOCHRONE_KEEP_RESULTS", DEFAULT_KEEP_RESULTS),
        keep_batches=_keep(environment, "ISOCHRONE_KEEP_BATCHES", DEFAULT_KEEP_BATCHES),
        keep_runs=_keep(environment, "ISOCHRONE_KEEP_RUNS", DEFAULT_KEEP_RUNS),
        keep_minutes=_keep(environment, "ISOCHRONE_KEEP_MINUTES", DEFAULT_KEEP_MINUTES),
        keep_hours=_keep(environment, "ISOCHRONE_KEEP_HOURS", DEFAULT_KEEP_HOURS),
        commit_by_agent=_read(
            "ISOCHRONE_COMMIT_BY_AGENT", environment.get("ISOCHRONE_COMMIT_BY_AGENT", "false"), _truth
        ),
        receivers=load_receivers(environment),
        targets=targets,
    )
    _check_hours(settings.keep)
    return settings


def database_url(environment: Mapping[str, str]) -> str:
    """Return `ISOCHRONE_DATABASE_URL`; raise SettingsError when it is missing or no Postgres URL."""
    url = _postgres_url("ISOCHRONE_DATABASE_URL", environment.get("ISOCHRONE_DATABASE_URL"))
    if url is None:
        raise SettingsError(
            "ISOCHRONE_DATABASE_URL is not set: give the URL of a Postgres, as in postgresql://user@host/name"
        )
    return url


def parse_listen(text: str) -> Listen:
    """Return host and port of `host:port` or `[v6]:port`; raise ValueError that tells the form."""
    host, colon, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not colon or not host or not port.isascii() or not port.isdigit() or int(port) > MAX_PORT:
        raise ValueError("write host:port, as in 127.0.0.1:8420")
    try:
        host.encode("idna")  # as the resolver will: it raises what no caller there expects
    except UnicodeError as exc:
        raise ValueError(f"{host!r} is no name of a host") from exc
    return Listen(host, int(port))


def parse_bounds(text: str) -> tuple[float, ...]:
    """Return the bounds of `0.1,0.25,0.5`; raise ValueError that tells what is wrong."""
    try:
        bounds = tuple(float(word) for word in text.split(","))
    except ValueError as exc:
        raise ValueError("write ascending numbers, as in 0.1,0.25,0.5") from exc
    if len(bounds) > MAX_BOUNDS:
        raise ValueError(f"write at most {MAX_BOUNDS} bounds: each is a series of its own")
    if not all(0 < bound < MAX_BOUND for bound in bounds):
        raise ValueError(f"write numbers above 0 and below {MAX_BOUND:,.0f}; +Inf is there without saying")
    if any(after <= before for before, after in pairwise(bounds)):
        raise ValueError("write each bound larger than the one before")
    return bounds


def _series_ttl(text: str) -> timedelta:
    seconds = parse_duration(text)
    if not MIN_SERIES_TTL.total_seconds() <= seconds <= MAX_SERIES_TTL.total_seconds():
        raise ValueError("write 1m to 365d")
    return timedelta(seconds=seconds)


def _given(environment: Mapping[str, str], name: str, parse: Callable[[str], _T]) -> _T | None:
    text = environment.get(name)
    return None if text is None else _read(name, text, parse)


def _postgres_url(name: str, url: str | None) -> str | None:
    if not url:
        return None
    if not url.startswith(("postgresql://", "postgres://")):
        # The value may hold a password: it is not repeated.
        raise SettingsError(f"{name} is no Postgres URL: it must begin with postgresql://")
    return "postgresql://" + url.split("://", 1)[1]


def _number(environment: Mapping[str, str], name: str, default: float) -> float:
    text = environment.get(name)
    return default if text is None else _read(name, text, _positive)


def _count(environment: Mapping[str, str], name: str) -> int | None:
    text = environment.get(name)
    return None if text is None else _read(name, text, _whole)


def _keep(environment: Mapping[str, str], name: str, default: timedelta) -> timedelta:
    text = environment.get(name)
    return default if text is None else _read(name, text, _span)


def _span(text: str) -> timedelta:
    seconds = parse_duration(text)
    if not MIN_KEEP.total_seconds() <= seconds <= MAX_KEEP.total_seconds():
        shortest, longest = (format_duration(span.total_seconds()) for span in (MIN_KEEP, MAX_KEEP))
        raise ValueError(f"write {shortest} to {longest}: results may be 7d old when they come")
    return timedelta(seconds=seconds)


def _check_hours(keep: Keep) -> None:
    if keep.hours < keep.minutes:  # long spans are read from hours: without them they would seem empty
        hours, minutes = (format_duration(span.total_seconds()) for span in (keep.hours, keep.minutes))
        raise SettingsError(
            f"ISOCHRONE_KEEP_HOURS={hours!r} is shorter than ISOCHRONE_KEEP_MINUTES, {minutes}: write {minutes} or"
            " more, or keep the minutes for less"
        )


def _networks(name: str, text: str | None) -> tuple[str, ...] | None:
    return None if not text else _read(name, text, lambda words: tuple(_network(word) for word in words.split(",")))


def _network(word: str) -> str:
    try:
        return str(ip_network(word.strip()))
    except ValueError as exc:
        raise ValueError(f"{exc}: write addresses or networks as in 10.0.0.10,10.1.0.0/24") from exc


def _whole(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 0 < int(text[:20]) < 2**63:
        raise ValueError("write a whole number above 0")
    return int(text)


def _truth(text: str) -> bool:
    if text not in {"true", "false"}:
        raise ValueError("write true or false")
    return text == "true"


def _positive(text: str) -> float:
    number = float(text.removesuffix("s"))
    if not 0 < number <= 86_400:  # noqa: PLR2004  one day in seconds
        raise ValueError("write seconds between 0 and 86400")
    return number


def _read(name: str, text: str, parse: Callable[[str], _T]) -> _T:
    try:
        return parse(text)
    except ValueError as exc:
        raise SettingsError(f"{name}={text!r}: {exc}") from exc


def _token_digest(path: str | None) -> str | None:
    if path is None:
        return None
    try:
        token = Path(path).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as exc:
        raise SettingsError(f"ISOCHRONE_READ_TOKEN_FILE={path!r} cannot be read: {exc}") from exc
    if not token:
        raise SettingsError(f"ISOCHRONE_READ_TOKEN_FILE={path!r} is empty: write the token into it")
    if _READ_TOKEN.fullmatch(token) is None:
        raise SettingsError(
            f"ISOCHRONE_READ_TOKEN_FILE={path!r} holds no token that a header can carry: write 1 to {MAX_READ_TOKEN}"
            " characters of printable ASCII without spaces"
        )
    return sha256(token.encode()).hexdigest()
