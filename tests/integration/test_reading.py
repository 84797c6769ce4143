"""What readers are told: summary, results, agents, endpoints; and that a read token closes them."""

from collections.abc import Mapping
from hashlib import sha256
from uuid import UUID

import msgspec
import pytest

from collector import admin
from collector.config import Settings
from isochrone.outcome import Connection, Outcome
from isochrone.physics import great_circle_meters, rtt_floor_seconds
from tests.collecting import (
    TARGETS,
    Collector,
    batch_of,
    boottime,
    inference_result,
    rtt_result,
    running_collector,
    settle,
)

pytestmark = pytest.mark.anyio


async def summary(collector: Collector, window: str = "15m") -> list[Mapping[str, object]]:
    """Return the rows of a new summary; up to 15 minutes it is made of single results, beyond of rollups."""
    await collector.roll_up()
    answer = await collector.client.get("/v1/summary", params={"window": window})
    assert answer.status_code == 200, answer.text
    rows: list[Mapping[str, object]] = answer.json()["rows"]
    return rows


async def test_the_summary_has_counts_quantiles_components_and_the_floor(database_url: str) -> None:
    async with running_collector(database_url) as collector:
        ttfts = [0.1 * n for n in range(1, 21)]
        results = [inference_result(n, ttft_seconds=ttft) for n, ttft in enumerate(ttfts)]
        failure = inference_result(30, outcome=Outcome.DNS, reason="no such name", connection=None, ttft_seconds=99.0)
        await collector.send(batch_of([*results, failure, rtt_result(31), rtt_result(32, rtt_seconds=0.3)]))
        (row,) = await summary(collector)
    floor = rtt_floor_seconds(great_circle_meters(50.1, 8.7, latitude_b=38.95, longitude_b=-77.45))
    assert (row["agent_region"], row["endpoint"], row["endpoint_region"]) == ("eu-central", "near", "us-east")
    assert (row["model"], row["connection"], row["simulated"]) == ("model-1", "cold", True)
    assert (row["probes"], row["failures"]) == (21, 1)
    assert row["ttft_seconds"] == pytest.approx({"p50": 1.05, "p95": 1.905, "mean": 1.05}, rel=1e-5)
    assert row["rtt_seconds"] == pytest.approx({"p50": 0.2, "p95": 0.29, "mean": 0.2}, rel=1e-5)
    assert row["tokens_per_second"] == {"p50": 50.0, "p95": 50.0, "mean": 50.0}
    parts = row["components"]
    assert isinstance(parts, dict)
    assert sum(parts.values()) == pytest.approx(1.0)
    assert row["floor_seconds"] == pytest.approx(floor)
    assert row["efficiency"] == pytest.approx(floor / 0.2)


async def test_a_simulated_distance_counts_as_network_and_the_sum_stays(database_url: str) -> None:
    async with running_collector(database_url) as collector:
        await collector.send(batch_of([inference_result(0)]))
        (before,) = await summary(collector)
        await collector.send(batch_of([rtt_result(1, rtt_seconds=0.2)], boot_id=UUID(int=2)))
        (after,) = await summary(collector)
    assert before["components"] == pytest.approx(
        {"network_seconds": 0.04, "model_seconds": 0.29, "streaming_seconds": 0.67}
    )
    assert after["components"] == pytest.approx(
        {"network_seconds": 0.24, "model_seconds": 0.09, "streaming_seconds": 0.67}
    )


async def test_the_latest_failure_of_streams_and_round_trips_is_told(database_url: str) -> None:
    async with running_collector(database_url) as collector:
        await collector.send(batch_of([inference_result(0)]))
        assert [row["last_failure"] for row in await summary(collector)] == [None]
        earlier = inference_result(1, outcome=Outcome.AUTH, reason="no key", started_boottime_seconds=boottime() - 60)
        later = rtt_result(2, outcome=Outcome.CONNECT, reason="refused")
        await collector.send(batch_of([later, earlier], boot_id=UUID(int=2)))
        (row,) = await summary(collector)
    failure = row["last_failure"]
    assert isinstance(failure, dict)
    assert (failure["outcome"], failure["reason"]) == ("connect", "refused")


async def test_without_rtt_probes_the_round_trip_is_that_of_the_inference_connections(database_url: str) -> None:
    async with running_collector(database_url) as collector:
        await collector.send(batch_of([inference_result(0)]))
        (row,) = await summary(collector)
    assert row["rtt_seconds"] == {"p50": 0.01, "p95": 0.01, "mean": 0.01}


