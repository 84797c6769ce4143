"""Dropping what is older than it is kept. The clock is believed first, and nothing goes that is not settled.

Every step is a transaction of its own under the job's lock: a collector that is killed leaves whole steps, and readers
and writers wait for none of them longer than a moment.
"""

import asyncio
import logging
from datetime import datetime, timedelta
from typing import Final

from collector import clockcheck
from collector.clockcheck import Mark
from collector.config import Keep
from collector.errors import DatabaseUnavailable
from collector.store import clock
from collector.store.engine import AsyncEngine, Connection
from collector.store.fleet import fold_runs
from collector.store.locks import run_alone
from collector.store.retention import Level, Part, delete_batches, drop_part, expired_parts

JOB: Final = "retention"
ATTEMPTS: Final = 20
"""To get hold of a table that others use, `PAUSE_SECONDS` apart."""
PAUSE_SECONDS: Final = 0.5
LEDGER_SPAN: Final = timedelta(hours=6)
"""Of the ledger, what one transaction deletes."""
MAX_ROUNDS: Final = 500
"""Of such deletions in one run; what is left waits for the next."""

_log = logging.getLogger(__name__)


async def enforce(engine: AsyncEngine, keep: Keep, now: datetime) -> None:
    """Drop everything that is older than it is kept, and add up the books of runs that are long over.

    Raise ClockWrong when the clock may have jumped, Unsettled when something is not rolled up yet, DoneElsewhere when
    another collector is at it, and DatabaseUnavailable.
    """
    mark = await run_alone(engine, JOB, _look, now)
    clockcheck.check_mark(mark)
    await run_alone(engine, JOB, fold_runs, before=now - keep.runs)
    await _delete_batches(engine, before=now - keep.batches)
    for level, span in ((Level.HOURS, keep.hours), (Level.MINUTES, keep.minutes), (Level.RESULTS, keep.results)):
        await _drop_parts(engine, level, before=now - span)


def _look(connection: Connection, now: datetime) -> Mark:
    mark = clockcheck.look(clock.read_mark(connection, JOB), now)
    clock.put_mark(connection, JOB, mark)
    return mark


async def _drop_parts(engine: AsyncEngine, level: Level, *, before: datetime) -> None:
    for part in await run_alone(engine, JOB, expired_parts, level, before=before):
        await _drop(engine, level, part)
        _log.info("retention: dropped %s, older than it is kept", part.name)


async def _drop(engine: AsyncEngine, level: Level, part: Part) -> None:
    for attempt in range(1, ATTEMPTS + 1):
        try:
            await run_alone(engine, JOB, drop_part, level, part)
        except DatabaseUnavailable:
            if attempt == ATTEMPTS:
                raise
            await asyncio.sleep(PAUSE_SECONDS)
        else:
            return


async def _delete_batches(engine: AsyncEngine, *, before: datetime) -> None:
    for _ in range(MAX_ROUNDS):
        if not await run_alone(engine, JOB, delete_batches, before=before, span=LEDGER_SPAN):
            return
