"""Engines with bounded waits, and the translation of the database's faults.

Between us and Postgres there may be a pooler that gives each transaction another session (PgBouncer's `transaction`
mode). Then nothing of ours may live longer than a transaction: no setting, no prepared statement, no session lock.
A pooler gives itself away: the process number told at the login is not that of the process that answers.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Concatenate, Final, ParamSpec, TypeVar

import psycopg
import psycopg.conninfo
import sqlalchemy.exc
import sqlalchemy.pool
from sqlalchemy import Connection as Connection  # noqa: PLC0414  the type for those who may not know sqlalchemy
from sqlalchemy import Engine, create_engine, event, make_url, pool, text
from sqlalchemy.engine import URL
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine
from sqlalchemy.ext.asyncio import AsyncEngine as AsyncEngine  # noqa: PLC0414  as above

from collector.errors import Conflict, DatabaseUnavailable, DatabaseUnfit, Locked, SettingsError, StatementTooSlow

P = ParamSpec("P")
T = TypeVar("T")

POOL_SIZE: Final = 8
POOL_OVERFLOW: Final = 8
POOL_TIMEOUT_SECONDS: Final = 5.0
CONNECT_TIMEOUT_SECONDS: Final = 5
ANSWER_SECONDS = 15.0
"""Whole transaction; longer than each of the server's own timeouts below."""
SESSION_SETTINGS = {
    "statement_timeout": "10000",
    "lock_timeout": "5000",
    "idle_in_transaction_session_timeout": "15000",
    "synchronous_commit": "on",
    "timezone": "UTC",
    "datestyle": "ISO",
}
"""Milliseconds. Set once for a session of our own, and in every transaction where a pooler lends them."""

_AT_FAULT: Final = ("08", "53", "57", "58", "40001", "40P01", "25006", "25P03", "55P03", "3D", "28", "XX")
"""SQLSTATEs that blame the server, not the data: connection, resources, shutdown, disk, conflict, read-only, waits."""
_SCHEMA_MISSING: Final = ("42P01", "42703", "42883", "3F000")
"""Table, column, function or schema does not exist: the migration has not run yet."""
SCHEMA_MISSING: Final = "the database has not this release's schema: run isochrone-collector migrate"
_CONFLICTS: Final = ("40001", "40P01")
_DENIED: Final = "42501"
_PLAIN: Final = {
    "53100": "the disk of the database is full: give it room, or shorten the retention",
    "53200": "the database is out of memory",
    "53300": "the database has no connection left",
    "25006": "the database is read-only",
}
"""What may be told to everybody, by SQLSTATE."""
_KINDS: Final = {"55P03": Locked}
_CANCELED: Final = "57014"
"""Most often by `statement_timeout`."""
_DATABASE_BYTES: Final = text("SELECT pg_database_size(current_database())")
_SERVER_ENCODING: Final = text("SELECT current_setting('server_encoding')")
_POOLED: Final = "isochrone_pooled"
"""In a connection's `info`: a pooler stands between."""


def parse_url(database_url: str, *, name: str = "ISOCHRONE_DATABASE_URL") -> URL:
    """Return the URL with this program's driver; raise SettingsError that names the setting and not the value."""
    try:
        url = make_url(database_url).set(drivername="postgresql+psycopg")
    except (sqlalchemy.exc.ArgumentError, ValueError) as exc:
        raise SettingsError(f"{name} cannot be read: write postgresql://user@host:5432/name") from exc
    try:
        psycopg.conninfo.make_conninfo(**dict.fromkeys(url.query, ""))
    except psycopg.ProgrammingError as exc:
        raise SettingsError(f"{name}: {_one_line(exc)}: leave it out behind the ?") from exc
    return url.update_query_dict({"client_encoding": "utf8"})


def open_engine(database_url: str, *, name: str = "ISOCHRONE_DATABASE_URL") -> AsyncEngine:
    """Return the pool that the server works with; `name` is that of the setting. Nothing connects yet."""
    engine = create_async_engine(
        parse_url(database_url, name=name),
        pool_size=POOL_SIZE,
        max_overflow=POOL_OVERFLOW,
        pool_timeout=POOL_TIMEOUT_SECONDS,
        pool_pre_ping=True,
        connect_args=_connect_args(),
    )
    _keep_settings(engine.sync_engine)
    return engine


@contextmanager
def admin_engine(database_url: str) -> Iterator[Engine]:
    """Give an engine without a pool, for commands."""
    engine = create_engine(parse_url(database_url), poolclass=pool.NullPool, connect_args=_connect_args())
    _keep_settings(engine)
    try:
        yield engine
    finally:
        engine.dispose()


@contextmanager
def admin_transaction(database_url: str) -> Iterator[Connection]:
    """Give a connection whose work is committed at the end; raise DatabaseUnavailable."""
    with translated(), admin_engine(database_url) as engine, engine.begin() as connection:
        yield connection


@contextmanager
def admin_connection(database_url: str) -> Iterator[Connection]:
    """Give a connection for transactions one after the other; raise DatabaseUnavailable."""
    with translated(), admin_engine(database_url) as engine, engine.connect() as connection:
        yield connection


