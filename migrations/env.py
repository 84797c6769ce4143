"""Runs migrations: alone (advisory lock), with short waits for other people's locks, one transaction each.

`collector.store.migration` calls it and hands over the URL.
"""

from typing import Final

from alembic import context
from sqlalchemy import Connection, create_engine, pool

from collector.schema import metadata

MIGRATION_LOCK: Final = 0x150C_4017
"""Key of the advisory lock."""
LOCK_WAIT: Final = "SET lock_timeout = '120s'"
"""For the other migration to end."""
LIMITS: Final = ("SET lock_timeout = '5s'", "SET statement_timeout = '600s'")
"""A migration that waits for a lock holds up everyone who comes after it: give up soon, try again later."""


def _run(connection: Connection) -> None:
    connection.exec_driver_sql(LOCK_WAIT)
    connection.exec_driver_sql(f"SELECT pg_advisory_lock({MIGRATION_LOCK})")
    for statement in LIMITS:
        connection.exec_driver_sql(statement)
    connection.commit()
    context.configure(connection=connection, target_metadata=metadata, transaction_per_migration=True)
    with context.begin_transaction():
        context.run_migrations()


def _main() -> None:
    # The lock belongs to the session: it ends with the connection, whatever happens.
    engine = create_engine(context.config.attributes["url"], poolclass=pool.NullPool)
    with engine.connect() as connection:
        _run(connection)
    engine.dispose()


_main()
