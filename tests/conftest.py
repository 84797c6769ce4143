"""Fixtures for every test: asyncio for anyio's plugin, and a real Postgres with a fresh database per test."""

from collections.abc import Iterator

import pytest
from psycopg import sql

from collector import admin
from tests import citus
from tests.postgres import TEMPLATE, Postgres, running_postgres

MEASURING = frozenset(
    {"accuracy", "test_measured_streams", "test_stream_stamps", "test_http2", "test_rtt_probe", "test_rtt_icmp",
     "test_rtt_tls", "test_waits", "test_probe_faults", "test_warm_connections", "test_agent_alone"}
)  # fmt: skip
"""Folders and files whose tests hold times against times. A machine with other things to do may stand still in the
middle of a measurement: then it is measured again, twice at most. What is wrong by our own fault is wrong each time."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if MEASURING & {item.path.stem, item.path.parent.name}:
            item.add_marker(pytest.mark.flaky(reruns=2))


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """Give one server for the whole run, with a migrated template."""
    with running_postgres() as server:
        server.spare_the_disk()
        server.make_template()
        yield server


@pytest.fixture
def database_url(request: pytest.FixtureRequest) -> Iterator[str]:
    """Give a fresh, migrated database; on the Citus that this run was given, if any, and distributed."""
    if citus.URL is not None:
        with citus.real_database() as url:
            admin.migrate(url)
            admin.distribute(url)
            yield url
        return
    postgres: Postgres = request.getfixturevalue("postgres")
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
def stranger_url(postgres: Postgres, database_url: str) -> Iterator[str]:
    """Give the database as a user sees it who may connect and no more."""
    if citus.URL is not None:
        pytest.skip("the user is made in the suite's own Postgres")
    postgres.execute(sql.SQL("CREATE ROLE stranger LOGIN"))
    yield database_url.replace("//postgres", "//stranger")
    postgres.execute(sql.SQL("DROP ROLE stranger"))


@pytest.fixture
def latin_url(postgres: Postgres) -> Iterator[str]:
    """Give an empty database that holds the characters of LATIN1 alone."""
    postgres.execute(sql.SQL("CREATE DATABASE latin ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0"))
    yield postgres.url("latin")
    postgres.drop_database(postgres.url("latin"))


@pytest.fixture
def own_postgres() -> Iterator[Postgres]:
    """Give a server of this test alone, which may stop and start it."""
    with running_postgres() as server:
        server.make_template()
        yield server
