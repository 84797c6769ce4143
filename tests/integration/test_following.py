"""Following `/v1/results`: every result once, though batches are committed in another order than they came in."""

import asyncio
from datetime import timedelta

import psycopg
import pytest

from collector.api import results
from isochrone.wire import encode_batch
from tests.collecting import Collector, batch_of, inference_result, running_collector, settle

pytestmark = pytest.mark.anyio

LONG_AGO = "2000-01-01T00:00:00Z"


async def test_a_follower_gets_what_was_committed_behind_later_ones(database_url: str) -> None:
    async with running_collector(database_url) as collector:
        held = [batch_of([inference_result(seq)]) for seq in range(1)]  # one lane waits, the other goes on
        with psycopg.connect(database_url) as other:
            for batch in held:  # so that each waits for the end of this transaction
                other.execute(
                    "INSERT INTO batch SELECT id, %s, %s, now(), 0, 0 FROM agent", [batch.batch_id, batch.boot_id]
                )
            waiting = [asyncio.create_task(collector.send(batch)) for batch in held]
            await until_waiting(collector, len(waiting))
            for seq in range(10, 14):
                await collector.send(batch_of([inference_result(seq)]))
            followed = (await collector.client.get("/v1/results", params={"after": LONG_AGO})).json()
            listed = (await collector.client.get("/v1/results")).json()
            assert [row["seq"] for row in listed["results"]] == [13, 12, 11, 10]
            other.rollback()
        assert [(await task).json()["accepted"] for task in waiting] == [1] * len(waiting)
        settle(collector)
        for place in (followed["next_after"], listed["next_after"]):
            rest = (await collector.client.get("/v1/results", params={"after": place})).json()
            assert sorted(row["seq"] for row in rest["results"]) == [0, 10, 11, 12, 13]


async def test_several_followers_get_every_result_of_several_senders(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(results, "SETTLED", timedelta(seconds=2))
    async with running_collector(database_url) as collector:
        followers = [asyncio.create_task(follow(collector, count=40)) for _ in range(3)]
        await asyncio.gather(*(send_ten(collector, sender) for sender in range(4)))
        for follower in followers:
            assert sorted(await follower) == list(range(40))


async def test_a_result_came_in_when_its_body_was_here(database_url: str) -> None:
    async with running_collector(database_url) as collector:
        body = encode_batch(batch_of([inference_result(7)]))
        reader, writer = await asyncio.open_connection(collector.client.base_url.host, collector.client.base_url.port)
        head = ("POST /v1/batches HTTP/1.1", "Host: x", f"Authorization: Bearer {collector.token}",
                "Content-Type: application/json", f"Content-Length: {len(body)}", "", "")  # fmt: skip
        writer.write("\r\n".join(head).encode())
        await writer.drain()
        await asyncio.sleep(0.2)
        await collector.send(batch_of([inference_result(8)]))
        writer.write(body)
        assert b" 200 " in await asyncio.wait_for(reader.readline(), 20)
        writer.close()
        assert collector.rows("SELECT seq FROM result ORDER BY received_at") == [(8,), (7,)]


async def until_waiting(collector: Collector, count: int) -> None:
    """Wait until so many transactions wait for another one."""
    query = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    for _ in range(1_000):
        if collector.rows(query) == [(count,)]:
            return
        await asyncio.sleep(0.02)
    pytest.fail("the batches do not wait for each other")


async def send_ten(collector: Collector, sender: int) -> None:
    for number in range(10):
        await collector.send(batch_of([inference_result(10 * sender + number)]))


async def follow(collector: Collector, *, count: int) -> list[int]:
    """Follow from the beginning until `count` results came."""
    seen: list[int] = []
    after = LONG_AGO
    async with asyncio.timeout(60):
        while len(seen) < count:
            answer = (await collector.client.get("/v1/results", params={"after": after, "limit": "3"})).json()
            seen += [row["seq"] for row in answer.get("results", ())]
            after = answer.get("next_after", after)
            await asyncio.sleep(0.02)
    return seen
