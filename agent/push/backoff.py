"""How long to wait before the next attempt. Pure but for the dice it is given.

The first failure after a success is answered with a splay over three flushes, so that a fleet that lost its collector
at one moment does not come back at one moment; then the wait doubles up to two minutes, with jitter after the cap. Two
acknowledgements in a row make it short again: one between failures is a collector that staggers. It never gives up.
"""

from collections.abc import Callable
from typing import Final

CAP_SECONDS: Final = 120.0
SPLAY_FLUSHES: Final = 3
"""Three flushes of ten seconds are the half minute in which 10,000 agents return at 1,049 a second, not 10,000."""
MAX_SPLAY_SECONDS: Final = 30.0
MAX_BASE_SECONDS: Final = 5.0
AUTH_BASE_SECONDS: Final = 60.0
AUTH_CAP_SECONDS: Final = 3_600.0
REVOKED_SECONDS: Final = 3_600.0
REVOKED_JITTER: Final = 0.1
"""Share of the hour by which a revoked agent asks earlier or later."""
STEADY_ACKNOWLEDGEMENTS: Final = 2
"""So many in a row, and the failures before them are forgotten."""
_MAX_DOUBLINGS: Final = 16


class Backoff:
    """Counts failures in a row."""

    def __init__(self, random: Callable[[], float]) -> None:
        """Take `random`, which returns numbers from 0 to below 1."""
        self._random = random
        self._failures = 0
        self._refusals = 0
        self._acknowledged = 0
        self._connected = True

    @property
    def connected(self) -> bool:
        """Tell whether the last attempt was acknowledged, or none was made yet."""
        return self._connected

    def acknowledged(self) -> None:
        """Forget the refusals, and the failures too once the collector is steady."""
        self._connected = True
        self._refusals = 0
        self._acknowledged += 1
        if self._acknowledged >= STEADY_ACKNOWLEDGEMENTS:
            self._failures = 0

    def failed(self, flush_seconds: float, retry_after_seconds: float | None = None) -> float:
        """Return the seconds to wait after a failure; never less than the collector asked for."""
        self._failures += 1
        self._disconnected()
        if self._failures == 1:
            wait = self._random() * min(MAX_SPLAY_SECONDS, SPLAY_FLUSHES * flush_seconds)
        else:
            base = min(MAX_BASE_SECONDS, flush_seconds / 2)
            wait = self._jittered(base, CAP_SECONDS, self._failures - 2)
        if retry_after_seconds is None:
            return wait
        return max(wait, retry_after_seconds * (1 + self._random() / 4))

    def refused(self) -> float:
        """Return the seconds to wait after a credential was refused: somebody has to act, so a minute to an hour."""
        self._refusals += 1
        self._disconnected()
        return self._jittered(AUTH_BASE_SECONDS, AUTH_CAP_SECONDS, self._refusals - 1)

    def revoked(self) -> float:
        """Return the seconds to wait after the collector said that this agent is to be one no more: about an hour."""
        self._disconnected()
        return REVOKED_SECONDS * (1 + REVOKED_JITTER * (2 * self._random() - 1))

    def _disconnected(self) -> None:
        self._connected = False
        self._acknowledged = 0

    def _jittered(self, base: float, cap: float, doublings: int) -> float:
        longest = min(cap, base * float(1 << min(doublings, _MAX_DOUBLINGS)))
        return longest * (1 + self._random()) / 2
