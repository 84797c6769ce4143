"""F53: the way there takes 20 ms and the way back 100 ms, or the other way round."""

from pathlib import Path

import pytest

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
