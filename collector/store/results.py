"""Storing batches in one transaction: their rows in the ledger, results by binary COPY, minutes on the dirty list.

Behind PgBouncer in transaction mode too: nothing here outlives its transaction.
"""

from collections.abc import Sequence
from datetime import datetime
from functools import cache
from typing import Final
from uuid import UUID

import msgspec
import psycopg
from sqlalchemy import BigInteger, Boolean, DateTime, Double, Integer, SmallInteger, Text, Uuid
from sqlalchemy.dialects.postgresql import INET, REAL
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from collector.errors import CollectorError, DatabaseUnavailable
from collector.schema import RESULT_COLUMNS, result
from collector.store.dirty import mark_dirty, minutes_of
from collector.store.engine import transaction
from collector.store.reports import Word, note_words

Row = tuple[object, ...]
"""One result in the order of `schema.RESULT_COLUMNS`; times and UUIDs in the forms that `_COPY_TYPES` wants."""

_BATCH: Final = "(%s, %s, %s, %s, %s, %s, %s::jsonb)"
_FIND_BATCH: Final = "SELECT accepted, rejected::text FROM batch WHERE agent_id = %s AND batch_id = %s"
_COPY: Final = f"COPY result ({', '.join(RESULT_COLUMNS)}) FROM STDIN (FORMAT BINARY)"
# On the wire a timestamptz is int8 microseconds since 2000, a uuid 16 bytes, an inet 8: sent as such, not converted.
_WIRE_TYPES: Final = {
    DateTime: "int8",
    Uuid: "bytea",
    INET: "bytea",
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


class Parcel(msgspec.Struct, frozen=True, kw_only=True):
    """A batch made ready for the database."""

    ledger: LedgerRow
    rows: Sequence[Row]
    word: Word
    """What its agent says of itself."""


async def store_batches(engine: AsyncEngine, parcels: Sequence[Parcel]) -> list[Repeated | None]:
    """Commit batches together; return for each what the ledger says when it is a repeat, None when it is new.

    Each stands among them once. Raise DatabaseUnavailable, MissingPartition when a day has no partition, and
    UnstorableRow when the database refuses a row for what is in it. Then nothing is stored of any.
    """
    async with transaction(engine) as connection:
        driver = await _driver(connection)
        async with driver.cursor() as cursor:
            new = await _insert(cursor, [parcel.ledger for parcel in parcels])
            found = [None if _key(parcel.ledger) in new else await _find(cursor, parcel.ledger) for parcel in parcels]
            fresh = [parcel for parcel, repeated in zip(parcels, found, strict=True) if repeated is None]
            rows = [row for parcel in fresh for row in parcel.rows]
            if rows:
                await copy_rows(cursor, rows)
            words = zip((parcel.word for parcel in parcels), found, strict=True)
            said = [word if repeated is None else word.of_repeat() for word, repeated in words]
            try:
                async with driver.pipeline():  # one way to the database and back for what nobody waits for
                    if rows:
                        await mark_dirty(cursor, minutes_of(rows))
                    await note_words(cursor, said)
            except (psycopg.DataError, psycopg.IntegrityError) as exc:  # no result is at fault
                raise DatabaseUnavailable(f"the database refuses an agent's books: {exc.diag.message_primary}") from exc
    return found


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


def _key(ledger: LedgerRow) -> tuple[int, UUID]:
    return ledger.agent_id, ledger.batch_id


async def _insert(cursor: psycopg.AsyncCursor, ledgers: Sequence[LedgerRow]) -> set[tuple[int, UUID]]:
    """Return the keys of those that are new."""
    ordered = sorted(ledgers, key=_key)  # one order for all: nobody waits in a circle
    values = [value for ledger in ordered for value in msgspec.structs.astuple(ledger)]
    try:
        await cursor.execute(_insert_batches(len(ordered)), values)
        return set(await cursor.fetchall())
    except (psycopg.DataError, psycopg.IntegrityError) as exc:
        raise DatabaseUnavailable(f"the database refuses the ledger's row: {str(exc).splitlines()[0]}") from exc


@cache  # as many as batches may be under way at once
def _insert_batches(count: int) -> bytes:
    # A conflict waits for the other transaction, so that a repeat is never answered before the first is committed.
    return (
        "INSERT INTO batch (agent_id, batch_id, boot_id, received_at, accepted, late, rejected)"  # noqa: S608  literals
        f" VALUES {', '.join([_BATCH] * count)} ON CONFLICT DO NOTHING RETURNING agent_id, batch_id"
    ).encode()


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
