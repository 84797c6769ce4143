"""How full the database may be: a warning at 80 % of its bound, no more batches from 90 % on.

Postgres on a full disk does not degrade, it stops and cannot recover.
"""

import logging
from typing import Final

WARN_RATIO: Final = 0.8
STOP_RATIO: Final = 0.9
_ADVICE: Final = "shorten the retention, give it more room, or raise ISOCHRONE_MAX_DB_BYTES"

_log = logging.getLogger(__name__)


class Room:
    """Judges each measurement by the bound; the log hears of changes alone."""

    def __init__(self, bound: int) -> None:
        self._bound = bound
        self._level = 0.0

    def judge(self, size: int) -> bool:
        """Return whether batches must stop."""
        ratio = size / self._bound
        before, self._level = self._level, next((level for level in (STOP_RATIO, WARN_RATIO) if ratio >= level), 0.0)
        if self._level != before:
            self._tell(size, was_full=before == STOP_RATIO)
        return self._level == STOP_RATIO

    def _tell(self, size: int, *, was_full: bool) -> None:
        if self._level == STOP_RATIO:
            _log.error("the database holds %d of %d bytes, no batch is taken: %s", size, self._bound, _ADVICE)
            return
        if was_full:
            _log.warning("the database has room again: batches are taken")
        if self._level == WARN_RATIO:
            _log.warning("the database holds %d of %d bytes: %s", size, self._bound, _ADVICE)
