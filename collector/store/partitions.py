"""Daily partitions of `result`: made ahead by a job, and by the first result of a day that has none."""

from collections.abc import Iterable
from datetime import date, timedelta
from typing import Final

import sqlalchemy.exc
from sqlalchemy import Connection, text
from sqlalchemy.ext.asyncio import AsyncEngine

from collector.errors import DatabaseUnavailable
from collector.store.engine import run, sqlstate_of

DAYS_AHEAD: Final = 3

_CREATE: Final = text("SELECT create_result_partition(:day)")
_UNFIT: Final = ("23514", "42804", "42809", "42P16", "42P17")
"""SQLSTATEs of a table that cannot be attached: rows of other days, other columns, no table, overlapping."""
# The bounds stand in the partition's definition: one that somebody named otherwise, or made for all the rest, is none
# of ours to read a date from.
_EXISTING: Final = text(
    "SELECT (bounds[1]::timestamptz AT TIME ZONE 'UTC')::date AS day FROM (SELECT regexp_match("
    "pg_get_expr(c.relpartbound, c.oid), 'FROM \\(''([^'']+)''\\)') AS bounds"
    " FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid WHERE i.inhparent = 'result'::regclass) parts"
    " WHERE bounds IS NOT NULL ORDER BY day"
)


class Partitions:
    """The days that have a partition, as far as this process knows."""

    def __init__(self) -> None:
        self._days: set[date] = set()

    async def ensure(self, engine: AsyncEngine, days: Iterable[date]) -> None:
        """Create what is missing of `days`, each in a transaction of its own; raise DatabaseUnavailable."""
        missing = sorted(set(days) - self._days)
        for day in missing:
            await run(engine, create_partition, day)
            self._days.add(day)

    async def ensure_ahead(self, engine: AsyncEngine, today: date) -> None:
        """Create yesterday's partition, today's and those of the coming days; raise DatabaseUnavailable."""
        await self.ensure(engine, (today + timedelta(days=n) for n in range(-1, DAYS_AHEAD + 1)))

    def forget(self) -> None:
        """Know nothing: somebody dropped a partition."""
        self._days.clear()


def create_partition(connection: Connection, day: date) -> None:
    """Create the partition of a UTC day unless it exists; a table of its name that was detached is attached again.

    Raise DatabaseUnavailable when such a table does not fit.
    """
    try:
        connection.execute(_CREATE, {"day": day})
    except sqlalchemy.exc.DBAPIError as exc:
        if sqlstate_of(exc.orig) not in _UNFIT:
            raise
        name = f"result_{day:%Y%m%d}"
        raise DatabaseUnavailable(
            f"{name} cannot become the partition of {day}: {str(exc.orig).splitlines()[0]}: rename that table",
            plain=f"the table {name} is in the way of the partition of {day}: rename it",
        ) from exc


def existing_days(connection: Connection) -> list[date]:
    """Return the days that have a partition, in order; of one that holds several, the first."""
    return list(connection.execute(_EXISTING).scalars())
