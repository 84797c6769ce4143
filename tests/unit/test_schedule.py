"""Ticks are arithmetic: a fixed phase for each name, misses counted, lateness told, whatever the wall clock does."""

import asyncio
import math
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.clock import SystemClock
from agent.schedule import Scheduler, Ticks, phase_seconds, time_limit, within_interval
from agent.telemetry import Telemetry
from isochrone.config import AgentConfig, Assignment, Duration, Module
from isochrone.outcome import Prober

INTERVALS = st.sampled_from([0.1, 0.25, 0.5, 1.0, 10.0, 30.0, 60.0, 300.0, 86_400.0])
MOMENTS = st.floats(1.0e9, 4.0e9)
NOON = 1_772_366_400.0  # 2026-03-01T12:00:00Z


class HandClock:
    """A clock that a test moves; `step` sets the wall clock alone."""

    def __init__(self, unix_seconds: float = NOON) -> None:
        self.boot = 1_000.0
        self.wall = unix_seconds
        self.slept = 0.0

    def advance(self, seconds: float) -> None:
        self.boot += seconds
        self.wall += seconds

    def monotonic_ns(self) -> int:
        return round((self.boot - self.slept) * 1e9)

    def boottime_seconds(self) -> float:
        return self.boot

    def utc_now(self) -> datetime:
        return datetime.fromtimestamp(self.wall, tz=UTC)


class Told:
    """Remembers attempts; the first `stuck` of them end when released."""

    def __init__(self, *, stuck: int = 0) -> None:
        self.attempts: list[tuple[str, float]] = []
        self.cancelled = 0
        self.release = asyncio.Event()
        self._stuck = stuck

    async def __call__(self, target: Assignment, late_seconds: float) -> None:
        self.attempts.append((target.endpoint, late_seconds))
        if len(self.attempts) <= self._stuck:
            try:
                await self.release.wait()
            except asyncio.CancelledError:
                self.cancelled += 1
                raise


def options(interval: float, timeout: float | None = None, prober: Prober = Prober.RTT) -> Module:
    return Module(prober=prober, interval=Duration(interval), timeout=Duration(timeout or interval / 2))


def config(*targets: Assignment) -> AgentConfig:
    return AgentConfig(revision=1, agent="a", agent_region="eu", targets=targets)


def target(endpoint: str, interval: float, prober: Prober = Prober.RTT) -> Assignment:
    return Assignment(endpoint=endpoint, module="m", url="http://127.0.0.1:1", options=options(interval, prober=prober))


def scheduler(clock: HandClock, told: Told, *, max_in_flight: int = 16) -> tuple[Scheduler, Telemetry]:
    telemetry = Telemetry()
    return Scheduler(clock, telemetry, attempt=told, max_in_flight=max_in_flight), telemetry


@given(INTERVALS, MOMENTS)
def test_a_moment_lies_between_its_tick_and_the_next(interval: float, moment: float) -> None:
    ticks = Ticks(interval, phase_seconds("a", ("e", "m"), interval))
    index = ticks.index(moment)
    assert ticks.moment(index) <= moment + 0.0011 < ticks.moment(index + 1) + 0.0002
    assert 0 <= ticks.lateness(moment) <= interval


@given(INTERVALS, MOMENTS)
def test_a_tick_rounded_to_microseconds_is_still_that_tick(interval: float, about: float) -> None:
    ticks = Ticks(interval, phase_seconds("a", ("e", "m"), interval))
    index = ticks.index(about)
    moment = datetime.fromtimestamp(ticks.moment(index), tz=UTC).timestamp()
    assert ticks.index(moment) == index
    assert ticks.lateness(moment) < 1e-5


def test_the_phase_is_fixed_by_the_names_and_lies_within_the_interval() -> None:
    assert phase_seconds("a", ("e", "m"), 60) == phase_seconds("a", ("e", "m"), 60)
    phases = [phase_seconds("a", (f"e{n}", "m"), 60) for n in range(1_000)]
    assert all(0 <= phase < 60 for phase in phases)
    assert phase_seconds("ab", ("c", "m"), 60) != phase_seconds("a", ("bc", "m"), 60)


def test_a_thousand_targets_are_spread_over_their_interval() -> None:
    in_each_second = [0] * 60
    for n in range(1_000):
        in_each_second[int(phase_seconds("a", (f"e{n}", "m"), 60))] += 1
    assert min(in_each_second) >= 3
    assert max(in_each_second) <= 40


@pytest.mark.parametrize(
    ("interval", "timeout", "own", "limit"),
    [
        (60, 30, 30, 31),
        (60, 57, 57, 58),
        (1, 0.5, 0.5, 0.75),
        (60, 60, 57, 58),
        (1, 1, 0.95, 0.975),
        (1, 5, 0.95, 0.975),
    ],
)
def test_a_probe_ends_by_its_timeout_or_from_outside_but_before_its_next_tick(
    *, interval: float, timeout: float, own: float, limit: float
) -> None:
    given_target = msgspec.structs.replace(target("e", interval), options=options(interval, timeout))
    bounded = within_interval(given_target).options
    assert bounded.timeout == pytest.approx(own)
    assert time_limit(bounded) == pytest.approx(limit)
    assert time_limit(bounded) < interval


