"""The waits grow to two minutes, spread a fleet, obey Retry-After, and shrink after an acknowledgement alone."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.push.backoff import CAP_SECONDS, Backoff

DICE = st.floats(0, 1, exclude_max=True)
FLUSH = 10.0


def waits(dice: float, count: int, flush_seconds: float = FLUSH) -> list[float]:
    backoff = Backoff(lambda: dice)
    return [backoff.failed(flush_seconds) for _ in range(count)]


@pytest.mark.parametrize(("flush_seconds", "longest"), [(1, 3), (10, 30), (300, 30)])
def test_the_first_failure_is_spread_over_three_flushes_and_at_most_half_a_minute(
    flush_seconds: float, longest: float
) -> None:
    assert waits(0, 1, flush_seconds) == [0]
    assert waits(0.5, 1, flush_seconds) == [longest / 2]


def test_later_failures_double_from_five_seconds_to_two_minutes_and_never_give_up() -> None:
    longest = [wait / ((1 + 0.5) / 2) for wait in waits(0.5, 40)[1:]]
    assert longest[:6] == pytest.approx([5, 10, 20, 40, 80, 120])
    assert longest[6:] == pytest.approx([CAP_SECONDS] * 33)


@given(DICE, st.integers(2, 60))
def test_jitter_comes_after_the_cap(dice: float, count: int) -> None:
    wait = waits(dice, count)[-1]
    assert wait <= CAP_SECONDS
    assert wait >= min(CAP_SECONDS, 5 * 2 ** (count - 2)) / 2


@given(DICE, st.floats(0, 3_600))
def test_the_wait_is_never_shorter_than_what_the_collector_asked_for(dice: float, asked: float) -> None:
    backoff = Backoff(lambda: dice)
    wait = backoff.failed(FLUSH, asked)
    assert asked <= wait <= max(30, asked * 1.25)


def test_only_acknowledgements_start_over() -> None:
    backoff = Backoff(lambda: 0.999)
    grown = [backoff.failed(FLUSH) for _ in range(5)][-1]
    assert not backoff.connected
    backoff.acknowledged()
    assert backoff.connected
    assert backoff.failed(FLUSH) > grown, "one between failures is a collector that staggers"
    backoff.acknowledged()
    backoff.acknowledged()
    backoff.failed(FLUSH)
    assert backoff.failed(FLUSH) < grown / 4


def test_a_refused_credential_is_tried_after_a_minute_and_then_at_most_every_hour() -> None:
    backoff = Backoff(lambda: 0.999999)
    waited = [backoff.refused() for _ in range(12)]
    assert waited[:3] == pytest.approx([60, 120, 240], rel=1e-3)
    assert waited[-1] == pytest.approx(3_600, rel=1e-3)
    requests_in_the_first_hour = next(n for n in range(12) if sum(waited[:n]) > 3_600)
    assert requests_in_the_first_hour <= 20
