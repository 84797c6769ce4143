"""Dashboards are what their code makes, load as Grafana's schema has them, and keep the rules of good dashboards."""

import json
import re
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import yaml
from grafana_foundation_sdk.cog import plugins
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import Dashboard

from collector.metrics.families import (
    AgentFamilies,
    FleetFamilies,
    InfoFamilies,
    IngestFamilies,
    JobFamilies,
    ProbeFamilies,
    families_of,
)
from deploy.grafana.boards.__main__ import FOLDER, files
from tests.deploy.expanding import POSTGRES, PROMETHEUS, Target, panels_of, targets_of, variables_of

GRAFANA = FOLDER.parent
DOCUMENTS = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted(FOLDER.glob("*.json"))}
RULES = [
    rule
    for path in sorted((GRAFANA.parent / "prometheus" / "rules").glob("*.yml"))
    for group in yaml.safe_load(path.read_text(encoding="utf-8"))["groups"]
    for rule in group["rules"]
]
NAMES = ("overview", "time", "region", "endpoint", "placement", "results", "fleet", "cost")
OF_SDK = {"titleFormat", "textFormat", "step"}
"""Words of annotations that Grafana reads and the SDK has no fields for."""
FAMILIES = list(
    families_of(ProbeFamilies(), InfoFamilies(), AgentFamilies(), FleetFamilies(), IngestFamilies(), JobFamilies())
)
SUFFIXES = {"histogram": ("_bucket", "_sum", "_count"), "summary": ("_sum", "_count")}
COUNTED = re.compile(r"\b(\w+(?:_total|_bucket|_sum|_count))\b(?:\{[^{}]*\})?(\[[^\]]*\])?")
OVER = re.compile(r"\b(rate|increase|changes)\(([a-z_]+)(?:\{[^{}]*\})?\[([^\]]+)\]\)")

every_dashboard = pytest.mark.parametrize("name", NAMES)


def promql_of(name: str) -> list[Target]:
    return [target for target in targets_of(DOCUMENTS[name]) if not target.is_sql]


def test_there_is_a_dashboard_for_every_question() -> None:
    assert set(DOCUMENTS) == set(NAMES)
    assert {document["uid"] for document in DOCUMENTS.values()} == {f"isochrone-{name}" for name in NAMES}


def test_the_files_are_what_the_code_makes() -> None:
    there = {path.name: path.read_text(encoding="utf-8") for path in FOLDER.glob("*.json")}
    assert there == files(), "make dashboards"


@every_dashboard
def test_the_schema_of_grafana_takes_every_word_of_it(name: str) -> None:
    plugins.register_default_plugins()
    document = DOCUMENTS[name]
    again = json.loads(JSONEncoder().encode(Dashboard.from_json(json.loads(json.dumps(document)))))
    plain = [
        {key: value for key, value in annotation.items() if key not in OF_SDK}
        for annotation in document["annotations"]["list"]
    ]
    assert again == {**document, "annotations": {"list": plain}}


@every_dashboard
def test_a_dashboard_is_found_and_not_edited_by_hand(name: str) -> None:
    document = DOCUMENTS[name]
    assert document["editable"] is False
    assert document["tags"] == ["isochrone"]
    assert document["description"]
    assert document["refresh"]
    assert document["links"][0] | {"asDropdown": True, "includeVars": True, "keepTime": True} == document["links"][0]
    assert [one["name"] for one in document["annotations"]["list"]] == [
        "Regressions",
        "Other alerts",
        "New configuration",
    ]


@every_dashboard
def test_every_panel_says_what_it_shows_in_which_unit(name: str) -> None:
    for panel in panels_of(DOCUMENTS[name]):
        assert panel["title"], panel
        assert panel["description"].endswith("."), panel["title"]
        assert panel["fieldConfig"]["defaults"]["unit"], panel["title"]
        assert panel["targets"], panel["title"]


@every_dashboard
def test_every_query_goes_to_a_data_source_that_is_chosen_above(name: str) -> None:
    sources = [one for one in DOCUMENTS[name]["templating"]["list"] if one["type"] == "datasource"]
    assert {f"${one['name']}": one["query"] for one in sources} | {"$datasource": "prometheus"} == {
        f"${one['name']}": one["query"] for one in sources
    }
    uses_sql = any(target.is_sql for target in targets_of(DOCUMENTS[name]))
    assert ("postgres" in {one["name"] for one in sources}) is uses_sql
    for panel in panels_of(DOCUMENTS[name]):
        wanted = POSTGRES if "rawSql" in panel["targets"][0] else PROMETHEUS
        assert [panel["datasource"], *[query["datasource"] for query in panel["targets"]]] == [
            wanted for _ in range(1 + len(panel["targets"]))
        ], panel["title"]


