"""Which endpoints asked to be left alone, and until when. Pure: moments are monotonic nanoseconds."""

import math
from typing import Final

import msgspec

from agent.transport import Failure
from isochrone.outcome import Outcome

Key = tuple[str, str]
"""Endpoint and origin: one that moved elsewhere asked for nothing there."""
WAIT_STATUSES: Final = frozenset({429, 503, 529})
"""Whose Retry-After says when to come again; that of a redirect or a 413 speaks of something else."""


class _Wait(msgspec.Struct, frozen=True):
    outcome: Outcome
    until_ns: int


class Waits:
    """Kept for all inference modules of an endpoint together: its limits know none of them."""

    def __init__(self) -> None:
        self._waits: dict[Key, _Wait] = {}

    def note(self, key: Key, outcome: Outcome, *, until_ns: int, now_ns: int) -> None:
        """Remember that nothing may be asked before `until_ns`. A shorter wait told later ends no longer one."""
        self._waits = {known: wait for known, wait in self._waits.items() if wait.until_ns > now_ns}
        known = self._waits.get(key)
        if until_ns > now_ns and (known is None or known.until_ns < until_ns):
            self._waits[key] = _Wait(outcome, until_ns)

    def check(self, key: Key, *, now_ns: int) -> None:
        """Return if `key` may be asked now; else raise Failure: as the answer was, and how long still."""
        wait = self._waits.get(key)
        if wait is None or wait.until_ns <= now_ns:
            return
        seconds = math.ceil((wait.until_ns - now_ns) / 1e9)
        words = f"not attempted: the endpoint asked to wait, {seconds} s more (Retry-After)"
        raise Failure(wait.outcome, words)
