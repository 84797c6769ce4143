"""The trial of a new configuration: what is watched, and what counts against it. Pure.

Only what a configuration can be blamed for counts: a collector that is away, an endpoint that is down and a machine
that was as slow before say nothing about it.
"""

import math
from collections import deque
from typing import Final

from isochrone.config import AgentConfig
from isochrone.outcome import Outcome

MIN_PROBATION_SECONDS: Final = 600.0
MAX_PROBATION_SECONDS: Final = 86_400.0
"""Of targets that are probed once a day or more rarely, no three runs are awaited."""
PROBATION_RUNS: Final = 3
"""Intervals of the rarest target that a probation lasts, and runs that are needed to say that all fail."""
MAX_LAG_SECONDS: Final = 0.05
MIN_LAG_SAMPLES: Final = 100
_SAMPLES: Final = 3_600

CONFIGURATION_OUTCOMES: Final = frozenset({Outcome.DENIED, Outcome.AUTH, Outcome.HTTP_4XX, Outcome.PROTOCOL})
"""Failures that another configuration would mend: key, address, model or wire format. All others are the world's."""
_NEUTRAL: Final = frozenset({Outcome.BUDGET})
"""Not attempted: says nothing either way."""


class Watch:
    """What happened while one configuration ran."""

    def __init__(self, *, begun_seconds: float, io_lost: int) -> None:
        """Take CLOCK_BOOTTIME and the results lost to a failing disk, at the beginning."""
        self.begun_seconds = begun_seconds
        self.io_lost_before = io_lost
        self.io_lost = io_lost
        self.acks = 0
        self.runs = 0
        self.misconfigured = 0
        self._lags: deque[float] = deque(maxlen=_SAMPLES)

    def ran(self, outcome: Outcome) -> None:
        """Count one probe."""
        if outcome not in _NEUTRAL:
            self.runs += 1
            self.misconfigured += outcome in CONFIGURATION_OUTCOMES

    def lagged(self, seconds: float) -> None:
        """Note how late a timer of the event loop came."""
        self._lags.append(seconds)

    @property
    def all_misconfigured(self) -> bool:
        """Whether every probe failed in a way that another configuration would mend."""
        return self.runs >= PROBATION_RUNS and self.misconfigured == self.runs

    @property
    def loses_writes(self) -> bool:
        """Whether results were lost because the disk failed."""
        return self.io_lost > self.io_lost_before

    @property
    def lag_is_known(self) -> bool:
        """Whether there are samples enough to say how late the event loop is."""
        return len(self._lags) >= MIN_LAG_SAMPLES

    @property
    def lags(self) -> bool:
        """Whether the event loop's lateness, its 99th percentile, is above the limit."""
        if not self.lag_is_known:
            return False
        return sorted(self._lags)[math.ceil(0.99 * len(self._lags)) - 1] >= MAX_LAG_SECONDS


def probation_seconds(config: AgentConfig) -> float:
    """Return how long `config` is tried."""
    longest = max((float(target.options.interval) for target in config.targets), default=0.0)
    return min(MAX_PROBATION_SECONDS, max(MIN_PROBATION_SECONDS, PROBATION_RUNS * longest))


def fault(now: Watch, before: Watch | None) -> str | None:
    """Return what speaks against the configuration under trial, or None. What was so `before` is not its fault."""
    if now.all_misconfigured and not (before is not None and before.all_misconfigured):
        return f"all {now.runs} probes failed by configuration: key, address, model or wire format"
    if now.loses_writes and not (before is not None and before.loses_writes):
        return f"{now.io_lost - now.io_lost_before} results could not be written to the spool"
    # Just after a start nobody knows how slow the machine was before.
    if now.lags and (before is None or (before.lag_is_known and not before.lags)):
        return f"the event loop was late by {MAX_LAG_SECONDS * 1000:.0f} ms or more (99th percentile)"
    return None
