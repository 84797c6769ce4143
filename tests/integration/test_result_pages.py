"""Pages of `/v1/results`: back through everything once, filtered, at a bounded cost; names and spans that are wrong."""

from datetime import timedelta

import psycopg
import pytest
from psycopg import sql

from collector.api import walk
from isochrone.outcome import Connection, Outcome
from tests.collecting import Collector, batch_of, boottime, inference_result, rtt_result, running_collector

pytestmark = pytest.mark.anyio


async def pages(collector: Collector, **query: object) -> list[list[int]]:
    """Return the numbers of the results of all pages, from the newest back."""
    found: list[list[int]] = []
    before: str | None = None
    while True:
        asked = {**query, **({} if before is None else {"before": before})}
        answer = await collector.client.get("/v1/results", params=asked)
        assert answer.status_code == 200, answer.text
        found.append([row["seq"] for row in answer.json()["results"]])
        before = answer.json()["next_before"]
        if before is None:
            return found
        assert len(found) < 100, "the pages do not end"


async def test_pages_lead_back_through_every_result_once(database_url: str) -> None:
    async with running_collector(database_url) as collector:
        for start in range(0, 30, 10):
            await collector.send(batch_of([inference_result(start + n) for n in range(10)]))
        spread(database_url, days=5)
        found = await pages(collector, limit=7)
        assert [seq for page in found for seq in page] == list(reversed(range(30)))
        assert all(len(page) == 7 for page in found[:4])


async def test_a_result_that_came_in_meanwhile_shifts_no_page(database_url: str) -> None:
    async with running_collector(database_url) as collector:
        await collector.send(batch_of([inference_result(n) for n in range(10)]))
        first = (await collector.client.get("/v1/results", params={"limit": 5})).json()
        await collector.send(batch_of([inference_result(10)]))
        asked = {"limit": 5, "before": first["next_before"]}
        second = (await collector.client.get("/v1/results", params=asked)).json()
    assert [row["seq"] for row in first["results"]] == [9, 8, 7, 6, 5]
    assert [row["seq"] for row in second["results"]] == [4, 3, 2, 1, 0]


async def test_a_search_that_takes_long_stops_where_it_is_and_is_gone_on_with(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(walk, "WALK_SECONDS", 0.0)
    monkeypatch.setattr(walk, "FIRST_LOOK", timedelta(hours=6))
    async with running_collector(database_url) as collector:
        await collector.send(batch_of([inference_result(n) for n in range(4)]))
        spread(database_url, days=1)
        found = await pages(collector, limit=10)
        assert len(found) > 2, "each page is one look"
        assert [seq for page in found for seq in page] == [3, 2, 1, 0]


async def test_results_are_filtered_by_every_name_of_theirs(database_url: str) -> None:
    async with running_collector(database_url) as collector:
        warm = inference_result(2, module="warm", connection=Connection.WARM)
        failed = inference_result(3, outcome=Outcome.AUTH, reason="401", connection=None)
        old = inference_result(4, started_boottime_seconds=boottime() - 4_000)
        results = [inference_result(0), rtt_result(1, endpoint="site-1"), warm, failed, old]
        await collector.send(batch_of(results))
        for query, expected in (
            ({"agent": "agent-1"}, [4, 3, 2, 1, 0]),
            ({"endpoint": "site-1"}, [1]),
            ({"model": "model-1"}, [4, 3, 2, 0]),
            ({"module": "warm"}, [2]),
            ({"prober": "rtt"}, [1]),
            ({"connection": "warm"}, [2]),
            ({"outcome": "auth", "module": "chat"}, [3]),
            ({"window": "1h", "prober": "inference"}, [3, 2, 0]),
        ):
            assert await pages(collector, **query) == [expected], query
        started_at = (await collector.client.get("/v1/results", params={"limit": 1})).json()["results"][0]["started_at"]
        assert await pages(collector, until=started_at) == [[]]
        assert await pages(collector, since=started_at, module="chat") == [[4, 3, 0]]


REFUSED = (
    ({"agent_region": "nowhere"}, "there is eu-central"),
    ({"endpoint": "neer"}, "there are near, site-1"),
    ({"agent": "agent-2"}, "there is agent-1"),
    ({"model": "model-2"}, "there is model-1"),
    ({"module": "x"}, "there are chat, rtt, warm"),
    ({"area": "eu-central"}, "there are after, agent, agent_region, before, connection"),
    ({"outcome": "fine"}, "ok"),
    ({"window": "32d"}, "between 1s and 31d"),
    ({"since": "2026-01-02", "until": "2026-01-01"}, "until lies behind since"),
    ({"window": "1h", "since": "2026-01-02"}, "not both"),
    ({"after": "2026-01-02", "before": "2026-01-02"}, "not both"),
    ({"before": "2026-01-02~x~1"}, "next_before"),
    ({"limit": 1001}, "1000"),
)
MOMENTS = ("0001-01-01T00:00:00%2B14:00", "9999-12-31T23:59:59-14:00", "1970-01-01")


async def test_what_is_wrong_is_told_with_what_would_be_right(database_url: str) -> None:
    async with running_collector(database_url) as collector:
        for query, said in REFUSED:
            answer = await collector.client.get("/v1/results", params=query)
            assert (answer.status_code, answer.headers["content-type"]) == (422, "application/problem+json")
            assert said in answer.json()["detail"]


async def test_moments_at_the_ends_of_time_are_answered(database_url: str) -> None:
    async with running_collector(database_url) as collector:
        await collector.send(batch_of([inference_result(0)]))
        for name in ("before", "after", "since", "until"):
            for moment in MOMENTS:
                answer = await collector.client.get(f"/v1/results?{name}={moment}")
                assert answer.status_code in {200, 422}, answer.text


def spread(database_url: str, *, days: int) -> None:
    """Let the results have come in over some days, in the order of their numbers, the last one now."""
    step = timedelta(days=days) / 30
    with psycopg.connect(database_url) as connection:
        for day in range(days + 2):
            connection.execute("SELECT create_result_partition((now() - make_interval(days => %s))::date)", [day])
        for name in ("received_at", "started_at"):
            connection.execute(
                sql.SQL("UPDATE result SET {0} = {0} - %s * ((SELECT max(seq) FROM result) - seq)").format(
                    sql.Identifier(name)
                ),
                [step],
            )
