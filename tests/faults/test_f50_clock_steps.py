"""F50: the wall clock is set by hours, by years, to 1970 and beyond 2038 while the agent runs."""

import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from agent.transport import CollectorClient
from tests.collecting import AGENT, running_collector
from tests.delivery import spool_in
from tests.faults.clocks import SetClock, WorldClock, expectations, measured, scheduler_of, sender_of
from tests.faults.faked import NEEDS_FAKETIME, run_scheduler

pytestmark = pytest.mark.anyio

STEPS = {
    "an hour back": -3_600.0,
    "an hour on": 3_600.0,
    "a year on": 365 * 86_400.0,
    "to 1970": -56 * 365.25 * 86_400.0,
    "beyond 2038": 14 * 365.25 * 86_400.0,
}


@pytest.mark.parametrize("step", STEPS.values(), ids=STEPS)
async def test_f50_a_step_costs_at_most_one_probe_and_no_time(step: float) -> None:
    clock = WorldClock()
    work, telemetry, _ = scheduler_of(clock, interval=10)
    begun = time.process_time()
    for _ in range(2):
        clock.moved += 100
        work.check_clock()
    clock.off_seconds += step
    work.check_clock()
    clock.moved += 100
    work.check_clock()
    await expectations(work)
    assert time.process_time() - begun < 5, "the missed moments of a year are not built one by one"
    assert 28 <= telemetry.expected_results <= 30
    await work.stop(0)


async def test_f50_results_are_dated_within_a_second_of_the_truth(database_url: str, tmp_path: Path) -> None:
    """By the collector's clock and the age of each, before and after every step; the agent's own word stands beside."""
    clock = SetClock()
    spool = spool_in(tmp_path / "spool", clock=clock)
    truth: list[datetime] = []
    async with running_collector(database_url) as collector:
        client = CollectorClient(str(collector.client.base_url))
        sender = sender_of(spool, client, clock, token=collector.token)
        for step in STEPS.values():
            clock.off_seconds = 0.0
            spool.record(measured(clock))
            truth.append(datetime.now(UTC))
            clock.off_seconds = step
            spool.record(measured(clock))
            truth.append(datetime.now(UTC))
            spool.flush()
            assert await sender.send(spool.waiting()[0]) is None
            shown = (await collector.client.get("/v1/agents")).json()["agents"][0]
            if step != next(iter(STEPS.values())):  # before the first exchange nothing is known of the offset
                assert shown["clock_offset_seconds"] == pytest.approx(step, abs=1 + shown["clock_error_seconds"])
                assert shown["warnings"] == ["clock"]
            assert (shown["agent"], shown["state"]) == (AGENT, "ok"), "a wrong clock is a warning, no more"
        await client.close()
        spool.close()
        stored = collector.rows("SELECT started_at, started_at_agent FROM v_result ORDER BY seq")
    assert len(stored) == len(truth)
    for (started_at, _), moment in zip(stored, truth, strict=True):
        assert isinstance(started_at, datetime)
        assert abs(started_at - moment) < timedelta(seconds=1)
    by_the_agent = [row[1] for row in stored]
    assert by_the_agent[-1] - by_the_agent[-2] > timedelta(days=5_000)  # type: ignore[operator]  both are times


@NEEDS_FAKETIME
@pytest.mark.slow_fault
def test_f50_a_running_schedule_keeps_its_cadence_through_every_step(tmp_path: Path) -> None:
    told = run_scheduler(tmp_path, ["-1h", "+1h", "+1y", "@1970-01-02 00:00:00", "@2040-01-01 00:00:00"], seconds=15)
    assert told.longest_pause < 3, "one interval, and the second in which the step is noticed"
    assert told.missed <= 2 * 5, "at each step the tick before it and the one after"
    assert told.cpu_seconds < 5
    assert told.attempts >= 15
