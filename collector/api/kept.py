"""Answers kept ready: made when first asked for, then anew in the background as long as somebody asks.

absent --asked--> made --every so many seconds--> made anew ... --nobody asked for KEEP_SECONDS--> absent

An answer says itself when it was made. One that could not be made anew for three times as long is not given any more:
who asks then waits for a new one, and is told what is wrong.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from collector.errors import CollectorError

RENEW_SECONDS = 10.0
STALE_TIMES: Final = 3
KEEP_SECONDS: Final = 300.0
MAX_KEPT: Final = 8
"""Answers at once; the one asked for longest ago goes first."""
MAX_BYTES: Final = 2**20
"""Of one answer; a longer one is made for each who asks."""

Make = Callable[[], Awaitable[bytes | None]]
"""Returns the answer; None: there is nothing worth keeping."""

_log = logging.getLogger(__name__)


@dataclass(kw_only=True)
class _Entry:
    made: bytes
    made_at: float
    asked_at: float
    renewing: asyncio.Task[None] | None = None


class Kept:
    """Answers by key."""

    def __init__(
        self, monotonic: Callable[[], float], *, renew_seconds: float | None = None, max_kept: int = MAX_KEPT
    ) -> None:
        """Renew answers so often; None: every `RENEW_SECONDS`."""
        self._monotonic = monotonic
        self._renew_seconds = RENEW_SECONDS if renew_seconds is None else renew_seconds
        self._max_kept = max_kept
        self._entries: dict[str, _Entry] = {}
        self._making: dict[str, asyncio.Task[bytes | None]] = {}

    async def get(self, key: str, make: Make) -> bytes | None:
        """Return the answer, at most `STALE_TIMES` renewals old; raise what `make` raises.

        Who asks at once shares both.
        """
        entry = self._fresh(key)
        if entry is not None:
            return entry.made
        making = self._making.get(key)
        if making is None:
            making = self._making[key] = asyncio.create_task(self._make(key, make), name=f"make {key}")
        return await asyncio.shield(making)  # who goes away takes nothing from the others

    def forget(self) -> None:
        """Keep nothing, and make nothing any more."""
        for key in list(self._entries):
            self._drop(key)
        for making in self._making.values():
            making.cancel()

    def _fresh(self, key: str) -> _Entry | None:
        entry = self._entries.get(key)
        if entry is None:
            return None
        entry.asked_at = self._monotonic()
        return entry if entry.asked_at - entry.made_at < STALE_TIMES * self._renew_seconds else None

    async def _make(self, key: str, make: Make) -> bytes | None:
        try:
            made = await make()
        finally:
            del self._making[key]
        if made is not None and len(made) <= MAX_BYTES:
            self._keep(key, made, make)
        return made

    def _keep(self, key: str, made: bytes, make: Make) -> None:
        now = self._monotonic()
        entry = self._entries.get(key)
        if entry is not None:
            entry.made, entry.made_at = made, now
            return
        if len(self._entries) >= self._max_kept:
            self._drop(min(self._entries, key=lambda one: self._entries[one].asked_at))
        entry = self._entries[key] = _Entry(made=made, made_at=now, asked_at=now)
        entry.renewing = asyncio.create_task(self._renew(key, entry, make), name=f"keep {key}")

    async def _renew(self, key: str, entry: _Entry, make: Make) -> None:
        while self._monotonic() - entry.asked_at < KEEP_SECONDS:
            await asyncio.sleep(self._renew_seconds)
            try:
                made = await make()
            except CollectorError as exc:
                _log.warning("the answer for %s was not made anew: %s", key, exc)
                continue
            if made is None:
                break
            entry.made, entry.made_at = made, self._monotonic()
        self._entries.pop(key, None)

    def _drop(self, key: str) -> None:
        entry = self._entries.pop(key)
        if entry.renewing is not None:
            entry.renewing.cancel()
