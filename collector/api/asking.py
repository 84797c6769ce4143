"""What readers may ask for: names that exist, spans within bounds, parameters that the route knows."""

from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime, timedelta
from difflib import get_close_matches
from typing import Annotated, Any, Final

import msgspec
from fastapi import Depends, Query, Request

from collector.api.context import Running
from collector.errors import Refused
from collector.registry import Registry
from isochrone.durations import format_duration, parse_duration
from isochrone.outcome import Connection, Outcome, Prober

MIN_WINDOW_SECONDS: Final = 1.0
MAX_WINDOW_SECONDS: Final = 31 * 86_400.0
EARLIEST: Final = datetime(1970, 1, 1, tzinfo=UTC)
LATEST: Final = datetime(2200, 1, 1, tzinfo=UTC)
"""Within these the database and the arithmetic of times hold whatever is asked."""
MAX_SUGGESTED: Final = 10
"""Names that a refusal lists."""

Name = Annotated[str | None, Query(max_length=64, pattern=r"^[a-z0-9][a-z0-9._/-]*$")]
Model = Annotated[str | None, Query(max_length=128)]
Duration = Annotated[str | None, Query(max_length=20)]
Moment = Annotated[str | None, Query(max_length=40)]


class Span(msgspec.Struct, frozen=True, kw_only=True):
    """From a moment up to, and without, another."""

    since: datetime
    until: datetime

    @property
    def seconds(self) -> float:
        """How long it is."""
        return (self.until - self.since).total_seconds()


class Bounds(msgspec.Struct, frozen=True, kw_only=True):
    """What a route makes of a span that is not given, and how long it may be."""

    default_seconds: float
    longest_seconds: float = MAX_WINDOW_SECONDS


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """A stretch of time as it was asked for: a window up to now, or moments."""

    window: str | None
    since: datetime | None
    until: datetime | None

    def open_span(self, now: datetime) -> Span:
        """Return the span, without a bound where none was given; raise Refused."""
        if self.window is not None:
            return self.span(now, Bounds(default_seconds=0))
        span = Span(since=self.since or EARLIEST, until=self.until or LATEST)
        if span.seconds <= 0:
            raise Refused("invalid", "since, until: until lies behind since")
        return span

    def span(self, now: datetime, bounds: Bounds) -> Span:
        """Return the span; raise Refused."""
        if self.window is not None and (self.since is not None or self.until is not None):
            raise Refused("invalid", "Give window, or since and until, not both.")
        until = now if self.until is None else self.until
        if self.since is None:
            seconds = bounds.default_seconds if self.window is None else _duration("window", self.window, bounds)
            return Span(since=until - timedelta(seconds=seconds), until=until)
        span = Span(since=self.since, until=until)
        if not 0 < span.seconds <= bounds.longest_seconds:
            longest = format_duration(bounds.longest_seconds)
            raise Refused("invalid", f"since, until: until lies behind since by at most {longest}")
        return span


def asked_span(window: Duration = None, since: Moment = None, until: Moment = None) -> Asked:
    """Read the stretch of time from the query."""
    return Asked(
        window=window,
        since=None if since is None else parse_moment("since", since),
        until=None if until is None else parse_moment("until", until),
    )


class Filters(msgspec.Struct, frozen=True, kw_only=True):
    """Filters as they were given; `known` holds the names against the registry."""

    context: Running
    given: dict[str, str | None]

    async def known(self) -> dict[str, str]:
        """Return what was given, each a name that exists; raise Refused that lists names like it."""
        filters = {name: str(value) for name, value in self.given.items() if value is not None}
        registry = await self.context.registry.get()
        for name, value in filters.items():
            if name in _NAMES and value not in (names := set(_NAMES[name](registry))):
                raise Refused("unknown_name", f"{name}: there is no {value!r}{_suggest(value, names)}")
        return filters


_NAMES: Final[Mapping[str, Callable[[Registry], Iterable[str]]]] = {
    "agent_region": lambda registry: registry.regions,
    "endpoint": lambda registry: registry.endpoints,
    "model": lambda registry: (target.model for target in registry.rows.targets if target.model is not None),
    "agent": lambda registry: (agent.name for agent in registry.rows.agents),
    "module": lambda registry: (target.module for target in registry.rows.targets),
}


def _suggest(value: str, names: Iterable[str]) -> str:
    everything = sorted(names)
    near = everything if len(everything) <= MAX_SUGGESTED else get_close_matches(value, everything, MAX_SUGGESTED, 0.5)
    if not near:
        return f"; there are {len(everything)} others" if everything else "; there is none yet"
    more = len(everything) - len(near)
    return f"; there {'is' if len(near) == 1 else 'are'} {', '.join(near)}" + (f" and {more} more" if more else "")


def asked_series(
    context: Running,
    agent_region: Name = None,
    endpoint: Name = None,
    *,
    model: Model = None,
    connection: Connection | None = None,
) -> Filters:
    """Read the filters of what is summed up."""
    return Filters(
        context=context,
        given={"agent_region": agent_region, "endpoint": endpoint, "model": model, "connection": connection},
    )


def asked_results(
    series: Annotated[Filters, Depends(asked_series)],
    agent: Name = None,
    module: Name = None,
    *,
    prober: Prober | None = None,
    outcome: Outcome | None = None,
) -> Filters:
    """Read the filters of single results: those of series, and more."""
    more = {"agent": agent, "module": module, "prober": prober, "outcome": outcome}
    return Filters(context=series.context, given={**series.given, **more})


def parse_moment(place: str, text: str) -> datetime:
    """Return the moment that `text` says; raise Refused. Without a zone it is UTC; a `+` may have come as a space."""
    try:
        moment = datetime.fromisoformat(text.replace(" ", "+"))
        moment = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError) as exc:
        raise Refused("invalid", f"{place}: give a time as in 2026-01-31T12:00:00Z") from exc
    return min(max(moment, EARLIEST), LATEST)


def text_of(moment: datetime) -> str:
    """Return RFC 3339 in UTC."""
    return moment.isoformat().replace("+00:00", "Z")


def window_seconds(text: str) -> float:
    """Return the seconds of a window that somebody asks for; raise Refused."""
    return _duration("window", text, Bounds(default_seconds=0))


def _duration(place: str, text: str, bounds: Bounds) -> float:
    try:
        seconds = parse_duration(text)
    except ValueError as exc:
        raise Refused("invalid", f"{place}: {exc}") from exc
    if not MIN_WINDOW_SECONDS <= seconds <= bounds.longest_seconds:
        longest = format_duration(bounds.longest_seconds)
        raise Refused("invalid", f"{place}: {text!r} is not between 1s and {longest}")
    return seconds


async def only_known_parameters(request: Request) -> None:
    """Raise Refused for a parameter that the route does not know: misspelt, it would give all for a part."""
    known = parameters(request.scope["route"].dependant)  # codespell:ignore dependant
    for name in request.query_params:
        if name not in known:
            raise Refused(
                "invalid", f"query: there is no parameter {name[:40]!r}; there are {', '.join(sorted(known))}"
            )


def parameters(needs: Any) -> set[str]:  # noqa: ANN401  FastAPI's own tree of what a route depends on
    """Return the names that the query of a route may have."""
    own = {parameter.alias for parameter in needs.query_params}
    return own.union(*(parameters(one) for one in needs.dependencies))


OnlyKnown = Depends(only_known_parameters)
AskedSpan = Annotated[Asked, Depends(asked_span)]
SeriesFilters = Annotated[Filters, Depends(asked_series)]
ResultFilters = Annotated[Filters, Depends(asked_results)]
