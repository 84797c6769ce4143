"""GET /v1/series: one signal over time, or by the hour of the day, from the rollups."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Annotated, Final

import msgspec
from fastapi import APIRouter, Query, Response

from collector.api.asking import AskedSpan, Bounds, Duration, OnlyKnown, SeriesFilters, Span
from collector.api.context import Context, Reading, Running
from collector.errors import Refused
from collector.registry import Registry
from collector.schema import SIGNALS
from collector.stats.sketch import within
from collector.store import rollups
from collector.store.engine import Connection as DatabaseConnection
from collector.store.lines import Asked, Line, read_lines
from collector.store.rolling import read_horizons
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
KEPT_SECONDS: Final = 12 * 3_600.0
"""From here on the answer for a window up to now is kept for a minute: a sevenhundredth of what it shows."""
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


RANKS: Final = {Statistic.P50: 0.5, Statistic.P95: 0.95, Statistic.P99: 0.99}
Values = list[float | None]
"""One for each step; None where nothing was measured."""


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
    signal: str
    statistics: list[Statistic]
    now: datetime

    @property
    def asked(self) -> Asked:
        """What is wanted of the lines."""
        ranks = tuple(rank for statistic, rank in RANKS.items() if statistic in self.statistics)
        return Asked(signal=self.signal, ranks=ranks, by_hour=self.by is By.HOUR_OF_DAY)


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
    With `by=hour_of_day` all days of the span (default: seven) are laid upon each other. The answer for a `window` of
    12 hours or more is kept, and made anew every minute while somebody asks; `until` says when it was made.
    """
    known = await filters.known()
    if prober is not None:
        known["prober"] = prober.value
    wanted = list(dict.fromkeys(statistic or [Statistic.P50, Statistic.P95]))

    async def make() -> bytes:
        now = context.utc_now()
        span = asked.span(now, _bounds(by))
        return await _answer(
            context, Question(span=span, step=step, by=by, filters=known, signal=signal, statistics=wanted, now=now)
        )

    if asked.since is None and asked.until is None and asked.span(EPOCH, _bounds(by)).seconds >= KEPT_SECONDS:
        body = await context.series.get(repr((signal, asked.window, step, by, known, wanted)), make)
    else:
        body = await make()
    return Response(body, media_type="application/json")


async def _answer(context: Context, question: Question) -> bytes:
    registry = await context.registry.get()
    plan, lines = await context.readers.read(_read, question, registry)
    # In a thread: batches come in meanwhile.
    return await asyncio.to_thread(_encode, question, plan, lines)


def _encode(question: Question, plan: Plan, lines: Sequence[Line]) -> bytes:
    answer = SeriesAnswer(
        signal=question.signal,
        since=plan.span.since,
        until=plan.span.until,
        step_seconds=plan.step_seconds,
        by=question.by,
        level="hour" if plan.step_seconds % HOUR_SECONDS == 0 else "minute",
        series=make_series(lines, question.statistics, by=question.by),
    )
    return msgspec.json.encode(answer)


def make_series(lines: Sequence[Line], statistics: Sequence[Statistic], *, by: By) -> list[Series]:
    """Return the series of what was read, in order of their names. Pure."""
    return [_one_series(line, statistics, by=by) for line in sorted(lines, key=_sortable)]


def _one_series(line: Line, statistics: Sequence[Statistic], *, by: By) -> Series:
    by_time = by is By.TIME
    return Series(
        agent_region=line.agent_region,
        endpoint=line.endpoint,
        model=line.model,
        connection=line.connection,
        prober=line.prober,
        at=[datetime.fromtimestamp(at, UTC) for at in line.at] if by_time else None,
        hour_of_day=None if by_time else line.at,
        statistics={name: _VALUES[name](line) for name in statistics},
    )


def _quantile(rank: float) -> Callable[[Line], Values]:
    return lambda line: [
        None if bucket is None or low is None or high is None else significant(within(bucket, lowest=low, highest=high))
        for bucket, low, high in zip(line.buckets[rank], line.lowest, line.highest, strict=True)
    ]


def _rounded(values: Sequence[float | None]) -> Values:
    return [None if value is None else significant(value) for value in values]


def _mean(line: Line) -> Values:
    columns = zip(line.sum, line.count, line.lowest, line.highest, strict=True)
    return [
        None
        if total is None or count is None or low is None or high is None
        else significant(min(max(total / count, low), high))
        for total, count, low, high in columns
    ]


def _success_ratio(line: Line) -> Values:
    return [1 - failed / probes for failed, probes in zip(line.failures, line.probes, strict=True)]


_VALUES: Final[Mapping[Statistic, Callable[[Line], Values]]] = {
    **{statistic: _quantile(rank) for statistic, rank in RANKS.items()},
    Statistic.MEAN: _mean,
    Statistic.MIN: lambda line: _rounded(line.lowest),
    Statistic.MAX: lambda line: _rounded(line.highest),
    Statistic.COUNT: lambda line: [count or 0 for count in line.count],
    Statistic.PROBES: lambda line: [*line.probes],
    Statistic.FAILURES: lambda line: [*line.failures],
    Statistic.SPOILED: lambda line: [*line.spoiled],
    Statistic.SUCCESS_RATIO: _success_ratio,
    Statistic.SENT: lambda line: [*line.sent],
    Statistic.LOST: lambda line: [*line.lost],
}


def _sortable(one: Line) -> tuple[str, str, str, str, str]:
    return one.agent_region, one.endpoint, one.model or "", one.connection or "", one.prober


def _bounds(by: By) -> Bounds:
    if by is By.HOUR_OF_DAY:
        return Bounds(default_seconds=7 * DAY_SECONDS, longest_seconds=LONGEST_BASELINE_SECONDS)
    return Bounds(default_seconds=DAY_SECONDS, longest_seconds=LONGEST_SECONDS)


def _read(connection: DatabaseConnection, question: Question, registry: Registry) -> tuple[Plan, list[Line]]:
    """Choose what to read and read it, in one transaction; raise Refused."""
    minutes_since = read_horizons(connection).minute
    plan = make_plan(question, minutes_since=minutes_since)
    _check_size(plan, registry, question.filters)
    lines = read_lines(
        connection,
        rollups.Span(since=plan.span.since, until=plan.span.until, step=timedelta(seconds=plan.step_seconds)),
        filters=msgspec.convert(question.filters, rollups.Filters),
        asked=question.asked,
        now=question.now,
        minutes_since=minutes_since,
    )
    return plan, lines


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
