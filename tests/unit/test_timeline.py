"""Arrivals become a pace: true rates for every shape of stream, and no rate where none can be told."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.timeline import Pace, TokenArrival, Usage, pace
from isochrone.outcome import TokenSource

MS = 1_000_000


def stream(*at_ms: float, one_read: bool = False, reasoning: int = 0) -> list[TokenArrival]:
    return [
        TokenArrival(
            at_ns=int(at * MS), read=0 if one_read else index, answer=index >= reasoning, reasoning=index < reasoning
        )
        for index, at in enumerate(at_ms)
    ]


def even(count: int, gap_ms: float, *, reasoning: int = 0) -> list[TokenArrival]:
    return stream(*(200 + index * gap_ms for index in range(count)), reasoning=reasoning)


def rate(found: Pace) -> float:
    assert found.tokens_per_second is not None
    return found.tokens_per_second


@pytest.mark.parametrize("usage", [Usage(output=16), Usage()])
def test_one_token_per_event_reads_the_gap(usage: Usage) -> None:
    assert rate(pace(even(16, 20), usage)) == pytest.approx(50)


def test_four_tokens_per_event_read_the_tokens_not_the_events() -> None:
    assert rate(pace(even(4, 80), Usage(output=16))) == pytest.approx(50)


def test_reasoning_that_was_streamed_counts() -> None:
    assert rate(pace(even(16, 20, reasoning=8), Usage(output=16, reasoning=8))) == pytest.approx(50)


def test_reasoning_that_nobody_saw_is_left_out() -> None:
    found = pace(even(16, 20), Usage(output=216, reasoning=200))
    assert rate(found) == pytest.approx(50)
    assert found.tokens.output == 216


def test_reasoning_beside_the_output_is_not_taken_off_it() -> None:
    assert rate(pace(even(16, 20), Usage(output=16, reasoning=200))) == pytest.approx(50)


@pytest.mark.parametrize(
    "arrivals",
    [stream(), stream(200), stream(200, 300), stream(200, 210, 240)],
    ids=["none", "one", "two", "under 50 ms"],
)
def test_too_few_arrivals_have_no_rate(arrivals: list[TokenArrival]) -> None:
    found = pace(arrivals, Usage(output=6))
    assert (found.tpot_seconds, found.tokens_per_second, found.buffered) == (None, None, False)


@pytest.mark.parametrize(
    "arrivals",
    [
        stream(*[520] * 16, one_read=True),
        stream(*(520 + index * 0.1 for index in range(16))),
        stream(*([500] * 8 + [900] * 8), one_read=True),
    ],
    ids=["one read", "a burst of reads", "two lumps"],
)
def test_a_gathered_stream_has_no_rate(arrivals: list[TokenArrival]) -> None:
    found = pace(arrivals, Usage(output=16))
    assert found.buffered
    assert found.tokens_per_second is None
    assert found.tpot_seconds is None


def test_a_fast_stream_is_not_taken_for_a_gathered_one() -> None:
    assert not pace(even(64, 2), Usage(output=64)).buffered


def test_the_longest_gap_is_the_stall() -> None:
    assert pace(stream(200, 220, 720, 740), Usage()).stall_seconds == pytest.approx(0.5)


def test_without_usage_tokens_are_counted_by_arrivals() -> None:
    assert pace(even(5, 20), Usage(output=0)).tokens.source is TokenSource.ARRIVALS
    assert pace(even(5, 20), Usage(output=9)).tokens.source is TokenSource.USAGE


def test_usage_beyond_belief_gives_no_rate() -> None:
    assert pace(even(16, 20), Usage(output=2**31 - 1)).tokens_per_second is None


@given(
    tokens=st.integers(min_value=3, max_value=400),
    per_event=st.integers(min_value=1, max_value=8),
    gap_ms=st.floats(min_value=20, max_value=500),
)
def test_whole_events_of_any_size_read_the_true_rate(tokens: int, per_event: int, gap_ms: float) -> None:
    events = max(3, tokens // per_event)
    found = pace(even(events, gap_ms * per_event), Usage(output=events * per_event))
    if found.tokens_per_second is not None:
        assert found.tokens_per_second == pytest.approx(1000 / gap_ms, rel=1e-4)


@given(st.lists(st.floats(min_value=0, max_value=10_000), max_size=40), st.integers(min_value=0, max_value=10_000))
def test_no_input_gives_a_rate_that_is_no_number(at_ms: list[float], output: int) -> None:
    found = pace(stream(*sorted(at_ms)), Usage(output=output, reasoning=output // 2))
    assert found.tokens_per_second is None or 0 < found.tokens_per_second < 1e6


def test_later_usage_replaces_only_what_it_says() -> None:
    assert Usage(input=9, output=1).merged(Usage(output=12)) == Usage(input=9, output=12)


def test_later_usage_that_says_less_takes_nothing_back() -> None:
    assert Usage(input=109, cached_input=100).merged(Usage(input=9, output=0)) == Usage(
        input=109, cached_input=100, output=0
    )
