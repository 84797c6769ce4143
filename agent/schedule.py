"""When each target is probed: the only door to APScheduler.

Every target has a fixed phase in its interval, from a hash of (agent, endpoint, module), counted from 1970: restarts
and other agents do not move it, and a thousand targets do not start together. Ticks are numbers: what was called for,
what was missed and how late a start is follow by arithmetic, never by counting events.

APScheduler's own interval trigger is not used: after a jump of the clock by a year it would build every missed run time
(measured: 3 million dates, 2.7 s for each job). Ours names the next tick after now, whatever went before.
"""

import asyncio
import hashlib
import math
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any, Final

import msgspec
from apscheduler.schedulers.asyncio import AsyncIOScheduler
from apscheduler.triggers.base import BaseTrigger

from agent.clock import Clock
from agent.config import MIN_INTERVAL_SECONDS
from agent.telemetry import LOG, Telemetry
from isochrone.config import AgentConfig, Assignment, Duration, Module
from isochrone.names import MAX_SECONDS
from isochrone.outcome import Prober

LATE_START_SECONDS: Final = 1.0
"""A probe that starts later than this after its moment says so: the host, or the agent, was busy."""
CLOCK_STEP_SECONDS: Final = 2.0
"""Wall clock against CLOCK_BOOTTIME: more is a step, not drift or slewing."""
WATCHDOG_SECONDS: Final = 1.0
LONGEST_SHARE: Final = 0.95
"""Of its interval, what a probe may take: the rest is for closing and recording."""
MAX_ROUND_TRIPS: Final = 256
"""Probes of `rtt` at once, whatever a configuration asks for: with samples 0.2 s apart, some 1,300 packets a second."""
_EARLY_SECONDS: Final = 0.001
"""A timer may fire this much before its moment and still be on it."""

Key = tuple[str, str]
"""Endpoint and module."""
Attempt = Callable[[Assignment, float], Awaitable[None]]
"""Probe a target, started so many seconds after its moment."""


class Ticks(msgspec.Struct, frozen=True):
    """The moments of one target: phase + n * interval, in seconds since 1970."""

    interval: float
    phase: float

    def index(self, unix_seconds: float) -> int:
        """Return the number of the last tick at or before a moment."""
        return math.floor((unix_seconds - self.phase + _EARLY_SECONDS) / self.interval)

    def moment(self, index: int) -> float:
        """Return the moment of a tick."""
        return self.phase + index * self.interval

    def lateness(self, unix_seconds: float) -> float:
        """Return the seconds since the last tick."""
        return max(0.0, unix_seconds - self.moment(self.index(unix_seconds)))


def phase_seconds(agent: str, key: Key, interval: float) -> float:
    """Return the phase of a target within its interval: always the same for the same names."""
    digest = hashlib.sha256("\n".join((agent, *key)).encode()).digest()
    return int.from_bytes(digest[:8]) / 2**64 * interval


def within_interval(target: Assignment) -> Assignment:
    """Return `target` with a timeout that ends before its next tick: the probe then says itself how far it came."""
    options = target.options
    longest = LONGEST_SHARE * options.interval
    if options.timeout <= longest:
        return target
    return msgspec.structs.replace(target, options=msgspec.structs.replace(options, timeout=Duration(longest)))


def time_limit(options: Module) -> float:
    """Return the seconds after which a probe is ended from outside: after its own timeout, before its next tick."""
    return options.timeout + min(1.0, (options.interval - options.timeout) / 2)


class _Trigger(BaseTrigger):  # type: ignore[misc]  # apscheduler is untyped
    def __init__(self, ticks: Ticks) -> None:
        self._ticks = ticks

    def get_next_fire_time(self, _previous: datetime | None, now: datetime) -> datetime:
        """Return the first tick after `now`."""
        index = self._ticks.index(now.timestamp()) + 1
        return datetime.fromtimestamp(self._ticks.moment(index), tz=UTC)


class _Target(msgspec.Struct):
    """One target under way. `next_index` is the tick that is called for next."""

    assignment: Assignment
    ticks: Ticks
    job: Any
    next_index: int
    busy: bool = False
    queued: bool = False
    """Its tick came, and its probe waits until fewer run."""


