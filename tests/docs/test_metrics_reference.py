"""`docs/reference/metrics.md` names every metric with its type and labels, and no other."""

import re
from pathlib import Path

from collector.fleet import AgentState
from collector.ingest import RejectReason
from collector.metrics.families import (
    AgentFamilies,
    FleetFamilies,
    InfoFamilies,
    IngestFamilies,
    JobFamilies,
    ProbeFamilies,
    families_of,
)
from collector.metrics.feeds import COMPONENTS, PHASES, TOKEN_TYPES

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "metrics.md"
TEXT = PAGE.read_text(encoding="utf-8")
GROUPS = (ProbeFamilies(), InfoFamilies(), AgentFamilies(), FleetFamilies(), IngestFamilies(), JobFamilies())
FAMILIES = {family.name: family for family in families_of(*GROUPS)}
ROWS = {
    cells[0].strip(" `"): cells
    for line in re.findall(r"^\| `.*\|$", TEXT, flags=re.MULTILINE)
    if (cells := line.strip("|").split("|"))
}
SUFFIXES = re.compile(r"_(bucket|sum|count)$")


def test_the_metrics_stand_in_the_reference_in_the_order_of_the_exposition() -> None:
    assert list(ROWS) == list(FAMILIES)


def test_a_metric_has_the_type_and_the_labels_that_the_reference_says() -> None:
    said = {name: (cells[1].strip(), tuple(re.findall(r"`(\w+)`", cells[2]))) for name, cells in ROWS.items()}
    assert said == {name: (family.kind, family.labels) for name, family in FAMILIES.items()}


def test_the_values_of_closed_labels_stand_in_the_row_of_their_metric() -> None:
    closed = {
        "isochrone_connection_phase_seconds": PHASES,
        "isochrone_latency_component_seconds": COMPONENTS,
        "isochrone_probe_tokens_total": TOKEN_TYPES,
        "isochrone_ingest_rejected_results_total": tuple(reason.value for reason in RejectReason),
        "isochrone_agents": tuple(state.value for state in AgentState),
    }
    for name, values in closed.items():
        assert tuple(re.findall(r"`(\w+)`", ROWS[name][3])) == values


def test_the_queries_ask_for_metrics_that_exist() -> None:
    queries = TEXT.split("```promql\n", 1)[1].split("```", 1)[0]
    asked = set(re.findall(r"isochrone_\w+", queries))
    series = {name if name in FAMILIES else SUFFIXES.sub("", name) for name in asked}
    assert len(series) >= 5
    assert series <= set(FAMILIES)
