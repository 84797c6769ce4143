"""One credential used by two processes at once, told by their runs' times. Pure: times come from outside.

An agent's runs follow each other: one process at a time holds the spool, so all that a run measured lies before all
that the next one measured, in whatever order the batches arrive (what waited in a spool comes late). Two runs that each
measured something after the other one had begun are two processes: a copied credential, or a machine that was cloned.
"""

from collections import deque
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

import msgspec

SLACK: Final = timedelta(seconds=60)
"""So long may two runs overlap: a restart that starts the new one before the old one ends, and errors of dating."""
FORGET: Final = timedelta(hours=1)
"""A run that measured nothing for so long is not compared; so long a clone is shown after it was last seen."""
MAX_RUNS: Final = 4
"""Runs remembered of each agent."""


class Run(msgspec.Struct, kw_only=True):
    """What is known of one run of an agent: the starts of its oldest and its newest result."""

    boot_id: UUID
    oldest: datetime
    newest: datetime


class CloneWatch:
    """Remembers the latest runs of every agent that reports here."""

    def __init__(self) -> None:
        self._runs: dict[int, deque[Run]] = {}
        self.seen: dict[int, datetime] = {}
        """When a clone of an agent was last seen."""

    def note(self, agent_id: int, run: Run, *, now: datetime) -> bool:
        """Take over what a batch tells; return whether another run of this agent goes on beside it."""
        runs = self._runs.setdefault(agent_id, deque(maxlen=MAX_RUNS))
        own = next((known for known in runs if known.boot_id == run.boot_id), None)
        if own is None:
            own = run
            runs.append(own)
        own.oldest, own.newest = min(own.oldest, run.oldest), max(own.newest, run.newest)
        others = (known for known in runs if known is not own and known.newest > now - FORGET)
        cloned = own.newest > now - FORGET and any(_overlap(own, other) for other in others)
        if cloned:
            self.seen[agent_id] = now
        return cloned

    def take_over(self, seen: Mapping[int, datetime], *, now: datetime) -> set[int]:
        """Add what other collectors saw, forget what is over; return every agent that is or was among them."""
        concerned = {*self.seen, *seen}
        latest = {one: max(filter(None, (self.seen.get(one), seen.get(one)))) for one in concerned}
        self.seen = {one: at for one, at in latest.items() if at > now - FORGET}
        return concerned

    def current(self, agent_id: int, *, now: datetime) -> bool:
        """Tell whether a clone was seen lately."""
        seen = self.seen.get(agent_id)
        return seen is not None and seen > now - FORGET


def _overlap(one: Run, other: Run) -> bool:
    return one.newest > other.oldest + SLACK and other.newest > one.oldest + SLACK
