"""A migration that is killed in the middle leaves what was before, and the next one ends well."""

import os
import subprocess
import sys
import time

import psycopg
import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext

from collector import schema
from collector.store import migration
from collector.store.engine import admin_transaction

MIGRATIONS = "FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"


def number(connection: psycopg.Connection, query: str) -> int:
    row = connection.execute(query.encode()).fetchone()
    assert row is not None
    return int(row[0])


def tables_of(database_url: str) -> set[str]:
    with psycopg.connect(database_url) as connection:
        return {row[0] for row in connection.execute("SELECT relname FROM pg_class WHERE relkind IN ('r', 'p', 'v')")}


@pytest.mark.parametrize(
    ("before", "table"),
    # The first makes a table before it comes to this one; the second changes this one first.
    [("20261126_bounds", "agent"), ("20261127_fleet", "config_revision")],
)
def test_a_migration_killed_midway_leaves_the_revision_before_and_the_next_one_is_whole(
    database_url: str, before: str, table: str
) -> None:
    """It waits for a table that somebody reads, with half of its work done, when kill -9 comes."""
    migration.downgrade(database_url, before)
    tables = tables_of(database_url)
    environment = {**os.environ, "ISOCHRONE_DATABASE_URL": database_url}
    with psycopg.connect(database_url, autocommit=True) as watcher, psycopg.connect(database_url) as reader:
        reader.execute(f"SELECT count(*) FROM {table}".encode())  # noqa: S608  a literal of this test
        with subprocess.Popen([sys.executable, "-m", "collector.cli", "migrate"], env=environment) as process:
            while not number(watcher, f"SELECT count(*) {MIGRATIONS} AND wait_event_type = 'Lock'"):
                assert process.poll() is None
                time.sleep(0.01)
            process.kill()
        assert process.returncode < 0
        reader.rollback()
        while number(watcher, f"SELECT count(*) {MIGRATIONS} AND pid <> {reader.info.backend_pid}"):
            time.sleep(0.01)  # its server process finds out that nobody is there any more
    assert tables_of(database_url) == tables
    with admin_transaction(database_url) as connection:
        assert migration.current_revision(connection) == before
    assert migration.upgrade(database_url) == migration.head_revision()
    with admin_transaction(database_url) as connection:
        assert compare_metadata(MigrationContext.configure(connection), schema.metadata) == []
