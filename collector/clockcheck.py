"""Whether a clock can be right. By a wrong one nothing is dated, made ahead or dropped. Pure.

Two questions are asked. Of every moment: is it after this software was written, and is it near the database's? And
before anything is dropped: did the clock come here by running, or by a jump? A jump of years may be a clock gone wrong,
or a machine that was off for years: no one can tell at once, so the clock has to run for days before it is believed.
"""

from datetime import UTC, datetime, timedelta
from typing import Final

import msgspec

from collector.errors import ClockWrong

NOT_BEFORE: Final = datetime(2026, 1, 1, tzinfo=UTC)
"""This software is younger. A machine without a battery starts in 1970 or 2000."""
MAX_APART: Final = timedelta(hours=1)
"""Between the collector's clock and the database's."""
MAX_GAP: Final = timedelta(days=2)
"""A step forward that is believed at once: it costs no more than this much of the oldest days."""
BACK: Final = timedelta(hours=1)
"""A step backward that is believed at once."""
LOOK: Final = timedelta(days=1)
"""What one look adds to the time that a doubted clock has run, at most."""
PROBATION: Final = timedelta(days=3)
"""After this much running a doubted clock is believed."""


class Mark(msgspec.Struct, frozen=True, kw_only=True):
    """What is remembered of the clock from one look to the next."""

    believed_at: datetime
    """The last moment that was believed."""
    looked_at: datetime
    doubted_seconds: float = 0.0
    """How long the clock has run in doubt; 0: it is believed."""


def check_year(now: datetime) -> None:
    """Raise ClockWrong when the clock is before this software."""
    if now < NOT_BEFORE:
        raise ClockWrong(f"the clock of the collector's machine says {_words(now)}: set it, then everything goes on")


def check_clock(now: datetime, *, database_now: datetime) -> None:
    """Raise ClockWrong when the clock cannot be right."""
    check_year(now)
    if abs(now - database_now) > MAX_APART:
        raise ClockWrong(
            f"the clock of the collector's machine says {_words(now)}, the database's {_words(database_now)}:"
            " set the wrong one, then everything goes on"
        )


def look(mark: Mark | None, now: datetime) -> Mark:
    """Return what is to be remembered; its `doubted_seconds` says whether the clock is believed. None: no look yet."""
    if mark is None or -BACK <= now - mark.believed_at <= MAX_GAP:
        return Mark(believed_at=now, looked_at=now)
    doubted = _doubted(mark, now)
    if doubted >= PROBATION:
        return Mark(believed_at=now, looked_at=now)
    # Never 0: that would be belief.
    return Mark(believed_at=mark.believed_at, looked_at=now, doubted_seconds=max(1.0, doubted.total_seconds()))


def _doubted(mark: Mark, now: datetime) -> timedelta:
    ran = now - mark.looked_at
    if mark.doubted_seconds == 0 or ran < -BACK:  # this is the jump
        return timedelta(0)
    return timedelta(seconds=mark.doubted_seconds) + min(ran, LOOK)


def check_mark(mark: Mark) -> None:
    """Raise ClockWrong while the clock is doubted."""
    if mark.doubted_seconds > 0:
        left = PROBATION - timedelta(seconds=mark.doubted_seconds)
        raise ClockWrong(
            f"the clock went from {_words(mark.believed_at)} to {_words(mark.looked_at)}: nothing is dropped until it"
            f" has run for {left / timedelta(hours=1):.0f} h more; if it is wrong, set it"
            " (docs/how-to/keep-disk-bounded.md)"
        )


def _words(moment: datetime) -> str:
    return moment.isoformat(timespec="seconds")
