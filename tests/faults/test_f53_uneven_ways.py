"""F53: the way there takes 20 ms and the way back 100 ms, or the other way round."""

from pathlib import Path

import pytest

from isochrone.batch import ClockReading
from tests.collecting import batch_of, inference_result, running_collector
from tests.faults.clocks import Household

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("way", [(0.02, 0.1), (0.1, 0.02), (0.04, 0.04)])
@pytest.mark.parametrize("off", [-3_600.0, 0.0, 2.5])
async def test_f53_the_error_that_is_told_covers_the_uneven_way(
    tmp_path: Path, way: tuple[float, float], off: float
) -> None:
    there, back = way
    house = Household(tmp_path / "spool", there_seconds=there, back_seconds=back)
    house.clock.off_seconds = off
    assert (await house.flush()).clock is None, "nothing is known yet"
    for samples in range(1, 6):
        house.clock.moved += 10
        clock = (await house.flush()).clock
        assert clock is not None
        error = abs(clock.offset_seconds - off)
        assert error == pytest.approx(abs(there - back) / 2, abs=1e-4), "half the difference stays in it, unseen"
        assert error <= clock.error_seconds <= (there + back) / 2 + 0.006
        assert clock.round_trip_seconds == pytest.approx(there + back, abs=1e-4)
        assert clock.samples == samples
    house.spool.close()


async def test_f53_a_batch_is_dated_by_the_middle_of_the_way(tmp_path: Path) -> None:
    """As the collector reckons: it came, less the age at the sending, less half the round trip."""
    house = Household(tmp_path / "spool", there_seconds=0.02, back_seconds=0.1)
    await house.flush()
    started = house.clock.truth.timestamp()
    batch = await house.flush()
    assert batch.clock is not None
    assert batch.sent_boottime_seconds is not None
    age = batch.sent_boottime_seconds - batch.results[0].started_boottime_seconds
    reckoned = house.far.came_at[-1].timestamp() - age - batch.clock.round_trip_seconds / 2
    assert abs(reckoned - started) <= batch.clock.error_seconds + 1e-3
    house.spool.close()


async def test_f53_the_collector_takes_half_the_round_trip_off(database_url: str) -> None:
    async with running_collector(database_url) as collector:
        clock = ClockReading(offset_seconds=0.0, error_seconds=5.0, round_trip_seconds=10.0, samples=1)
        await collector.send(batch_of([inference_result(0)], clock=clock))
        ((age,),) = collector.rows("SELECT extract(epoch FROM received_at - started_at)::float8 FROM v_result")
    assert age == pytest.approx(5, abs=1)
