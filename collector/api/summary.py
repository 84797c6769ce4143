"""GET /v1/summary: from each region to each endpoint, what users wait and where it goes."""

import asyncio
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Annotated, Final

import msgspec
from fastapi import APIRouter, Query, Response

from collector.api.asking import OnlyKnown, window_seconds
from collector.api.context import Context, Reading, Running
from collector.ingest import MAX_AHEAD_SECONDS
from collector.metrics.live import distance_meters
from collector.registry import Planned, Registry
from collector.store.summary import (
    Key,
    LastFailure,
    Quantiles,
    Streams,
    Trips,
    significant,
    summarise_rollups,
    summarise_streams,
    summarise_trips,
)
from isochrone.outcome import Connection, Prober
from isochrone.physics import rtt_floor_seconds

router = APIRouter(tags=["reading"], dependencies=[Reading, OnlyKnown])

RAW_SECONDS: Final = 900.0
"""Up to here single results are read: at one result a minute as many as rollups, and true to the second."""
AHEAD: Final = timedelta(seconds=MAX_AHEAD_SECONDS)
"""A result may lie ahead of this clock by as much as ingest lets through."""


class ComponentMeans(msgspec.Struct, frozen=True, kw_only=True):
    """Mean seconds of the successes."""

    network_seconds: float
    model_seconds: float
    streaming_seconds: float


class SummaryRow(msgspec.Struct, frozen=True, kw_only=True):
    """One line of the table; None where nothing was measured."""

    agent_region: str
    endpoint: str
    endpoint_region: str | None
    model: str | None
    connection: str | None
    simulated: bool
    probes: int
    failures: int
    spoiled: int
    """Successes that a flag keeps out of the values."""
    coverage: float | None
    """Probes that came, over those that the schedule called for while a target file named them; at most 1."""
    rtt_seconds: Quantiles | None
    ttft_seconds: Quantiles | None = None
    tokens_per_second: Quantiles | None = None
    components: ComponentMeans | None = None
    floor_seconds: float | None
    efficiency: float | None
    """Floor over the median round trip: 1 is the speed of light in fibre."""
    rtt_probes: int
    """Probes of the prober `rtt` from the region to the endpoint: what `probes` counts where there is no model."""
    rtt_failures: int
    last_result_at: datetime | None
    """None: longer ago than the last hour of a window beyond 15 minutes."""
    last_failure: LastFailure | None
    """The latest in the window, of streams and round trips."""


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """The answer."""

    window_seconds: float
    as_of: datetime
    """The end of the window: the answer may have been made up to half a minute ago."""
    rows: list[SummaryRow]


@router.get("/v1/summary")
async def get_summary(context: Running, window: Annotated[str, Query(max_length=20)] = "1h") -> Response:
    """Summarise the results that started in the last `window` (`15m`, `1h`, `1d`; at most 31 days).

    The answer is kept and made anew every 10 s while somebody asks; `as_of` says when it was made. Up to 15 minutes it
    is made of single results, beyond of rollups: quantiles are then true to 4.5 %.
    """
    seconds = window_seconds(window)

    async def make() -> bytes | None:
        answer = await summarise(context, seconds)
        # What comes first is shown at once.
        return msgspec.json.encode(answer) if answer.rows else None

    body = await context.summaries.get(f"summary of {seconds:g} s", make)
    if body is None:
        body = msgspec.json.encode(Summary(window_seconds=seconds, as_of=context.utc_now(), rows=[]))
    return Response(body, media_type="application/json")


async def summarise(context: Context, seconds: float) -> Summary:
    """Return the summary of a window up to now; raise Refused and DatabaseUnavailable."""
    until = context.utc_now()
    since = until - timedelta(seconds=seconds)
    registry = await context.registry.get()
    read = context.readers.read
    if seconds <= RAW_SECONDS:
        streams = await read(summarise_streams, since=since, until=until + AHEAD)
        trips = await read(summarise_trips, since=since, until=until + AHEAD)
    else:
        streams, trips = await read(summarise_rollups, since=since, until=until, ahead=AHEAD)
    expected = expected_probes(registry.planned_by_region(since=since, until=until))
    # In a thread: batches come in meanwhile.
    rows = await asyncio.to_thread(make_rows, streams, trips, registry, expected=expected)
    return Summary(window_seconds=seconds, as_of=until, rows=rows)


def make_rows(
    streams: list[Streams], trips: list[Trips], registry: Registry, *, expected: dict[Key, float]
) -> list[SummaryRow]:
    """Return one row per stream series, and one per pair that has round trips alone. Pure."""
    by_pair = {(trip.agent_region, trip.endpoint): trip for trip in trips}
    rows = [
        _stream_row(one, registry, trip=by_pair.get((one.agent_region, one.endpoint)), expected=expected)
        for one in streams
    ]
    with_streams = {(one.agent_region, one.endpoint) for one in streams}
    rows += [_trip_row(trip, registry, expected) for pair, trip in by_pair.items() if pair not in with_streams]
    return sorted(rows, key=lambda row: (row.agent_region, row.endpoint, row.model or "", row.connection or ""))


