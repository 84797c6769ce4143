"""GET /v1/series: one signal over time, or by the hour of the day, from the rollups."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from itertools import groupby
from typing import Annotated, Final

import msgspec
from fastapi import APIRouter, Query, Response

from collector.api.asking import AskedSpan, Bounds, Duration, OnlyKnown, SeriesFilters, Span
from collector.api.context import Reading, Running
from collector.errors import Refused
from collector.registry import Registry
from collector.schema import SIGNALS
from collector.stats.sketch import Sketch, merge, quantile
from collector.store import rollups
from collector.store.engine import Connection as DatabaseConnection
from collector.store.rolling import read_horizons
from collector.store.rollups import Merged, read_merged
from collector.store.summary import significant
from isochrone.durations import format_duration, parse_duration
from isochrone.outcome import Connection, Prober

router = APIRouter(tags=["reading"], dependencies=[Reading, OnlyKnown])

STEPS: Final = (60, 300, 900, 3_600, 21_600, 86_400)
"""Seconds; from an hour on the rollups of hours are read."""
HOUR_SECONDS: Final = 3_600
PLENTY: Final = 500
"""Points of a series that a step is chosen for when none is given."""
MAX_POINTS: Final = 2_000
"""Of a series: a day by minutes, and five years by days."""
MAX_VALUES: Final = 20_000
"""Steps of all series of one answer: making them takes the process some 0.3 s."""
LONGEST_SECONDS: Final = 5 * 366 * 86_400.0
LONGEST_BASELINE_SECONDS: Final = 92 * 86_400.0
DAY_SECONDS: Final = 86_400.0
EPOCH: Final = datetime(2000, 1, 1, tzinfo=UTC)
"""Steps are counted from here, as those of the rollups."""

Signal = StrEnum("Signal", {name.upper(): name for name in SIGNALS})  # type: ignore[misc]  # names of the schema


class Statistic(StrEnum):
    """What is told of each step."""

    P50 = "p50"
    P95 = "p95"
    P99 = "p99"
    MEAN = "mean"
    MIN = "min"
    MAX = "max"
    COUNT = "count"
    """Values: successes that nothing spoiled and that have this signal."""
    PROBES = "probes"
    FAILURES = "failures"
    SPOILED = "spoiled"
    SUCCESS_RATIO = "success_ratio"
    SENT = "sent"
    """Round trips of `rtt` probes."""
    LOST = "lost"


class By(StrEnum):
    """What the points are of."""

    TIME = "time"
    HOUR_OF_DAY = "hour_of_day"
    """In UTC, over all days of the span: a baseline."""


class Series(msgspec.Struct, frozen=True, kw_only=True):
    """One line: `at` or `hour_of_day` names its points, and each statistic has a value for each, None without any."""

    agent_region: str
    endpoint: str
    model: str | None
    connection: str | None
    prober: str
    at: list[datetime] | None
    hour_of_day: list[int] | None
    statistics: dict[str, list[float | None]]


class SeriesAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """The answer."""

    signal: str
    since: datetime
    until: datetime
    step_seconds: float
    by: str
    level: str
    """`minute` or `hour`: which rollups it is made of."""
    series: list[Series]


class Question(msgspec.Struct, frozen=True, kw_only=True):
    """What is asked of the rollups."""

    span: Span
    step: str | None
    by: By
    filters: dict[str, str]
    asked: rollups.Asked
    now: datetime


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What to read."""

    span: Span
    step_seconds: int

    @property
    def points(self) -> int:
        """Steps that are read of a series, at most."""
        return -int(-self.span.seconds // self.step_seconds)


@router.get("/v1/series")
async def get_series(  # noqa: PLR0913  FastAPI reads the query from the parameters
    context: Running,
    filters: SeriesFilters,
    asked: AskedSpan,
    *,
    signal: Annotated[Signal, Query()],
    prober: Prober | None = None,
    step: Duration = None,
    statistic: Annotated[list[Statistic] | None, Query(max_length=len(Statistic))] = None,
    by: By = By.TIME,
) -> Response:
    """Return a signal's statistics by step, of every series that fits (default: the last day; at most five years).

    A step is whole minutes, hours or days of UTC; without one it is chosen so that a series has at most 500 points.
    With `by=hour_of_day` all days of the span (default: seven) are laid upon each other.
    """
    now = context.utc_now()
    known = await filters.known()
    if prober is not None:
        known["prober"] = prober.value
    wanted = list(dict.fromkeys(statistic or [Statistic.P50, Statistic.P95]))
    question = Question(
        span=asked.span(now, _bounds(by)), step=step, by=by, filters=known, asked=_asked(signal, wanted), now=now
    )
    registry = await context.registry.get()
    plan, merged = await context.readers.read(_read, question, registry)
    # In a thread: batches come in meanwhile.
    series = await asyncio.to_thread(make_series, merged, signal, statistics=wanted, by=by)
    answer = SeriesAnswer(
        signal=signal,
        since=plan.span.since,
        until=plan.span.until,
        step_seconds=plan.step_seconds,
        by=by,
        level="hour" if plan.step_seconds % HOUR_SECONDS == 0 else "minute",
        series=series,
    )
    return Response(msgspec.json.encode(answer), media_type="application/json")


def make_series(merged: Sequence[Merged], signal: str, *, statistics: Sequence[Statistic], by: By) -> list[Series]:
    """Return the series of what was read, in order of their names. Pure."""
    ordered = sorted(merged, key=lambda one: (*_sortable(one), one.at))
    return [_one_series(list(ones), signal, statistics=statistics, by=by) for _, ones in groupby(ordered, _sortable)]


def _one_series(ones: list[Merged], signal: str, *, statistics: Sequence[Statistic], by: By) -> Series:
    groups: dict[datetime | int, list[Merged]] = {}
    for one in ones:
        groups.setdefault(one.at if by is By.TIME else one.at.astimezone(UTC).hour, []).append(one)
    places = sorted(groups, key=lambda place: place if isinstance(place, int) else place.timestamp())
    points = [_Point(ones=groups[place], sketch=_joined(groups[place], signal)) for place in places]
    first = ones[0]
    return Series(
        agent_region=first.agent_region,
        endpoint=first.endpoint,
        model=first.model,
        connection=first.connection,
        prober=first.prober,
        at=[place for place in places if isinstance(place, datetime)] if by is By.TIME else None,
        hour_of_day=[place for place in places if isinstance(place, int)] if by is By.HOUR_OF_DAY else None,
        statistics={name: [_VALUES[name](point) for point in points] for name in statistics},
    )


class _Point(msgspec.Struct, frozen=True, kw_only=True):
    ones: list[Merged]
    sketch: Sketch | None

    def total(self, name: str) -> float | None:
        """Return the sum of a count; None when none of them tells it."""
        found = [value for one in self.ones if (value := getattr(one, name)) is not None]
        return sum(found) if found else None


def _joined(ones: Sequence[Merged], signal: str) -> Sketch | None:
    return ones[0].signals.get(signal) if len(ones) == 1 else merge(one.signals.get(signal) for one in ones)


def _of_values(value: Callable[[Sketch], float]) -> Callable[[_Point], float | None]:
    return lambda point: None if point.sketch is None else significant(value(point.sketch))


def _total(name: str) -> Callable[[_Point], float | None]:
    return lambda point: point.total(name)


def _success_ratio(point: _Point) -> float | None:
    probes, failures = point.total("probes"), point.total("failures")
    return None if not probes or failures is None else 1 - failures / probes


_VALUES: Final[Mapping[Statistic, Callable[[_Point], float | None]]] = {
    Statistic.P50: _of_values(lambda sketch: quantile(sketch, 0.5)),
    Statistic.P95: _of_values(lambda sketch: quantile(sketch, 0.95)),
    Statistic.P99: _of_values(lambda sketch: quantile(sketch, 0.99)),
    Statistic.MEAN: _of_values(lambda sketch: sketch.mean),
    Statistic.MIN: _of_values(lambda sketch: sketch.lowest),
    Statistic.MAX: _of_values(lambda sketch: sketch.highest),
    Statistic.COUNT: lambda point: 0 if point.sketch is None else point.sketch.count,
    Statistic.PROBES: _total("probes"),
    Statistic.FAILURES: _total("failures"),
    Statistic.SPOILED: _total("spoiled"),
    Statistic.SUCCESS_RATIO: _success_ratio,
    Statistic.SENT: _total("sent"),
    Statistic.LOST: _total("lost"),
}
_QUANTILES: Final = frozenset({Statistic.P50, Statistic.P95, Statistic.P99})


def _asked(signal: str, statistics: Sequence[Statistic]) -> rollups.Asked:
    if _QUANTILES.intersection(statistics):
        return rollups.Asked(quantiles=(signal,))
    return rollups.Asked(means=(signal,))


def _sortable(one: Merged) -> tuple[str, str, str, str, str]:
    return one.agent_region, one.endpoint, one.model or "", one.connection or "", one.prober


def _bounds(by: By) -> Bounds:
    if by is By.HOUR_OF_DAY:
        return Bounds(default_seconds=7 * DAY_SECONDS, longest_seconds=LONGEST_BASELINE_SECONDS)
    return Bounds(default_seconds=DAY_SECONDS, longest_seconds=LONGEST_SECONDS)


def _read(connection: DatabaseConnection, question: Question, registry: Registry) -> tuple[Plan, list[Merged]]:
    """Choose what to read and read it, in one transaction; raise Refused."""
    plan = make_plan(question, minutes_since=read_horizons(connection).minute)
    _check_size(plan, registry, question.filters)
    merged = read_merged(
        connection,
        rollups.Span(since=plan.span.since, until=plan.span.until, step=timedelta(seconds=plan.step_seconds)),
        filters=msgspec.convert(question.filters, rollups.Filters),
        asked=question.asked,
        now=question.now,
    )
    return plan, merged


def make_plan(question: Question, *, minutes_since: datetime | None) -> Plan:
    """Return what to read, from a whole step on; raise Refused with the steps that are allowed. Pure.

    `minutes_since`: before it hours alone are kept; None: minutes are kept from the beginning.
    """
    span, by = question.span, question.by
    if by is By.HOUR_OF_DAY and question.step is not None:
        raise Refused("invalid", "step: by=hour_of_day has hours; leave it out")
    gone = minutes_since is not None and span.since < minutes_since
    allowed = [one for one in STEPS if (one >= HOUR_SECONDS or not gone) and span.seconds / one <= MAX_POINTS]
    if by is By.HOUR_OF_DAY:
        chosen = HOUR_SECONDS
    elif question.step is None:
        chosen = next((one for one in allowed if span.seconds / one <= PLENTY), allowed[-1])
    else:
        chosen = _step_of(question.step, allowed)
    since = EPOCH + (span.since - EPOCH) // timedelta(seconds=chosen) * timedelta(seconds=chosen)
    return Plan(span=Span(since=since, until=span.until), step_seconds=chosen)


def _step_of(text: str, allowed: Sequence[int]) -> int:
    try:
        seconds = parse_duration(text)
    except ValueError as exc:
        raise Refused("invalid", f"step: {exc}") from exc
    if seconds not in allowed:
        words = ", ".join(format_duration(one) for one in allowed)
        raise Refused("invalid", f"step: {text!r} is none of those that this span has: {words}")
    return int(seconds)


def _check_size(plan: Plan, registry: Registry, known: Mapping[str, str]) -> None:
    """Raise Refused when today's targets make more values than one answer holds."""
    if len(registry.regions) * len(registry.rows.targets) * plan.points <= MAX_VALUES:
        return
    series = _count_series(registry, known)
    if series * plan.points > MAX_VALUES:
        detail = f"{series} series of {plan.points} points are more than {MAX_VALUES} values."
        raise Refused("too_much", f"{detail} Name an agent_region, an endpoint or a model, or take a longer step.")


def _count_series(registry: Registry, known: Mapping[str, str]) -> int:
    """Return how many series of today's targets the filters let through."""
    found = set()
    for one in registry.places():
        prober = one.assignment.options.prober
        connection = one.target.connection or Connection.COLD
        key = (one.agent.region.name, one.endpoint.name, one.target.model, connection, prober)
        names = dict(zip(("agent_region", "endpoint", "model", "connection", "prober"), key, strict=True))
        if all(names[name] == value for name, value in known.items()):
            found.add(key)
    return len(found)
