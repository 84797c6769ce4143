"""Samples of a round trip in, their statistics out. Pure."""

from collections.abc import Sequence
from itertools import pairwise
from statistics import fmean, median
from typing import Final

from isochrone.outcome import RttMethod
from isochrone.result import Pings

_GAIN: Final = 16
"""RFC 3550 6.4.1."""


def summarize(method: RttMethod, samples: Sequence[float], *, sent: int) -> Pings:
    """Return the statistics of `samples` (seconds, in order) out of `sent`."""
    lost = sent - len(samples)
    if not samples:
        return Pings(method=method, sent=sent, lost=lost)
    return Pings(
        method=method,
        sent=sent,
        lost=lost,
        min_seconds=min(samples),
        median_seconds=median(samples),
        mean_seconds=fmean(samples),
        max_seconds=max(samples),
        jitter_seconds=jitter(samples),
    )


def jitter(samples: Sequence[float]) -> float | None:
    """Return RFC 3550's smoothed difference of consecutive samples; None with fewer than two.

    It begins with the first difference, not with 0: a few samples would never leave the neighbourhood of 0.
    """
    differences = [abs(later - earlier) for earlier, later in pairwise(samples)]
    if not differences:
        return None
    value = differences[0]
    for difference in differences[1:]:
        value += (difference - value) / _GAIN
    return value
