"""Statements behind `/v1/summary`: short windows over raw results, long ones over rollups.

Values are of the successes that nothing spoiled, as in the rollups. A rollup knows no single results: of a long window
the newest result and the latest failure are looked for in its last hour.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from itertools import groupby
from typing import Any, Final

import msgspec
from sqlalchemy import Connection, RowMapping, text

from collector.schema import CONNECTIONS, OUTCOMES, PROBERS
from collector.stats.sketch import Sketch, merge, quantile
from collector.store.rollups import Asked, Filters, Merged, Span, read_merged
from isochrone.outcome import Outcome, Prober

_OK: Final = OUTCOMES.index(Outcome.OK) + 1
_GOOD: Final = f"r.outcome = {_OK} AND r.flags = 0"
_RTT: Final = PROBERS.index(Prober.RTT) + 1
_INFERENCE: Final = PROBERS.index(Prober.INFERENCE) + 1


def _quantiles(column: str) -> str:
    """Return SQL for `[p50, p95, mean]` of the successes, NULL without one. Columns are literals of this file."""
    inside = f"WITHIN GROUP (ORDER BY r.{column}) FILTER (WHERE {_GOOD})"
    mean = f"avg(r.{column}) FILTER (WHERE {_GOOD})"
    return f"percentile_cont(ARRAY[0.5, 0.95]) {inside} || {mean} AS {column}"


_LATEST: Final = (
    "max(r.started_at) AS last_result_at,"
    f" (array_agg(r.outcome ORDER BY r.started_at DESC) FILTER (WHERE r.outcome <> {_OK}))[1] AS failure_outcome,"
    f" (array_agg(r.reason ORDER BY r.started_at DESC) FILTER (WHERE r.outcome <> {_OK}))[1] AS failure_reason,"
    f" max(r.started_at) FILTER (WHERE r.outcome <> {_OK}) AS failure_at"
)
_COUNTS: Final = (
    f"count(*) AS probes, count(*) FILTER (WHERE r.outcome <> {_OK}) AS failures,"
    f" count(*) FILTER (WHERE r.outcome = {_OK} AND r.flags <> 0) AS spoiled, {_LATEST}"
)
_FROM: Final = (
    "FROM result r JOIN agent_region g ON g.id = r.agent_region_id JOIN target t ON t.id = r.target_id"
    " JOIN endpoint e ON e.id = t.endpoint_id WHERE r.started_at >= :since AND r.started_at <= :until"
)
_MEANS: Final = ", ".join(
    f"avg(r.{name}) FILTER (WHERE {_GOOD}) AS {name}"
    for name in ("network_seconds", "model_seconds", "streaming_seconds")
)
# A probe that failed before it had a connection counts where it was planned.
_STREAMS: Final = text(
    "SELECT g.name AS agent_region, e.name AS endpoint, nullif(t.model, '') AS model,"
    f" coalesce(r.connection, t.connection) AS connection, {_COUNTS}, {_quantiles('rtt_seconds')},"
    f" {_quantiles('ttft_seconds')}, {_quantiles('tokens_per_second')}, {_MEANS}"
    f" {_FROM} AND r.prober = {_INFERENCE} GROUP BY 1, 2, 3, 4 ORDER BY 1, 2, 3, 4"
)
_TRIPS: Final = text(
    f"SELECT g.name AS agent_region, e.name AS endpoint, {_COUNTS}, {_quantiles('rtt_seconds')}"
    f" {_FROM} AND r.prober = {_RTT} GROUP BY 1, 2 ORDER BY 1, 2"
)
_NEWEST: Final = text(
    "SELECT g.name AS agent_region, e.name AS endpoint, nullif(t.model, '') AS model,"
    f" coalesce(r.connection, t.connection) AS connection, r.prober = {_RTT} AS trips, {_LATEST}"
    f" {_FROM} GROUP BY 1, 2, 3, 4, 5"
)
_QUANTILES: Final = ("rtt", "ttft", "tokens_per_second")
_COMPONENTS: Final = ("network", "model", "streaming")


LATEST_SPAN: Final = timedelta(hours=1)
"""Of a long window, the part in which the newest results are looked for."""

Key = tuple[str, str, str | None, str | None]
"""Agent region, endpoint, model, connection; the last two are None for round trips."""


class Quantiles(msgspec.Struct, frozen=True, kw_only=True):
    """Of the successes in the window."""

    p50: float
    p95: float
    mean: float


class LastFailure(msgspec.Struct, frozen=True, kw_only=True):
    """The latest failure in the window: what a person wants to know first."""

    outcome: str
    reason: str | None
    at: datetime


class Latest(msgspec.Struct, frozen=True, kw_only=True):
    """The newest result of a row, and its latest failure."""

    last_result_at: datetime
    last_failure: LastFailure | None


class Trips(msgspec.Struct, frozen=True, kw_only=True):
    """The `rtt` probes from a region to an endpoint."""

    agent_region: str
    endpoint: str
    probes: int
    failures: int
    spoiled: int
    """Successes that a flag keeps out of the values."""
    last_result_at: datetime | None
    """None: longer ago than the last hour of a long window."""
    last_failure: LastFailure | None
    rtt_seconds: Quantiles | None


class Streams(msgspec.Struct, frozen=True, kw_only=True):
    """The `inference` probes from a region to an endpoint's model over one kind of connection."""

    agent_region: str
    endpoint: str
    model: str | None
    connection: str | None
    probes: int
    failures: int
    spoiled: int
    """Successes that a flag keeps out of the values."""
    last_result_at: datetime | None
    """None: longer ago than the last hour of a long window."""
    last_failure: LastFailure | None
    rtt_seconds: Quantiles | None
    ttft_seconds: Quantiles | None
    tokens_per_second: Quantiles | None
    network_seconds: float | None
    model_seconds: float | None
    streaming_seconds: float | None


