"""A database that is down, crashed or not migrated: 503 with Retry-After, and everything works when it is back."""

import asyncio
import os
import signal

import httpx
import psycopg
import pytest

from collector import admin, work
from collector.app import create_app
from collector.config import Settings
from collector.store import engine, migration
from tests.collecting import batch_of, inference_result, running_collector, serving
from tests.postgres import TEMPLATE, Postgres

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("mode", ["fast", "immediate"])
async def test_a_database_that_went_away_is_survived(own_postgres: Postgres, mode: str) -> None:
    url = own_postgres.new_database(TEMPLATE)
    async with running_collector(url) as collector:
        before, during = batch_of([inference_result(0)]), batch_of([inference_result(1)])
        assert (await collector.send(before)).json()["accepted"] == 1
        config = await collector.fetch("/v1/agent/config")
        own_postgres.stop(mode)
        refused = await collector.send(during)
        assert refused.status_code == 503
        assert int(refused.headers["retry-after"]) > 0
        assert refused.headers["content-type"] == "application/problem+json"
        assert "postgres" not in refused.text
        assert (await collector.fetch("/readyz")).status_code == 503
        assert (await collector.fetch("/healthz")).status_code == 200
        assert (await collector.fetch("/v1/summary")).status_code == 503
        assert (await collector.fetch("/v1/agent/config")).content == config.content
        assert "\nisochrone_db_up 0\n" in (await collector.fetch("/metrics")).text
        own_postgres.start()
        assert (await collector.send(during)).json()["accepted"] == 1
        assert (await collector.send(before)).json()["duplicate"] == 1
        assert (await collector.fetch("/readyz")).status_code == 200
        assert "\nisochrone_db_up 1\n" in (await collector.fetch("/metrics")).text
        assert len(collector.rows()) == 2


async def test_connections_that_were_ended_behind_its_back_are_replaced(database_url: str) -> None:
    async with running_collector(database_url) as collector:
        assert (await collector.send(batch_of([inference_result(0)]))).status_code == 200
        _end_connections(database_url)
        assert (await collector.send(batch_of([inference_result(1)]))).status_code == 200


async def test_a_read_only_database_is_the_databases_fault(database_url: str) -> None:
    async with running_collector(database_url) as collector:
        with psycopg.connect(database_url, autocommit=True) as connection:
            name = connection.execute("SELECT current_database()").fetchone()
            assert name is not None
            connection.execute(f"ALTER DATABASE {name[0]} SET default_transaction_read_only = on".encode())
        _end_connections(database_url)
        assert (await collector.send(batch_of([inference_result(0)]))).status_code == 503


async def test_a_database_without_the_schema_is_not_ready_until_it_is_migrated(database_url: str) -> None:
    async with running_collector(database_url, targets=None) as collector:
        await asyncio.to_thread(migration.downgrade, database_url, "base")
        answer = await collector.fetch("/readyz")
        assert answer.status_code == 503
        assert "isochrone-collector migrate" in answer.json()["detail"]
        assert (await collector.send(batch_of([]))).status_code == 503
        await asyncio.to_thread(admin.migrate, database_url)
        assert (await collector.fetch("/readyz")).json()["status"] == "ready"


async def test_a_release_older_than_the_schema_works_on_and_says_so(
    database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The newer release has migrated: columns that may be empty, tables and views of its own."""
    async with running_collector(database_url) as collector:
        assert (await collector.send(batch_of([inference_result(0)]))).status_code == 200
        await asyncio.to_thread(_migrate_beyond, database_url)
        assert (await collector.send(batch_of([inference_result(1)]))).json()["accepted"] == 1
        answer = await collector.fetch("/readyz")
        assert (answer.status_code, answer.json()["schema"]) == (200, "20991231_newer")
        (warning,) = answer.json()["warnings"]
        assert "newer than this release" in warning
        await work.make_partitions(collector.context)
    async with running_collector(database_url, targets=None) as later:
        assert (await later.send(batch_of([inference_result(2)]))).json()["accepted"] == 1
        assert len(later.rows()) == 3
        assert admin.migrate(database_url) == "20991231_newer", "an older release takes nothing back"
        async with asyncio.timeout(30):
            while "newer than this release, which knows" not in caplog.text:  # noqa: ASYNC110  a job tells it
                await asyncio.sleep(0.02)


async def test_a_database_that_cannot_hold_every_character_is_not_ready(latin_url: str) -> None:
    async with (
        serving(create_app(Settings(database_url=latin_url))) as address,
        httpx.AsyncClient(base_url=address, trust_env=False) as client,
    ):
        answer = await client.get("/readyz")
    assert answer.status_code == 503
    assert "LATIN1" in answer.json()["detail"]


async def test_a_user_without_rights_is_the_databases_fault_and_told_in_the_log(
    database_url: str, stranger_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with running_collector(database_url, settings=Settings(database_url=stranger_url)) as collector:
        assert (await collector.client.get("/v1/agents")).status_code == 503
        assert (await collector.send(batch_of([]))).status_code == 503
    assert "permission denied" in caplog.text


async def test_a_database_that_is_frozen_is_not_waited_for_without_end(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running_collector(database_url) as collector:
        assert (await collector.send(batch_of([inference_result(0)]))).status_code == 200
        pids = [
            int(str(pid))
            for (pid,) in collector.rows(
                "SELECT pid FROM pg_stat_activity"
                " WHERE application_name = 'isochrone-collector' AND datname = current_database()"
            )
        ]
        monkeypatch.setattr(engine, "ANSWER_SECONDS", 0.5)
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        try:
            answer = await collector.send(batch_of([inference_result(1)]))
        finally:
            for pid in pids:
                os.kill(pid, signal.SIGCONT)
        monkeypatch.undo()
        assert answer.status_code == 503
        assert (await collector.send(batch_of([inference_result(2)]))).status_code == 200


def _migrate_beyond(database_url: str) -> None:
    with psycopg.connect(database_url) as connection:
        connection.execute("ALTER TABLE result ADD COLUMN newer real")
        connection.execute("ALTER TABLE batch ADD COLUMN newer text DEFAULT 'x' NOT NULL")
        connection.execute("UPDATE alembic_version SET version_num = '20991231_newer'")


def _end_connections(database_url: str) -> None:
    """End every connection of the collector to this database."""
    with psycopg.connect(database_url) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE application_name = 'isochrone-collector' AND datname = current_database()"
        )
