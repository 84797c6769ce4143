"""Whatever a probe may bring survives the wire, value for value."""

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from isochrone import wire
from isochrone.batch import AgentStatus, Batch
from isochrone.marks import MARKS, Components, Marks
from isochrone.names import MAX_COUNT, MAX_SECONDS
from isochrone.outcome import (
    ClockSource,
    Connection,
    Flag,
    Outcome,
    Prober,
    RttMethod,
    RttSource,
    TokenSource,
)
from isochrone.result import Pings, Result, ServerTiming, Tokens
from tests.contract.examples import BOOT_ID, NOON, RTT_BATCH

names = st.from_regex(r"[a-z0-9][a-z0-9._/-]{0,63}", fullmatch=True)
seconds = st.floats(min_value=0, max_value=MAX_SECONDS)
counts = st.integers(min_value=0, max_value=MAX_COUNT)
texts = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=200)
addresses = st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6)).map(str)
moments = st.datetimes(
    min_value=datetime(1970, 1, 1),  # noqa: DTZ001  hypothesis wants naive bounds and adds the zone
    max_value=datetime(9000, 1, 1),  # noqa: DTZ001  as above
    timezones=st.just(UTC),
)


def maybe(strategy: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.none() | strategy


pings = st.builds(
    Pings,
    method=st.sampled_from(RttMethod),
    sent=counts,
    lost=counts,
    **dict.fromkeys(("min_seconds", "median_seconds", "mean_seconds", "max_seconds", "jitter_seconds"), maybe(seconds)),
)
tokens = st.builds(
    Tokens,
    source=st.sampled_from(TokenSource),
    output=counts,
    arrivals=counts,
    **dict.fromkeys(("input", "cached_input", "reasoning"), maybe(counts)),
)
server_timings = st.builds(
    ServerTiming,
    source=texts,
    trusted=st.booleans(),
    **dict.fromkeys(("first_token_seconds", "total_seconds", "queue_seconds"), maybe(seconds)),
)
results = st.builds(
    Result,
    seq=st.integers(min_value=0, max_value=2**62),
    endpoint=names,
    module=names,
    prober=st.sampled_from(Prober),
    started_at=moments,
    started_boottime_seconds=st.floats(min_value=0, max_value=1e10),
    outcome=st.sampled_from(Outcome),
    reason=maybe(texts),
    http_status=maybe(st.integers(min_value=100, max_value=999)),
    address=maybe(addresses),
    ip_version=st.sampled_from([None, 4, 6]),
    connection=maybe(st.sampled_from(Connection)),
    clock_source=st.sampled_from(ClockSource),
    marks=st.builds(Marks, **dict.fromkeys(MARKS, maybe(seconds))),
    rtt_source=maybe(st.sampled_from(RttSource)),
    tokens_per_second=maybe(st.floats(min_value=0, max_value=1e9)),
    components=maybe(st.builds(Components, network_seconds=seconds, model_seconds=seconds, streaming_seconds=seconds)),
    pings=maybe(pings),
    tokens=maybe(tokens),
    server_timing=maybe(server_timings),
    served_region=maybe(texts),
    flags=st.lists(st.sampled_from(Flag), unique=True).map(tuple),
    **dict.fromkeys(
        (
            *("duration_seconds", "setup_seconds", "rtt_seconds", "ttft_seconds", "answer_ttft_seconds"),
            *("tpot_seconds", "stall_seconds", "start_delay_seconds", "ttft_bound_seconds", "rtt_variation_seconds"),
        ),
        maybe(seconds),
    ),
)


@given(results)
def test_a_result_survives_the_wire(result: Result) -> None:
    line = wire.encode_result(result)
    assert wire.decode_result(line) == result
    assert b"\n" not in line


@given(st.lists(results, max_size=4), st.integers(0, MAX_COUNT), st.none() | st.floats(0, 1e10))
def test_a_batch_survives_the_wire(made: list[Result], queued: int, boottime_seconds: float | None) -> None:
    batch = Batch(
        version=1,
        batch_id=BOOT_ID,
        boot_id=BOOT_ID,
        sent_at=NOON,
        sent_boottime_seconds=boottime_seconds,
        status=AgentStatus(version="0.1.0", queued_results=queued),
        results=tuple(made),
    )
    assert wire.decode_batch(wire.encode_batch(batch)) == wire.Decoded(batch=batch)


@given(results)
def test_full_json_says_the_same_as_the_wire(result: Result) -> None:
    """A result printed in full reads back to the same value: null and absent mean the same."""
    line = wire.full_json(result, boot_id=str(BOOT_ID))
    assert wire.decode_result(line) == result


@given(st.integers(-14 * 60, 14 * 60))
def test_an_offset_names_the_same_moment(minutes: int) -> None:
    started_at = NOON.astimezone(timezone(timedelta(minutes=minutes)))
    (result,) = RTT_BATCH.results
    line = wire.encode_result(result).replace(b"2026-03-01T12:00:00.125000Z", started_at.isoformat().encode())
    assert wire.decode_result(line).started_at == NOON