def summarise_trips(connection: Connection, *, since: datetime, until: datetime) -> list[Trips]:
    """Return the `rtt` probes that started in the window."""
    rows = connection.execute(_TRIPS, {"since": since, "until": until}).mappings()
    return [Trips(**{**_with_failure(row), "rtt_seconds": _quantiles_of(row["rtt_seconds"])}) for row in rows]


def summarise_streams(connection: Connection, *, since: datetime, until: datetime) -> list[Streams]:
    """Return the `inference` probes that started in the window."""
    return [_streams(row) for row in connection.execute(_STREAMS, {"since": since, "until": until}).mappings()]


def summarise_rollups(
    connection: Connection, *, since: datetime, until: datetime, ahead: timedelta
) -> tuple[list[Streams], list[Trips]]:
    """Return the probes that started in a long window, in whole minutes around it; `until` is now.

    Those that started `ahead` of it are counted, too.
    """
    merged = read_merged(
        connection,
        Span(since=since, until=until + ahead),
        filters=Filters(),
        asked=Asked(quantiles=_QUANTILES, means=_COMPONENTS),
        now=until,
    )
    newest = _newest(connection, since=max(since, until - LATEST_SPAN), until=until + ahead)
    streams = [_merged_streams(one, newest) for one in merged if one.prober == Prober.INFERENCE]
    pairs = groupby((one for one in merged if one.prober == Prober.RTT), key=_pair)
    return streams, [_merged_trips(list(ones), newest.get((*pair, None, None))) for pair, ones in pairs]


def _newest(connection: Connection, *, since: datetime, until: datetime) -> dict[Key, Latest]:
    """Return the newest result and the latest failure of each stream, and of the round trips of each pair."""
    found: dict[Key, Latest] = {}
    for row in connection.execute(_NEWEST, {"since": since, "until": until}).mappings():
        fields = _with_failure(row)
        one = Latest(last_result_at=fields["last_result_at"], last_failure=fields["last_failure"])
        code = row["connection"]
        kind = (None, None) if row["trips"] else (row["model"], None if code is None else CONNECTIONS[code - 1].value)
        key = (row["agent_region"], row["endpoint"], *kind)
        found[key] = one if key not in found else _later(one, found[key])
    return found


