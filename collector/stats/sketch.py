"""A mergeable summary of values: count, sum, least, greatest, and how many lie in each exponential bucket. Pure.

Bucket b holds the values above 2**((b-1)/8) and up to 2**(b/8); what is not above 0 is in bucket `ZERO`. A quantile is
the middle of its bucket on a logarithmic scale, kept between the least and the greatest value: wrong by 4.5 % at most.
The database makes and reads the same buckets (collector.store.rollupsql, function `sketch_quantile`).
"""

import math
from collections.abc import Iterable, Sequence
from typing import Final

import msgspec

PER_OCTAVE: Final = 8
"""Buckets from a value to its double."""
ZERO: Final = -32_768
"""Number of the bucket of values that have no logarithm."""
RELATIVE_ERROR: Final = 2 ** (0.5 / PER_OCTAVE) - 1
"""Of a quantile, at most: 0.0443."""
UNIT: Final = 2.0**-30
"""Sums are made of whole units (0.93 ns), so that the order of the summands does not matter."""


class Sketch(msgspec.Struct, frozen=True, kw_only=True):
    """Of one value or more. `buckets` rise; `counts` belong to them, and each is above 0."""

    count: int
    sum: float
    lowest: float
    highest: float
    buckets: tuple[int, ...]
    counts: tuple[int, ...]

    @property
    def mean(self) -> float:
        """The mean of the values, exact but for rounding."""
        return min(max(self.sum / self.count, self.lowest), self.highest)


def bucket_of(value: float) -> int:
    """Return the number of the bucket that holds `value`."""
    return math.ceil(math.log(value) * (PER_OCTAVE / math.log(2))) if value > 0 else ZERO


def middle_of(bucket: int) -> float:
    """Return the value in the middle of a bucket, on a logarithmic scale."""
    return 0.0 if bucket == ZERO else float(2 ** ((bucket - 0.5) / PER_OCTAVE))


def sketch_of(values: Sequence[float]) -> Sketch | None:
    """Return the sketch of the values; None without any."""
    if not values:
        return None
    units = sum(round(value / UNIT) for value in values)
    buckets, counts = _gather((bucket_of(value), 1) for value in values)
    return Sketch(
        count=len(values),
        sum=values[0] if len(values) == 1 else units * UNIT,
        lowest=min(values),
        highest=max(values),
        buckets=buckets,
        counts=counts,
    )


def merge(sketches: Iterable[Sketch | None]) -> Sketch | None:
    """Return the sketch of all values together, in whatever order they come; None without any."""
    parts = [one for one in sketches if one is not None]
    if not parts:
        return None
    buckets, counts = _gather(pair for one in parts for pair in zip(one.buckets, one.counts, strict=True))
    return Sketch(
        count=sum(one.count for one in parts),
        sum=math.fsum(one.sum for one in parts),
        lowest=min(one.lowest for one in parts),
        highest=max(one.highest for one in parts),
        buckets=buckets,
        counts=counts,
    )


def quantile(sketch: Sketch, q: float) -> float:
    """Return the least value that at least the share `q` (0 to 1) of all does not exceed, true to `RELATIVE_ERROR`."""
    seen, place = 0, 0
    for place, count in enumerate(sketch.counts):  # noqa: B007  read after the loop: where it ended
        seen += count
        if seen >= q * sketch.count:
            break
    return within(sketch.buckets[place], lowest=sketch.lowest, highest=sketch.highest)


def within(bucket: int, *, lowest: float, highest: float) -> float:
    """Return the value that stands for a bucket, of values that lie between these two."""
    return min(max(middle_of(bucket), lowest), highest)


def _gather(pairs: Iterable[tuple[int, int]]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    totals: dict[int, int] = {}
    for bucket, count in pairs:
        totals[bucket] = totals.get(bucket, 0) + count
    buckets = tuple(sorted(totals))
    return buckets, tuple(totals[bucket] for bucket in buckets)
