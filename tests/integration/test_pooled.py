"""A collector behind PgBouncer in transaction mode, where each transaction may get another session of Postgres.

Two sessions for everything, so that they change hands all the time.
"""

import asyncio
import os
import pwd
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import Connection, text

from collector.config import Listen, Settings
from collector.embedded import ROOT_USER
from collector.processes import Child
from collector.store import migration
from collector.store.engine import SESSION_SETTINGS, admin_transaction, open_engine, run
from collector.up import ask
from tests import front
from tests.collecting import QUICK, batch_of, inference_result, running_collector

SESSIONS = 2

pytestmark = pytest.mark.anyio


@asynccontextmanager
async def pooled(database_url: str, folder: Path, *, sessions: int = SESSIONS) -> AsyncIterator[str]:
    """Give the URL of the database behind a PgBouncer of its own."""
    for place in (folder, *folder.parents[:3]):  # below /tmp
        place.chmod(place.stat().st_mode | 0o011)
    listen = ask.reserve(Listen("127.0.0.1", 0))
    parts = psycopg.conninfo.conninfo_to_dict(database_url)
    user = pwd.getpwnam(ROOT_USER).pw_uid if os.geteuid() == 0 else None
    program = front.pgbouncer(
        folder, listen, database=Path(str(parts["host"])), user=user, more=f"default_pool_size = {sessions}"
    )
    child = Child(program=program)
    await child.start()
    try:
        yield front.pooled_url(listen, str(parts["dbname"]))
    finally:
        await child.stop()


def settings_of(connection: Connection) -> dict[str, str]:
    names = list(SESSION_SETTINGS)
    rows = connection.execute(text("SELECT name, setting FROM pg_settings WHERE lower(name) = ANY(:n)"), {"n": names})
    return {name.lower(): value for name, value in rows}


async def test_batches_at_once_are_stored_once_and_answered_alike(database_url: str, tmp_path: Path) -> None:
    async with pooled(database_url, tmp_path) as url:
        settings = Settings(database_url=url, batches_per_second=QUICK)
        async with running_collector(database_url, settings=settings) as collector:
            batches = [batch_of([inference_result(20 * n + m) for m in range(20)]) for n in range(30)]
            first = await asyncio.gather(*(collector.send(batch) for batch in batches))
            again = await asyncio.gather(*(collector.send(batch) for batch in batches))
            assert [answer.status_code for answer in (*first, *again)] == [200] * 60
            assert sum(answer.json()["accepted"] for answer in first) == 600
            assert sum(answer.json()["duplicate"] for answer in again) == 600
            for path in ("/v1/summary", "/v1/results", "/v1/agents", "/readyz"):
                assert (await collector.client.get(path)).status_code == 200, path
            assert len(collector.rows("SELECT DISTINCT seq FROM v_result")) == 600


async def test_every_transaction_runs_under_our_settings_and_leaves_none_behind(
    database_url: str, tmp_path: Path
) -> None:
    async with pooled(database_url, tmp_path, sessions=1) as url:
        engine = open_engine(url)
        try:
            inside = [await run(engine, settings_of) for _ in range(3)]
        finally:
            await engine.dispose()
        with admin_transaction(url) as connection:
            inside.append(settings_of(connection))
        with psycopg.connect(url) as stranger:
            left = dict(stranger.execute("SELECT lower(name), setting FROM pg_settings").fetchall())
    direct = open_engine(database_url)
    wanted = await run(direct, settings_of)
    await direct.dispose()
    assert wanted["statement_timeout"] == SESSION_SETTINGS["statement_timeout"]
    assert inside == [wanted] * 4
    assert left["statement_timeout"] == "0"


async def test_a_migration_runs_through_it_alone_and_leaves_no_lock(empty_database_url: str, tmp_path: Path) -> None:
    async with pooled(empty_database_url, tmp_path, sessions=8) as url:
        runs = await asyncio.gather(*(_migrated(url) for _ in range(3)))
        assert [code for code, _ in runs] == [0] * 3, runs
        assert all(migration.head_revision() in said for _, said in runs)
        with psycopg.connect(empty_database_url) as connection:
            held = connection.execute("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'").fetchone()
    assert held == (0,)


async def test_sessions_that_end_behind_its_back_cost_no_batch(database_url: str, tmp_path: Path) -> None:
    async with pooled(database_url, tmp_path) as url:
        settings = Settings(database_url=url, batches_per_second=QUICK)
        async with running_collector(database_url, settings=settings) as collector:
            assert (await collector.send(batch_of([inference_result(0)]))).status_code == 200
            with psycopg.connect(database_url) as connection:
                connection.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                    " WHERE datname = current_database() AND pid <> pg_backend_pid()"
                )
            answers = [await collector.send(batch_of([inference_result(n)])) for n in range(1, 4)]
            assert {answer.status_code for answer in answers} <= {200, 503}
            assert answers[-1].status_code == 200


async def _migrated(url: str) -> tuple[int | None, str]:
    """Run the command and return how it ended and what it said."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "collector.cli", "migrate"),
        env={**os.environ, "ISOCHRONE_DATABASE_URL": url},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    said, _ = await process.communicate()
    return process.returncode, said.decode()
