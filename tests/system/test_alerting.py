"""What an SRE hears when a way, an endpoint or an agent gets worse: from probes to the webhook, all of it real."""

import asyncio
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest
import yaml

from tests.programs import need
from tests.system.cluster import until
from tests.system.monitoring import DEPLOY
from tests.system.users import AGENTS, ENDPOINTS, World, running_world

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(240)]

PATIENCE_SECONDS = 60
BASELINES = 3
"""Beside the twelve means that a baseline needs: together more than a fault brings until it is told."""
RULES = yaml.safe_load((DEPLOY / "prometheus" / "rules" / "experience.yml").read_text(encoding="utf-8"))
EXPERIENCE = {rule["alert"] for group in RULES["groups"] for rule in group["rules"]}


@asynccontextmanager
async def watched(folder: Path, database_url: str) -> AsyncIterator[World]:
    """Give a world whose usual is known."""
    need("prometheus", "prometheus-alertmanager", "promtool", package="prometheus prometheus-alertmanager")
    async with running_world(folder, database_url) as world:
        await until(lambda: has_baselines(world), what="a baseline of every pair", seconds=PATIENCE_SECONDS)
        yield world


def has_baselines(world: World) -> bool:
    names = ("network_rtt_seconds", "ttft_seconds", "output_tokens_per_second", "latency_component_seconds")
    wanted = len(set(AGENTS.values())) * len(ENDPOINTS)
    grown = [
        f"count_over_time(isochrone:{name}:baseline1d{{endpoint=~'near|far'}}[1m]) >= {BASELINES}" for name in names
    ]
    return all(len(world.seen.query(query)) >= wanted for query in grown)


async def told(world: World, status: str, name: str, **labels: str) -> dict[str, str]:
    """Wait until the webhook hears of the alert; return its labels and annotations."""
    find = world.seen.receiver.find
    what = f"{name} {labels} {status}"
    await until(lambda: find(status, name, **labels) is not None, what=what, seconds=PATIENCE_SECONDS)
    alert = find(status, name, **labels)
    assert alert is not None
    return {**alert.labels, **alert.annotations}


def users_alerts(world: World, status: str = "firing") -> set[tuple[str, str, str]]:
    """Return name, region and endpoint of all alerts about what users feel that the webhook heard of."""
    labels = [one.labels for one in world.seen.receiver.told if one.status == status]
    return {
        (one["alertname"], one.get("agent_region", ""), one.get("endpoint", ""))
        for one in labels
        if one["alertname"] in EXPERIENCE
    }


async def test_a_slow_way_a_silent_agent_and_a_slow_endpoint_are_each_told_once_and_taken_back(
    data: Path, database_url: str
) -> None:
    async with watched(data, database_url) as world:
        await the_metrics_are_those_of_the_design(world)
        world.ways["near"].longer["eu"] = 0.06
        agent = await world.stop("ap-2")
        await the_way_is_told(world)
        await the_silent_agent_is_told(world)
        assert users_alerts(world) == {("RegionalRttRegression", "eu", "near")}, "other ways are silent"
        assert world.seen.receiver.beats > 0, "the watchdog is heard"

        world.ways["near"].longer.clear()
        world.ways["far"].to = world.slow
        await world.start(agent)
        await the_slow_endpoint_is_told(world)
        await told(world, "resolved", "RegionalRttRegression", agent_region="eu", endpoint="near")
        await told(world, "resolved", "AgentSilent", agent="ap-2")

        world.ways["far"].to = world.usual
        await told(world, "resolved", "EndpointDegraded", endpoint="far")
        assert users_alerts(world) == {("RegionalRttRegression", "eu", "near"), ("EndpointDegraded", "", "far")}


@pytest.mark.slow_fault
async def test_a_slow_region_a_dark_one_and_a_lost_collector_mute_what_they_explain(
    data: Path, database_url: str
) -> None:
    async with watched(data, database_url) as world:
        for way in world.ways.values():
            way.longer["eu"] = 0.06
        alert = await told(world, "firing", "RegionNetworkDegraded")
        assert (alert["agent_region"], alert["cause"], alert["severity"]) == ("eu", "network", "critical")
        parts = {("RegionalRttRegression", "eu", name) for name in world.ways}
        await until(lambda: parts <= world.seen.muted(), what="its endpoints muted", seconds=PATIENCE_SECONDS)
        for way in world.ways.values():
            way.longer.clear()
        agent = await world.stop("us-1")
        await told(world, "firing", "RegionDark", agent_region="us")
        silent = {("AgentSilent", "us", "")}
        await until(lambda: silent <= world.seen.muted(), what="its agent muted", seconds=PATIENCE_SECONDS)
        await world.start(agent)
        await told(world, "resolved", "RegionNetworkDegraded", agent_region="eu")
        await told(world, "resolved", "RegionDark", agent_region="us")
        collector = await world.stop("collector")
        await told(world, "firing", "CollectorAbsent")
        await world.start(collector)
        await told(world, "resolved", "CollectorAbsent")
        labels = [one.labels for one in world.seen.receiver.told if one.status == "firing"]
        heard = {(one["alertname"], one.get("agent_region", ""), one.get("endpoint", "")) for one in labels}
        assert heard == {("RegionNetworkDegraded", "eu", ""), ("RegionDark", "us", ""), ("CollectorAbsent", "", "")}


