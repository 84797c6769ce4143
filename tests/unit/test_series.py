"""The store of series: histograms, labels, and what is written of them."""

import subprocess
from bisect import bisect_left
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.openmetrics.parser import text_string_to_metric_families as text_string_to_openmetrics
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
from collector.metrics.series import Definition, Family, Histogram, Number, Origin, Summary, ratio_bounds
from tests.programs import need

LABELS = st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=30)


def parsed(family: Family[Number] | Family[Summary] | Family[Histogram]) -> dict[tuple[str, tuple[str, ...]], float]:
    (found,) = text_string_to_metric_families(family.text())
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


NASTY = [
    "",
    " ",
    '"',
    "\\",
    "\n",
    "\\n",
    '\\"',
    "%",
    "%s",
    "%(x)d",
    "\0",
    "{}",
    "{le=",
    "# EOF",
    '"} 1\n',
    "é\u2028\U0001f600",
]
LABELS_OR_NASTY = LABELS | st.sampled_from(NASTY) | st.lists(st.sampled_from(NASTY), max_size=4).map("".join)


def families_with(first: str, second: str) -> list[Family[Number] | Family[Summary] | Family[Histogram]]:
    """Return a family of each kind with one series of these labels, each of which has seen 2.5."""
    labels = ("a", "b")
    gauge = Family(Number, Definition("g", "gauge", labels, "Help."))
    gauge.series(first, second).set(2.5)
    summary = Family(Summary, Definition("s", "summary", labels, "Help."))
    summary.series(first, second).observe(2.5)
    histogram = Family(Histogram, Definition("h", "histogram", labels, "Help.", (1.0, 3.0)))
    histogram.series(first, second).observe(2.5, Origin("0196a7c2-0000-7000-8000-00000000000a", 7, 12.25))
    return [gauge, summary, histogram]


@given(LABELS_OR_NASTY, LABELS_OR_NASTY)
def test_label_values_of_any_kind_are_read_back(first: str, second: str) -> None:
    gauge, summary, histogram = families_with(first, second)
    assert parsed(gauge) == {("g", (first, second)): 2.5}
    assert parsed(summary) == {("s_sum", (first, second)): 2.5, ("s_count", (first, second)): 1}
    assert parsed(histogram) == {
        **{("h_bucket", (first, second, le)): count for le, count in (("1.0", 0), ("3.0", 1), ("+Inf", 1))},
        ("h_sum", (first, second)): 2.5,
        ("h_count", (first, second)): 1,
    }


@given(LABELS_OR_NASTY, LABELS_OR_NASTY)
def test_openmetrics_with_exemplars_is_read_back_too(first: str, second: str) -> None:
    text = "".join(family.text(openmetrics=True) for family in families_with(first, second)) + "# EOF\n"
    samples = [sample for family in text_string_to_openmetrics(text) for sample in family.samples]
    assert {(s.labels["a"], s.labels["b"]) for s in samples} == {(first, second)}
    (exemplar,) = [sample.exemplar for sample in samples if sample.exemplar is not None]
    assert exemplar.labels == {"boot_id": "0196a7c2-0000-7000-8000-00000000000a", "seq": "7"}
    assert (exemplar.value, float(exemplar.timestamp)) == (2.5, 12.25)


def test_promtool_reads_every_nasty_value() -> None:
    need("promtool", package="prometheus")
    gauge = Family(Number, Definition("isochrone_nasty_ratio", "gauge", ("a", "b"), "Help."))
    histogram = Family(Histogram, Definition("isochrone_nasty_seconds", "histogram", ("a", "b"), "Help.", (1.0,)))
    for first in NASTY:
        for second in NASTY:
            gauge.series(first, second).set(1)
            histogram.series(first, second).observe(0.5)
    text = (gauge.text() + histogram.text()).encode()
    checked = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True, check=False)
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, b"", b"")


def test_an_exemplar_is_the_newest_of_its_bucket_and_stands_in_openmetrics_alone() -> None:
    family = Family(Histogram, Definition("h", "histogram", (), "Help.", (1.0, 3.0)))
    for seq, value in enumerate((0.5, 2.5, 0.75)):
        family.series().observe(value, Origin("b", seq, 1.0))
    lines = family.text(openmetrics=True).splitlines()
    assert lines[2:5] == [
        'h_bucket{le="1.0"} 2 # {boot_id="b",seq="2"} 0.75 1.000',
        'h_bucket{le="3.0"} 3 # {boot_id="b",seq="1"} 2.5 1.000',
        'h_bucket{le="+Inf"} 3',
    ]
    assert "#" not in "".join(family.text().splitlines()[2:])


def test_a_counters_family_has_no_suffix_in_openmetrics() -> None:
    family = Family(Number, Definition("n_total", "counter", (), "Help."))
    family.series().add(2)
    assert family.text(openmetrics=True) == "# HELP n Help.\n# TYPE n counter\nn_total 2\n"


def test_a_series_that_several_took_goes_with_the_last_of_them() -> None:
    family = Family(Number, Definition("n_total", "counter", ("a",), "Help."))
    family.take(("x",)).add(3)
    family.take(("x",)).add(4)
    family.give_back(("x",))
    assert parsed(family) == {("n_total", ("x",)): 7}
    family.give_back(("x",))
    assert len(family) == 0


def test_a_sweep_removes_what_nobody_asked_for_and_keeps_the_counts_of_the_rest() -> None:
    family = Family(Number, Definition("n_total", "counter", ("a",), "Help."))
    for name in ("kept", "gone"):
        family.series(name).add(3)
    family.begin()
    family.series("kept")
    family.sweep()
    assert parsed(family) == {("n_total", ("kept",)): 3}


def test_a_family_without_series_writes_nothing() -> None:
    assert Family(Summary, Definition("s", "summary", ("a",), "Help.")).text() == ""


def test_names_have_the_prefix_counters_end_in_total_and_region_is_never_a_label() -> None:
    families = list(families_of(ProbeFamilies(), InfoFamilies(), AgentFamilies(), IngestFamilies()))
    names = [family.name for family in families]
    assert len(names) == len(set(names))
    for family in families:
        assert family.name.startswith("isochrone_")
        assert family.name.endswith("_total") == (family.kind == "counter")
        assert "region" not in family.labels
        assert not set(family.definition.help) & set('"\\\n'), "a help would have to be escaped"
