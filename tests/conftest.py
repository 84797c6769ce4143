"""Fixtures for every test: asyncio for anyio's plugin, and a real Postgres with a fresh database per test."""

from collections.abc import Iterator

import pytest

from tests.postgres import TEMPLATE, Postgres, running_postgres


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """Give one server for the whole run, with a migrated template."""
    with running_postgres() as server:
        server.make_template()
        yield server


@pytest.fixture
def database_url(postgres: Postgres) -> Iterator[str]:
    """Give a fresh, migrated database."""
    url = postgres.new_database(TEMPLATE)
    yield url
    postgres.drop_database(url)


@pytest.fixture
def empty_database_url(postgres: Postgres) -> Iterator[str]:
    """Give a fresh database in which nothing was migrated."""
    url = postgres.new_database()
    yield url
    postgres.drop_database(url)


@pytest.fixture
def own_postgres() -> Iterator[Postgres]:
    """Give a server of this test alone, which may stop and start it."""
    with running_postgres() as server:
        server.make_template()
        yield server
