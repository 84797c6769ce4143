"""`docs/reference/metrics.md` names every metric with its type and labels, and no other."""

import re
from pathlib import Path

from collector.metrics import LiveMetrics
from collector.metrics.families import EXPORT_LOSSES, EXPORT_SKIPS, families_of
from collector.metrics.feeding import Limits
from collector.metrics.reference import COMMAND, GROUPS, definitions, marker, render_page
from collector.telemetry.exporter import Loss
from collector.telemetry.facts import Skip

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "metrics.md"
TEXT = PAGE.read_text(encoding="utf-8")
DEFINITIONS = {one.name: one for one in definitions()}
ROWS = {
    cells[0].strip(" `"): cells
    for line in re.findall(r"^\| `.*\|$", TEXT, flags=re.MULTILINE)
    if (cells := line.strip("|").split("|"))
}
SUFFIXES = re.compile(r"_(bucket|sum|count)$")


def test_the_tables_are_those_of_the_catalogue() -> None:
    assert render_page(TEXT) == TEXT, f"run: {COMMAND}"


def test_every_group_has_its_table_in_the_order_of_the_exposition() -> None:
    assert re.findall(r"<!-- (\w+): made by", TEXT) == list(GROUPS)
    assert all(marker(group) in TEXT for group in GROUPS)
    assert list(ROWS) == list(DEFINITIONS)


def test_the_reasons_of_exports_are_those_that_exports_know() -> None:
    assert tuple(loss.value for loss in Loss) == EXPORT_LOSSES
    assert tuple(skip.value for skip in Skip) == EXPORT_SKIPS


def test_the_catalogue_has_every_metric_that_is_exposed() -> None:
    metrics = LiveMetrics(Limits(), monotonic=lambda: 0.0)
    assert [family.name for family in families_of(*metrics.groups)] == list(DEFINITIONS)


def test_a_table_that_is_old_or_missing_is_written_anew() -> None:
    row = next(line for line in TEXT.splitlines(keepends=True) if "isochrone_ttft_seconds" in line)
    assert render_page(TEXT.replace(row, "", 1)) == TEXT
    assert render_page(TEXT.replace(row, row.replace("histogram", "gauge"), 1)) == TEXT


def test_the_queries_ask_for_metrics_that_exist() -> None:
    queries = TEXT.split("```promql\n", 1)[1].split("```", 1)[0]
    asked = set(re.findall(r"isochrone_\w+", queries))
    series = {name if name in DEFINITIONS else SUFFIXES.sub("", name) for name in asked}
    assert len(series) >= 5
    assert series <= set(DEFINITIONS)
