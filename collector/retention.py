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
from collector.store import clock, retention
from collector.store.engine import AsyncEngine, Connection
from collector.store.locks import run_alone

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
    """Drop everything that is older than it is kept.

    Raise ClockWrong when the clock may have jumped, DoneElsewhere when another collector is at it, DatabaseUnavailable.
    """
    mark = await run_alone(engine, JOB, _look, now)
    clockcheck.check_mark(mark)
    await drop_partitions(engine, "result", before=now - keep.results)
    await _delete_batches(engine, before=now - keep.batches)


def _look(connection: Connection, now: datetime) -> Mark:
    mark = clockcheck.look(clock.read_mark(connection, JOB), now)
    clock.put_mark(connection, JOB, mark)
    return mark


async def drop_partitions(engine: AsyncEngine, parent: str, *, before: datetime) -> None:
    """Drop the partitions of a table whose rows are all older than `before`; raise DatabaseUnavailable."""
    for name in await run_alone(engine, JOB, retention.expired_partitions, parent, before=before):
        await _drop(engine, parent, name)
        _log.info("retention: dropped %s, all of it from before %s", name, before.date())


async def _drop(engine: AsyncEngine, parent: str, name: str) -> None:
    for attempt in range(1, ATTEMPTS + 1):
        try:
            await run_alone(engine, JOB, retention.drop_partition, parent, name=name)
        except DatabaseUnavailable:
            if attempt == ATTEMPTS:
                raise
            await asyncio.sleep(PAUSE_SECONDS)
        else:
            return


async def _delete_batches(engine: AsyncEngine, *, before: datetime) -> None:
    for _ in range(MAX_ROUNDS):
        if not await run_alone(engine, JOB, retention.delete_batches, before=before, span=LEDGER_SPAN):
            return
