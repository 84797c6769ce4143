"""A collector whose clock is wrong dates nothing, makes nothing and drops nothing, and says so; agents keep all."""

from datetime import UTC, date, datetime, timedelta

import pytest

from collector import work
from collector.errors import ClockWrong
from collector.store.engine import run
from collector.store.partitions import create_partition, existing_days
from tests.collecting import Collector, batch_of, inference_result, running_collector

pytestmark = pytest.mark.anyio

YEARS = timedelta(days=3_653)
IN_1970 = datetime(1970, 1, 1, 0, 3, tzinfo=UTC)


async def days(collector: Collector) -> list[date]:
    return await run(collector.context.engine, existing_days)


@pytest.mark.parametrize("moment", [IN_1970, datetime.now(UTC) + YEARS], ids=["in 1970", "ten years ahead"])
async def test_nothing_is_dated_made_or_dropped_until_the_clock_is_set(database_url: str, moment: datetime) -> None:
    async with running_collector(database_url) as collector:
        context, right = collector.context, collector.context.utc_now
        await work.make_partitions(context)
        await run(context.engine, create_partition, (right() - timedelta(days=20)).date())
        before = await days(collector)
        kept = batch_of([inference_result(0)])
        context.utc_now = lambda: moment
        for job in (work.watch_readiness, work.make_partitions, work.drop_old):
            with pytest.raises(ClockWrong):
                await job(context)
        refused = await collector.send(kept)
        assert refused.status_code == 503
        assert int(refused.headers["retry-after"]) > 0
        ready = await collector.fetch("/readyz")
        assert ready.status_code == 503
        assert f"says {moment.isoformat(timespec='seconds')}" in ready.json()["detail"]
        assert await days(collector) == before
        assert collector.rows() == []

        context.utc_now = right
        await work.watch_readiness(context)
        assert (await collector.send(kept)).json()["accepted"] == 1
        assert (await collector.fetch("/readyz")).status_code == 200
        await work.drop_old(context)
        assert await days(collector) == before


async def test_a_batch_is_refused_in_1970_before_any_job_has_looked(database_url: str) -> None:
    async with running_collector(database_url) as collector:
        collector.context.utc_now = lambda: IN_1970
        refused = await collector.send(batch_of([inference_result(0)]))
    assert refused.status_code == 503
    assert "clock" in refused.json()["detail"]