def expected_probes(planned: Iterable[Planned]) -> dict[Key, float]:
    """Return how many probes the schedule called for, by row. Pure."""
    expected: dict[Key, float] = {}
    for plan in planned:
        one = plan.assigned
        inference = one.assignment.options.prober is Prober.INFERENCE
        connection = (one.target.connection or Connection.COLD).value if inference else None
        key = (one.agent.region.name, one.endpoint.name, one.target.model if inference else None, connection)
        count = plan.seconds / one.assignment.options.interval
        expected[key] = expected.get(key, 0.0) + count
    return expected


def _stream_row(one: Streams, registry: Registry, *, trip: Trips | None, expected: dict[Key, float]) -> SummaryRow:
    key = (one.agent_region, one.endpoint, one.model, one.connection)
    rtt = one.rtt_seconds if trip is None or trip.rtt_seconds is None else trip.rtt_seconds
    floor = _floor(registry, one.agent_region, one.endpoint)
    simulated = _is_simulated(registry, one.endpoint)
    return SummaryRow(
        agent_region=one.agent_region,
        endpoint=one.endpoint,
        model=one.model,
        connection=one.connection,
        probes=one.probes,
        failures=one.failures,
        spoiled=one.spoiled,
        coverage=_coverage(one.probes, expected.get(key)),
        rtt_seconds=rtt,
        ttft_seconds=one.ttft_seconds,
        tokens_per_second=one.tokens_per_second,
        components=_means(one, distance=None if trip is None or not simulated else trip.rtt_seconds),
        last_result_at=one.last_result_at,
        last_failure=_later(one.last_failure, None if trip is None else trip.last_failure),
        endpoint_region=_region_of(registry, one.endpoint),
        simulated=simulated,
        rtt_probes=0 if trip is None else trip.probes,
        rtt_failures=0 if trip is None else trip.failures,
        floor_seconds=floor,
        efficiency=_efficiency(floor, rtt),
    )


def _trip_row(trip: Trips, registry: Registry, expected: dict[Key, float]) -> SummaryRow:
    floor = _floor(registry, trip.agent_region, trip.endpoint)
    return SummaryRow(
        agent_region=trip.agent_region,
        endpoint=trip.endpoint,
        model=None,
        connection=None,
        probes=trip.probes,
        failures=trip.failures,
        spoiled=trip.spoiled,
        coverage=_coverage(trip.probes, expected.get((trip.agent_region, trip.endpoint, None, None))),
        rtt_seconds=trip.rtt_seconds,
        last_result_at=trip.last_result_at,
        last_failure=trip.last_failure,
        endpoint_region=_region_of(registry, trip.endpoint),
        simulated=_is_simulated(registry, trip.endpoint),
        rtt_probes=trip.probes,
        rtt_failures=trip.failures,
        floor_seconds=floor,
        efficiency=_efficiency(floor, trip.rtt_seconds),
    )


def _means(one: Streams, *, distance: Quantiles | None) -> ComponentMeans | None:
    """Return the means. `distance` is the scripted round trip of a simulated endpoint.

    Its connection is a loopback, whose round trip is nothing: the script delays the first token instead. That delay
    plays the network, and is counted so; the sum stays.
    """
    if one.network_seconds is None or one.model_seconds is None or one.streaming_seconds is None:
        return None
    moved = 0.0 if distance is None else min(distance.mean, one.model_seconds)
    return ComponentMeans(
        network_seconds=significant(one.network_seconds + moved),
        model_seconds=significant(one.model_seconds - moved),
        streaming_seconds=one.streaming_seconds,
    )


def _later(one: LastFailure | None, other: LastFailure | None) -> LastFailure | None:
    found = [failure for failure in (one, other) if failure is not None]
    return max(found, key=lambda failure: failure.at, default=None)


def _efficiency(floor: float | None, rtt: Quantiles | None) -> float | None:
    return None if floor is None or rtt is None or rtt.p50 <= 0 else significant(floor / rtt.p50)


def _floor(registry: Registry, region: str, endpoint: str) -> float | None:
    here, there = registry.regions.get(region), registry.endpoints.get(endpoint)
    distance = None if here is None or there is None else distance_meters(here, there)
    return None if distance is None else significant(rtt_floor_seconds(distance))


def _region_of(registry: Registry, endpoint: str) -> str | None:
    row = registry.endpoints.get(endpoint)
    return None if row is None else row.endpoint_region


def _is_simulated(registry: Registry, endpoint: str) -> bool:
    row = registry.endpoints.get(endpoint)
    return row is not None and row.simulated


def _coverage(probes: int, expected: float | None) -> float | None:
    if expected is None or expected < 1:
        return None
    return min(1.0, significant(probes / expected))
