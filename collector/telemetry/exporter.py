"""One export: a bounded queue and the task that empties it. Nobody who brings results ever waits for it.

    offer -> queue -> encode (in a thread) -> post -> taken | refused: dropped, counted | again: wait, then once more

One request is under way at a time, so that samples stay in order. Waits grow from one second to a minute, or are what
the receiver asks for; after five minutes a request is given up, and the next one waits on. What is lost is counted by
reason, and told in the log at most once an hour for each reason.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Mapping
from datetime import datetime
from enum import StrEnum
from random import Random
from typing import Final, Protocol

import msgspec

from collector.errors import CollectorError
from collector.metrics.families import ExportFamilies
from collector.telemetry.answers import Answer, Dialect, Encoded, Fate, Verdict
from collector.telemetry.facts import Fact, Skip

GATHER_SECONDS: Final = 1.0
"""How long a request that is not full waits for more."""
FIRST_WAIT_SECONDS: Final = 1.0
LONGEST_WAIT_SECONDS: Final = 60.0
GIVE_UP_SECONDS: Final = 300.0
"""Of tries for one request: the results behind it get older meanwhile."""
TELL_SECONDS: Final = 3_600.0
"""Between two lines in the log for the same reason."""

_log = logging.getLogger(__name__)


class Unreachable(CollectorError):
    """A receiver did not answer. The text is one line."""


class Door(Protocol):
    """Where requests go out."""

    address: str
    """For the log: without anything secret."""

    async def post(self, body: bytes) -> Answer:
        """Return the answer to one try; raise Unreachable."""

    async def close(self) -> None:
        """Close all connections."""


class Clock(msgspec.Struct, frozen=True, kw_only=True):
    """The clocks that an export goes by."""

    utc_now: Callable[[], datetime]
    monotonic: Callable[[], float]
    sleep: Callable[[float], Awaitable[None]]
    random: Random


class Loss(StrEnum):
    """Why results that were to be sent were not; the label of the metric."""

    QUEUE_FULL = "queue_full"
    REFUSED = "refused"
    UNREACHABLE = "unreachable"
    """Tried for five minutes."""
    UNENCODABLE = "unencodable"
    STOPPED = "stopped"
    """The collector ended before they went out."""


class Exporter:
    """Sends what it is offered to one receiver."""

    def __init__(self, dialect: Dialect, door: Door, *, clock: Clock, families: ExportFamilies, limit: int) -> None:
        self.name = dialect.name
        self._dialect = dialect
        self._door = door
        self._clock = clock
        self._families = families
        self._limit = limit
        self._queue: deque[Fact] = deque()
        self._under_way = 0
        self._something = asyncio.Event()
        self._stopping = asyncio.Event()
        self._wait_seconds = FIRST_WAIT_SECONDS
        self._not_before = 0.0
        """By the monotonic clock: what the receiver asked for, or we wait of ourselves, holds for all requests."""
        self._told: dict[str, float] = {}
        """When the log was last told of what, by the monotonic clock."""
        self._failing = False
        """The log was told that the receiver does not take anything."""
        self._show_zeros()

    @property
    def waiting(self) -> int:
        """How many results are neither sent nor given up."""
        return len(self._queue) + self._under_way

    def offer(self, facts: Iterable[Fact], skipped: Mapping[str, int] | None = None) -> None:
        """Take results over, and count those that are none. Never waits: where there is no room the oldest go."""
        self._count_skipped(skipped or {})
        self._queue.extend(facts)
        excess = len(self._queue) - self._limit
        for _ in range(excess):
            self._queue.popleft()
        if excess > 0:
            self._lose(Loss.QUEUE_FULL, excess, "results come faster than they are taken")
        if self._queue:
            self._something.set()
        self._show_waiting()

    async def run(self) -> None:
        """Send until told to stop, and then what waits, each once."""
        while True:
            await self._something.wait()
            if len(self._queue) < self._dialect.results_per_request:
                await self._pause(GATHER_SECONDS)
            if self._queue:
                await self._send(self._take())
            elif self._stopping.is_set():
                return
            else:
                self._something.clear()

    def stop(self) -> None:
        """Let `run` come to its end, without another wait or try."""
        self._stopping.set()
        self._something.set()

    async def close(self) -> None:
        """Count what was not sent, and close the connections. `run` must have ended."""
        if self.waiting:
            self._lose(Loss.STOPPED, self.waiting, "the collector stops")
        self._queue.clear()
        self._under_way = 0
        self._show_waiting()
        await self._door.close()

    async def _pause(self, seconds: float) -> None:
        """Sleep, not beyond the moment of stopping."""
        waits = [asyncio.ensure_future(self._clock.sleep(seconds)), asyncio.ensure_future(self._stopping.wait())]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for one in waits:
                one.cancel()

    def _take(self) -> list[Fact]:
        count = min(len(self._queue), self._dialect.results_per_request)
        facts = [self._queue.popleft() for _ in range(count)]
        self._under_way = count
        if not self._queue and not self._stopping.is_set():
            self._something.clear()
        return facts

    async def _send(self, facts: list[Fact]) -> None:
        try:
            encoded = await asyncio.to_thread(self._dialect.encode, facts, self._clock.utc_now())
        except Exception as exc:  # noqa: BLE001  a result that cannot be told must not end the export
            self._lose(Loss.UNENCODABLE, len(facts), f"{type(exc).__name__}: {exc}")
        else:
            self._count_skipped(encoded.skipped)
            self._under_way = encoded.results
            if encoded.body is not None:
                await self._deliver(encoded.body, encoded)
        self._under_way = 0
        self._show_waiting()

    async def _deliver(self, body: bytes, encoded: Encoded) -> None:
        until = self._clock.monotonic() + GIVE_UP_SECONDS
        while await self._may_try(until):
            verdict = await self._try(body)
            if verdict.fate is Fate.TAKEN:
                self._note_success(encoded, verdict)
                return
            if verdict.fate is Fate.REFUSED:
                self._calm()
                self._lose(Loss.REFUSED, encoded.results, verdict.words)
                return
            self._failing |= self._tell("again", f"tries again: {verdict.words}")
            self._families.retries.series(self.name).add()
            self._step_back(verdict.retry_after_seconds)
        loss = Loss.STOPPED if self._stopping.is_set() else Loss.UNREACHABLE
        self._lose(loss, encoded.results, "the receiver did not take them in time")

    async def _may_try(self, until: float) -> bool:
        """Wait until a try is allowed; False when that is too late for this request.

        The next request waits on: giving up frees nobody from what the receiver asked for.
        """
        now = self._clock.monotonic()
        if self._not_before > now:
            await self._pause(min(self._not_before, until) - now)
            return self._not_before <= until and not self._stopping.is_set()
        return True

    async def _try(self, body: bytes) -> Verdict:
        try:
            answer = await self._door.post(body)
        except Unreachable as exc:
            return Verdict(fate=Fate.AGAIN, words=str(exc))
        return self._dialect.judge(answer, self._clock.utc_now())

    def _step_back(self, asked_seconds: float | None) -> None:
        own = self._wait_seconds * self._clock.random.uniform(0.5, 1.0)
        self._wait_seconds = min(2 * self._wait_seconds, LONGEST_WAIT_SECONDS)
        self._not_before = self._clock.monotonic() + max(own, asked_seconds or 0.0)

    def _calm(self) -> None:
        self._wait_seconds, self._not_before = FIRST_WAIT_SECONDS, 0.0

    def _note_success(self, encoded: Encoded, verdict: Verdict) -> None:
        self._calm()
        self._families.results.series(self.name).add(encoded.results)
        self._families.rejected.series(self.name).add(verdict.rejected)
        self._families.last_success.series(self.name).set(self._clock.utc_now().timestamp())
        if self._failing:
            _log.info("export %s to %s works again", self.name, self._door.address)
            self._failing = False
        if verdict.words:
            self._tell("partial", verdict.words)

    def _lose(self, loss: Loss, count: int, why: str) -> None:
        self._families.dropped.series(self.name, loss.value).add(count)
        self._tell(loss.value, f"{count} results are not sent ({loss.value}), the database has them: {why}")

    def _tell(self, kind: str, words: str) -> bool:
        """Tell the log, unless it was told of the same within the hour. Return whether it was told."""
        now, before = self._clock.monotonic(), self._told.get(kind)
        if before is not None and now - before < TELL_SECONDS:
            return False
        self._told[kind] = now
        _log.warning("export %s to %s: %s", self.name, self._door.address, words)
        return True

    def _count_skipped(self, skipped: Mapping[str, int]) -> None:
        for reason, count in skipped.items():
            self._families.skipped.series(self.name, reason).add(count)

    def _show_waiting(self) -> None:
        self._families.queued.series(self.name).set(self.waiting)

    def _show_zeros(self) -> None:
        families = self._families
        for family in (families.results, families.rejected, families.retries, families.queued):
            family.series(self.name)
        for loss in Loss:
            families.dropped.series(self.name, loss.value)
        for skip in Skip:
            families.skipped.series(self.name, skip.value)
