"""Runs migrations: alone (advisory lock), with short waits for other people's locks, one transaction each.

`collector.store.migration` calls it and hands over the URL. Behind a pooler each transaction may get another session:
the lock is held by a transaction of its own beside them, and the limits are set in each.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from alembic import context
from sqlalchemy import Connection, Engine, create_engine, event, pool

from collector.schema import metadata

MIGRATION_LOCK: Final = 0x150C_4017
"""Key of the advisory lock."""
ALONE: Final = (
    "SET LOCAL lock_timeout = '120s'",  # for the other migration to end
    "SET LOCAL statement_timeout = 0",
    "SET LOCAL idle_in_transaction_session_timeout = 0",  # it waits while we work
    f"SELECT pg_advisory_xact_lock({MIGRATION_LOCK})",
)
LIMITS: Final = ("SET LOCAL lock_timeout = '5s'", "SET LOCAL statement_timeout = '600s'")
"""A migration that waits for a lock holds up everyone who comes after it: give up soon, try again later."""


@contextmanager
def _alone(engine: Engine) -> Iterator[None]:
    """Hold the lock; it ends with its connection, whatever happens."""
    with engine.connect() as connection, connection.begin():
        for statement in ALONE:
            connection.exec_driver_sql(statement)
        yield


def _limit(connection: Connection) -> None:
    for statement in LIMITS:
        connection.exec_driver_sql(statement)


def _engine() -> Engine:
    return create_engine(
        context.config.attributes["url"], poolclass=pool.NullPool, connect_args={"prepare_threshold": None}
    )


def _main() -> None:
    with _alone(_engine()), _engine().connect() as connection:
        event.listen(connection, "begin", _limit)
        context.configure(connection=connection, target_metadata=metadata, transaction_per_migration=True)
        with context.begin_transaction():
            context.run_migrations()


_main()
