"""The store of series: histograms, labels, and what is written of them."""

from bisect import bisect_left
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from collector.metrics.families import (
    RATE_BOUNDS,
    TIME_BOUNDS,
    AgentFamilies,
    InfoFamilies,
    IngestFamilies,
    ProbeFamilies,
    families_of,
)
from collector.metrics.series import Definition, Family, Histogram, Number, Summary, ratio_bounds

LABELS = st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=30)


def parsed(family: Family[Number] | Family[Summary] | Family[Histogram]) -> dict[tuple[str, tuple[str, ...]], float]:
    (found,) = text_string_to_metric_families("".join(family.lines()))
    return {(s.name, tuple(s.labels.values())): s.value for s in found.samples}


def test_the_bounds_reach_from_a_tenth_of_a_millisecond_past_two_minutes_in_steps_of_a_quarter() -> None:
    assert TIME_BOUNDS[0] == 0.0001
    assert TIME_BOUNDS[-2] < 120 <= TIME_BOUNDS[-1]
    for bounds in (TIME_BOUNDS, RATE_BOUNDS):
        steps = [after / before for before, after in pairwise(bounds)]
        assert all(step == pytest.approx(1.25, rel=0.001) for step in steps)


@given(st.lists(st.floats(min_value=0, max_value=1_000), max_size=50))
def test_a_histogram_counts_each_value_in_the_buckets_that_hold_it(values: list[float]) -> None:
    bounds = ratio_bounds(0.001, 100.0)
    family = Family(Histogram, Definition("h_seconds", "histogram", (), "Help.", bounds))
    series = family.series()
    for value in values:
        series.observe(value)
    found = parsed(family)
    for bound in bounds:
        assert found["h_seconds_bucket", (str(bound),)] == sum(value <= bound for value in values)
    assert found["h_seconds_bucket", ("+Inf",)] == found["h_seconds_count", ()] == series.count == len(values)
    assert found["h_seconds_sum", ()] == pytest.approx(sum(values))
    assert bisect_left(bounds, bounds[3]) == 3


@given(LABELS, LABELS)
def test_label_values_of_any_kind_are_read_back(first: str, second: str) -> None:
    family = Family(Number, Definition("n", "gauge", ("a", "b"), "Help."))
    family.series(first, second).set(2.5)
    assert parsed(family) == {("n", (first, second)): 2.5}


def test_a_sweep_removes_what_nobody_asked_for_and_keeps_the_counts_of_the_rest() -> None:
    family = Family(Number, Definition("n_total", "counter", ("a",), "Help."))
    for name in ("kept", "gone"):
        family.series(name).add(3)
    family.begin()
    family.series("kept")
    family.sweep()
    assert parsed(family) == {("n_total", ("kept",)): 3}


def test_a_family_without_series_writes_nothing() -> None:
    assert "".join(Family(Summary, Definition("s", "summary", ("a",), "Help.")).lines()) == ""


def test_names_have_the_prefix_counters_end_in_total_and_region_is_never_a_label() -> None:
    families = list(families_of(ProbeFamilies(), InfoFamilies(), AgentFamilies(), IngestFamilies()))
    names = [family.name for family in families]
    assert len(names) == len(set(names))
    for family in families:
        assert family.name.startswith("isochrone_")
        assert family.name.endswith("_total") == (family.kind == "counter")
        assert "region" not in family.labels
