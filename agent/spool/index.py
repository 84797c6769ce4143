"""The sealed segments that wait, and the limits that they keep. Safe for the event loop and the writer thread."""

import threading
from collections.abc import Iterable
from uuid import UUID

from agent.spool.files import Sealed


class SealedIndex:
    """Sealed segments by batch id. One of them may be on its way: that one is never dropped."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._sealed: dict[UUID, Sealed] = {}
        self._leased: UUID | None = None

    def add(self, segments: Iterable[Sealed]) -> None:
        """Take up segments that stand on disk."""
        with self._lock:
            self._sealed.update({segment.batch_id: segment for segment in segments})

    def remove(self, batch_id: UUID) -> Sealed | None:
        """Forget a segment and return it; None if it is not here."""
        with self._lock:
            return self._sealed.pop(batch_id, None)

    def lease(self, batch_id: UUID | None) -> None:
        """Say which segment is on its way."""
        with self._lock:
            self._leased = batch_id

    def newest_first(self) -> list[Sealed]:
        """Return all segments by the age of their first result."""
        with self._lock:
            return sorted(self._sealed.values(), key=lambda segment: -segment.born_boottime_seconds)

    def oldest(self) -> Sealed | None:
        """Return the oldest segment that may be dropped."""
        with self._lock:
            free = (segment for segment in self._sealed.values() if segment.batch_id != self._leased)
            return min(free, key=lambda segment: segment.born_boottime_seconds, default=None)

    def born_first(self) -> float | None:
        """Return when the oldest of all segments was begun (CLOCK_BOOTTIME); None without any."""
        with self._lock:
            return min((segment.born_boottime_seconds for segment in self._sealed.values()), default=None)

    @property
    def results(self) -> int:
        """Results in all segments."""
        with self._lock:
            return sum(segment.results for segment in self._sealed.values())

    @property
    def size_bytes(self) -> int:
        """Bytes of all segments."""
        with self._lock:
            return sum(segment.size_bytes for segment in self._sealed.values())