async def the_way_is_told(world: World) -> None:
    alert = await told(world, "firing", "RegionalRttRegression")
    assert (alert["agent_region"], alert["endpoint"], alert["cause"]) == ("eu", "near", "network")
    assert (alert["severity"], alert["scope"]) == ("warning", "region")
    assert alert["summary"].startswith("The round trip from eu to near takes 1.")
    assert alert["runbook_url"].endswith("/docs/how-to/runbooks/RegionalRttRegression.md")
    assert alert["dashboard_url"].endswith("/d/isochrone-region?var-agent_region=eu&var-endpoint=near")


async def the_silent_agent_is_told(world: World) -> None:
    alert = await told(world, "firing", "AgentSilent")
    assert (alert["agent"], alert["agent_region"]) == ("ap-2", "ap")
    assert world.seen.receiver.find("firing", "RegionDark") is None, "another agent of the region reports"


async def the_slow_endpoint_is_told(world: World) -> None:
    """One alert for the endpoint; those of its regions are there, and muted."""
    alert = await told(world, "firing", "EndpointDegraded")
    assert (alert["endpoint"], alert["cause"], alert["scope"]) == ("far", "model", "endpoint")
    regional = {("RegionalTtftRegression", region, "far") for region in AGENTS.values()}
    await until(lambda: regional <= world.seen.muted(), what="the regions muted", seconds=PATIENCE_SECONDS)


async def the_metrics_are_those_of_the_design(world: World) -> None:
    text = await asyncio.to_thread(lambda: httpx.get(f"http://{world.collector}/metrics", trust_env=False).content)
    checked = await asyncio.to_thread(
        subprocess.run, ["promtool", "check", "metrics"], input=text, capture_output=True, check=False
    )
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, b"", b"")
    types = await asyncio.to_thread(world.seen.types)
    for name, (kind, labels) in DESIGN.items():
        assert types.get(name) == kind, name
        suffix = {"histogram": "_count", "summary": "_count"}.get(kind, "")
        found = await asyncio.to_thread(world.seen.query, f"{name}{suffix}")
        assert {label for one in found for label in one["metric"]} - OF_PROMETHEUS == set(labels.split()), name


OF_PROMETHEUS = {"__name__", "instance", "job"}
PAIR = "agent_region endpoint"
STREAM = f"{PAIR} model connection"
AGENT = "agent agent_region"
DESIGN = {
    f"isochrone_{name}": told
    for name, told in {
        "network_rtt_seconds": ("histogram", f"{PAIR} method"),
        "network_pings_total": ("counter", f"{PAIR} method"),
        "network_pings_lost_total": ("counter", f"{PAIR} method"),
        "connection_phase_seconds": ("summary", f"{PAIR} phase"),
        "ttft_seconds": ("histogram", STREAM),
        "answer_ttft_seconds": ("histogram", STREAM),
        "request_duration_seconds": ("histogram", STREAM),
        "time_per_output_token_seconds": ("histogram", f"{PAIR} model"),
        "output_tokens_per_second": ("histogram", f"{PAIR} model"),
        "latency_component_seconds": ("summary", f"{STREAM} component"),
        "probes_total": ("counter", f"{PAIR} model probe"),
        "probe_failures_total": ("counter", f"{PAIR} model probe reason"),
        "probe_tokens_total": ("counter", "endpoint model token_type"),
        "probe_cost_usd_total": ("counter", "endpoint model"),
        "network_rtt_floor_seconds": ("gauge", PAIR),
        "great_circle_distance_meters": ("gauge", PAIR),
        "endpoint_info": ("gauge", "endpoint model provider endpoint_region latitude longitude simulated"),
        "agent_region_info": ("gauge", "agent_region country latitude longitude weight"),
        "agent_info": ("gauge", f"{AGENT} version"),
        "agent_last_report_timestamp_seconds": ("gauge", AGENT),
        "agent_queued_results": ("gauge", AGENT),
        "agent_dropped_results_total": ("counter", AGENT),
        "agent_clock_offset_seconds": ("gauge", AGENT),
        "agent_expected_results_total": ("counter", AGENT),
        "agent_missed_probes_total": ("counter", AGENT),
        "ingest_results_total": ("counter", ""),
        "ingest_duplicate_results_total": ("counter", ""),
        "ingest_rejected_results_total": ("counter", "reason"),
        "ingest_late_results_total": ("counter", ""),
        "ingest_lag_seconds": ("histogram", ""),
        "db_up": ("gauge", ""),
        "job_last_success_timestamp_seconds": ("gauge", "job_name"),
        "build_info": ("gauge", "version python"),
    }.items()
}
"""Type and labels of what is promised (docs/reference/metrics.md)."""
