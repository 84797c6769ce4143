"""Work that is due again and again: the only door to APScheduler on this side.

Each job runs at the start, and then at fixed moments: whole intervals since 1970, shifted by a phase of its name, so
that not all jobs start together. It never overlaps itself: a moment that finds it at work is counted as missed. After a
failure it is tried again soon, and the failure is told once.

APScheduler's own interval trigger is not used: after a jump of the clock by years it builds every missed run time. Ours
names the next moment after now, whatever went before.
"""

import asyncio
import logging
import math
import re
import time
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from enum import Enum, auto
from typing import Any, Final, Protocol

import msgspec
from apscheduler.schedulers.asyncio import AsyncIOScheduler
from apscheduler.triggers.base import BaseTrigger

from collector.errors import CollectorError, ConfirmationNeeded, DatabaseUnavailable, DoneElsewhere

STOP_SECONDS: Final = 3.0
RETRY_SECONDS: Final = 30.0
"""A job that failed is tried again after this, unless it is due sooner."""
CLOCK_STEP_SECONDS: Final = 2.0
"""Wall clock against the monotonic one: more is a step, or a machine that slept."""
WATCH_SECONDS: Final = 5.0
_DIGITS: Final = re.compile(r"\d+")
FAULT: Final = "a fault of the collector: its log says which"

_log = logging.getLogger(__name__)


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """What to do, and how often."""

    name: str
    seconds: float
    work: Callable[[], Awaitable[object]]
    once: bool = False
    """Until it has succeeded."""


class End(Enum):
    """How a run ended."""

    DONE = auto()
    ELSEWHERE = auto()
    """Another collector was at it."""
    FAILED = auto()


class Observer(Protocol):
    """Is told how the jobs fare."""

    def ended(self, name: str, end: End, reason: str | None = None) -> None:
        """Note a run; `reason` says why it failed, and holds nothing secret."""

    def missed(self, name: str, count: int) -> None:
        """Note moments at which the job should have started, and did not."""


class Ticks(msgspec.Struct, frozen=True):
    """The moments of a job: phase + n * interval, in seconds since 1970."""

    interval: float
    phase: float

    def index(self, unix_seconds: float) -> int:
        """Return the number of the last moment at or before."""
        return math.floor((unix_seconds - self.phase) / self.interval)

    def after(self, now: datetime) -> datetime:
        """Return the first moment after `now`."""
        index = self.index(now.timestamp()) + 1
        return datetime.fromtimestamp(self.phase + index * self.interval, tz=UTC)


class _Trigger(BaseTrigger):  # type: ignore[misc]  # apscheduler is untyped
    def __init__(self, ticks: Ticks) -> None:
        self._ticks = ticks

    def get_next_fire_time(self, _previous: datetime | None, now: datetime) -> datetime:
        return self._ticks.after(now)


class _Entry(msgspec.Struct):
    job: Job
    ticks: Ticks
    handle: Any = None
    """APScheduler's; None once the job is done for good."""
    task: asyncio.Task[None] | None = None
    last_index: int | None = None
    """Of the moment that was last dealt with; None: the count begins anew."""
    told: str | None = None
    """The failure that the log has; None: the last run succeeded."""


@asynccontextmanager
async def running(jobs: Sequence[Job], observer: Observer) -> AsyncIterator[None]:
    """Run the jobs until the block ends; a run under way may end, for `STOP_SECONDS` at most."""
    runner = _Runner(observer)
    runner.start(jobs)
    try:
        yield
    finally:
        await runner.stop()


def ticks_of(job: Job) -> Ticks:
    """Return the moments of a job: the same in every process."""
    return Ticks(job.seconds, zlib.crc32(job.name.encode()) / 2**32 * job.seconds)


