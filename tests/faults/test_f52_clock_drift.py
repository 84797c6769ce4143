"""F52: the agent's clock gains 200 ppm for an hour, over a way of uneven length."""

import random
from datetime import UTC, datetime
from itertools import pairwise
from uuid import UUID

import pytest

from agent.push.offset import EXCHANGES, ClockOffset, exchange_of
from isochrone.batch import Ack

DRIFT = 200e-6
FLUSH_SECONDS = 10.0
TRUTH = 1_772_366_400.0


def ack(t1: float, t2: float) -> Ack:
    counts = {"accepted": 0, "duplicate": 0, "late": 0}
    return Ack(batch_id=UUID(int=1), rejected=(), t1=t1, t2=t2, next_flush_seconds=FLUSH_SECONDS, **counts)


def wall(unix_seconds: float) -> datetime:
    return datetime.fromtimestamp(unix_seconds, tz=UTC)


class Drifting:
    """An agent 5 s ahead whose clocks gain; `there` and `back` are drawn anew for each exchange."""

    def __init__(self, seed: int) -> None:
        self.dice = random.Random(seed)  # noqa: S311  a simulation
        self.offset = ClockOffset()
        self.elapsed = 0.0
        self.round_trip = 0.0

    def boottime(self) -> float:
        return self.elapsed * (1 + DRIFT)

    def wall(self) -> float:
        return TRUTH + 5 + self.elapsed * (1 + DRIFT)

    def exchange(self) -> None:
        there, back = (0.01 + self.dice.expovariate(20) for _ in range(2))
        sent = self.boottime()
        self.elapsed += there
        t1 = TRUTH + self.elapsed
        self.elapsed += 0.002
        t2 = TRUTH + self.elapsed
        self.elapsed += back
        self.offset.take(ack(t1, t2), sent=sent, received=self.boottime())
        self.round_trip = there + back


@pytest.mark.parametrize("seed", range(5))
def test_f52_the_offset_is_wrong_by_no_more_than_half_a_round_trip_for_an_hour(seed: int) -> None:
    agent = Drifting(seed)
    errors: list[float] = []
    while agent.elapsed < 3_600:
        agent.exchange()
        reading = agent.offset.reading(wall=wall(agent.wall()), boottime_seconds=agent.boottime())
        assert reading is not None
        error = abs(reading.offset_seconds - (agent.wall() - TRUTH - agent.elapsed))
        assert error <= reading.error_seconds + 2e-6
        assert reading.error_seconds <= agent.round_trip / 2 * (1 + 1e-3) + 2e-6
        errors.append(error)
        agent.elapsed += FLUSH_SECONDS
    assert len(errors) > 300
    assert sorted(errors)[len(errors) // 2] < 0.015, "the shortest of the last ways is believed, not the last one"


def test_f52_a_reading_between_exchanges_grows_wider_as_the_clocks_may_drift() -> None:
    agent = Drifting(1)
    agent.exchange()
    readings = []
    for _ in range(5):
        readings.append(agent.offset.reading(wall=wall(agent.wall()), boottime_seconds=agent.boottime()))
        agent.elapsed += 600
    widths = [reading.error_seconds for reading in readings if reading is not None]
    assert len(widths) == 5
    assert all(later - sooner == pytest.approx(0.3, abs=0.01) for sooner, later in pairwise(widths))


def test_a_step_of_the_wall_clock_shows_at_once() -> None:
    agent = Drifting(1)
    agent.exchange()
    reading = agent.offset.reading(wall=wall(agent.wall() + 3_600), boottime_seconds=agent.boottime())
    assert reading is not None
    assert reading.offset_seconds == pytest.approx(3_605, abs=reading.error_seconds + 0.001)


def test_a_step_of_the_collectors_clock_makes_the_exchanges_before_it_void() -> None:
    agent = Drifting(1)
    for _ in range(10):
        agent.exchange()
    sent = agent.boottime()
    agent.elapsed += 0.04
    t = TRUTH + 100 + agent.elapsed
    agent.offset.take(ack(t, t), sent=sent, received=agent.boottime())
    reading = agent.offset.reading(wall=wall(agent.wall()), boottime_seconds=agent.boottime())
    assert reading is not None
    assert (reading.samples, round(reading.offset_seconds)) == (1, -95)


@pytest.mark.parametrize(("t1", "t2"), [(10.0, 9.0), (10.0, 20.0), (0.0, 1e11)])
def test_moments_that_make_no_sense_tell_nothing(t1: float, t2: float) -> None:
    assert exchange_of(ack(t1, t2), sent=5.0, received=6.0) is None


def test_before_the_first_exchange_nothing_is_said_and_no_more_are_kept_than_needed() -> None:
    agent = Drifting(2)
    assert agent.offset.reading(wall=wall(TRUTH), boottime_seconds=0.0) is None
    for _ in range(2 * EXCHANGES):
        agent.exchange()
    reading = agent.offset.reading(wall=wall(agent.wall()), boottime_seconds=agent.boottime())
    assert reading is not None
    assert reading.samples == EXCHANGES
