"""How full the database may be: a warning at 80 % of its bound, no more batches from 90 % on.

Postgres on a full disk does not degrade, it stops and cannot recover.
"""

import logging
from typing import Final

WARN_RATIO: Final = 0.8
STOP_RATIO: Final = 0.9
_ADVICE: Final = "shorten the retention, give it more room, or raise ISOCHRONE_MAX_DB_BYTES"

_log = logging.getLogger(__name__)


def judge(size: int, *, bound: int, was_full: bool) -> bool:
    """Return whether batches must stop, and say so in the log when it is a change or a warning."""
    ratio = size / bound
    if ratio >= STOP_RATIO:
        _log.error("the database holds %d of %d bytes, no batch is taken: %s", size, bound, _ADVICE)
        return True
    if was_full:
        _log.warning("the database has room again: batches are taken")
    if ratio >= WARN_RATIO:
        _log.warning("the database holds %d of %d bytes: %s", size, bound, _ADVICE)
    return False
