"""What the agent's own machine did to a probe: the event loop held up, the processor denied, the wall clock let go.

    loop_lag               a timer was run more than `LOOP_LAG_SECONDS` late: something held the loop
    throttled              the control group's count of denied periods grew
    clock_unsynchronized   the kernel no longer vouches for a wall clock that it once vouched for

Where the platform does not tell, nothing is flagged. Many virtual machines and containers never have their clock
synchronised from within: to flag each of their results would say nothing of the probe, whose durations do not come from
that clock. So only the loss of a synchronisation is told.
"""

import asyncio
import ctypes
import gc
import struct
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from isochrone.outcome import Flag

LOOP_LAG_SECONDS: Final = 0.05
"""Arrivals are stamped by the kernel and bear some delay; the moments that the loop itself tells (look-up, connection,
TLS) do not. Below this a busy small machine would flag all it measures."""
TICK_SECONDS: Final = 0.025
"""A hold is seen for certain from `LOOP_LAG_SECONDS` and one tick on."""

YOUNG_OBJECTS: Final = 5_000
"""New objects between two collections of the young: some 2 ms each. The interpreter's own number is 700."""

OLD_COLLECTIONS: Final = 1_000
"""Collections of the middle generation before a full one that nobody asked for: a backstop of a hundred million new
objects, where the interpreter's own number is 10."""
FULL_WHEN_IDLE_SECONDS: Final = 60.0
"""An agent in which no probe runs collects all, once so much time has passed since it last did."""
FULL_AT_LATEST_SECONDS: Final = 600.0
"""One that is never idle does so all the same; what that holds up is told by the bounds of the arrivals."""

_PROC: Final = Path("/proc/self/cgroup")
_CGROUPS: Final = Path("/sys/fs/cgroup")
_V1_FOLDERS: Final = ("cpu", "cpu,cpuacct", "cpuacct,cpu")
_TIMEX_BYTES: Final = 256
"""struct timex takes 208 on 64-bit Linux."""
_TIMEX_STATUS: Final = struct.Struct("@i")
_TIMEX_STATUS_OFFSET: Final = 40
_STA_UNSYNC: Final = 0x40
"""linux/timex.h."""


def spare_collections() -> None:
    """Let the garbage collector stop the loop more rarely, and for less: what is loaded by now it never looks at again.

    Measured with 128 streams on a busy core: a full collection held the loop for 26 to 65 ms, in which two tokens of
    each stream came. Nothing here lives in cycles for long: streams and results are freed by their counts. So full
    collections are left to `FullCollections`.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG_OBJECTS, 20, OLD_COLLECTIONS)


class FullCollections:
    """Collects all garbage when that disturbs no measurement, or when it cannot wait any longer."""

    def __init__(self, *, collect: Callable[[], object] = gc.collect) -> None:
        self._collect = collect
        self._last: float | None = None
        """None until the first probe ended: the program has just started, there is nothing to collect."""

    def pause(self, now: float, *, idle: bool) -> None:
        """Take the moment after a probe, at `now` of the loop's clock, if it is time; `idle`: no other probe runs."""
        if self._last is None:
            self._last = now
        waited = now - self._last
        if waited >= FULL_AT_LATEST_SECONDS or (idle and waited >= FULL_WHEN_IDLE_SECONDS):
            self._last = now
            self._collect()


class Watch:
    """What befell one probe; complete when its `Host.watch` has ended."""

    def __init__(self, began: float) -> None:
        self.began = began
        self.lag_seconds = 0.0
        self.flags: frozenset[Flag] = frozenset()

    def note(self, late_seconds: float, now: float) -> None:
        """Take in that the loop was late at `now`: what lies before the probe's start is not its matter."""
        self.lag_seconds = max(self.lag_seconds, min(late_seconds, now - self.began))


