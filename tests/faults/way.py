"""An agent's way to its collector: a real spool, the real sender, a cable, and a collector that notes what comes."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic
from urllib.parse import urlsplit
from uuid import UUID

from agent.clock import SystemClock
from agent.push import Sender, Timing
from agent.push.wait import wait_for
from agent.spool import Spool
from agent.telemetry import Telemetry
from agent.transport import CollectorClient
from collector.config import Listen
from tests.delivery import TOKEN, record, spool_in
from tests.scripted_http import LittleCollector, Reply, Request, serving
from tests.system.cable import Cable

FLUSH_SECONDS = 1.0
RECORD_SECONDS = 0.1


class NotingCollector(LittleCollector):
    """Notes when each result first came, by the monotonic clock."""

    def __init__(self) -> None:
        super().__init__()
        self.arrived: dict[tuple[UUID, int], float] = {}

    def __call__(self, request: Request) -> Reply:
        reply = super().__call__(request)
        if request.method == "POST":
            batch = request.batch
            for result in batch.results:
                self.arrived.setdefault((batch.boot_id, result.seq), monotonic())
        return reply


@dataclass(kw_only=True)
class Way:
    """From a spool to a collector that takes each batch once."""

    spool: Spool
    sender: Sender
    collector: NotingCollector
    cable: Cable
    telemetry: Telemetry
    recorded: set[tuple[UUID, int]] = field(default_factory=set)
    born: dict[tuple[UUID, int], float] = field(default_factory=dict)
    """When each was recorded, by the monotonic clock."""

    @property
    def arrived(self) -> dict[tuple[UUID, int], float]:
        return self.collector.arrived

    def record(self, count: int = 1, *, reason: str | None = None) -> None:
        """Record so many results."""
        now = monotonic()
        for seq in record(self.spool, count, reason=reason):
            self.recorded.add((self.spool.boot_id, seq))
            self.born[self.spool.boot_id, seq] = now

    async def record_for(self, seconds: float) -> None:
        """Record ten results a second."""
        end = monotonic() + seconds
        while monotonic() < end:
            self.record()
            await asyncio.sleep(RECORD_SECONDS)

    def seal(self) -> UUID:
        """Seal what was recorded; return its batch id."""
        self.spool.flush()
        return self.spool.waiting()[0].batch_id

    def missing(self) -> set[tuple[UUID, int]]:
        return self.recorded - set(self.collector.ids)

    def stands_once(self) -> bool:
        """Tell whether the collector has what was recorded, once and nothing else."""
        return sorted(self.collector.ids) == sorted(self.recorded)

    async def drained(self, *, seconds: float) -> None:
        """Wait until all that was recorded arrived."""
        end = monotonic() + seconds
        while self.missing():
            assert monotonic() < end, f"{len(self.missing())} of {len(self.recorded)} results did not arrive"
            await asyncio.sleep(0.1)

    def lag(self) -> float:
        """Return the longest that a result in `born` was or is under way, in seconds."""
        now = monotonic()
        return max(self.arrived.get(key, now) - born for key, born in self.born.items())


def real_timing() -> Timing:
    return Timing(clock=SystemClock(), random=random.random, wait=wait_for)


@asynccontextmanager
async def way(folder: Path, *, timing: Timing | None = None) -> AsyncIterator[Way]:
    """Give a way on which nothing is sent yet; `timing` for a test that waits for nothing."""
    timing = timing or real_timing()
    telemetry, collector = Telemetry(), NotingCollector()
    spool = spool_in(folder / "spool", telemetry=telemetry, clock=timing.clock)
    async with serving(collector) as url:
        cable = Cable(Listen("127.0.0.1", urlsplit(url).port or 0))
        await cable.open()
        client = CollectorClient(f"http://{cable.listen}")
        sender = Sender(
            spool, client, credential=lambda: TOKEN, telemetry=telemetry, timing=timing, flush_seconds=FLUSH_SECONDS
        )
        try:
            yield Way(spool=spool, sender=sender, collector=collector, cable=cable, telemetry=telemetry)
        finally:
            await client.close()
            await cable.close()
            spool.close()


@asynccontextmanager
async def running(one: Way) -> AsyncIterator[Way]:
    """Let the sender do its work."""
    task = asyncio.create_task(one.sender.run())
    try:
        yield one
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
