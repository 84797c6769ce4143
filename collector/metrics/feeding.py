"""Which targets have series, and which result feeds which: followed from registry to registry, change by change.

A target's series are absent while its region got nothing from its endpoint for the time that series live (`ttl`), and
while there is no room for them. The next fresh result makes them anew, at 0.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping
from typing import Final

import msgspec

from collector.config import DEFAULT_MAX_SERIES, DEFAULT_SERIES_TTL, Settings
from collector.metrics.families import RATE_BOUNDS, TIME_BOUNDS, Bounds, ProbeFamilies, families_of
from collector.metrics.feeds import TargetFeed, lines_of
from collector.metrics.layout import Place
from collector.metrics.series import Origin
from collector.registry import Assigned
from isochrone.result import Result

STEP: Final = 10
"""Targets that are worked on before others have their turn: about 2 ms."""
LOOKS_IN_TTL: Final = 20
"""How often in the time that series live it is looked whether one's time is over."""
EXPIRED_AT_ONCE: Final = 20
"""Pairs of which the series are removed in one look; the others wait for the next."""

_log = logging.getLogger(__name__)


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """What an operator may set of the live metrics."""

    ttl_seconds: float = DEFAULT_SERIES_TTL.total_seconds()
    max_series: int = DEFAULT_MAX_SERIES
    bounds: Bounds = Bounds()


def limits_of(settings: Settings) -> Limits:
    """Return what the settings say."""
    bounds = Bounds(time=settings.time_bounds or TIME_BOUNDS, rate=settings.rate_bounds or RATE_BOUNDS)
    return Limits(ttl_seconds=settings.series_ttl.total_seconds(), max_series=settings.max_series, bounds=bounds)


class _Slot:
    """One target in one region, with series or without."""

    __slots__ = ("assigned", "fed_at", "feed", "refused")

    def __init__(self, assigned: Assigned, *, now: float) -> None:
        self.assigned = assigned
        self.feed: TargetFeed | None = None
        self.fed_at = now
        self.refused = False
        """It was counted that there is no room for its series."""

    @property
    def pair(self) -> tuple[str, str]:
        return self.assigned.agent.region.name, self.assigned.endpoint.name

    def close(self) -> None:
        if self.feed is not None:
            self.feed.close()
            self.feed = None


class Feeds:
    """The targets of all regions. `count_refused` gets the number of series that there was no room for."""

    def __init__(
        self, limits: Limits, *, monotonic: Callable[[], float], count_refused: Callable[[float], None]
    ) -> None:
        self.families = ProbeFamilies(limits.bounds)
        self._limits = limits
        self._monotonic = monotonic
        self._count_refused = count_refused
        self._slots: dict[Place, _Slot] = {}
        self._pairs: dict[tuple[str, str], set[Place]] = {}
        self._next_look = 0.0

    @property
    def lines_count(self) -> int:
        """How many lines all series take."""
        return sum(family.lines_count for family in families_of(self.families))

    async def sync(self, places: Mapping[Place, Assigned]) -> None:
        """Follow what is assigned now: new series at 0, others as they were. The event loop goes on meanwhile."""
        refused_before = sum(slot.refused for slot in self._slots.values())
        for number, place in enumerate([place for place in self._slots if place not in places]):
            self._drop(place)
            await _give_way(number)
        for number, (place, assigned) in enumerate(places.items()):
            self._follow(place, assigned)
            await _give_way(number)
        refused = sum(slot.refused for slot in self._slots.values())
        if refused > refused_before:
            _log.warning(
                "%d targets have no series, since there are %d (ISOCHRONE_MAX_SERIES): raise it, or probe less",
                *(refused, self._limits.max_series),
            )

    def observe(self, place: Place, result: Result, origin: Origin) -> None:
        """Count a fresh result; of a target that is no longer assigned nothing is counted."""
        slot = self._slots.get(place)
        if slot is None:
            return
        slot.fed_at = self._monotonic()
        if slot.feed is None:
            self._wake(slot)
        if slot.feed is not None:
            slot.feed.observe(result, origin)

    def expire(self) -> None:
        """Remove the series of pairs of region and endpoint that got nothing for their time. Cheap unless due."""
        now = self._monotonic()
        if now < self._next_look:
            return
        oldest = now - self._limits.ttl_seconds
        over = [pair for pair, places in self._pairs.items() if self._is_over(places, oldest)]
        for pair in over[:EXPIRED_AT_ONCE]:
            for place in self._pairs[pair]:
                self._slots[place].close()
        if len(over) <= EXPIRED_AT_ONCE:
            self._next_look = now + self._limits.ttl_seconds / LOOKS_IN_TTL

    def _is_over(self, places: set[Place], oldest: float) -> bool:
        slots = [self._slots[place] for place in places]
        return any(slot.feed is not None for slot in slots) and all(slot.fed_at < oldest for slot in slots)

    def _wake(self, slot: _Slot) -> None:
        """Make the series of the whole pair: what one module measures is compared with what another does."""
        for place in self._pairs[slot.pair]:
            self._open(self._slots[place])

    def _follow(self, place: Place, assigned: Assigned) -> None:
        slot = self._slots.get(place)
        if slot is not None and not _goes_on(slot.assigned, assigned):
            self._drop(place)
            slot = None
        if slot is None:
            slot = self._slots[place] = _Slot(assigned, now=self._monotonic())
            self._pairs.setdefault(slot.pair, set()).add(place)
            self._open(slot)
            return
        changed = slot.assigned.assignment != assigned.assignment
        slot.assigned = assigned
        if slot.feed is not None and changed:
            slot.feed.renew(assigned)
        elif slot.refused:
            self._open(slot)  # there may be room now

    def _drop(self, place: Place) -> None:
        slot = self._slots.pop(place)
        slot.close()
        others = self._pairs[slot.pair]
        others.discard(place)
        if not others:
            del self._pairs[slot.pair]

    def _open(self, slot: _Slot) -> None:
        if slot.feed is not None:
            return
        lines = lines_of(self.families, slot.assigned.assignment.options.prober)
        if self._fits(lines):
            slot.feed = TargetFeed(self.families, slot.assigned, room_for=self._room_for)
            slot.refused = False
        elif not slot.refused:
            slot.refused = True
            self._count_refused(lines)

    def _fits(self, lines: int) -> bool:
        return self.lines_count + lines <= self._limits.max_series

    def _room_for(self, lines: int) -> bool:
        fits = self._fits(lines)
        if not fits:
            self._count_refused(lines)
        return fits


def _goes_on(before: Assigned, after: Assigned) -> bool:
    """Tell whether the series have the same labels."""
    return (
        before.agent.region.name == after.agent.region.name
        and before.endpoint.name == after.endpoint.name
        and before.target.model == after.target.model
        and before.assignment.options.prober is after.assignment.options.prober
    )


async def _give_way(number: int) -> None:
    if number % STEP == STEP - 1:
        await asyncio.sleep(0)
