"""Who is let in when too much comes at once: bounds per route, a rate per agent, failures per address.

What waits is bounded in bytes and time: else waiting requests would fill the memory. Each refusal says when to come
again.
"""

import asyncio
import random
from collections import deque
from collections.abc import AsyncIterator, Callable, Hashable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Final

from collector.errors import Refused

MIN_RETRY_SECONDS: Final = 2.0
MAX_RETRY_SECONDS: Final = 60.0
WINDOW_SECONDS: Final = 10.0
"""Refusals and completions of this time tell how long the crowd needs."""
WAIT_SECONDS = 3.0
"""How long a request that is read waits for a slot: bursts are shorter."""
MAX_WAITING_BYTES: Final = 16 * 2**20
"""Bodies that wait: 32 of the largest, thousands of the usual."""
MAX_BUCKETS: Final = 20_000
"""Keys that are remembered; the oldest is forgotten first."""


class Admission:
    """Bounds how many requests of a route are worked on at once."""

    def __init__(
        self, limit: int, *, monotonic: Callable[[], float], dice: Callable[[], float] = random.random
    ) -> None:
        self._free = limit
        self._monotonic = monotonic
        self._dice = dice
        self._window_began = monotonic()
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._waiting_bytes = 0
        self._done = 0
        self._refused = 0
        self._estimate_seconds = MIN_RETRY_SECONDS

    @contextmanager
    def slot(self) -> Iterator[None]:
        """Hold a slot; raise Refused (503) with a time to come again when there is none."""
        if self._free <= 0:
            raise self._refusal()
        self._free -= 1
        try:
            yield
        finally:
            self._release()

    @asynccontextmanager
    async def slot_for(self, size: int) -> AsyncIterator[None]:
        """Hold a slot for a body of so many bytes; raise Refused (503) when too much waits or none comes free."""
        if self._free > 0:
            self._free -= 1
        else:
            await self._wait(size)
        try:
            yield
        finally:
            self._release()

    async def _wait(self, size: int) -> None:
        if self._waiting_bytes + size > MAX_WAITING_BYTES:
            raise self._refusal()
        turn = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        self._waiting_bytes += size
        try:
            async with asyncio.timeout(WAIT_SECONDS):
                await turn
        except (TimeoutError, asyncio.CancelledError) as exc:
            if turn.done() and not turn.cancelled():  # the slot came in the very moment of giving up
                self._release()
            if isinstance(exc, TimeoutError):
                raise self._refusal() from exc
            raise
        finally:
            self._waiting_bytes -= size

    def _release(self) -> None:
        """Hand the slot to who waits longest."""
        self._done += 1
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        self._free += 1

    def _refusal(self) -> Refused:
        self._refused += 1
        return Refused(
            "busy",
            "The collector works on as many requests as it can hold. Send it again later.",
            retry_after_seconds=self._retry_seconds(),
        )

    def _retry_seconds(self) -> float:
        """Return a moment between the shortest wait and the time that the refused of the last window need."""
        elapsed = self._monotonic() - self._window_began
        if elapsed >= 1.0:
            need = self._refused * elapsed / max(self._done, 1)
            self._estimate_seconds = min(MAX_RETRY_SECONDS, max(MIN_RETRY_SECONDS, need))
        if elapsed >= WINDOW_SECONDS:
            self._window_began, self._done, self._refused = self._monotonic(), 0, 0
        return MIN_RETRY_SECONDS + self._dice() * (self._estimate_seconds - MIN_RETRY_SECONDS)


class Buckets:
    """A token bucket per key: `burst` at once, then `per_second`."""

    def __init__(self, *, per_second: float, burst: float, monotonic: Callable[[], float]) -> None:
        self._per_second = per_second
        self._burst = burst
        self._monotonic = monotonic
        self._filled: dict[Hashable, tuple[float, float]] = {}

    def wait_seconds(self, key: Hashable) -> float | None:
        """Take a token and return None; without one return the seconds until the next."""
        now = self._monotonic()
        tokens, at = self._filled.pop(key, (self._burst, now))
        tokens = min(self._burst, tokens + (now - at) * self._per_second)
        taken = tokens >= 1
        # Put in anew, so that the key used longest ago stands first.
        self._filled[key] = (tokens - 1 if taken else tokens, now)
        if len(self._filled) > MAX_BUCKETS:
            del self._filled[next(iter(self._filled))]
        return None if taken else (1 - tokens) / self._per_second
