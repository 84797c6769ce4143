"""`migrate --distributed`: what is asked of Citus, and what is told where there is none. See tests/citus.py."""

import os
import subprocess
import sys

import psycopg
import pytest

from collector import admin
from collector.errors import DatabaseUnfit
from collector.store.distribution import DISTRIBUTED, REFERENCE, is_distributed
from collector.store.engine import admin_transaction
from tests import citus
from tests.collecting import batch_of, inference_result, rtt_result, running_collector

KEYS = (
    "SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid) FROM pg_constraint"
    " WHERE connamespace = 'public'::regnamespace ORDER BY 1, 2"
)


def rows(database_url: str, query: str) -> list[tuple[object, ...]]:
    with psycopg.connect(database_url) as connection:
        return connection.execute(query.encode()).fetchall()


def command(database_url: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "collector.cli", "migrate", "--distributed"],
        env={**os.environ, "ISOCHRONE_DATABASE_URL": database_url},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.skipif(citus.URL is not None, reason="every database of this run has Citus")
def test_without_citus_it_is_told_plainly_and_nothing_changes(database_url: str) -> None:
    before = rows(database_url, KEYS)
    done = command(database_url)
    assert done.returncode == 1
    assert "CREATE EXTENSION citus" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert rows(database_url, KEYS) == before


@pytest.mark.skipif(citus.URL is not None, reason="as above")
def test_a_citus_that_is_too_old_is_refused(database_url: str) -> None:
    citus.install_stand_in(database_url, version="11.3.0")
    with pytest.raises(DatabaseUnfit, match=r"Citus 11\.3\.0: use Citus 12"):
        admin.distribute(database_url)


@pytest.mark.skipif(citus.URL is not None, reason="as above")
def test_each_table_goes_to_its_place_once_and_keys_come_back(database_url: str) -> None:
    admin.add_agent(database_url, name="agent-1", region="here")
    before = rows(database_url, KEYS)
    citus.install_stand_in(database_url)
    first, second = command(database_url), command(database_url)
    assert (first.returncode, second.returncode) == (0, 0), (first.stderr, second.stderr)
    assert second.stdout.splitlines()[-1] == "distributed already"
    existing = {name for (name,) in rows(database_url, "SELECT relname FROM pg_class")}
    everywhere, by_agent = ([name for name in names if name in existing] for names in (REFERENCE, DISTRIBUTED))
    calls = rows(database_url, "SELECT name, argument FROM stand_in.call WHERE name <> 'emptied' ORDER BY id")
    assert calls == [
        *(("reference", name) for name in everywhere),
        *(("distributed", f"{name} by agent_id beside {'none' if name == 'batch' else 'batch'}") for name in by_agent),
    ]
    emptied = rows(database_url, "SELECT argument FROM stand_in.call WHERE name = 'emptied' ORDER BY id")
    assert emptied == [("agent_region",), ("agent",), ("credential",)]
    assert rows(database_url, KEYS) == before
    with admin_transaction(database_url) as connection:
        assert is_distributed(connection)


@pytest.mark.skipif(citus.URL is not None, reason="as above")
def test_a_table_of_a_later_release_follows_by_a_plain_migration(database_url: str) -> None:
    citus.install_stand_in(database_url)
    admin.distribute(database_url)
    with psycopg.connect(database_url) as connection:  # as if this table had come with this release
        connection.execute("DELETE FROM stand_in.pg_dist_partition WHERE logicalrelid = 'agent_report'::regclass")
        connection.execute("TRUNCATE stand_in.call")
    admin.migrate(database_url)
    assert rows(database_url, "SELECT argument FROM stand_in.call") == [("agent_report by agent_id beside batch",)]


@pytest.mark.skipif(citus.URL is not None, reason="as above")
def test_what_breaks_off_leaves_nothing_distributed_and_every_key(database_url: str) -> None:
    before = rows(database_url, KEYS)
    citus.install_stand_in(database_url)
    with psycopg.connect(database_url) as connection:
        connection.execute("CREATE UNIQUE INDEX planted ON batch (batch_id)")
    with pytest.raises(Exception, match="must include the distribution column"):
        admin.distribute(database_url)
    assert rows(database_url, "SELECT * FROM stand_in.pg_dist_partition") == []
    assert rows(database_url, KEYS) == before


@pytest.mark.anyio
@pytest.mark.skipif(citus.URL is None, reason=citus.WHY_NOT)
async def test_a_real_citus_takes_the_tables_and_serves_them() -> None:
    """The rest of the suite runs on it, too, in a run that has the variable: `database_url` is distributed then."""
    with citus.real_database() as url:
        admin.migrate(url)
        admin.add_agent(url, name="before", region="here")
        assert set(admin.distribute(url)) >= {"batch", "result", "agent", "target"}
        assert admin.distribute(url) == []
        async with running_collector(url) as collector:
            batch = batch_of([inference_result(0), rtt_result(1)])
            assert (await collector.send(batch)).json()["accepted"] == 2
            assert (await collector.send(batch)).json()["duplicate"] == 2
            for path in ("/v1/summary", "/v1/results", "/v1/agents", "/readyz"):
                assert (await collector.client.get(path)).status_code == 200, path
