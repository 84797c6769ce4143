"""Statements behind `/v1/summary`: counts and quantiles over raw results of a window."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

import msgspec
from sqlalchemy import Connection, RowMapping, text

from collector.schema import CONNECTIONS, OUTCOMES, PROBERS
from isochrone.outcome import Outcome, Prober

_OK: Final = OUTCOMES.index(Outcome.OK) + 1
_RTT: Final = PROBERS.index(Prober.RTT) + 1
_INFERENCE: Final = PROBERS.index(Prober.INFERENCE) + 1


def _quantiles(column: str) -> str:
    """Return SQL for `[p50, p95, mean]` of the successes, NULL without one. Columns are literals of this file."""
    inside = f"WITHIN GROUP (ORDER BY r.{column}) FILTER (WHERE r.outcome = {_OK})"
    mean = f"avg(r.{column}) FILTER (WHERE r.outcome = {_OK})"
    return f"percentile_cont(ARRAY[0.5, 0.95]) {inside} || {mean} AS {column}"


_COUNTS: Final = (
    f"count(*) AS probes, count(*) FILTER (WHERE r.outcome <> {_OK}) AS failures, max(r.started_at) AS last_result_at,"
    f" (array_agg(r.outcome ORDER BY r.started_at DESC) FILTER (WHERE r.outcome <> {_OK}))[1] AS failure_outcome,"
    f" (array_agg(r.reason ORDER BY r.started_at DESC) FILTER (WHERE r.outcome <> {_OK}))[1] AS failure_reason,"
    f" max(r.started_at) FILTER (WHERE r.outcome <> {_OK}) AS failure_at"
)
_FROM: Final = (
    "FROM result r JOIN agent_region g ON g.id = r.agent_region_id JOIN target t ON t.id = r.target_id"
    " JOIN endpoint e ON e.id = t.endpoint_id WHERE r.started_at >= :since AND r.started_at <= :until"
)
_MEANS: Final = ", ".join(
    f"avg(r.{name}) FILTER (WHERE r.outcome = {_OK}) AS {name}"
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


class Trips(msgspec.Struct, frozen=True, kw_only=True):
    """The `rtt` probes from a region to an endpoint."""

    agent_region: str
    endpoint: str
    probes: int
    failures: int
    last_result_at: datetime
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
    last_result_at: datetime
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
