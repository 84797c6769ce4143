"""The rules load, every alert is tested by promtool, and what an alert points at exists."""

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from collector.metrics.families import (
    TIME_BOUNDS,
    AgentFamilies,
    FleetFamilies,
    InfoFamilies,
    IngestFamilies,
    JobFamilies,
    ProbeFamilies,
    families_of,
)
from tests.programs import need

ROOT = Path(__file__).parents[2]
PROMETHEUS = ROOT / "deploy" / "prometheus"
ALERTMANAGER = ROOT / "deploy" / "alertmanager" / "alertmanager.yml"
RUNBOOKS = ROOT / "docs" / "how-to" / "runbooks"
RULE_FILES = sorted((PROMETHEUS / "rules").glob("*.yml"))
TEST_FILES = sorted((PROMETHEUS / "tests").glob("*.yml"))
RULES = [
    rule
    for path in RULE_FILES
    for group in yaml.safe_load(path.read_text(encoding="utf-8"))["groups"]
    for rule in group["rules"]
]
ALERTS = [rule for rule in RULES if "alert" in rule]
NAMES = sorted({rule["alert"] for rule in ALERTS})
RECORDED = {rule["record"] for rule in RULES if "record" in rule}
SEVERITIES = {"critical", "warning", "info", "none"}
SCOPES = {"agent", "region", "endpoint", "collector"}
DASHBOARDS = {"overview", "time", "region", "endpoint", "placement", "results", "fleet", "cost"}


def passes(*command: str) -> None:
    done = subprocess.run(command, cwd=PROMETHEUS, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def cases(name: str) -> list[dict[str, Any]]:
    """Return what the test of an alert expects at which times."""
    document = yaml.safe_load((PROMETHEUS / "tests" / f"{name}.yml").read_text(encoding="utf-8"))
    return [case for test in document["tests"] for case in test["alert_rule_test"]]


def test_the_rules_and_configurations_are_valid() -> None:
    need("promtool", "amtool", package="prometheus prometheus-alertmanager")
    passes("promtool", "check", "rules", "--lint=all", "--lint-fatal", *map(str, RULE_FILES))
    passes("promtool", "check", "config", "prometheus.yml")
    passes("amtool", "check-config", str(ALERTMANAGER))


@pytest.mark.parametrize("path", TEST_FILES, ids=lambda path: path.stem)
def test_an_alert_fires_when_it_should_and_no_longer(path: Path) -> None:
    need("promtool", package="prometheus")
    passes("promtool", "test", "rules", str(path))


def test_every_alert_has_a_test_and_a_runbook_and_nothing_else_has() -> None:
    assert [path.stem for path in TEST_FILES] == NAMES
    assert sorted(path.stem for path in RUNBOOKS.glob("[A-Z]*.md") if path.stem != "README") == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_a_test_sees_its_alert_quiet_firing_and_quiet_again(name: str) -> None:
    seen = [bool(case["exp_alerts"]) for case in cases(name)]
    assert all(case["alertname"] == name for case in cases(name))
    if name == "Watchdog":
        assert seen == [True]
    else:
        assert not seen[0]
        assert "True, False" in str(seen)


@pytest.mark.parametrize("rule", ALERTS, ids=lambda rule: f"{rule['alert']}-{rule['labels']['severity']}")
def test_an_alert_says_how_bad_for_whom_what_and_where_to_look(rule: dict[str, Any]) -> None:
    labels, notes = rule["labels"], rule["annotations"]
    assert labels["service"] == "isochrone"
    assert labels["severity"] in SEVERITIES
    assert labels["scope"] in SCOPES
    assert len(notes["summary"]) > 20
    assert len(notes["description"]) > 40
    assert notes["runbook_url"].endswith(f"/{rule['alert']}.md")
    (uid,) = re.findall(r"/d/isochrone-(\w+)", notes["dashboard_url"])
    assert uid in DASHBOARDS


@pytest.mark.parametrize("name", NAMES)
def test_a_runbook_says_what_it_means_whom_it_hurts_how_to_look_and_what_to_do(name: str) -> None:
    text = (RUNBOOKS / f"{name}.md").read_text(encoding="utf-8")
    assert text.startswith(f"# {name}\n")
    assert re.findall(r"^## (.+)$", text, flags=re.MULTILINE) == ["Meaning", "Impact", "Diagnosis", "What to do"]
    assert name == "Watchdog" or "```" in text.split("## Diagnosis")[1]


def asked(text: str) -> set[str]:
    """Return the metrics and recorded series that an expression, or a page with some, asks for."""
    return set(re.findall(r"\bisochrone[:_][a-z0-9_:]+", text))


def exists(name: str) -> bool:
    groups = (ProbeFamilies(), InfoFamilies(), AgentFamilies(), FleetFamilies(), IngestFamilies(), JobFamilies())
    known = {family.name for family in families_of(*groups)} | RECORDED
    return name in known or re.sub(r"_(bucket|sum|count)$", "", name) in known


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: str(rule.get("alert", rule.get("record"))))
def test_a_rule_asks_for_what_exists(rule: dict[str, Any]) -> None:
    assert {name for name in asked(rule["expr"]) if not exists(name)} == set()


@pytest.mark.parametrize("name", NAMES)
def test_the_queries_of_a_runbook_ask_for_what_exists(name: str) -> None:
    text = (RUNBOOKS / f"{name}.md").read_text(encoding="utf-8")
    queries = "".join(re.findall(r"```promql\n(.*?)```", text, flags=re.DOTALL))
    assert {one for one in asked(queries) if not exists(one)} == set()


def test_the_bound_of_slow_first_tokens_is_one_of_the_histogram() -> None:
    bounds = {float(bound) for rule in RULES for bound in re.findall(r'le="([\d.]+)"', rule["expr"])}
    assert len(bounds) == 1
    assert bounds <= set(TIME_BOUNDS)


def test_alertmanager_names_alerts_that_exist() -> None:
    named = re.findall(r'alertname (?:=~|!=|=) "?([\w|]+)', ALERTMANAGER.read_text(encoding="utf-8"))
    assert {name for names in named for name in names.split("|")} <= set(NAMES)
    assert len(named) >= 9
