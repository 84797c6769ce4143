"""Statements that drop what is older than it is kept: whole partitions, and rows of the ledger some hours at a time."""

from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import Connection, text

# The upper bound stands in the partition's definition: no name has to be read as a date.
_EXPIRED: Final = text(
    "SELECT name FROM (SELECT c.oid::regclass::text AS name,"
    " (regexp_match(pg_get_expr(c.relpartbound, c.oid), 'TO \\(''([^'']+)''\\)'))[1]::timestamptz AS until"
    " FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid"
    " WHERE i.inhparent = to_regclass(:parent)) parts WHERE until <= :before ORDER BY until"
)
_SHORT_WAIT: Final = text("SET LOCAL lock_timeout = '200ms'")
"""Everyone who writes or reads the table waits behind this lock: it gives up soon and is tried again."""
_OLDEST_BATCH: Final = text("SELECT min(received_at) FROM batch WHERE received_at < :before")
# By time alone: the BRIN index finds the pages, and it distributes. Measured: 0.4 µs a row, by its key 20 µs.
_DELETE_BATCHES: Final = text("DELETE FROM batch WHERE received_at < :before")


def expired_partitions(connection: Connection, parent: str, *, before: datetime) -> list[str]:
    """Return the partitions of a table whose rows are all older than `before`, oldest first."""
    return list(connection.execute(_EXPIRED, {"parent": parent, "before": before}).scalars())


def drop_partition(connection: Connection, parent: str, *, name: str) -> None:
    """Drop a partition with its rows, in one step; raise DatabaseUnavailable when others use the table.

    The table is locked for the moment that its catalogue takes: the files go after the commit.
    """
    connection.execute(_SHORT_WAIT)
    connection.exec_driver_sql(f"ALTER TABLE {parent} DETACH PARTITION {name}")
    connection.exec_driver_sql(f"DROP TABLE {name}")


def delete_batches(connection: Connection, *, before: datetime, span: timedelta) -> bool:
    """Delete the oldest rows of the ledger received before a moment, those of `span`; return whether any are left."""
    oldest: datetime | None = connection.execute(_OLDEST_BATCH, {"before": before}).scalar_one()
    if oldest is None:
        return False
    until = min(before, oldest + span)
    connection.execute(_DELETE_BATCHES, {"before": until})
    return until < before
