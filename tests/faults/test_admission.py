"""Too much at once, too many wrong tokens, a database at its bound or in conflict: refused in time, nothing lost."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import psycopg
import pytest
from fastapi import FastAPI, Response

from collector import identity
from collector.api import deadlines
from collector.auth import Scope
from collector.config import Settings
from collector.store import results
from tests.collecting import (
    QUICK,
    Collector,
    batch_of,
    boottime,
    inference_result,
    running_collector,
    serving,
)

pytestmark = pytest.mark.anyio


@pytest.fixture
async def collector(database_url: str) -> AsyncIterator[Collector]:
    async with running_collector(database_url) as running:
        yield running


async def test_f74_wrong_tokens_are_limited_and_valid_agents_unaffected(collector: Collector) -> None:
    wrong = "isoa_0123456789abcdef_" + "x" * 43
    answers = [await collector.post(b"{}", token=wrong) for _ in range(30)]
    assert [one.status_code for one in answers[:10]] == [401] * 10
    assert answers[-1].status_code == 429
    assert int(answers[-1].headers["retry-after"]) >= 1
    assert (await collector.send(batch_of([inference_result(0)]))).status_code == 200


async def test_f45_an_agent_that_sends_without_pause_is_told_when_to_come_again(database_url: str) -> None:
    async with running_collector(database_url, settings=Settings(database_url=database_url)) as collector:
        answers = await asyncio.gather(*(collector.send(batch_of([])) for _ in range(40)))
        refused = [one for one in answers if one.status_code == 429]
        assert len(refused) >= 20
        assert all(int(one.headers["retry-after"]) >= 1 for one in refused)


async def test_f46_configuration_and_health_are_served_while_batches_are_refused(collector: Collector) -> None:
    collector.context.batches._free = 0  # noqa: SLF001  as if all were taken
    refused = await collector.send(batch_of([inference_result(0)]))
    assert refused.status_code == 503
    assert int(refused.headers["retry-after"]) >= 2
    assert (await collector.fetch("/v1/agent/config")).status_code == 200
    assert (await collector.fetch("/healthz")).status_code == 200


async def test_f29_a_database_at_its_bound_stops_batches_and_nothing_else(
    database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    bounds = Settings(database_url=database_url, batches_per_second=QUICK, max_db_bytes=1_000_000)
    async with running_collector(database_url, settings=bounds) as collector:
        async with asyncio.timeout(20):
            while not collector.context.health.full:  # noqa: ASYNC110  a job sets it
                await asyncio.sleep(0.02)
        answer = await collector.send(batch_of([inference_result(0)]))
        assert (answer.status_code, answer.json()["type"]) == (503, "urn:isochrone:problem:full")
        assert int(answer.headers["retry-after"]) > 0
        assert (await collector.fetch("/v1/agent/config")).status_code == 200
        assert "\nisochrone_db_max_bytes 1000000\n" in (await collector.fetch("/metrics")).text
        assert "ISOCHRONE_MAX_DB_BYTES" in caplog.text
        collector.context.health.full = False
        assert (await collector.send(batch_of([inference_result(0)]))).json()["accepted"] == 1


async def test_f54_impossible_times_are_refused_by_name_and_the_batch_survives(collector: Collector) -> None:
    now, wall = boottime(), datetime.now(UTC)
    moved = {1: 11 * 60.0, 2: -8 * 86_400.0, 3: -400.0}
    batch = batch_of(
        [
            inference_result(0),
            *(
                inference_result(
                    seq, started_boottime_seconds=max(0.0, now + by), started_at=wall + timedelta(seconds=by)
                )
                for seq, by in moved.items()
            ),
        ],
        sent_boottime_seconds=None,
    )
    ack = (await collector.send(batch)).json()
    assert {one["seq"]: one["reason"] for one in ack["rejected"]} == {1: "future", 2: "too_old"}
    assert (ack["accepted"], ack["late"]) == (2, 1)
    text = (await collector.fetch("/metrics")).text
    assert 'isochrone_ingest_rejected_results_total{reason="future"} 1' in text
    assert 'isochrone_ingest_rejected_results_total{reason="too_old"} 1' in text


async def test_f09_a_deadlock_is_tried_once_more_inside(collector: Collector, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = 0
    copy = results.copy_rows

    async def deadlock_first(cursor: psycopg.AsyncCursor, rows: list[results.Row]) -> None:
        nonlocal calls
        calls += 1
        if calls == 1:
            await cursor.execute("DO $$ BEGIN RAISE EXCEPTION 'lost' USING ERRCODE = '40P01'; END $$")
        await copy(cursor, rows)

    monkeypatch.setattr(results, "copy_rows", deadlock_first)
    assert (await collector.send(batch_of([inference_result(0)]))).json()["accepted"] == 1
    assert calls == 2


async def test_f79_connections_of_one_address_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deadlines, "HEADER_SECONDS", 60.0)  # so that nothing else closes them
    monkeypatch.setattr(deadlines, "is_loopback", lambda _address: False)
    monkeypatch.setattr("tests.collecting.BoundedProtocol", deadlines.bounded(3))
    async with serving(FastAPI()) as address:
        port = int(address.rsplit(":", 1)[1])
        pairs = [await asyncio.open_connection("127.0.0.1", port) for _ in range(4)]
        assert await asyncio.wait_for(pairs[3][0].read(), 10) == b""
        pairs[0][1].close()
        await asyncio.sleep(0.1)
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET /nothing HTTP/1.1\r\nHost: x\r\n\r\n")
        assert b" 404 " in await asyncio.wait_for(reader.readline(), 10)
        for _, one in [*pairs, (reader, writer)]:
            one.close()


async def test_f74_wrong_tokens_of_readers_are_limited_too_and_right_ones_unaffected(database_url: str) -> None:
    right = identity.make_access_token(database_url, "board", Scope.READ)
    async with running_collector(database_url) as collector:
        paths = ("/v1/agents", "/metrics", "/v1/summary")

        async def status(path: str, token: str | None) -> int:
            headers = {} if token is None else {"Authorization": f"Bearer {token}"}
            return (await collector.client.get(path, headers=headers)).status_code

        assert {await status(path, None) for path in paths * 10} == {401}, "no token is no guess"
        tried = [await status(path, f"guess-{n}") for n, path in enumerate(paths * 10)]
        assert (tried[0], tried[-1]) == (401, 429)
        assert [await status(path, right) for path in paths] == [200] * 3


async def test_f79_a_client_that_does_not_read_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deadlines, "WRITE_SECONDS", 0.3)
    app, lost, lose = FastAPI(), asyncio.Event(), deadlines.BoundedProtocol.connection_lost

    def connection_lost(protocol: deadlines.BoundedProtocol, exc: Exception | None) -> None:
        lose(protocol, exc)
        lost.set()

    monkeypatch.setattr(deadlines.BoundedProtocol, "connection_lost", connection_lost)

    @app.get("/large")
    async def large() -> Response:
        return Response(b"x" * 64 * 2**20)

    async with serving(app) as address, asyncio.timeout(30):
        reader, writer = await asyncio.open_connection("127.0.0.1", int(address.rsplit(":", 1)[1]), limit=1024)
        writer.write(b"GET /large HTTP/1.1\r\nHost: x\r\n\r\n")
        await lost.wait()
        with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
            await reader.readexactly(64 * 2**20)
        writer.close()
