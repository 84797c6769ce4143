"""F56: the night in which Berlin's clocks go forward, and the one in which they go back."""

import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from isochrone.wire import encode_result
from tests.faults.clocks import TRUTH, WorldClock, expectations, measured, scheduler_of
from tests.faults.faked import NEEDS_FAKETIME, run_scheduler

FORWARD = datetime(2026, 3, 29, 0, 59, 30, tzinfo=UTC)
BACK = datetime(2026, 10, 25, 0, 59, 30, tzinfo=UTC)


@pytest.fixture
def berlin(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with monkeypatch.context() as patched:
        patched.setenv("TZ", "Europe/Berlin")
        time.tzset()
        yield
    time.tzset()


@pytest.mark.anyio
@pytest.mark.usefixtures("berlin")
@pytest.mark.parametrize("night", [FORWARD, BACK], ids=["forward", "back"])
async def test_f56_the_cadence_and_the_stamps_know_no_daylight_saving(night: datetime) -> None:
    clock = WorldClock()
    clock.moved = (night - TRUTH).total_seconds()
    work, telemetry, _ = scheduler_of(clock, interval=10)
    stamps = []
    for _ in range(60):
        clock.moved += 1
        work.check_clock()
        stamps.append(measured(clock))
    await expectations(work)
    assert 5 <= telemetry.expected_results <= 7
    assert b'"started_at":"2026-' in encode_result(stamps[0])
    assert all(b'Z"' in encode_result(stamp) for stamp in stamps), "written in UTC"
    moments = [stamp.started_at.timestamp() for stamp in stamps]
    assert moments == pytest.approx([night.timestamp() + 1 + n for n in range(60)])
    await work.stop(0)


@NEEDS_FAKETIME
@pytest.mark.slow_fault
@pytest.mark.parametrize("night", ["@2026-03-29 01:59:57", "@2026-10-25 02:59:57"], ids=["forward", "back"])
def test_f56_a_running_schedule_does_not_notice_the_night(tmp_path: Path, night: str) -> None:
    told = run_scheduler(tmp_path, [], seconds=8, begin=night, zone="Europe/Berlin")
    assert told.longest_pause < 2
    assert told.missed <= 1
    assert told.attempts >= 13
