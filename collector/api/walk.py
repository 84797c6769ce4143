"""Going through results by the time of their receipt in looks of bounded cost, back or onward from a place.

No index leads to the newest results with a rare property: they have to be looked for. A look at a minute is cheap
whatever the fleet's size; as long as looks are quick, the next is four times as long. After `WALK_SECONDS` the walk
stops where it is, and whoever asked goes on from there. A look that is too much for the database after all, for results
lie closer there, is taken again at a shorter stretch.
"""

from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

import msgspec

from collector.errors import Refused
from collector.ingest import MAX_AGE_SECONDS, MAX_AHEAD_SECONDS
from collector.store.reading import Look, Place, Row

FIRST_LOOK: Final = timedelta(minutes=1)
LONGEST_LOOK: Final = timedelta(days=1)
GROWTH: Final = 4
SHRINK: Final = GROWTH**3
QUICK_SECONDS: Final = 0.2
"""After a quicker look the next is longer: it takes a second at most."""
WALK_SECONDS: Final = 2.0
OLDER: Final = timedelta(seconds=MAX_AGE_SECONDS + 60)
AHEAD: Final = timedelta(seconds=MAX_AHEAD_SECONDS + 60)
"""By so much a result may have started before and after it was received; a minute is for bodies that came slowly."""
_LAST_BATCH: Final = UUID(int=2**128 - 1)
MAX_SEQ: Final = 2**62

Fetch = Callable[[Look], Awaitable[list[Row]]]


class Walk(msgspec.Struct, frozen=True, kw_only=True):
    """Where to go: from a place to the end of a stretch of receipt; `started_*` bound when the results started."""

    place: Place
    received_since: datetime
    received_until: datetime
    started_since: datetime
    started_until: datetime
    limit: int


class Walked(msgspec.Struct, frozen=True, kw_only=True):
    """What was found, and the place to go on from; None when there is nothing beyond."""

    rows: list[Row]
    place: Place | None


class Pace:
    """How long the next look is, and whether there is time for it."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._begun = self._looked = monotonic()
        self.length = FIRST_LOOK

    def looked(self) -> None:
        """Take note that a look ended."""
        now = self._monotonic()
        if now - self._looked < QUICK_SECONDS:
            self.length = min(self.length * GROWTH, LONGEST_LOOK)
        self._looked = now

    def shorten(self) -> bool:
        """Take note that a look was too much; return whether there is a shorter one."""
        if self.length <= FIRST_LOOK:
            return False
        self.length = max(FIRST_LOOK, self.length / SHRINK)
        self._looked = self._monotonic()
        return True

    @property
    def tired(self) -> bool:
        """Whether the walk has taken its time."""
        return self._looked - self._begun >= WALK_SECONDS


async def walk_back(walk: Walk, fetch: Fetch, pace: Pace) -> Walked:
    """Return results before the place, newest first. Raise what `fetch` raises."""
    rows: list[Row] = []
    place, top = walk.place, min(walk.place.received_at, walk.received_until)
    while top > walk.received_since:
        low = max(walk.received_since, top - pace.length)
        found = await _found(fetch, _look(walk, place, (low, top), found=len(rows)), pace)
        if found is None:
            continue
        rows += found
        if len(rows) >= walk.limit:
            return Walked(rows=rows, place=place_of(rows[-1]))
        place, top = before(low), low
        pace.looked()
        if pace.tired and top > walk.received_since:
            return Walked(rows=rows, place=place)
    return Walked(rows=rows, place=None)


async def walk_on(walk: Walk, fetch: Fetch, pace: Pace) -> Walked:
    """Return results behind the place, in order. Raise what `fetch` raises."""
    rows: list[Row] = []
    place, bottom = walk.place, max(walk.place.received_at, walk.received_since)
    while bottom < walk.received_until:
        high = min(walk.received_until, bottom + pace.length)
        found = await _found(fetch, _look(walk, place, (bottom, high), found=len(rows)), pace)
        if found is None:
            continue
        rows += found
        if len(rows) >= walk.limit:
            return Walked(rows=rows, place=place_of(rows[-1]))
        place, bottom = behind(high), high
        pace.looked()
        if pace.tired and bottom < walk.received_until:
            return Walked(rows=rows, place=place)
    return Walked(rows=rows, place=None)


async def _found(fetch: Fetch, look: Look, pace: Pace) -> list[Row] | None:
    """Return what a look finds; None when it was too much, and the next is shorter."""
    try:
        return await fetch(look)
    except Refused as exc:
        if exc.kind != "too_much" or not pace.shorten():
            raise
        return None


def before(moment: datetime) -> Place:
    """Return the place before everything that was received at a moment."""
    return Place(received_at=moment, batch_id=UUID(int=0), seq=-1)


def behind(moment: datetime) -> Place:
    """Return the place behind everything that was received at a moment."""
    return Place(received_at=moment, batch_id=_LAST_BATCH, seq=MAX_SEQ)


def place_of(row: Row) -> Place:
    """Return the place of a result."""
    return msgspec.convert({name: row[name] for name in Place.__struct_fields__}, Place)


def _look(walk: Walk, place: Place, received: tuple[datetime, datetime], *, found: int) -> Look:
    low, high = received
    return Look(
        place=place,
        received_since=low,
        received_until=high,
        started_since=max(walk.started_since, low - OLDER),
        started_until=min(walk.started_until, high + AHEAD),
        limit=walk.limit - found,
    )
