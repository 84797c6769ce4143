"""The agent's clocks: the only module that reads them.

Durations come from the monotonic clock; ages across a suspend from CLOCK_BOOTTIME; the wall clock only says when.
"""

import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

_KERNEL_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


class Clock(Protocol):
    """What the rest of the agent asks of time."""

    def monotonic_ns(self) -> int:
        """Return nanoseconds of a clock that never steps (CLOCK_MONOTONIC)."""
        ...

    def boottime_seconds(self) -> float:
        """Return seconds since the machine was started, suspended time included."""
        ...

    def utc_now(self) -> datetime:
        """Return the wall clock, aware, in UTC."""
        ...


class SystemClock:
    """The machine's own clocks."""

    def monotonic_ns(self) -> int:
        """Return CLOCK_MONOTONIC."""
        return time.monotonic_ns()

    def boottime_seconds(self) -> float:
        """Return CLOCK_BOOTTIME where the platform has it, else CLOCK_MONOTONIC."""
        clock = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
        return round(time.clock_gettime(clock), 6)

    def utc_now(self) -> datetime:
        """Return the wall clock in UTC."""
        return datetime.now(UTC)


def machine_boot_id() -> str:
    """Return the kernel's name for this start of the machine, or "" where it gives none: ages then cannot be told."""
    try:
        return _KERNEL_BOOT_ID.read_text(encoding="ascii").strip()
    except OSError:
        return ""


def realtime_offset_ns() -> int:
    """Return CLOCK_REALTIME minus CLOCK_MONOTONIC in nanoseconds, both read together.

    Kernel stamps of packets are CLOCK_REALTIME; with this they become monotonic. It is constant until the wall clock
    steps: slewing moves both clocks alike.
    """
    before = time.monotonic_ns()
    wall = time.clock_gettime_ns(time.CLOCK_REALTIME)
    after = time.monotonic_ns()
    return wall - (before + after) // 2
