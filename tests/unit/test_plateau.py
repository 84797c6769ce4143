"""Writes that a server holds back are told from waits that a model takes: by the fresh connections of the same run."""

from datetime import UTC, datetime

import pytest
from msgspec.structs import replace

from agent.plateau import MIN_REUSED, comes_by_round_trips, holds_writes_back, on_plateau
from isochrone.marks import Marks
from isochrone.outcome import Connection, Flag, Outcome, Prober
from isochrone.result import Result, ServerTiming

HEAD = 0.020
RTT = 0.010


def answer(
    held_ms: float,
    *,
    connection: Connection = Connection.WARM,
    rtt: float | None = RTT,
    outcome: Outcome = Outcome.OK,
    told: ServerTiming | None = None,
) -> Result:
    """Return an answer whose first event came `held_ms` after its head."""
    event = HEAD + held_ms / 1000
    return Result(
        seq=0,
        endpoint="e",
        module="m",
        prober=Prober.INFERENCE,
        started_at=datetime(2026, 1, 2, tzinfo=UTC),
        started_boottime_seconds=1,
        outcome=outcome,
        connection=connection,
        rtt_seconds=rtt,
        marks=Marks(request_started=0, headers=HEAD, first_event=event, first_token=event, end=event + 0.2),
        server_timing=told,
    )


MEASURED = [1.1, 42.8, 41.5, 41.7]
"""Head to first token over loopback, server without TCP_NODELAY: a fresh connection, then reused ones."""


def warm_run(*held_ms: float, rtt: float = 0.0) -> list[Result]:
    return [answer(each, rtt=rtt) for each in held_ms]


def test_the_measured_run_is_recognised() -> None:
    assert holds_writes_back(warm_run(*MEASURED))


def test_over_a_distance_the_round_trip_is_added() -> None:
    assert holds_writes_back(warm_run(15, 121, 122, 120, rtt=0.080))
    assert holds_writes_back(warm_run(93.4, 135, 139, 137, rtt=0.0933))
    assert not holds_writes_back(warm_run(93.4, 135, 143, 137, rtt=0.0933))
    assert not holds_writes_back(warm_run(15, 42, 41, 42, rtt=0.080))


@pytest.mark.parametrize(
    "held_ms",
    [
        pytest.param([], id="nothing"),
        pytest.param([1.1], id="one probe"),
        pytest.param([1.1, 42, 41], id="too few on reused connections"),
        pytest.param([1.1, 42, 1.2, 1.1, 1.1], id="a single wait of 40 ms"),
        pytest.param([1.1, 42, 41, 1.1, 1.1], id="half of them"),
        pytest.param([40.5, 41, 40, 42, 41], id="a model that takes 40 ms, fresh connections too"),
        pytest.param([1.1, 30, 55, 48, 36], id="waits that scatter"),
        pytest.param([1.1, 1.2, 1.1, 1.1], id="a good server"),
    ],
)
def test_other_waits_are_not_mistaken_for_it(held_ms: list[float]) -> None:
    assert not holds_writes_back(warm_run(*held_ms))


def test_one_of_four_may_miss_the_plateau() -> None:
    assert holds_writes_back(warm_run(1.1, 42, 41, 1.1, 42))


def test_cold_connections_are_never_reused_ones() -> None:
    assert not holds_writes_back([answer(held, connection=Connection.COLD) for held in (1.1, 50, 51, 52, 51)])


def test_without_a_fresh_connection_there_is_nothing_to_compare_with() -> None:
    failed = answer(42, outcome=Outcome.RATE_LIMITED)
    run = [answer(51), answer(51), answer(51), answer(51)]
    assert not holds_writes_back([failed, *run])
    assert holds_writes_back([failed, answer(1), *run[:MIN_REUSED]])


def test_a_head_that_a_proxy_held_shows_where_the_servers_time_is_trusted() -> None:
    def told(seconds: float, *, trusted: bool = True) -> ServerTiming:
        return ServerTiming(source="s", first_token_seconds=seconds, trusted=trusted)

    assert not on_plateau(answer(1, rtt=0.010, told=told(0.009)))
    late = answer(1, rtt=0.010, told=told(0.300))
    marks = Marks(request_started=0, headers=0.351, first_event=0.351, first_token=0.352, end=1)
    assert on_plateau(replace(late, marks=marks))
    assert not on_plateau(replace(late, marks=marks, server_timing=told(0.300, trusted=False)))
    assert not on_plateau(replace(late, marks=marks, server_timing=None))


def test_an_unknown_round_trip_says_nothing() -> None:
    assert not on_plateau(answer(42, rtt=None))
    assert on_plateau(answer(52))


@pytest.mark.parametrize(
    ("rtt_ms", "held_ms", "longest_ms", "found"),
    [
        pytest.param(93.4, 93.4, 93.6, True, id="measured, fresh"),
        pytest.param(93.5, 134, 93.6, True, id="measured, reused"),
        pytest.param(93.5, 93.5, 200, False, id="another gap"),
        pytest.param(93.5, 1, 93.5, False, id="the first event was not held"),
        pytest.param(0.03, 41, 0.03, False, id="no way to speak of"),
        pytest.param(100, 100, 106, False, id="not quite a round trip"),
    ],
)
def test_bursts_one_round_trip_apart_show_in_one_result(
    rtt_ms: float, held_ms: float, longest_ms: float, *, found: bool
) -> None:
    result = replace(answer(held_ms, rtt=rtt_ms / 1000), stall_seconds=longest_ms / 1000, flags=(Flag.BUFFERED,))
    assert comes_by_round_trips(result) is found
    assert not comes_by_round_trips(replace(result, flags=()))


def test_bursts_of_unknown_distance_say_nothing() -> None:
    result = replace(answer(93, rtt=0.093), stall_seconds=None, flags=(Flag.BUFFERED,))
    assert not comes_by_round_trips(result)
    assert not comes_by_round_trips(replace(result, rtt_seconds=None, stall_seconds=0.093))
