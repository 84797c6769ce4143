"""What tests of the delivery share: results, spools, and a clock with no waiting in it."""

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path

from agent.clock import Clock, SystemClock
from agent.push import Timing
from agent.spool import Identity, Spool, SpoolLimits, uuid7
from agent.telemetry import Telemetry
from isochrone.outcome import Outcome, Prober
from isochrone.result import Result

MACHINE = "4f1c2b1e-machine"
TOKEN = "isoa_k3y_" + "x" * 40


class MovedClock(SystemClock):
    """The machine's clocks, moved by the test."""

    def __init__(self) -> None:
        self.moved = 0.0

    def boottime_seconds(self) -> float:
        return super().boottime_seconds() + self.moved

    def utc_now(self) -> datetime:
        return super().utc_now() + timedelta(seconds=self.moved)


def result(*, reason: str | None = None, started_boottime_seconds: float | None = None) -> Result:
    clock = SystemClock()
    started = clock.boottime_seconds() if started_boottime_seconds is None else started_boottime_seconds
    return Result(
        seq=0,
        endpoint="near",
        module="rtt",
        prober=Prober.RTT,
        started_at=datetime.now(UTC),
        started_boottime_seconds=started,
        outcome=Outcome.OK if reason is None else Outcome.OTHER,
        reason=reason,
    )


def spool_in(
    folder: Path,
    *,
    telemetry: Telemetry | None = None,
    clock: Clock | None = None,
    limits: SpoolLimits | None = None,
    machine: str = MACHINE,
) -> Spool:
    """Return an opened spool of a new run of an agent."""
    clock = clock or SystemClock()
    identity = Identity(boot_id=uuid7(clock), machine_boot_id=machine)
    spool = Spool(folder, identity, clock=clock, limits=limits or SpoolLimits(), telemetry=telemetry or Telemetry())
    spool.open()
    return spool


def record(spool: Spool, count: int, *, reason: str | None = None) -> list[int]:
    """Record so many results; return the numbers of those that are on disk."""
    recorded = [spool.record(result(reason=reason)) for _ in range(count)]
    return [one.seq for one in recorded if one is not None]


class Patience:
    """Stands in for waiting: remembers for how long, moves the clock, and lets others run."""

    def __init__(self, clock: MovedClock) -> None:
        self.clock = clock
        self.waits: list[float] = []

    async def wait(self, event: asyncio.Event, seconds: float) -> bool:
        await asyncio.sleep(0)
        if event.is_set():
            event.clear()
            return True
        self.waits.append(seconds)
        self.clock.moved += seconds
        return False


def impatient(dice: float = 0.5) -> tuple[Timing, Patience]:
    clock = MovedClock()
    patience = Patience(clock)
    return Timing(clock=clock, random=lambda: dice, wait=patience.wait), patience