class Scheduler:
    """Starts an attempt at every tick of every target, and keeps the count."""

    def __init__(self, clock: Clock, telemetry: Telemetry, *, attempt: Attempt, max_in_flight: int) -> None:
        self._clock = clock
        self._telemetry = telemetry
        self._attempt = attempt
        self._paused = False
        self._streams = asyncio.Semaphore(max_in_flight)
        self._round_trips = asyncio.Semaphore(MAX_ROUND_TRIPS)
        self._targets: dict[Key, _Target] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._wall_minus_boot = self._difference()
        self._asleep = self._asleep_seconds()
        self._apscheduler = AsyncIOScheduler(
            timezone=UTC, job_defaults={"misfire_grace_time": None, "coalesce": True, "max_instances": 1}
        )

    def start(self) -> None:
        """Begin; needs a running event loop."""
        self._apscheduler.start()

    def apply(self, config: AgentConfig) -> None:
        """Probe what `config` names and nothing else. Targets that did not change keep their rhythm."""
        sane = (within_interval(target) for target in config.targets if _is_sane(target))
        wanted = {(target.endpoint, target.module): target for target in sane}
        for key, target in list(self._targets.items()):
            if wanted.get(key) != target.assignment:
                self._count_last(target)
                target.job.remove()
                del self._targets[key]
        for key, assignment in wanted.items():
            if key not in self._targets:
                self._try_to_add(config.agent, key, assignment)

    def pause(self, paused: bool) -> None:  # noqa: FBT001  what the sender calls
        """Start no probe while this holds: each that would have started counts as missed."""
        self._paused = paused

    def count(self) -> None:
        """Bring the totals of expected and missed probes up to now."""
        for target in self._targets.values():
            self._count_until_now(target)

    async def watch_clock(self) -> None:
        """Look for steps of the wall clock for ever."""
        while True:
            await asyncio.sleep(WATCHDOG_SECONDS)
            self.check_clock()

    def check_clock(self) -> None:
        """Give every target its rhythm anew if the wall clock was set: backwards, it would wait for the old time."""
        self._wake_after_sleep()
        step = self._difference() - self._wall_minus_boot
        if abs(step) <= CLOCK_STEP_SECONDS:
            self._wall_minus_boot += step  # drift, slewing, a small correction: followed
            return
        LOG.warning("schedule: the wall clock was set by %+.1f s: all targets start anew", step)
        for target in self._targets.values():
            self._count_until_now(target)
        self._wall_minus_boot = self._difference()
        for target in self._targets.values():
            target.next_index = target.ticks.index(self._now()) + 1
            target.job.modify(next_run_time=datetime.fromtimestamp(target.ticks.moment(target.next_index), tz=UTC))

    async def stop(self, drain_seconds: float) -> None:
        """Start nothing new; give what is in flight so many seconds, then end it."""
        for target in self._targets.values():
            self._count_last(target)
        self._targets.clear()
        self._apscheduler.remove_all_jobs()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=drain_seconds)
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._apscheduler.shutdown(wait=False)

    def _wake_after_sleep(self) -> None:
        """Timers do not run while the machine is suspended: after it, they are late by as much."""
        asleep = self._asleep_seconds()
        if asleep - self._asleep > CLOCK_STEP_SECONDS:
            LOG.info("schedule: the machine slept for %.0f s", asleep - self._asleep)
            self._apscheduler.wakeup()
        self._asleep = asleep

    def _asleep_seconds(self) -> float:
        return self._clock.boottime_seconds() - self._clock.monotonic_ns() / 1e9

    def _try_to_add(self, agent: str, key: Key, assignment: Assignment) -> None:
        try:
            self._targets[key] = self._add(agent, key, assignment)
        except Exception:  # noqa: BLE001  one target that nobody foresaw must not cost the others
            LOG.exception("schedule: %s is left out by a fault of ours", key)

    def _add(self, agent: str, key: Key, assignment: Assignment) -> _Target:
        interval = float(assignment.options.interval)
        ticks = Ticks(interval, phase_seconds(agent, key, interval))
        job = self._apscheduler.add_job(self._fire, trigger=_Trigger(ticks), args=(key,), id="\n".join(key))
        return _Target(assignment, ticks, job, next_index=ticks.index(self._now()) + 1)

    async def _fire(self, key: Key) -> None:
        """Run by APScheduler at a tick. The probe is a task of ours, which a shutdown lets end."""
        target = self._targets.get(key)
        if target is None or target.busy or self._paused:
            return
        target.busy = target.queued = True
        task = asyncio.get_running_loop().create_task(self._run(target))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _run(self, target: _Target) -> None:
        is_stream = target.assignment.options.prober is Prober.INFERENCE
        try:
            async with self._streams if is_stream else self._round_trips:
                target.queued = False
                await self._start(target)
        except Exception:  # noqa: BLE001  one target's fault, whatever it is, must not end the others
            LOG.exception(
                "schedule: %s %s failed by a fault of ours", target.assignment.endpoint, target.assignment.module
            )
        finally:
            target.busy = target.queued = False

    async def _start(self, target: _Target) -> None:
        assignment = target.assignment
        if self._targets.get((assignment.endpoint, assignment.module)) is not target:
            return  # removed, or everything stopped, while it waited for its turn
        if self._paused:
            return
        taken = min(1, self._count_through(target, target.ticks.index(self._now())))
        self._telemetry.missed_probes -= taken
        try:
            await self._attempt(assignment, target.ticks.lateness(self._now()))
        except BaseException:  # ended at the stop, or a fault of ours: no result came of it
            self._telemetry.missed_probes += taken
            raise

    def _count_until_now(self, target: _Target) -> None:
        """Count all ticks but the last: that one counts when its probe starts, or when the next one came."""
        self._count_through(target, target.ticks.index(self._now()) - 1)

    def _count_last(self, target: _Target) -> None:
        """Count a target that is called for no more: a probe of it that waits for its turn will not start."""
        self._count_through(target, target.ticks.index(self._now()) - (0 if target.queued else 1))

    def _count_through(self, target: _Target, last: int) -> int:
        """Count the ticks since the last count, up to the tick `last`, as called for and missed; return how many."""
        called = max(0, last + 1 - target.next_index)
        self._telemetry.expected_results += called
        self._telemetry.missed_probes += called
        target.next_index = max(target.next_index, last + 1)
        return called

    def _now(self) -> float:
        """Seconds since 1970 on a clock that does not step: the wall clock as it was last accepted, carried on."""
        return self._wall_minus_boot + self._clock.boottime_seconds()

    def _difference(self) -> float:
        return self._clock.utc_now().timestamp() - self._clock.boottime_seconds()


def _is_sane(target: Assignment) -> bool:
    """Tell whether its ticks can be reckoned with: those of an interval beyond `MAX_SECONDS` have no dates."""
    if MIN_INTERVAL_SECONDS <= target.options.interval <= MAX_SECONDS:
        return True
    text = "schedule: %s %s is left out: its interval is not between 100ms and %g s"
    LOG.error(text, target.endpoint, target.module, MAX_SECONDS)
    return False
