"""F51: a host without a battery starts in 1970; the time comes later."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from agent.transport import CollectorClient
from tests.collecting import running_collector
from tests.delivery import spool_in
from tests.faults.clocks import TRUTH, SetClock, WorldClock, expectations, measured, scheduler_of, sender_of

pytestmark = pytest.mark.anyio
BEGINNING = datetime(1970, 1, 1, 0, 0, 5, tzinfo=UTC)


async def test_f51_what_was_recorded_in_1970_is_dated_right_by_this_run_and_by_the_next(
    database_url: str, tmp_path: Path
) -> None:
    clock = SetClock()
    clock.set_to(BEGINNING)
    spool = spool_in(tmp_path / "spool", clock=clock)
    spool.record(measured(clock))
    spool.record(measured(clock))
    truth = datetime.now(UTC)
    spool.close()  # the agent is started anew, still in 1970
    spool = spool_in(tmp_path / "spool", clock=clock)
    spool.record(measured(clock))
    spool.flush()
    clock.off_seconds = 0.0
    async with running_collector(database_url) as collector:
        client = CollectorClient(str(collector.client.base_url))
        sender = sender_of(spool, client, clock, token=collector.token)
        await sender.send_once_each()
        await client.close()
        spool.close()
        stored = collector.rows("SELECT started_at, started_at_agent, received_at FROM v_result")
    assert len(stored) == 3
    for started_at, by_the_agent, _ in stored:
        assert abs(started_at - truth) < timedelta(seconds=5)  # type: ignore[operator]  a time
        assert by_the_agent.year == 1970  # type: ignore[attr-defined]  as above


async def test_f51_nothing_is_dropped_as_too_old_when_the_time_comes(tmp_path: Path) -> None:
    clock = SetClock()
    clock.set_to(BEGINNING)
    spool_in(tmp_path / "spool", clock=clock).close()
    first = spool_in(tmp_path / "spool", clock=clock)
    first.record(measured(clock))
    first.close()
    clock.off_seconds = 0.0
    second = spool_in(tmp_path / "spool", clock=clock)
    second.keep_limits()
    assert second.queued_results == 1
    second.close()


async def test_f51_the_schedule_begins_anew_at_the_step_and_misses_nothing() -> None:
    clock = WorldClock()
    clock.off_seconds = (BEGINNING - TRUTH).total_seconds()
    work, telemetry, _ = scheduler_of(clock, interval=10)
    clock.moved += 60
    clock.off_seconds = 0.0
    work.check_clock()
    clock.moved += 60
    await expectations(work)
    assert 10 <= telemetry.expected_results <= 12
    await work.stop(0)
