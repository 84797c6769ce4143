"""Migrations: up, down, equal to the tables, alone; and the words of the view are those of the contract."""

import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta

import psycopg
import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext

from collector import schema
from collector.store import migration
from collector.store.engine import admin_transaction
from collector.store.partitions import create_partition, existing_days
from tests.collecting import batch_of, inference_result, rtt_result, running_collector


def test_the_migrated_schema_equals_the_tables(database_url: str) -> None:
    with admin_transaction(database_url) as connection:
        assert compare_metadata(MigrationContext.configure(connection), schema.metadata) == []


def test_down_leaves_nothing_and_up_works_again(database_url: str) -> None:
    migration.downgrade(database_url, "base")
    with psycopg.connect(database_url) as connection:
        left = connection.execute(
            "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relname !~ '^alembic'"
            " UNION ALL SELECT proname FROM pg_proc WHERE pronamespace = 'public'::regnamespace"
        ).fetchall()
    assert left == []
    assert migration.upgrade(database_url) == migration.head_revision()


def test_up_twice_changes_nothing(database_url: str) -> None:
    assert migration.upgrade(database_url) == migration.upgrade(database_url) == migration.head_revision()


def test_two_migrations_at_once_both_end_well(empty_database_url: str) -> None:
    environment = {**os.environ, "ISOCHRONE_DATABASE_URL": empty_database_url}
    command = [sys.executable, "-m", "collector.cli", "migrate"]
    runs = [
        subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        for _ in range(3)
    ]
    outputs = [run.communicate(timeout=90)[0] for run in runs]
    assert [run.returncode for run in runs] == [0, 0, 0], outputs
    assert all(migration.head_revision() in output for output in outputs)


def test_a_partition_is_made_once_and_holds_one_utc_day(database_url: str) -> None:
    day = datetime(2026, 3, 29, tzinfo=UTC).date()
    with admin_transaction(database_url) as connection:
        connection.exec_driver_sql("SET timezone = 'Europe/Berlin'")
        create_partition(connection, day)
        create_partition(connection, day)
        create_partition(connection, day + timedelta(days=1))
        assert existing_days(connection) == [day, day + timedelta(days=1)]


def test_revisions_are_dated_and_their_files_are_named_after_them() -> None:
    folder = migration.migrations_folder() / "versions"
    names = {path.stem for path in folder.glob("*.py")}
    assert names == migration.known_revisions()
    assert all(name[:8].isdigit() for name in names)


@pytest.mark.anyio
async def test_the_release_before_stores_and_reads_beside_the_new_columns(database_url: str) -> None:
    """Its rows leave them empty, in partitions older than they are; the view keeps its name and its old columns."""
    migration.downgrade(database_url, "20261124_first_tables")
    with psycopg.connect(database_url) as connection:
        before = [column.name for column in connection.execute("SELECT * FROM v_result").description or ()]
        connection.execute("SELECT create_result_partition(now()::date)")
    migration.upgrade(database_url)
    async with running_collector(database_url) as collector:
        await collector.send(batch_of([inference_result(0)]))
        stored = collector.rows("SELECT server_timing_source, server_timing_trusted, served_region FROM v_result")
    assert stored == [(None, None, None)]
    with psycopg.connect(database_url) as connection:
        after = [column.name for column in connection.execute("SELECT * FROM v_result").description or ()]
    assert after[: len(before)] == before


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("column", "words"),
    [
        ("prober", schema.PROBERS),
        ("outcome", schema.OUTCOMES),
        ("connection", schema.CONNECTIONS),
        ("clock_source", schema.CLOCK_SOURCES),
        ("rtt_source", schema.RTT_SOURCES),
        ("pings_method", schema.RTT_METHODS),
        ("tokens_source", schema.TOKEN_SOURCES),
    ],
)
async def test_the_view_has_the_word_of_every_code(database_url: str, column: str, words: tuple[str, ...]) -> None:
    async with running_collector(database_url) as collector:
        await collector.send(batch_of([inference_result(n) if n % 2 else rtt_result(n) for n in range(len(words))]))
        collector.rows(f"UPDATE result SET {column} = seq + 1 RETURNING seq")  # noqa: S608  a literal of this test
        found = collector.rows(f"SELECT {column} FROM v_result ORDER BY seq")  # noqa: S608  as above
    assert [word for (word,) in found] == [word.value for word in words]  # type: ignore[attr-defined]


@pytest.mark.anyio
async def test_the_view_names_every_flag(database_url: str) -> None:
    async with running_collector(database_url) as collector:
        await collector.send(batch_of([inference_result(0, flags=schema.FLAGS)]))
        assert collector.rows("SELECT flags FROM v_result") == [([flag.value for flag in schema.FLAGS],)]
