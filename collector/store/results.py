"""Storing a batch in one transaction: ledger row, results by binary COPY, their minutes on the dirty list."""

from collections.abc import Sequence
from datetime import datetime
from typing import Final
from uuid import UUID

import msgspec
import psycopg
from sqlalchemy import BigInteger, Boolean, DateTime, Double, Integer, SmallInteger, Text, Uuid
from sqlalchemy.dialects.postgresql import REAL
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from collector.errors import CollectorError, DatabaseUnavailable
from collector.schema import RESULT_COLUMNS, result
from collector.store.dirty import mark_dirty, minutes_of
from collector.store.engine import transaction
from collector.store.reports import Word, note_word

Row = tuple[object, ...]
"""One result in the order of `schema.RESULT_COLUMNS`; times and UUIDs in the forms that `_COPY_TYPES` wants."""

# A conflict waits for the other transaction, so that a repeat is never answered before the first is committed.
_INSERT_BATCH: Final = (
    "INSERT INTO batch (agent_id, batch_id, boot_id, received_at, accepted, late, rejected)"
    " VALUES (%s, %s, %s, %s, %s, %s, %s::jsonb) ON CONFLICT DO NOTHING"
)
_FIND_BATCH: Final = "SELECT accepted, rejected::text FROM batch WHERE agent_id = %s AND batch_id = %s"
_COPY: Final = f"COPY result ({', '.join(RESULT_COLUMNS)}) FROM STDIN (FORMAT BINARY)"
# On the wire a timestamptz is int8 microseconds since 2000 and a uuid 16 bytes: sent as such, neither is converted.
_WIRE_TYPES: Final = {
    DateTime: "int8",
    Uuid: "bytea",
    Double: "float8",
    REAL: "float4",
    BigInteger: "int8",
    Integer: "int4",
    SmallInteger: "int2",
    Text: "text",
    Boolean: "bool",
}
COPY_TYPES: Final = [_WIRE_TYPES[type(column.type)] for column in result.columns]


class LedgerRow(msgspec.Struct, frozen=True, kw_only=True):
    """What the ledger keeps of a batch."""

    agent_id: int
    batch_id: UUID
    boot_id: UUID
    received_at: datetime
    accepted: int
    late: int
    rejected: str | None
    """JSON of what is refused; None for nothing."""


class Repeated(msgspec.Struct, frozen=True, kw_only=True):
    """The batch was stored before: what the first answer said."""

    accepted: int
    rejected: str | None


async def store_batch(engine: AsyncEngine, ledger: LedgerRow, rows: Sequence[Row], *, word: Word) -> Repeated | None:
    """Commit a batch and its agent's word; return what the ledger says when it is a repeat, None when it is new.

    Raise DatabaseUnavailable, MissingPartition when a day has no partition, and UnstorableRow when the database refuses
    a row for what is in it. Then nothing is stored.
    """
    async with transaction(engine) as connection:
        driver = await _driver(connection)
        async with driver.cursor() as cursor:
            if not await _insert(cursor, ledger):
                await note_word(cursor, word.of_repeat())
                return await _find(cursor, ledger)
            if rows:
                await copy_rows(cursor, rows)
                await mark_dirty(cursor, minutes_of(rows))
            await note_word(cursor, word)
    return None


async def unstorable_rows(engine: AsyncEngine, rows: Sequence[Row]) -> list[int]:
    """Return the places of the rows that the database refuses, found by halving. Stores nothing.

    Raise DatabaseUnavailable.
    """
    async with transaction(engine) as connection:
        return await _unstorable(await _driver(connection), rows, first=0)


async def copy_rows(cursor: psycopg.AsyncCursor, rows: Sequence[Row]) -> None:
    """Send rows by binary COPY; raise MissingPartition or UnstorableRow."""
    try:
        async with cursor.copy(_COPY) as copy:
            copy.set_types(COPY_TYPES)
            for row in rows:
                await copy.write_row(row)
    except psycopg.errors.CheckViolation as exc:
        if exc.diag.constraint_name is not None:
            raise UnstorableRow(str(exc).splitlines()[0]) from exc
        raise MissingPartition("a day of these results has no partition") from exc
    except (psycopg.DataError, psycopg.IntegrityError) as exc:
        raise UnstorableRow(str(exc).splitlines()[0]) from exc


class MissingPartition(DatabaseUnavailable):
    """A day of these rows has no partition: somebody dropped it since this process saw it."""

    plain = "a day of these results has no partition"


class UnstorableRow(CollectorError):
    """The database refuses one of these rows for what is in it (SQLSTATE classes 22 and 23), and not the others."""


async def _driver(connection: AsyncConnection) -> psycopg.AsyncConnection:
    raw = await connection.get_raw_connection()
    driver = raw.driver_connection
    if not isinstance(driver, psycopg.AsyncConnection):  # pragma: no cover
        raise TypeError("the engine must use psycopg")
    return driver


async def _insert(cursor: psycopg.AsyncCursor, ledger: LedgerRow) -> bool:
    """Return whether the batch is new."""
    try:
        await cursor.execute(_INSERT_BATCH, msgspec.structs.astuple(ledger))
    except (psycopg.DataError, psycopg.IntegrityError) as exc:
        raise DatabaseUnavailable(f"the database refuses the ledger's row: {str(exc).splitlines()[0]}") from exc
    return cursor.rowcount > 0


async def _unstorable(driver: psycopg.AsyncConnection, rows: Sequence[Row], *, first: int) -> list[int]:
    try:
        async with driver.transaction(force_rollback=True), driver.cursor() as cursor:
            await copy_rows(cursor, rows)
    except UnstorableRow:
        if len(rows) == 1:
            return [first]
        half = len(rows) // 2
        left = await _unstorable(driver, rows[:half], first=first)
        return [*left, *await _unstorable(driver, rows[half:], first=first + half)]
    return []


async def _find(cursor: psycopg.AsyncCursor, ledger: LedgerRow) -> Repeated:
    await cursor.execute(_FIND_BATCH, (ledger.agent_id, ledger.batch_id))
    found = await cursor.fetchone()
    accepted, rejected = found if found is not None else (0, None)
    return Repeated(accepted=accepted, rejected=rejected)
