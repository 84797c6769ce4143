"""What tests of the delivery share: results, spools, and a clock with no waiting in it."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

import pytest

from agent.clock import Clock, SystemClock
from agent.push import Sender, Timing
from agent.spool import Identity, Spool, SpoolLimits, uuid7
from agent.telemetry import Telemetry
from agent.transport import CollectorClient
from isochrone.outcome import Outcome, Prober
from isochrone.result import Result
from isochrone.wire import decode_result
from tests.scripted_http import Answer, serving

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


def stored(spool: Spool) -> list[int]:
    """Return the numbers of all results that wait, segment by segment, the oldest first."""
    segments = [spool.read(sealed) for sealed in reversed(spool.waiting())]
    return [decode_result(line).seq for segment in segments for line in segment.payloads]


def files(folder: Path, suffix: str) -> list[Path]:
    return sorted(folder.glob(f"*{suffix}"))


class Lab:
    """A spool, a sender, and the server that it speaks to."""

    def __init__(self, spool: Spool, sender: Sender, *, telemetry: Telemetry, patience: Patience) -> None:
        self.spool = spool
        self.sender = sender
        self.telemetry = telemetry
        self.patience = patience

    async def attempts(self, count: int) -> list[float | None]:
        """Send the newest segment so many times, as far as there is one; return the waits."""
        return [await self.sender.send(self.spool.waiting()[0]) for _ in range(count) if self.spool.waiting()]

    async def turns(self, count: int) -> None:
        """Let the loop go round so many times."""
        for _ in range(count):
            await self.sender.turn()

    async def drained(self) -> None:
        """Let the loop go round until nothing waits, each time after what the disk has to do."""
        for _ in range(200):
            if not self.spool.waiting():
                return
            await self.sender.turn()
        pytest.fail(f"{self.spool.queued_results} results still wait after 200 turns")


@asynccontextmanager
async def lab(tmp_path: Path, answer: Answer, *, credential: Callable[[], str] = lambda: TOKEN) -> AsyncIterator[Lab]:
    telemetry = Telemetry()
    timing, patience = impatient()
    spool = spool_in(tmp_path / "spool", telemetry=telemetry, clock=patience.clock)
    async with serving(answer) as url:
        client = CollectorClient(url)
        sender = Sender(spool, client, credential=credential, telemetry=telemetry, timing=timing, flush_seconds=10)
        try:
            yield Lab(spool, sender, telemetry=telemetry, patience=patience)
        finally:
            await client.close()
            spool.close()


def fill(lab: Lab, count: int) -> UUID:
    """Record and seal so many results; return their batch id."""
    record(lab.spool, count)
    lab.spool.flush()
    return lab.spool.waiting()[0].batch_id


def leave_backlog(folder: Path, *, segments: int) -> None:
    """Leave what an earlier run could not send: segments of one result each."""
    old = spool_in(folder)
    for _ in range(segments):
        record(old, 1)
        old.flush()
    old.close()
