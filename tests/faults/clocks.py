"""What the clock's faults share: a wall clock that tests set, and an agent's delivery over a way of known length."""

import asyncio
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

from agent.clock import SystemClock
from agent.push import Sender, Timing
from agent.push.answer import Answered
from agent.schedule import Scheduler
from agent.spool import Spool
from agent.telemetry import Telemetry
from agent.transport import CollectorClient
from isochrone.batch import Ack, Batch
from isochrone.config import AgentConfig, Assignment, Duration, Module
from isochrone.outcome import Outcome, Prober
from isochrone.result import Result
from isochrone.wire import encode_ack
from tests.delivery import TOKEN, Patience, spool_in
from tests.scripted_http import Request

YEAR = 365 * 86_400.0
TRUTH = datetime(2026, 3, 1, 12, tzinfo=UTC)


class SetClock(SystemClock):
    """The machine's clocks, but for a wall clock that is off by `off_seconds`."""

    def __init__(self) -> None:
        self.off_seconds = 0.0

    def set_to(self, moment: datetime) -> None:
        self.off_seconds = (moment - super().utc_now()).total_seconds()

    def utc_now(self) -> datetime:
        return super().utc_now() + timedelta(seconds=self.off_seconds)


class WorldClock:
    """All time is the test's: `truth` is the collector's clock, the agent's wall clock is off and drifts from it."""

    def __init__(self) -> None:
        self.moved = 0.0
        self.off_seconds = 0.0
        self.asleep = 0.0
        """Seconds that the machine was suspended: CLOCK_MONOTONIC stood still."""
        self.drift = 0.0
        """Seconds by which CLOCK_BOOTTIME and the wall clock gain on the truth in a second."""

    @property
    def truth(self) -> datetime:
        return TRUTH + timedelta(seconds=self.moved)

    def monotonic_ns(self) -> int:
        return round((self.boottime_seconds() - self.asleep) * 1e9)

    def boottime_seconds(self) -> float:
        return 1_000.0 + self.moved * (1 + self.drift)

    def utc_now(self) -> datetime:
        return TRUTH + timedelta(seconds=self.moved * (1 + self.drift) + self.off_seconds)


class FarCollector:
    """Acknowledges every batch; the way there and the way back take as long as the test says."""

    def __init__(self, clock: WorldClock, *, there_seconds: float, back_seconds: float) -> None:
        self.clock = clock
        self.there_seconds = there_seconds
        self.back_seconds = back_seconds
        self.batches: list[Batch] = []
        self.came_at: list[datetime] = []

    async def request(
        self, method: str, path: str, *, headers: Mapping[str, str], body: bytes | None = None, max_response_bytes: int
    ) -> Answered:
        assert (method, len(headers) > 0, max_response_bytes > 0) == ("POST", True, True)
        self.clock.moved += self.there_seconds
        batch = Request(method, path, {}, body or b"").batch
        self.batches.append(batch)
        self.came_at.append(self.clock.truth)
        t1 = self.clock.truth.timestamp()
        self.clock.moved += 0.003
        ack = Ack(
            batch_id=batch.batch_id,
            accepted=len(batch.results),
            duplicate=0,
            late=0,
            rejected=(),
            t1=t1,
            t2=self.clock.truth.timestamp(),
            next_flush_seconds=10.0,
        )
        self.clock.moved += self.back_seconds
        return Answered(status=200, headers={}, body=encode_ack(ack))


def measured(clock: SystemClock | WorldClock) -> Result:
    """Return a result that starts now."""
    return Result(
        seq=0,
        endpoint="near",
        module="rtt",
        prober=Prober.RTT,
        started_at=clock.utc_now(),
        started_boottime_seconds=clock.boottime_seconds(),
        outcome=Outcome.OTHER,
        reason="a test",
    )


def sender_of(
    spool: Spool, client: FarCollector | CollectorClient, clock: SystemClock | WorldClock, *, token: str = TOKEN
) -> Sender:
    """Return what sends the spool's segments; it never waits."""
    wait = Patience(clock).wait  # type: ignore[arg-type]  only its `moved` is used, which WorldClock has
    timing = Timing(clock=clock, random=lambda: 0.5, wait=wait)
    return Sender(spool, client, credential=lambda: token, telemetry=Telemetry(), timing=timing, flush_seconds=10)


class Household:
    """An agent's spool and sender, far from its collector, in a world whose time is the test's."""

    def __init__(self, folder: Path, *, there_seconds: float, back_seconds: float) -> None:
        self.clock = WorldClock()
        self.far = FarCollector(self.clock, there_seconds=there_seconds, back_seconds=back_seconds)
        self.spool = spool_in(folder, clock=self.clock)
        self.sender = sender_of(self.spool, self.far, self.clock)

    async def flush(self) -> Batch:
        """Record a result, send it, and return the batch that told of it."""
        self.spool.record(measured(self.clock))
        self.spool.flush()
        assert await self.sender.send(self.spool.waiting()[0]) is None
        return self.far.batches[-1]


def scheduler_of(clock: WorldClock, *, interval: float) -> tuple[Scheduler, Telemetry, list[float]]:
    """Return a started schedule of one target, its totals, and how late each attempt was."""
    telemetry = Telemetry()
    attempts: list[float] = []

    async def attempt(_target: Assignment, late_seconds: float) -> None:
        attempts.append(late_seconds)

    work = Scheduler(clock, telemetry, attempt=attempt, max_in_flight=4)
    work.start()
    options = Module(prober=Prober.RTT, interval=Duration(interval), timeout=Duration(interval / 2))
    target = Assignment(endpoint="near", module="rtt", url="http://127.0.0.1:1", options=options)
    work.apply(AgentConfig(revision=1, agent="a", agent_region="eu", targets=(target,)))
    return work, telemetry, attempts


async def expectations(work: Scheduler) -> None:
    """Let what is due start, and bring the totals up to now."""
    for _ in range(3):
        await asyncio.sleep(0)
    work.count()
