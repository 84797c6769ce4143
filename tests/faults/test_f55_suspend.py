"""F55: the machine sleeps for ten minutes: CLOCK_BOOTTIME counts them, CLOCK_MONOTONIC does not."""

from pathlib import Path

import pytest

from agent.clock import SystemClock, machine_boot_id
from isochrone.batch import ClockReading
from tests.collecting import batch_of, boottime, inference_result, running_collector
from tests.faults.clocks import Household, WorldClock, expectations, scheduler_of

pytestmark = pytest.mark.anyio
SLEPT = 600.0


async def test_f55_results_from_before_the_sleep_are_as_old_as_they_are(database_url: str) -> None:
    async with running_collector(database_url) as collector:
        sent = batch_of([inference_result(0, started_boottime_seconds=boottime() - SLEPT), inference_result(1)])
        assert (await collector.send(sent)).json()["late"] == 1
        ages = collector.rows("SELECT extract(epoch FROM received_at - started_at)::float8 FROM v_result ORDER BY seq")
    assert ages[0][0] == pytest.approx(SLEPT, abs=1)
    assert ages[1][0] == pytest.approx(0, abs=1)


async def test_f55_the_age_at_the_sending_holds_the_sleep(tmp_path: Path) -> None:
    house = Household(tmp_path / "spool", there_seconds=0.02, back_seconds=0.02)
    await house.flush()
    started = house.clock.boottime_seconds()
    house.clock.moved += SLEPT
    house.clock.asleep += SLEPT
    batch = await house.flush()
    assert batch.sent_boottime_seconds is not None
    assert batch.sent_boottime_seconds - started == pytest.approx(SLEPT, abs=0.1)
    assert batch.clock is not None, "the sleep spoils no exchange"
    assert abs(batch.clock.offset_seconds) <= batch.clock.error_seconds
    house.spool.close()


async def test_f55_the_moments_slept_through_are_missed_and_the_schedule_goes_on() -> None:
    clock = WorldClock()
    work, telemetry, attempts = scheduler_of(clock, interval=10)
    clock.moved += 30
    work.check_clock()
    clock.moved += SLEPT
    clock.asleep += SLEPT
    work.check_clock()
    await expectations(work)
    assert 61 <= telemetry.expected_results <= 63
    assert telemetry.missed_probes >= telemetry.expected_results - 1
    assert len(attempts) <= 1, "one probe after the sleep, not sixty"
    await work.stop(0)


async def test_results_of_an_earlier_start_are_dated_by_their_wall_clock_less_what_it_is_wrong_by(
    database_url: str,
) -> None:
    """Started anew since: CLOCK_BOOTTIME tells nothing. The wall clock is an hour ahead and was so then."""
    async with running_collector(database_url) as collector:
        clock = ClockReading(offset_seconds=3_600.0, error_seconds=0.02, round_trip_seconds=0.04, samples=5)
        now = SystemClock().utc_now()
        ahead = now.fromtimestamp(now.timestamp() + 3_600, tz=now.tzinfo)
        old = inference_result(0, started_at=ahead, started_boottime_seconds=7.0)
        answer = await collector.send(batch_of([old], sent_boottime_seconds=None, clock=clock))
        assert answer.json()["accepted"] == 1, "an hour in the future it would be refused"
        ((started_at, by_the_agent),) = collector.rows("SELECT started_at, started_at_agent FROM v_result")
    assert (started_at - now).total_seconds() == pytest.approx(0, abs=1)  # type: ignore[operator]  times
    assert (by_the_agent - now).total_seconds() == pytest.approx(3_600, abs=1)  # type: ignore[operator]  as above


def test_a_start_of_the_machine_has_a_name_of_its_own() -> None:
    assert machine_boot_id() == machine_boot_id()
    assert len(machine_boot_id()) in {0, 36}