async def test_cold_and_warm_connections_stand_in_rows_of_their_own(database_url: str) -> None:
    async with running_collector(database_url) as collector:
        warm = inference_result(1, module="warm", connection=Connection.WARM, ttft_seconds=0.2)
        await collector.send(batch_of([inference_result(0), warm]))
        rows = await summary(collector)
    assert [(row["connection"], row["probes"]) for row in rows] == [("cold", 1), ("warm", 1)]


async def test_a_site_gives_one_row_without_model_and_connection(database_url: str) -> None:
    async with running_collector(database_url) as collector:
        await collector.send(batch_of([rtt_result(0, endpoint="site-1")]))
        (row,) = await summary(collector)
    assert (row["endpoint"], row["model"], row["connection"], row["ttft_seconds"]) == ("site-1", None, None, None)
    assert row["floor_seconds"] is None


async def test_the_window_leaves_out_what_is_older(database_url: str) -> None:
    async with running_collector(database_url) as collector:
        old = inference_result(0, started_boottime_seconds=boottime() - 1_000)
        await collector.send(batch_of([old, inference_result(1)]))
        assert [row["probes"] for row in await summary(collector, "5m")] == [1]
        assert [row["probes"] for row in await summary(collector, "1h")] == [2]


async def test_coverage_counts_from_the_time_when_the_target_and_the_agent_exist(database_url: str) -> None:
    async with running_collector(database_url) as collector:
        collector.rows("UPDATE target SET created_at = now() - interval '10 minutes' RETURNING id")
        collector.rows("UPDATE agent SET created_at = now() - interval '10 minutes' RETURNING id")
        collector.rows("UPDATE config_revision SET applied_at = now() - interval '1 day' RETURNING revision")
        await collector.context.registry.newer_than(0)
        await collector.send(batch_of([inference_result(n) for n in range(5)]))
        (row,) = await summary(collector)
    assert row["coverage"] == pytest.approx(0.5, rel=0.1)


async def test_coverage_of_a_target_that_was_taken_away_and_given_back_leaves_out_the_time_between(
    database_url: str,
) -> None:
    async with running_collector(database_url) as collector:
        (endpoint,) = TARGETS.endpoints
        less = msgspec.structs.replace(TARGETS, endpoints=(msgspec.structs.replace(endpoint, modules=("rtt",)),))
        admin.apply_targets(database_url, less)
        admin.apply_targets(database_url, TARGETS)
        collector.rows("UPDATE target SET created_at = now() - interval '9 days' RETURNING id")
        collector.rows("UPDATE agent SET created_at = now() - interval '9 days' RETURNING id")
        collector.rows(
            "UPDATE config_revision SET applied_at = now() - make_interval(mins =>"
            " CASE revision WHEN 1 THEN 10000 WHEN 2 THEN 5000 ELSE 10 END) RETURNING revision"
        )
        await collector.context.registry.newer_than(0)
        await collector.send(batch_of([inference_result(n) for n in range(5)]))
        (row,) = await summary(collector)
    assert row["coverage"] == pytest.approx(0.5, rel=0.1)


async def test_round_trips_that_fail_stand_beside_the_streams_of_the_same_pair(database_url: str) -> None:
    async with running_collector(database_url) as collector:
        failed = [
            rtt_result(n, outcome=Outcome.CONNECT, rtt_seconds=None, pings=None, reason="refused") for n in range(7)
        ]
        await collector.send(batch_of([*failed, rtt_result(8), inference_result(9)]))
        site = rtt_result(0, endpoint="site-1", outcome=Outcome.CONNECT, rtt_seconds=None, pings=None, reason="refused")
        await collector.send(batch_of([site], boot_id=UUID(int=2)))
        near, alone = await summary(collector)
    assert (near["probes"], near["failures"], near["rtt_probes"], near["rtt_failures"]) == (1, 0, 8, 7)
    assert (alone["probes"], alone["failures"], alone["rtt_probes"], alone["rtt_failures"]) == (1, 1, 1, 1)


async def test_without_round_trips_their_counts_are_0(database_url: str) -> None:
    async with running_collector(database_url) as collector:
        await collector.send(batch_of([inference_result(0)]))
        (row,) = await summary(collector)
    assert (row["rtt_probes"], row["rtt_failures"]) == (0, 0)