@every_dashboard
def test_every_variable_that_is_used_can_be_chosen(name: str) -> None:
    chosen = set(variables_of(DOCUMENTS[name]))
    used = {
        word
        for target in targets_of(DOCUMENTS[name])
        for word in re.findall(r"\$\{?([a-z_]+)", target.text)
        if not word.startswith("__")
    }
    assert used == chosen


@every_dashboard
def test_counters_are_asked_over_times_that_grafana_knows(name: str) -> None:
    for target in promql_of(name):
        over = {(function, metric, window) for function, metric, window in OVER.findall(target.text)}
        rated = {metric for function, metric, _ in over}
        for metric, _ in COUNTED.findall(target.text):
            assert metric in rated, f"{target.name}: {metric} without rate or increase"
        for function, metric, window in over:
            allowed = {"$__rate_interval"} if function == "rate" else {"$__rate_interval", "$__range"}
            assert window in allowed, f"{target.name}: {function}({metric}[{window}])"


@every_dashboard
def test_every_metric_and_label_of_a_query_exists(name: str) -> None:
    known = {
        f"{family.name}{suffix}": {*family.labels, "le"}
        for family in FAMILIES
        for suffix in SUFFIXES.get(family.kind, ("",))
    } | {rule["record"]: None for rule in RULES if "record" in rule}
    for target in promql_of(name):
        for metric, matchers in re.findall(r"\b(isochrone[a-z0-9_:]+)(?:\{([^{}]*)\})?", target.text):
            if metric.startswith("isochrone_"):
                assert metric in known, f"{target.name}: {metric}"
            labels = known.get(metric)
            for label in re.findall(r'([a-z_]+)(?:=~|!~|!=|=)"', matchers):
                assert labels is None or label in labels, f"{target.name}: {metric} has no label {label}"


@every_dashboard
def test_panels_stand_side_by_side(name: str) -> None:
    taken: set[tuple[int, int]] = set()
    for panel in DOCUMENTS[name]["panels"]:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24, panel["title"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        taken |= cells
    numbers = [panel["id"] for panel in DOCUMENTS[name]["panels"]]
    assert len(set(numbers)) == len(numbers)


def links() -> list[tuple[str, str]]:
    found = []
    for rule in RULES:
        if "alert" in rule:
            url = re.sub(r"\{\{.*?\}\}", "x", rule["annotations"]["dashboard_url"])
            found.append((rule["alert"], url))
    return found


@pytest.mark.parametrize(("alert", "url"), links())
def test_what_an_alert_points_at_knows_its_variables(alert: str, url: str) -> None:
    parts = urlsplit(url)
    document = DOCUMENTS[parts.path.rpartition("isochrone-")[2]]
    given = {name.removeprefix("var-") for name in parse_qs(parts.query)}
    assert given <= set(variables_of(document)), alert


def provisioned(kind: str) -> dict[str, Any]:
    return dict(yaml.safe_load((GRAFANA / "provisioning" / kind / "isochrone.yml").read_text(encoding="utf-8")))


def test_grafana_is_given_both_data_sources() -> None:
    prometheus, postgres = provisioned("datasources")["datasources"]
    assert prometheus["type"] == PROMETHEUS["type"]
    assert (postgres["type"], postgres["jsonData"]["database"]) == (POSTGRES["type"], "isochrone")
    assert "database" not in postgres, "Grafana 11 reads it under jsonData alone"
    assert postgres["secureJsonData"]["password"].startswith("$__file{"), "no secret stands in a file of ours"
    scraped = yaml.safe_load((GRAFANA.parent / "prometheus" / "prometheus.yml").read_text(encoding="utf-8"))
    assert prometheus["jsonData"]["timeInterval"] == scraped["global"]["scrape_interval"]


def test_grafana_is_given_the_dashboards() -> None:
    (provider,) = provisioned("dashboards")["providers"]
    assert provider["allowUiUpdates"] is False
    assert Path(provider["options"]["path"]).name == FOLDER.name
