"""A collector that stands still while it stores: its transaction is ended, and its batches are free again."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import psycopg
import pytest

from collector import work
from collector.store import stalled
from collector.store.engine import open_engine, run
from tests.collecting import Collector, batch_of, rtt_result, running_collector

pytestmark = pytest.mark.anyio


@asynccontextmanager
async def standing_still(collector: Collector) -> AsyncIterator[int]:
    """Give the session of another collector that has sent half of a batch, and holds the agent's row in the ledger."""
    engine = open_engine(collector.database_url)
    try:
        async with engine.connect() as connection:
            driver = (await connection.get_raw_connection()).driver_connection
            assert isinstance(driver, psycopg.AsyncConnection)
            await driver.execute("LOCK TABLE batch IN EXCLUSIVE MODE")
            with pytest.raises(psycopg.errors.AdminShutdown):
                async with driver.cursor() as cursor, cursor.copy("COPY result FROM STDIN (FORMAT BINARY)"):
                    yield driver.info.backend_pid
            await connection.invalidate()
    finally:
        await engine.dispose()


async def sessions(collector: Collector, pid: int) -> int:
    return len(collector.rows(f"SELECT pid FROM pg_stat_activity WHERE pid = {pid}"))  # noqa: S608  a number


async def test_a_transaction_that_waits_for_its_collector_is_ended_and_its_batches_are_free(
    database_url: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with running_collector(database_url) as collector, standing_still(collector) as pid:
        assert await run(collector.context.engine, stalled.end_stalled) == 0  # it may still go on
        assert await sessions(collector, pid) == 1
        monkeypatch.setattr(stalled, "STALLED_SECONDS", 0.0)
        await work.free_batches(collector.context)
        assert "ended 1 transactions" in caplog.text
        async with asyncio.timeout(5):
            while await sessions(collector, pid):  # noqa: ASYNC110  the server alone knows
                await asyncio.sleep(0.01)
        assert (await collector.send(batch_of([rtt_result(1)]))).status_code == 200


async def test_the_job_runs_with_the_others(database_url: str) -> None:
    async with running_collector(database_url) as collector:
        assert "stalled" in {job.name for job in work.jobs_of(collector.context)}