class _Runner:
    def __init__(self, observer: Observer) -> None:
        self._observer = observer
        self._entries: list[_Entry] = []
        self._difference = _wall_minus_monotonic()
        self._watch: asyncio.Task[None] | None = None
        self._scheduler = AsyncIOScheduler(
            timezone=UTC, job_defaults={"misfire_grace_time": None, "coalesce": True, "max_instances": 1}
        )

    def start(self, jobs: Sequence[Job]) -> None:
        self._scheduler.start()
        for job in jobs:
            entry = _Entry(job, ticks_of(job))
            self._entries.append(entry)
            entry.handle = self._scheduler.add_job(
                self._fire, trigger=_Trigger(entry.ticks), args=(entry,), id=job.name, next_run_time=datetime.now(UTC)
            )
        self._watch = asyncio.create_task(self._watch_clock())

    async def stop(self) -> None:
        self._scheduler.shutdown(wait=False)
        for entry in self._entries:
            entry.handle = None
        tasks = [entry.task for entry in self._entries if entry.task is not None]
        if tasks:
            await asyncio.wait(tasks, timeout=STOP_SECONDS)
        tasks += [] if self._watch is None else [self._watch]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _fire(self, entry: _Entry) -> None:
        """Run by APScheduler at a moment. The work is a task of ours, which a shutdown lets end."""
        self._check_clock()
        index = entry.ticks.index(datetime.now(UTC).timestamp())
        busy = entry.task is not None and not entry.task.done()
        before = index - 1 if entry.last_index is None else entry.last_index
        missed = max(0, index - before - (0 if busy else 1))
        entry.last_index = index
        if missed:
            self._observer.missed(entry.job.name, missed)
        if not busy:
            entry.task = asyncio.create_task(self._run(entry), name=entry.job.name)

    async def _run(self, entry: _Entry) -> None:
        job = entry.job
        try:
            await job.work()
        except DoneElsewhere:
            entry.told = None
            self._observer.ended(job.name, End.ELSEWHERE)
        except CollectorError as exc:
            self._tell(entry, exc)
            self._fail(entry, exc.plain if isinstance(exc, DatabaseUnavailable) else str(exc))
        except Exception:  # noqa: BLE001  a fault in one run must not end the job for ever
            _log.exception("job %s failed", job.name)
            entry.told = FAULT
            self._fail(entry, FAULT)
        else:
            self._succeed(entry)

    def _tell(self, entry: _Entry, exc: CollectorError) -> None:
        news = _DIGITS.sub("#", str(exc))  # other numbers alone are no news
        if not isinstance(exc, ConfirmationNeeded) and news != entry.told:  # that is told by the job itself
            _log.warning("job %s waits: %s", entry.job.name, exc)
        entry.told = news

    def _fail(self, entry: _Entry, reason: str) -> None:
        self._observer.ended(entry.job.name, End.FAILED, reason)
        soon = datetime.now(UTC) + timedelta(seconds=RETRY_SECONDS)
        if entry.handle is not None and soon < entry.ticks.after(datetime.now(UTC)):
            entry.handle.modify(next_run_time=soon)

    def _succeed(self, entry: _Entry) -> None:
        if entry.told is not None:
            _log.info("job %s works again", entry.job.name)
        entry.told = None
        self._observer.ended(entry.job.name, End.DONE)
        if entry.job.once and entry.handle is not None:
            entry.handle.remove()
            entry.handle = None

    async def _watch_clock(self) -> None:
        while True:
            await asyncio.sleep(WATCH_SECONDS)
            self._check_clock()

    def _check_clock(self) -> None:
        """Give every job its moments anew if the wall clock was set: backwards, it would wait for the old time."""
        step = _wall_minus_monotonic() - self._difference
        self._difference += step
        if abs(step) <= CLOCK_STEP_SECONDS:
            return  # drift, slewing, a small correction: followed
        _log.warning("the wall clock was set by %+.1f s: all jobs start anew", step)
        now = datetime.now(UTC)
        for entry in self._entries:
            entry.last_index = None
            if entry.handle is not None:
                entry.handle.modify(next_run_time=now)


def _wall_minus_monotonic() -> float:
    return datetime.now(UTC).timestamp() - time.monotonic()
