"""Readers take turns at the database: they never stop batches, and are told when they ask for too much."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import psycopg
import pytest

from collector.api import readers
from collector.store import engine
from tests.collecting import batch_of, inference_result, running_collector

pytestmark = pytest.mark.anyio


@contextmanager
def summaries_held(database_url: str) -> Iterator[None]:
    """Let every summary wait: it reads the table of endpoints, and ingest does not."""
    with psycopg.connect(database_url) as connection:
        connection.execute("LOCK TABLE endpoint IN ACCESS EXCLUSIVE MODE")
        yield
        connection.rollback()


async def test_readers_that_wait_for_the_database_stop_neither_batches_nor_readiness(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(readers, "WAIT_SECONDS", 0.2)
    # Without a free connection a batch is refused before those who wait give up.
    monkeypatch.setattr(engine, "POOL_TIMEOUT_SECONDS", 0.5)
    async with running_collector(database_url) as collector:
        await collector.context.registry.get()
        with summaries_held(database_url):
            # Of windows of their own: those of one window share an answer.
            paths = [f"/v1/summary?window={minutes}m" for minutes in range(20, 44)]
            asked = {asyncio.create_task(collector.client.get(path)) for path in paths}
            refused = await _first(asked, 24 - readers.MAX_READS_AT_ONCE)
            sent = await collector.send(batch_of([inference_result(0)]))
            ready = await collector.client.get("/readyz")
        await asyncio.wait(asked)
        again = await collector.client.get("/v1/summary")
    assert {answer.json()["type"] for answer in refused} == {"urn:isochrone:problem:busy"}
    assert all(answer.status_code == 503 and int(answer.headers["retry-after"]) > 0 for answer in refused)
    assert (sent.status_code, ready.status_code, again.status_code) == (200, 200, 200)


READINGS = (
    "/v1/summary",
    "/v1/summary?window=5m",
    "/v1/series?signal=ttft&window=1h",
    "/v1/results",
    "/v1/results?after=2026-01-01T00:00:00Z",
    "/v1/export?format=csv",
    "/v1/agents",
)


async def test_every_reading_of_the_database_waits_for_its_turn(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(readers, "WAIT_SECONDS", 0.05)
    async with running_collector(database_url) as collector:
        for path in READINGS:
            assert (await collector.client.get(path)).status_code == 200
        monkeypatch.setattr(collector.context.readers, "_turns", asyncio.Semaphore(0))
        for path in READINGS:
            assert (await collector.client.get(path)).status_code == 503, path
        assert (await collector.send(batch_of([inference_result(0)]))).status_code == 200


async def test_who_asks_for_one_summary_at_once_shares_the_answer(database_url: str) -> None:
    async with running_collector(database_url) as collector:
        await collector.send(batch_of([inference_result(0)]))
        asked = [collector.client.get("/v1/summary", params={"window": "5m"}) for _ in range(24)]
        answers = await asyncio.gather(*asked)
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.content for answer in answers}) == 1


async def test_what_the_database_gives_up_on_is_the_readers_to_narrow(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "statement_timeout" in engine.SESSION_SETTINGS
    monkeypatch.setitem(engine.SESSION_SETTINGS, "statement_timeout", "300")
    async with running_collector(database_url) as collector:
        await collector.context.registry.get()
        with summaries_held(database_url):
            answer = await collector.client.get("/v1/summary")
    assert answer.status_code == 422
    assert answer.json()["type"] == "urn:isochrone:problem:too_much"
    assert "narrow the window" in answer.json()["detail"]


async def _first(tasks: set[asyncio.Task[httpx.Response]], count: int) -> list[httpx.Response]:
    """Return the first answers; the other tasks go on."""
    answers: list[httpx.Response] = []
    for next_answer in asyncio.as_completed(tasks):
        answers.append(await next_answer)
        if len(answers) == count:
            break
    return answers