class LagMeter:
    """Ticks while a probe runs, and tells how late each tick came. An idle agent is not woken."""

    def __init__(self) -> None:
        self._watches: set[Watch] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._due = 0.0

    def add(self) -> Watch:
        """Begin to watch; needs a running event loop."""
        loop = asyncio.get_running_loop()
        watch = Watch(loop.time())
        self._watches.add(watch)
        if self._timer is None:
            self._wind(loop)
        return watch

    @property
    def idle(self) -> bool:
        """Return whether no probe runs."""
        return not self._watches

    def remove(self, watch: Watch) -> None:
        """End a watch; a tick that is overdue counts."""
        now = asyncio.get_running_loop().time()
        watch.note(now - self._due, now)
        self._watches.discard(watch)
        if not self._watches and self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _wind(self, loop: asyncio.AbstractEventLoop) -> None:
        self._due = loop.time() + TICK_SECONDS
        self._timer = loop.call_at(self._due, self._tick, loop)

    def _tick(self, loop: asyncio.AbstractEventLoop) -> None:
        now = loop.time()
        for watch in self._watches:
            watch.note(now - self._due, now)
        self._wind(loop)


class Host:
    """Watches the machine during probes. `throttled` and `unsynchronized` are asked, and may answer None."""

    def __init__(
        self,
        *,
        throttled: Callable[[], int | None] | None = None,
        unsynchronized: Callable[[], bool | None] | None = None,
        collections: FullCollections | None = None,
    ) -> None:
        self._throttled = throttled or throttle_counter()
        self._unsynchronized = unsynchronized or clock_unsynchronized
        self._was_synchronized = False
        self._meter = LagMeter()
        self._collections = collections or FullCollections()

    @contextmanager
    def watch(self) -> Iterator[Watch]:
        """Watch what happens inside; the flags stand in the watch after it."""
        throttled_before = self._throttled()
        watch = self._meter.add()
        try:
            yield watch
        finally:
            self._meter.remove(watch)
            watch.flags = frozenset(self._found(watch, throttled_before))
            self._collections.pause(asyncio.get_running_loop().time(), idle=self._meter.idle)

    def _found(self, watch: Watch, throttled_before: int | None) -> Iterator[Flag]:
        if watch.lag_seconds > LOOP_LAG_SECONDS:
            yield Flag.LOOP_LAG
        throttled = self._throttled()
        if throttled is not None and throttled_before is not None and throttled > throttled_before:
            yield Flag.THROTTLED
        unsynchronized = self._unsynchronized()
        self._was_synchronized = self._was_synchronized or unsynchronized is False
        if unsynchronized and self._was_synchronized:
            yield Flag.CLOCK_UNSYNCHRONIZED


def throttle_counter(proc: Path = _PROC, cgroups: Path = _CGROUPS) -> Callable[[], int | None]:
    """Return what reads how many periods this process's control group was denied the processor; None: not told.

    Version 2 keeps the number in the group's folder, version 1 under its controller's. In a container the path that the
    kernel tells may lie outside of what is mounted: then the root of the mount is the container's own group.
    """
    for file in _cpu_stat_files(proc, cgroups):
        if _throttled_periods(file) is not None:
            return lambda: _throttled_periods(file)
    return lambda: None


def clock_unsynchronized() -> bool | None:
    """Return whether the kernel says that the wall clock is not synchronised; None where it says nothing."""
    if sys.platform != "linux" or sys.maxsize <= 2**32:
        return None
    timex = ctypes.create_string_buffer(_TIMEX_BYTES)  # all zero: nothing is to be set, which needs no privilege
    try:
        if ctypes.CDLL(None).adjtimex(timex) < 0:
            return None
    except (OSError, AttributeError):
        return None
    status: int = _TIMEX_STATUS.unpack_from(timex, _TIMEX_STATUS_OFFSET)[0]
    return bool(status & _STA_UNSYNC)


def _cpu_stat_files(proc: Path, cgroups: Path) -> Iterator[Path]:
    for line in (_text(proc) or "").splitlines():
        _, _, rest = line.partition(":")  # hierarchy:controllers:path; version 2 names no controllers
        controllers, colon, path = rest.partition(":")
        if not colon or (controllers and "cpu" not in controllers.split(",")):
            continue
        for folder in _V1_FOLDERS if controllers else ("",):
            yield cgroups / folder / path.lstrip("/") / "cpu.stat"
            yield cgroups / folder / "cpu.stat"


def _throttled_periods(file: Path) -> int | None:
    for line in (_text(file) or "").splitlines():
        name, _, value = line.partition(" ")
        if name == "nr_throttled" and value.isdecimal():
            return int(value)
    return None


def _text(file: Path) -> str | None:
    try:
        return file.read_text(encoding="ascii", errors="replace")
    except OSError:
        return None
