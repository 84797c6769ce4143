"""Samples of a round trip become statistics."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.probes.pings import jitter, summarize
from isochrone.outcome import RttMethod


def test_lost_samples_are_counted_and_have_no_times() -> None:
    pings = summarize(RttMethod.TCP, [], sent=3)
    assert (pings.sent, pings.lost, pings.median_seconds, pings.jitter_seconds) == (3, 3, None, None)


def test_the_statistics_are_those_of_the_samples_that_came() -> None:
    pings = summarize(RttMethod.HTTP, [0.010, 0.030, 0.020], sent=4)
    assert (pings.lost, pings.min_seconds, pings.median_seconds, pings.max_seconds) == (1, 0.010, 0.020, 0.030)
    assert pings.mean_seconds == pytest.approx(0.020)


def test_jitter_is_smoothed_as_rfc_3550_does() -> None:
    assert jitter([0.010]) is None
    assert jitter([0.010, 0.030]) == pytest.approx(0.020)
    assert jitter([0.010, 0.030, 0.030]) == pytest.approx(0.020 * 15 / 16)


@given(st.lists(st.floats(min_value=0, max_value=1), min_size=2))
def test_jitter_is_within_the_spread(samples: list[float]) -> None:
    value = jitter(samples)
    assert value is not None
    assert 0 <= value <= max(samples) - min(samples) + 1e-9
