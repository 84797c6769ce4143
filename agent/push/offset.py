"""How far this host's wall clock is from the collector's, by NTP's arithmetic over acknowledgements. Pure.

An exchange has four moments: `sent` and `received` here, `t1` and `t2` there (RFC 5905 8: theta = ((t1-t0)+(t2-t3))/2).
Here they are told by CLOCK_BOOTTIME, so that a step of the wall clock spoils no exchange and shows at once.

The true offset lies within half the round trip of the computed one, whatever share of it each way took. Between two
exchanges the two clocks drift apart, by `MAX_DRIFT` at most; the exchange with the narrowest bound now is believed.
"""

from collections import deque
from datetime import datetime
from typing import Final

import msgspec

from isochrone.batch import Ack, ClockReading

EXCHANGES: Final = 30
"""How many are remembered: five minutes of flushes."""
MAX_DRIFT: Final = 500e-6
"""Seconds per second: the most by which the kernel corrects a clock's rate (adjtimex(2)); quartz alone errs by 200."""
MAX_ROUND_TRIP_SECONDS: Final = 60.0
"""Longer than any request lasts: such moments are nonsense, or the collector's clock was set meanwhile."""

_ROUNDING_SECONDS: Final = 1e-3


class Exchange(msgspec.Struct, frozen=True, kw_only=True):
    """What one acknowledgement tells of the two clocks."""

    at_boottime_seconds: float
    """When it came, by CLOCK_BOOTTIME."""
    epoch_unix_seconds: float
    """What the collector's clock showed, by this exchange, when CLOCK_BOOTTIME was 0."""
    round_trip_seconds: float

    def error_seconds(self, boottime_seconds: float) -> float:
        """Return by how much `epoch_unix_seconds` may be wrong at a moment."""
        age = max(0.0, boottime_seconds - self.at_boottime_seconds)
        return self.round_trip_seconds / 2 + MAX_DRIFT * age


def exchange_of(ack: Ack, *, sent: float, received: float) -> Exchange | None:
    """Return what `ack` tells; `sent` and `received` by CLOCK_BOOTTIME. None when its moments make no sense."""
    round_trip = (received - sent) - (ack.t2 - ack.t1)
    if ack.t2 < ack.t1 or not 0 <= round_trip <= MAX_ROUND_TRIP_SECONDS:
        return None
    epoch = ((ack.t1 - sent) + (ack.t2 - received)) / 2
    return Exchange(at_boottime_seconds=received, epoch_unix_seconds=epoch, round_trip_seconds=round_trip)


def _agree(old: Exchange, new: Exchange) -> bool:
    """Tell whether one truth lies within the bounds of both."""
    now = new.at_boottime_seconds
    apart = abs(old.epoch_unix_seconds - new.epoch_unix_seconds)
    return apart <= old.error_seconds(now) + new.error_seconds(now) + _ROUNDING_SECONDS


class ClockOffset:
    """Remembers the last exchanges, and says what they come to."""

    def __init__(self) -> None:
        self._exchanges: deque[Exchange] = deque(maxlen=EXCHANGES)

    def take(self, ack: Ack, *, sent: float, received: float) -> None:
        """Learn from an acknowledgement that was asked for and came at these moments of CLOCK_BOOTTIME."""
        new = exchange_of(ack, sent=sent, received=received)
        if new is None:
            return
        if any(not _agree(old, new) for old in self._exchanges):
            self._exchanges.clear()  # the collector's clock was set, or another collector answered: begin anew
        self._exchanges.append(new)

    def reading(self, *, wall: datetime, boottime_seconds: float) -> ClockReading | None:
        """Return the offset of `wall`, read together with CLOCK_BOOTTIME; None before the first exchange."""
        if not self._exchanges:
            return None
        best = min(self._exchanges, key=lambda exchange: exchange.error_seconds(boottime_seconds))
        return ClockReading(
            offset_seconds=round(wall.timestamp() - boottime_seconds - best.epoch_unix_seconds, 6),
            error_seconds=round(best.error_seconds(boottime_seconds), 6),
            round_trip_seconds=round(best.round_trip_seconds, 6),
            samples=len(self._exchanges),
        )
