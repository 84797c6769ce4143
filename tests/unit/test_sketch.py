"""Sketches: merging is free of order, quantiles are true to the stated error and never cross."""

import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.stats.sketch import (
    PER_OCTAVE,
    RELATIVE_ERROR,
    UNIT,
    ZERO,
    Sketch,
    bucket_of,
    merge,
    middle_of,
    quantile,
    sketch_of,
)

SECONDS = st.floats(min_value=0, max_value=1e6, width=32)
VALUES = st.lists(SECONDS, min_size=1, max_size=60)
SHARE = st.floats(min_value=0, max_value=1)


def sketch(values: list[float]) -> Sketch:
    made = sketch_of(values)
    assert made is not None
    return made


def same(a: Sketch | None, b: Sketch | None) -> bool:
    """Tell whether two are alike; sums may differ in the last bit, and by a unit for each value."""
    assert a is not None
    assert b is not None
    parts = [(one.count, one.lowest, one.highest, one.buckets, one.counts) for one in (a, b)]
    return parts[0] == parts[1] and math.isclose(a.sum, b.sum, rel_tol=1e-12, abs_tol=UNIT * a.count)


@given(VALUES, VALUES, VALUES)
def test_merging_is_associative_and_commutative(a: list[float], b: list[float], c: list[float]) -> None:
    one, two, three = sketch(a), sketch(b), sketch(c)
    assert same(merge([merge([one, two]), three]), merge([one, merge([two, three])]))
    assert merge([one, two, three]) == merge([three, one, two])


@given(VALUES, VALUES)
def test_the_merge_of_two_sketches_is_the_sketch_of_all_values(a: list[float], b: list[float]) -> None:
    assert same(merge([sketch(a), sketch(b)]), sketch([*a, *b]))


@given(VALUES, SHARE)
def test_a_quantile_is_true_to_the_stated_error(values: list[float], q: float) -> None:
    exact = sorted(values)[max(0, math.ceil(q * len(values)) - 1)]
    assert quantile(sketch(values), q) == pytest.approx(exact, rel=RELATIVE_ERROR + 1e-12, abs=0)


@given(VALUES, st.lists(SHARE, min_size=2, max_size=5))
def test_quantiles_rise_and_stay_between_the_least_and_the_greatest(values: list[float], shares: list[float]) -> None:
    made = sketch(values)
    found = [quantile(made, q) for q in sorted(shares)]
    assert all(low <= high for low, high in pairwise(found))
    assert min(values) <= found[0]
    assert found[-1] <= max(values)


@given(st.permutations([0.1, 0.2, 0.3, 1e-7, 5.0, 1234.5]))
def test_the_order_of_values_changes_nothing_to_the_last_bit(values: list[float]) -> None:
    assert sketch(values) == sketch(sorted(values))


@given(st.floats(min_value=1e-9, max_value=1e9))
def test_a_value_lies_in_its_bucket(value: float) -> None:
    bucket = bucket_of(value)
    assert 2 ** ((bucket - 1) / PER_OCTAVE) <= value * (1 + 1e-12)
    assert value <= 2 ** (bucket / PER_OCTAVE) * (1 + 1e-12)
    assert abs(middle_of(bucket) / value - 1) <= RELATIVE_ERROR + 1e-12


def test_the_error_is_below_what_is_promised() -> None:
    assert RELATIVE_ERROR < 0.045


def test_what_has_no_logarithm_counts_as_zero() -> None:
    made = sketch([0.0, 0.0, 1.0])
    assert made.buckets == (ZERO, 0)
    assert quantile(made, 0.5) == 0.0


def test_nothing_has_no_sketch() -> None:
    assert sketch_of([]) is None
    assert merge([None, None]) is None


def test_a_mean_lies_between_the_least_and_the_greatest() -> None:
    assert sketch([0.1, 0.1, 0.1]).mean == pytest.approx(0.1)
    assert sketch([3.0]).mean == 3.0