@pytest.mark.anyio
async def test_every_tick_is_attempted_once_and_on_its_moment() -> None:

    told, telemetry = Told(), Telemetry()
    work = Scheduler(SystemClock(), telemetry, attempt=told, max_in_flight=4)
    work.start()
    work.apply(config(target("a", 0.5), target("b", 0.5, Prober.INFERENCE)))
    await asyncio.sleep(3.1)
    await work.stop(1)
    assert telemetry.expected_results >= 8
    assert telemetry.expected_results - telemetry.missed_probes == len(told.attempts)
    assert {endpoint for endpoint, _ in told.attempts} == {"a", "b"}
    lateness = sorted(late for _, late in told.attempts)
    assert lateness[len(lateness) // 2] < 0.2, "most start near their tick, on a loaded machine too"


@pytest.mark.anyio
async def test_ticks_that_no_probe_took_are_missed() -> None:
    clock, told = HandClock(), Told()
    work, telemetry = scheduler(clock, told)
    work.start()
    work.apply(config(target("a", 60)))
    clock.advance(600.5)  # APScheduler's own clock stands at another time: nothing starts
    work.count()
    assert telemetry.expected_results == telemetry.missed_probes
    assert telemetry.missed_probes in {9, 10}, "the last tick may still be on its way"
    await work.stop(0)


@pytest.mark.anyio
@pytest.mark.parametrize("step", [-3_600.0, 3_600.0, 366 * 86_400.0, 11.0, -11.0])
async def test_a_step_of_the_wall_clock_is_no_miss(step: float) -> None:
    clock, told = HandClock(), Told()
    work, telemetry = scheduler(clock, told)
    work.start()
    work.apply(config(target("a", 10)))
    clock.advance(100)
    clock.wall += step
    work.check_clock()
    clock.advance(100)
    work.count()
    assert 17 <= telemetry.expected_results <= 20
    await work.stop(0)


@pytest.mark.anyio
async def test_after_a_step_back_a_target_does_not_wait_for_the_old_time() -> None:
    real_now = datetime.now(UTC).timestamp()
    clock, told = HandClock(real_now + 7_200), Told()
    work, _ = scheduler(clock, told)
    work.start()
    work.apply(config(target("a", 3_600)))
    await asyncio.sleep(0.05)
    assert told.attempts == []
    clock.wall = real_now - 7_200  # its next tick lies before what APScheduler takes for now: due at once
    work.check_clock()
    for _ in range(100):
        await asyncio.sleep(0.02)
        if told.attempts:
            break
    assert len(told.attempts) == 1
    await work.stop(0)


@pytest.mark.anyio
async def test_small_corrections_of_the_clock_are_followed_without_a_new_start() -> None:
    clock, told = HandClock(), Told()
    work, telemetry = scheduler(clock, told)
    work.start()
    work.apply(config(target("a", 10)))
    for _ in range(10):
        clock.advance(10)
        clock.wall += 1.5
        work.check_clock()
    work.count()
    assert 9 <= telemetry.expected_results <= 12
    await work.stop(0)


@pytest.mark.anyio
async def test_an_unchanged_target_keeps_its_rhythm_and_a_removed_one_stops() -> None:
    clock, told = HandClock(datetime.now(UTC).timestamp()), Told()
    work, telemetry = scheduler(clock, told)
    work.start()
    work.apply(config(target("a", 10), target("b", 10)))
    clock.advance(50)
    work.apply(config(target("a", 10)))
    after_removal = telemetry.expected_results
    clock.advance(50)
    work.count()
    assert 4 <= after_removal <= 5, "what b was called for until now is counted, and no more"
    assert telemetry.expected_results - after_removal in range(8, 12)
    await work.stop(0)


@pytest.mark.anyio
@pytest.mark.parametrize("interval", [0.01, 0.0, -1.0, math.nan, math.inf, 4_000_000 * 86_400.0])
async def test_a_target_without_pause_or_without_end_is_left_out_and_the_others_are_probed(
    interval: float, caplog: pytest.LogCaptureFixture
) -> None:
    clock, told = HandClock(), Told()
    work, telemetry = scheduler(clock, told)
    work.start()
    work.apply(config(target("a", interval), target("b", 10)))
    clock.advance(100)
    work.count()
    assert 9 <= telemetry.expected_results <= 10
    assert "a m is left out: its interval is not between" in caplog.text
    await work.stop(0)


@pytest.mark.anyio
async def test_a_target_that_cannot_be_scheduled_does_not_cost_the_others(caplog: pytest.LogCaptureFixture) -> None:
    clock, told = HandClock(), Told()
    work, telemetry = scheduler(clock, told)
    work.start()
    nameless: Any = None  # stands in for whatever nobody foresaw
    work.apply(config(target(nameless, 10), target("b", 10)))
    clock.advance(100)
    work.count()
    assert 9 <= telemetry.expected_results <= 10
    assert "left out by a fault of ours" in caplog.text
    await work.stop(0)


async def attempted(told: Told, count: int) -> None:
    for _ in range(500):
        if len(told.attempts) >= count:
            return
        await asyncio.sleep(0.02)
    pytest.fail(f"only {len(told.attempts)} of {count} attempts in ten seconds")


@pytest.mark.anyio
async def test_a_target_that_still_runs_is_not_started_again_and_stopping_ends_it() -> None:
    told, telemetry = Told(stuck=100), Telemetry()
    work = Scheduler(SystemClock(), telemetry, attempt=told, max_in_flight=16)
    work.start()
    work.apply(config(target("a", 0.1)))
    await attempted(told, 1)
    await asyncio.sleep(0.5)
    assert len(told.attempts) == 1
    await work.stop(0.05)
    assert told.cancelled == 1
    assert telemetry.missed_probes >= 2


@pytest.mark.anyio
@pytest.mark.parametrize("prober", Prober)
async def test_no_more_probes_run_at_once_than_allowed(prober: Prober, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agent.schedule.MAX_ROUND_TRIPS", 2)
    told = Told(stuck=100)
    work = Scheduler(SystemClock(), Telemetry(), attempt=told, max_in_flight=2)
    work.start()
    work.apply(config(*(target(name, 0.1, prober) for name in "abcd")))
    await attempted(told, 2)
    await asyncio.sleep(0.3)
    assert len(told.attempts) == 2
    await work.stop(0)


@pytest.mark.anyio
async def test_a_stream_that_waits_for_its_turn_is_not_started_by_the_stop_and_counts_as_missed() -> None:
    told, telemetry = Told(stuck=1), Telemetry()
    work = Scheduler(SystemClock(), telemetry, attempt=told, max_in_flight=1)
    work.start()
    work.apply(config(*(target(f"e{n}", 1.0, Prober.INFERENCE) for n in range(20))))
    await attempted(told, 1)
    await asyncio.sleep(1.4)  # the others have come to the door by now
    stopping = asyncio.create_task(work.stop(30))
    await asyncio.sleep(0)
    told.release.set()
    await stopping
    assert len(told.attempts) == 1
    assert telemetry.expected_results - telemetry.missed_probes == 1
    assert telemetry.missed_probes >= 19, "the ticks that brought them to the door"


@pytest.mark.anyio
async def test_a_stream_whose_target_was_removed_while_it_waited_is_not_started() -> None:
    told, telemetry = Told(stuck=1), Telemetry()
    work = Scheduler(SystemClock(), telemetry, attempt=told, max_in_flight=1)
    work.start()
    work.apply(config(*(target(name, 0.3, Prober.INFERENCE) for name in "abc")))
    await attempted(told, 1)
    await asyncio.sleep(0.7)
    work.apply(config())
    told.release.set()
    await asyncio.sleep(0.2)
    assert len(told.attempts) == 1
    await work.stop(0)


@pytest.mark.anyio
async def test_a_probe_that_is_ended_by_the_stop_counts_as_missed() -> None:
    told, telemetry = Told(stuck=100), Telemetry()
    work = Scheduler(SystemClock(), telemetry, attempt=told, max_in_flight=1)
    work.start()
    work.apply(config(target("a", 0.3, Prober.INFERENCE), target("b", 0.3, Prober.INFERENCE)))
    await attempted(told, 1)
    await work.stop(0)
    assert told.cancelled == 1
    assert telemetry.expected_results == telemetry.missed_probes >= 1


@pytest.mark.anyio
async def test_a_probe_that_fails_by_a_fault_of_ours_counts_as_missed() -> None:
    failed: list[str] = []

    async def fail(target: Assignment, _late_seconds: float) -> None:
        failed.append(target.endpoint)
        raise ValueError("nobody foresaw this")

    telemetry = Telemetry()
    work = Scheduler(SystemClock(), telemetry, attempt=fail, max_in_flight=1)
    work.start()
    work.apply(config(target("a", 0.1)))
    for _ in range(500):
        await asyncio.sleep(0.02)
        if len(failed) >= 3:
            break
    await work.stop(0)
    assert telemetry.expected_results == telemetry.missed_probes >= 3


@pytest.mark.anyio
async def test_a_count_taken_while_a_probe_waits_for_its_turn_calls_nothing_missed_that_then_starts() -> None:
    told, telemetry = Told(stuck=1), Telemetry()
    work = Scheduler(SystemClock(), telemetry, attempt=told, max_in_flight=1)
    work.start()
    work.apply(config(target("a", 0.3, Prober.INFERENCE), target("b", 0.3, Prober.INFERENCE)))
    await attempted(told, 1)
    for _ in range(20):
        await asyncio.sleep(0.05)
        work.count()
    told.release.set()
    await attempted(told, 4)
    work.count()
    assert telemetry.expected_results - telemetry.missed_probes == len(told.attempts)
    assert telemetry.missed_probes >= 2
    await work.stop(0)