@pytest.mark.parametrize("window", ["1", "yesterday", "0s", "32d", "9" * 30, "-1h"])
async def test_a_wrong_window_is_refused_with_the_form(database_url: str, window: str) -> None:
    async with running_collector(database_url) as collector:
        answer = await collector.client.get("/v1/summary", params={"window": window})
    assert answer.status_code == 422
    assert answer.json()["type"] == "urn:isochrone:problem:invalid"


async def test_results_are_newest_first_and_filtered(database_url: str) -> None:
    async with running_collector(database_url) as collector:
        await collector.send(batch_of([inference_result(0), rtt_result(1, endpoint="site-1")]))
        await collector.send(batch_of([inference_result(2, outcome=Outcome.AUTH, reason="401")], boot_id=UUID(int=2)))
        answer = (await collector.client.get("/v1/results")).json()["results"]
        assert [row["seq"] for row in answer] == [2, 1, 0]
        for query, expected in (
            ({"endpoint": "site-1"}, [1]),
            ({"outcome": "auth"}, [2]),
            ({"limit": "1"}, [2]),
        ):
            found = (await collector.client.get("/v1/results", params=query)).json()["results"]
            assert [row["seq"] for row in found] == expected


async def test_a_follower_gets_every_result_once_and_in_order(database_url: str) -> None:
    async with running_collector(database_url) as collector:
        for start in range(0, 30, 10):
            await collector.send(batch_of([inference_result(start + n) for n in range(10)]))
        settle(collector)
        seen: list[int] = []
        after = "2000-01-01T00:00:00Z"
        for _ in range(10):
            answer = (await collector.client.get("/v1/results", params={"after": after, "limit": "7"})).json()
            seen += [row["seq"] for row in answer["results"]]
            after = answer["next_after"]
        assert seen == list(range(30))
        await collector.send(batch_of([inference_result(30)]))
        settle(collector)
        answer = (await collector.client.get("/v1/results", params={"after": after})).json()
        assert [row["seq"] for row in answer["results"]] == [30]


@pytest.mark.parametrize(
    "query",
    [{"limit": "0"}, {"limit": "x"}, {"limit": "100000"}, {"outcome": "bad"}, {"endpoint": "A'--"}, {"after": "never"},
     {"after": "2026-01-01T00:00:00Z~x~1"}, {"after": "2026-01-01T00:00:00Z~1~2~3"}],
)  # fmt: skip
async def test_a_wrong_query_is_refused(database_url: str, query: dict[str, str]) -> None:
    async with running_collector(database_url) as collector:
        answer = await collector.client.get("/v1/results", params=query)
    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"


async def test_agents_and_endpoints_are_listed(database_url: str) -> None:
    async with running_collector(database_url) as collector:
        agents = (await collector.client.get("/v1/agents")).json()["agents"]
        endpoints = (await collector.client.get("/v1/endpoints")).json()
    assert [(row["agent"], row["agent_region"]) for row in agents] == [("agent-1", "eu-central")]
    assert [(row["endpoint"], row["modules"], row["agent_regions"]) for row in endpoints["endpoints"]] == [
        ("near", ["chat", "rtt", "warm"], ["eu-central"]),
        ("site-1", ["rtt"], ["eu-central"]),
    ]
    assert endpoints["revision"] == 1


READINGS = (
    "/v1/summary",
    "/v1/series?signal=ttft",
    "/v1/results",
    "/v1/export?format=parquet",
    "/v1/agents",
    "/v1/endpoints",
    "/metrics",
)


async def test_with_a_read_token_reading_is_closed_and_agents_are_not(database_url: str) -> None:
    settings = Settings(database_url=database_url, read_token_sha256=sha256(b"let-me-read").hexdigest())
    async with running_collector(database_url, settings=settings) as collector:
        for path in READINGS:
            assert (await collector.client.get(path)).status_code == 401
            assert (await collector.fetch(path)).status_code == 401, "an agent's credential does not read"
            token = {"Authorization": "Bearer let-me-read"}
            assert (await collector.client.get(path, headers=token)).status_code == 200
        for path in ("/healthz", "/readyz", "/"):
            assert (await collector.client.get(path)).status_code == 200
        assert (await collector.send(batch_of([inference_result(0)]))).status_code == 200


async def test_the_page_and_the_description_of_the_interface_are_served(database_url: str) -> None:
    async with running_collector(database_url, targets=TARGETS) as collector:
        page = await collector.client.get("/")
        assert page.headers["content-type"].startswith("text/html")
        assert "/v1/summary" in page.text
        assert "/v1/batches" in (await collector.client.get("/openapi.json")).json()["paths"]
