"""The role isochrone_read: dashboards read the views through it, and nothing else."""

from collections.abc import Iterator

import psycopg
import pytest
from psycopg import sql

from collector.store import migration
from tests.postgres import Postgres, running_postgres

VIEWS = {"v_result", "v_agent", "v_minute", "v_hour"}


def columns(connection: psycopg.Connection, query: str) -> set[str]:
    return {str(row[0]) for row in connection.execute(query.encode())}


@pytest.fixture
def reader_url(postgres: Postgres, database_url: str) -> Iterator[str]:
    """Give the database as a dashboard's user sees it."""
    postgres.execute(sql.SQL("CREATE ROLE dashboard LOGIN IN ROLE isochrone_read"))
    yield database_url.replace("//postgres", "//dashboard")
    postgres.execute(sql.SQL("DROP ROLE dashboard"))


def test_a_dashboard_reads_every_view_and_no_table(reader_url: str) -> None:
    with psycopg.connect(reader_url, autocommit=True) as connection:
        relations = columns(
            connection,
            "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p', 'v')",
        )
        readable = set()
        for name in relations:
            try:
                connection.execute(sql.SQL("SELECT * FROM {} LIMIT 1").format(sql.Identifier(name)))
            except psycopg.errors.InsufficientPrivilege:
                continue
            readable.add(name)
    assert readable == VIEWS == {name for name in relations if name.startswith("v_")}


def test_a_view_that_comes_later_is_readable_after_the_next_migration(database_url: str, reader_url: str) -> None:
    with psycopg.connect(database_url) as connection:
        connection.execute("CREATE VIEW v_new AS SELECT 1 AS one")
    migration.upgrade(database_url)
    with psycopg.connect(reader_url) as connection:
        assert connection.execute("SELECT * FROM v_new").fetchone() == (1,)


def test_no_column_that_a_dashboard_reads_holds_a_secret(database_url: str) -> None:
    with psycopg.connect(database_url) as connection:
        names = columns(connection, "SELECT column_name FROM information_schema.columns WHERE table_name LIKE 'v\\_%'")
    assert not {name for name in names if "secret" in name or "sha256" in name or "key" in name}


def test_a_user_who_may_make_no_role_migrates_all_the_same_and_is_told_what_to_do(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with running_postgres() as server:
        server.execute(sql.SQL("CREATE ROLE keeper LOGIN"))
        server.execute(sql.SQL("CREATE DATABASE kept OWNER keeper"))
        url = server.url("kept").replace("//postgres", "//keeper")
        assert migration.upgrade(url) == migration.head_revision()
        assert "CREATE ROLE isochrone_read NOLOGIN; then isochrone-collector migrate" in caplog.text
        caplog.clear()
        server.execute(sql.SQL("CREATE ROLE isochrone_read NOLOGIN"))
        assert migration.upgrade(url) == migration.head_revision()
        assert caplog.text == ""
        with psycopg.connect(server.url("kept")) as connection:
            connection.execute("SET ROLE isochrone_read")
            assert connection.execute("SELECT count(*) FROM v_agent").fetchone() == (0,)
