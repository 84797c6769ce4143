"""Retention: it holds nobody up, drops nothing that is needed, and no clock makes it drop what is young."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from datetime import UTC, date, datetime, timedelta

import psycopg
import pytest

from collector import clockcheck, ingest, retention
from collector.config import MIN_KEEP, Keep
from collector.errors import ClockWrong, DatabaseUnavailable, DoneElsewhere, Unsettled
from collector.store import locks
from collector.store.engine import AsyncEngine, admin_transaction, open_engine, run
from collector.store.partitions import create_partition, existing_days
from collector.store.rolling import read_horizons
from tests.collecting import batch_of, inference_result, running_collector

pytestmark = pytest.mark.anyio

START = datetime(2026, 1, 1, 12, tzinfo=UTC)
DAY = timedelta(days=1)
KEEP = Keep(results=30 * DAY, batches=14 * DAY, runs=30 * DAY, minutes=45 * DAY, hours=60 * DAY)


@pytest.fixture
async def engine(database_url: str) -> AsyncIterator[AsyncEngine]:
    """Give the pool of a collector whose database knows one agent."""
    with psycopg.connect(database_url) as connection:
        connection.execute("INSERT INTO agent_region (name) VALUES ('eu')")
        connection.execute("INSERT INTO agent (name, agent_region_id) SELECT 'a', id FROM agent_region")
    engine = open_engine(database_url)
    yield engine
    await engine.dispose()


async def days(engine: AsyncEngine) -> list[date]:
    return await run(engine, existing_days)


@pytest.fixture
async def month(engine: AsyncEngine) -> AsyncEngine:
    """Give a database with the partitions of 40 days up to `START`, in which retention has run once."""
    for back in range(40):
        await run(engine, create_partition, (START - back * DAY).date())
    await retention.enforce(engine, KEEP, START)
    assert len(await days(engine)) == 31
    return engine


@pytest.mark.parametrize("jump", [10 * 365 * DAY, 3 * DAY, -56 * 365 * DAY])
async def test_a_clock_that_jumps_drops_nothing_until_it_has_run_for_days(month: AsyncEngine, jump: timedelta) -> None:
    before = await days(month)
    for hour in range(3):
        with pytest.raises(ClockWrong, match="nothing is dropped"):
            await retention.enforce(month, KEEP, START + jump + timedelta(hours=hour))
    assert await days(month) == before
    await retention.enforce(month, KEEP, START + timedelta(hours=4))
    assert await days(month) == before, "it was put right, and goes on as if nothing had been"


async def test_the_first_look_of_all_is_held_against_the_agents_last_reports(
    database_url: str, engine: AsyncEngine
) -> None:
    await run(engine, create_partition, START.date())
    with psycopg.connect(database_url) as connection:
        connection.execute(
            "INSERT INTO agent_report (agent_id, received_at, boot_id, version, flush_seconds, queued_results,"
            " expected_results, missed_probes) SELECT id, %s, gen_random_uuid(), '1', 10, 0, 0, 0 FROM agent",
            (START,),
        )
    with pytest.raises(ClockWrong):
        await retention.enforce(engine, KEEP, START + 400 * DAY)
    assert await days(engine) == [START.date()]


async def retire(engine: AsyncEngine, now: datetime) -> None:
    """Drop what is old; the collector's own job may be at it, too."""
    while True:
        with suppress(DoneElsewhere):
            return await retention.enforce(engine, KEEP, now)
        await asyncio.sleep(0.01)


async def test_a_long_reader_delays_retention_and_never_ingest(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The lock on the table is asked for in short waits: who stores meanwhile goes on."""
    monkeypatch.setattr(retention, "PAUSE_SECONDS", 0.01)
    monkeypatch.setattr(retention, "ATTEMPTS", 10_000)
    async with running_collector(database_url) as collector:
        now = datetime.now(UTC)
        old = (now - 60 * DAY).date()
        await run(collector.context.engine, create_partition, old)
        with psycopg.connect(database_url) as reader:
            reader.execute("SELECT count(*) FROM result")
            dropping = asyncio.create_task(retire(collector.context.engine, now))
            answers = [await collector.send(batch_of([inference_result(seq)])) for seq in range(10)]
            assert [answer.status_code for answer in answers] == [200] * 10
            assert not dropping.done()
            assert old in await days(collector.context.engine)
        await dropping
        assert old not in await days(collector.context.engine)
        assert len(collector.rows()) == 10


async def test_a_table_that_never_comes_free_fails_the_job_and_drops_nothing(
    database_url: str, month: AsyncEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "PAUSE_SECONDS", 0.01)
    monkeypatch.setattr(retention, "ATTEMPTS", 2)
    with psycopg.connect(database_url) as reader:
        reader.execute("SELECT count(*) FROM result")
        with pytest.raises(DatabaseUnavailable) as refused:
            await retention.enforce(month, KEEP, START + DAY)
    assert "lock" in refused.value.plain
    assert len(await days(month)) == 31
    await retention.enforce(month, KEEP, START + DAY)
    assert len(await days(month)) == 30


async def test_what_is_not_rolled_up_yet_stays_until_it_is(database_url: str, month: AsyncEngine) -> None:
    """So nothing of a day is lost to the rollups, however far they are behind."""
    oldest = (await days(month))[0]
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute(
            "INSERT INTO dirty_minute (agent_id, agent_region_id, minute) VALUES (1, 1, %s)",
            (datetime.combine(oldest, datetime.max.time(), UTC).replace(second=0, microsecond=0),),
        )
        with pytest.raises(Unsettled, match=f"result_{oldest:%Y%m%d} .* not rolled up yet"):
            await retention.enforce(month, KEEP, START + 2 * DAY)
        assert oldest in await days(month)
        connection.execute("DELETE FROM dirty_minute")
    await retention.enforce(month, KEEP, START + 2 * DAY)
    assert len(await days(month)) == 29
    horizons = await run(month, read_horizons)
    assert horizons.raw == datetime.combine(oldest + 2 * DAY, datetime.min.time(), UTC), "no older minute is rolled up"
    assert horizons.minute is None


async def test_two_collectors_do_not_drop_at_once(database_url: str, month: AsyncEngine) -> None:
    with admin_transaction(database_url) as other:
        locks.take(other, retention.JOB)
        with pytest.raises(DoneElsewhere):
            await retention.enforce(month, KEEP, START + DAY)


def test_what_may_still_come_is_kept_longer_than_it_may_be_old() -> None:
    assert timedelta(seconds=ingest.MAX_AGE_SECONDS) + DAY <= MIN_KEEP
    assert MIN_KEEP - timedelta(seconds=ingest.MAX_AGE_SECONDS) + 2 * DAY > clockcheck.MAX_GAP
