"""Readers are served by a streaming replica while it is well; batches never depend on it."""

import asyncio
from collections.abc import Callable
from time import monotonic

import psycopg
import pytest

from collector import replica as replica_module
from collector.config import Settings
from collector.replica import Replica, State
from tests.collecting import QUICK, Collector, batch_of, inference_result, running_collector
from tests.postgres import TEMPLATE, Postgres
from tests.standby import Standby, ship, standby_of

pytestmark = pytest.mark.anyio

SECONDS = 30


async def until(condition: Callable[[], object]) -> None:
    deadline = monotonic() + SECONDS
    while not await asyncio.to_thread(condition):
        assert monotonic() < deadline
        await asyncio.sleep(0.05)


async def seqs(collector: Collector) -> list[int]:
    answer = await collector.client.get("/v1/results")
    assert answer.status_code == 200
    return sorted(result["seq"] for result in answer.json()["results"])


async def reading(collector: Collector) -> dict[str, object]:
    answer = await collector.client.get("/readyz")
    assert answer.status_code == 200
    found: dict[str, object] = answer.json()["reading"]
    return found


async def test_readers_see_what_the_replica_has_and_the_primary_when_it_is_not_well(
    own_postgres: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = own_postgres.new_database(TEMPLATE)
    own_postgres.stop()
    ship(own_postgres, "primary.conf", own_postgres.folder)
    own_postgres.start()
    database = url.split("@/", 1)[1].split("?", 1)[0]
    with standby_of(own_postgres) as standby:
        settings = Settings(database_url=url, read_database_url=standby.url(database), batches_per_second=QUICK)
        async with running_collector(url, settings=settings) as collector:
            replica = collector.context.readers.replica
            assert replica is not None
            await until(lambda: replica.state is State.READY)
            await collector.send(batch_of([inference_result(0)]))
            await until(lambda: ask(standby, database, "SELECT 1 FROM result"))
            await stands_still(standby, database)
            await collector.send(batch_of([inference_result(1)]))
            assert await seqs(collector) == [0], "readers are not served by the replica"
            assert (await reading(collector))["status"] == "ready"
            await lags(collector, replica, monkeypatch)
            ask(standby, database, "SELECT pg_wal_replay_resume()")
            await replica.look()
            assert replica.state is State.READY
            await asyncio.to_thread(standby.stop)
            await is_away(collector, replica)


async def stands_still(standby: Standby, database: str) -> None:
    ask(standby, database, "SELECT pg_wal_replay_pause()")
    await until(lambda: ask(standby, database, "SELECT 1 WHERE pg_get_wal_replay_pause_state() = 'paused'"))


async def lags(collector: Collector, replica: Replica, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(replica_module, "MAX_LAG_SECONDS", 0.0)
        await replica.look()
    assert await seqs(collector) == [0, 1], "a replica that lags is read from"
    found = await reading(collector)
    assert found["status"] == "lagging"
    lag = found["lag_seconds"]
    assert isinstance(lag, float)
    assert lag > 0


async def is_away(collector: Collector, replica: Replica) -> None:
    assert await seqs(collector) == [0, 1], "a reader finds the replica gone"
    assert await reading(collector) == {"status": "unavailable", "lag_seconds": None}
    await replica.look()
    assert replica.state is State.UNAVAILABLE
    assert (await collector.send(batch_of([inference_result(2)]))).status_code == 200


async def test_a_follower_reads_where_batches_are_written(database_url: str) -> None:
    """It moves on past what it did not see: a replica that lags would make it miss results."""
    settings = Settings(database_url=database_url, read_database_url=database_url, batches_per_second=QUICK)
    async with running_collector(database_url, settings=settings) as collector:
        replica = collector.context.readers.replica
        assert replica is not None
        await until(lambda: replica.state is State.READY)
        assert replica.lag_seconds == 0
        metrics = (await collector.client.get("/metrics")).text
        assert "\nisochrone_read_database_up 1\n" in metrics
        assert "\nisochrone_read_database_lag_seconds 0\n" in metrics
        await replica.engine.dispose()
        replica.engine = None  # type: ignore[assignment]  whoever reads from it now fails
        followed = await collector.client.get("/v1/results?after=2026-01-01T00:00:00Z")
        replica.engine = collector.context.engine
        assert followed.status_code == 200


def ask(standby: Standby, database: str, query: str) -> tuple[object, ...] | None:
    with psycopg.connect(standby.url(database), autocommit=True) as connection:
        return connection.execute(query.encode()).fetchone()