def _later(one: Latest, other: Latest) -> Latest:
    failures = [latest.last_failure for latest in (one, other) if latest.last_failure is not None]
    return Latest(
        last_result_at=max(one.last_result_at, other.last_result_at),
        last_failure=max(failures, key=lambda failure: failure.at, default=None),
    )


def _pair(one: Merged) -> tuple[str, str]:
    return one.agent_region, one.endpoint


def _merged_streams(one: Merged, newest: dict[Key, Latest]) -> Streams:
    latest = newest.get((*_pair(one), one.model, one.connection))
    means = {name: one.signals[name].mean if name in one.signals else None for name in _COMPONENTS}
    return Streams(
        agent_region=one.agent_region,
        endpoint=one.endpoint,
        model=one.model,
        connection=one.connection,
        probes=one.probes,
        failures=one.failures,
        spoiled=one.spoiled,
        last_result_at=None if latest is None else latest.last_result_at,
        last_failure=None if latest is None else latest.last_failure,
        rtt_seconds=_quantiles_in(one.signals.get("rtt")),
        ttft_seconds=_quantiles_in(one.signals.get("ttft")),
        tokens_per_second=_quantiles_in(one.signals.get("tokens_per_second")),
        **{f"{name}_seconds": None if mean is None else significant(mean) for name, mean in means.items()},
    )


def _merged_trips(ones: list[Merged], latest: Latest | None) -> Trips:
    return Trips(
        agent_region=ones[0].agent_region,
        endpoint=ones[0].endpoint,
        probes=sum(one.probes for one in ones),
        failures=sum(one.failures for one in ones),
        spoiled=sum(one.spoiled for one in ones),
        last_result_at=None if latest is None else latest.last_result_at,
        last_failure=None if latest is None else latest.last_failure,
        rtt_seconds=_quantiles_in(merge(one.signals.get("rtt") for one in ones)),
    )


def _quantiles_in(sketch: Sketch | None) -> Quantiles | None:
    if sketch is None:
        return None
    p50, p95 = (significant(quantile(sketch, q)) for q in (0.5, 0.95))
    return Quantiles(p50=p50, p95=p95, mean=significant(sketch.mean))


def _streams(row: RowMapping) -> Streams:
    code = row["connection"]
    fields = {**_with_failure(row), "connection": None if code is None else CONNECTIONS[code - 1].value}
    for name in ("rtt_seconds", "ttft_seconds", "tokens_per_second"):
        fields[name] = _quantiles_of(row[name])
    for name in ("network_seconds", "model_seconds", "streaming_seconds"):
        fields[name] = None if row[name] is None else significant(row[name])
    return Streams(**fields)


def _with_failure(row: RowMapping) -> dict[str, Any]:
    """Return the row with its three columns of the last failure as one value."""
    fields: dict[str, Any] = dict(row)  # Any: columns of every type, checked by the struct's own types in tests
    outcome, reason, at = (fields.pop(f"failure_{name}") for name in ("outcome", "reason", "at"))
    fields["last_failure"] = (
        None if at is None else LastFailure(outcome=OUTCOMES[outcome - 1].value, reason=reason, at=at)
    )
    return fields


def _quantiles_of(values: Sequence[float | None] | None) -> Quantiles | None:
    numbers = [significant(value) for value in values or () if value is not None]
    if not numbers:
        return None
    p50, p95, mean = numbers
    return Quantiles(p50=p50, p95=p95, mean=mean)


def significant(value: float) -> float:
    """Return `value` with the seven digits that a float4 holds."""
    return float(f"{value:.7g}")