async def run(
    engine: AsyncEngine, statement: Callable[Concatenate[Connection, P], T], /, *args: P.args, **kwargs: P.kwargs
) -> T:
    """Run one of the store's functions in a transaction of its own; raise DatabaseUnavailable."""
    async with transaction(engine) as connection:
        return await connection.run_sync(statement, *args, **kwargs)


@asynccontextmanager
async def transaction(engine: AsyncEngine, *, answer_seconds: float | None = None) -> AsyncIterator[AsyncConnection]:
    """Give a connection whose work is committed at the end; raise DatabaseUnavailable.

    A server that is frozen keeps none of its own timeouts: after `answer_seconds` (None: `ANSWER_SECONDS`) the wait
    ends here.
    """
    bound = ANSWER_SECONDS if answer_seconds is None else answer_seconds
    try:
        with translated():
            async with asyncio.timeout(bound), engine.begin() as connection:
                yield connection
    except TimeoutError as exc:
        raise DatabaseUnavailable(f"the database did not answer within {bound:g} s") from exc


@contextmanager
def translated() -> Iterator[None]:
    """Turn every fault that is the database's into DatabaseUnavailable, told in one line without the statement."""
    try:
        yield
    except sqlalchemy.exc.TimeoutError as exc:
        raise DatabaseUnavailable("all connections to the database are busy") from exc
    except sqlalchemy.exc.DBAPIError as exc:
        _raise_if_at_fault(exc.orig, exc)
        raise
    except psycopg.Error as exc:
        _raise_if_at_fault(exc, exc)
        raise


def check_encoding(connection: Connection) -> None:
    """Raise DatabaseUnfit unless the database holds every character that a result may have."""
    encoding = connection.execute(_SERVER_ENCODING).scalar_one()
    if encoding != "UTF8":
        raise DatabaseUnfit(f"the database is encoded in {encoding}: use one created WITH ENCODING 'UTF8'")


def database_bytes(connection: Connection) -> int:
    """Return the size of the database on disk, its write-ahead log apart."""
    return int(connection.execute(_DATABASE_BYTES).scalar_one())


def sqlstate_of(exc: BaseException | None) -> str | None:
    """Return the five letters of Postgres, None when the connection broke before any were said."""
    return exc.sqlstate if isinstance(exc, psycopg.Error) else None


def _raise_if_at_fault(cause: BaseException | None, exc: Exception) -> None:
    state = sqlstate_of(cause)
    if state == _CANCELED:
        raise StatementTooSlow(f"the database took too long over a statement: {_one_line(cause)}") from exc
    if state in _CONFLICTS:
        raise Conflict(f"the database chose another transaction: {_one_line(cause)}") from exc
    if state == _DENIED:
        raise DatabaseUnavailable(
            f"the database refuses its user: {_one_line(cause)}: grant it the right",
            plain="the database refuses its user a right",
        ) from exc
    lost = state is None and isinstance(cause, (psycopg.OperationalError, psycopg.InterfaceError))
    if lost or (state is not None and state.startswith(_AT_FAULT)):
        plain = None if state is None else _PLAIN.get(state)
        hint = ": check that Postgres runs, and that the URL is right" if lost else ""
        kind = _KINDS.get(state or "", DatabaseUnavailable)
        raise kind(f"the database does not serve: {_one_line(cause)}{hint}", plain=plain) from exc
    if state in _SCHEMA_MISSING:
        raise DatabaseUnavailable(SCHEMA_MISSING, plain=SCHEMA_MISSING) from exc


def _one_line(cause: BaseException | None) -> str:
    lines = str(cause).splitlines()
    return lines[0] if lines else type(cause).__name__


def _connect_args() -> dict[str, object]:
    # Settings do not go with the login: PgBouncer refuses those that it cannot keep apart, or drops them unsaid.
    return {"connect_timeout": CONNECT_TIMEOUT_SECONDS, "application_name": "isochrone-collector"}


def _keep_settings(engine: Engine) -> None:
    """Let every transaction of the engine run under `SESSION_SETTINGS`."""
    event.listen(engine, "connect", _set_up)
    event.listen(engine, "begin", _begin)


def _set_up(connection: DBAPIConnection, record: sqlalchemy.pool.ConnectionPoolEntry) -> None:
    driver = getattr(connection, "driver_connection", connection)  # asyncio's stands within SQLAlchemy's adapter
    cursor = connection.cursor()
    cursor.execute("SELECT pg_backend_pid()")
    (answering,) = cursor.fetchone() or (None,)
    pooled = answering != driver.info.backend_pid
    if pooled:
        driver.prepare_threshold = None
    else:
        cursor.execute(_settings(local=False))
    cursor.close()
    connection.commit()
    record.info[_POOLED] = pooled


def _begin(connection: Connection) -> None:
    if connection.info.get(_POOLED):
        connection.exec_driver_sql(_settings(local=True))


def _settings(*, local: bool) -> str:
    """Return the statement that sets them all, for the transaction or for the session."""
    calls = (f"set_config('{name}', '{value}', {str(local).lower()})" for name, value in SESSION_SETTINGS.items())
    return f"SELECT {', '.join(calls)}"
