"""What a self-test makes of streams and of what the simulator saw: errors, spreads, rows."""

from datetime import UTC, datetime

import msgspec
import pytest

from agent.selftest.cells import Errors, Plan, Stream, compare, spread, summarize, untold
from agent.simulator import Seen
from agent.timeline import TokenArrival
from isochrone.outcome import ClockSource, Outcome, Prober
from isochrone.result import Result

MS = 1_000_000
RECEIVED_NS = 1_700_000_000_000_000_000
SENT_NS = tuple(RECEIVED_NS + (100 + 20 * index) * MS for index in range(5))
PLAN = Plan(tls=False, busy=False, streams=2)


def seen(model: str = "one", clock: ClockSource = ClockSource.KERNEL) -> Seen:
    return Seen(model=model, clock=clock, received_ns=RECEIVED_NS, sent_ns=SENT_NS)


def stream(name: str = "one", *, late_ms: float = 0.0, last_late_ms: float = 0.0, bound_ms: float = 0.0) -> Stream:
    """Return a stream that was true but for its first token's lateness, and its last one's."""
    came_ns = [7_000 * MS + 20 * MS * index for index in range(5)]
    came_ns[0] += int(late_ms * MS)
    came_ns[-1] += int(last_late_ms * MS)
    arrivals = tuple(TokenArrival(at_ns=at_ns, read=1, answer=True, reasoning=False) for at_ns in came_ns)
    result = Result(
        seq=0,
        endpoint=name,
        module="selftest",
        prober=Prober.INFERENCE,
        started_at=datetime(2026, 1, 1, tzinfo=UTC),
        started_boottime_seconds=1.0,
        outcome=Outcome.OK,
        clock_source=ClockSource.KERNEL,
        ttft_seconds=0.1 + late_ms / 1000,
        ttft_bound_seconds=bound_ms / 1000,
        tokens_per_second=4e9 / (came_ns[-1] - came_ns[0]),
        rtt_seconds=0.00002,
    )
    return Stream(result=result, arrivals=arrivals)


def errors(found: Errors | str) -> Errors:
    assert isinstance(found, Errors), found
    return found


def test_a_stream_that_was_measured_truly_has_no_errors() -> None:
    found = errors(compare(stream(), seen()))
    assert found.ttft_seconds == pytest.approx(0, abs=1e-12)
    assert found.gaps_seconds == (0.0,) * 4
    assert found.rate == pytest.approx(0)


def test_a_first_token_told_late_is_an_error_of_the_ttft_and_of_one_gap() -> None:
    found = errors(compare(stream(late_ms=3), seen()))
    assert found.ttft_seconds == pytest.approx(0.003)
    assert found.gaps_seconds == pytest.approx((-0.003, 0, 0, 0))


def test_a_rate_errs_as_a_share_of_the_true_one() -> None:
    assert errors(compare(stream(last_late_ms=80), seen())).rate == pytest.approx(-0.5)


@pytest.mark.parametrize(
    ("error", "bound", "left"),
    [
        (0.003, 0.0, 0.003),
        (0.003, 0.002, 0.001),
        (0.003, 0.005, 0.0),
        (-0.003, 0.005, -0.003),
        (0.0, 0.0, 0.0),
    ],
)
def test_a_result_may_be_too_late_by_what_it_says_but_never_too_early(error: float, bound: float, left: float) -> None:
    assert untold(error, bound_seconds=bound) == pytest.approx(left)


@pytest.mark.parametrize(
    ("values", "wanted"),
    [
        ([0.001], (0.001, 0.001, 0.001)),
        ([-0.004, 0.001, 0.002], (0.002, 0.004, 0.004)),
        ([index / 1000 for index in range(1, 101)], (0.0505, 0.099, 0.1)),
        ([index / 1000 for index in range(1, 201)], (0.1005, 0.198, 0.2)),
    ],
)
def test_a_spread_is_of_absolute_values_by_nearest_rank(
    values: list[float], wanted: tuple[float, float, float]
) -> None:
    found = spread(values)
    assert found is not None
    assert (found.median, found.p99, found.max) == pytest.approx(wanted)


def test_nothing_has_no_spread() -> None:
    assert spread([]) is None


@pytest.mark.parametrize(
    ("broken", "told", "words"),
    [
        ({"outcome": Outcome.TRUNCATED, "reason": "cut"}, seen(), "truncated: cut"),
        ({}, None, "the simulator tells nothing of the stream"),
        ({}, msgspec.structs.replace(seen(), sent_ns=SENT_NS[:3]), "5 tokens came of 3"),
    ],
)
def test_a_stream_that_cannot_be_compared_says_why(broken: dict[str, object], told: Seen | None, words: str) -> None:
    one = stream()
    one = msgspec.structs.replace(one, result=msgspec.structs.replace(one.result, **broken))
    assert compare(one, told) == words


def test_a_row_counts_streams_and_failures_and_joins_each_stream_with_what_was_seen_of_it() -> None:
    streams = [stream("one", late_ms=2), stream("two", late_ms=-1), stream("three")]
    cell = summarize(PLAN, streams, {"one": seen("one"), "two": seen("two", ClockSource.USER)})
    assert (cell.measured, cell.failed, cell.failure) == (2, 1, "the simulator tells nothing of the stream")
    assert cell.ttft_error_seconds is not None
    assert cell.ttft_error_seconds.max == pytest.approx(0.002)
    assert cell.ttft_error_seconds.median == pytest.approx(0.0015)
    assert cell.clock_sources == {"kernel": 3}
    assert cell.truth_clocks == {"kernel": 1, "user": 1}
    assert cell.plan() == PLAN


def test_a_stream_without_a_rate_leaves_the_others_theirs() -> None:
    one = stream("one")
    gathered = msgspec.structs.replace(one, result=msgspec.structs.replace(one.result, tokens_per_second=None))
    assert summarize(PLAN, [gathered], {"one": seen()}).tokens_per_second_error is None
    both = summarize(PLAN, [gathered, stream("two")], {"one": seen(), "two": seen("two")})
    assert both.measured == 2
    assert both.tokens_per_second_error is not None
