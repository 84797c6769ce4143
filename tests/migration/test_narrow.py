"""Both forms of a row are read alike, beside each other and after the way back."""

import psycopg
import pytest

from collector.store import migration
from tests.collecting import batch_of, running_collector
from tests.rows import any_results

pytestmark = pytest.mark.anyio

READ = "SELECT v_result::text FROM v_result ORDER BY boot_id, seq"


def read(database_url: str) -> list[tuple[str]]:
    with psycopg.connect(database_url) as connection:
        return connection.execute(READ).fetchall()


async def test_rows_of_either_form_are_read_alike(database_url: str) -> None:
    async with running_collector(database_url) as collector:
        await collector.send(batch_of(any_results(400, seed=5)))
    narrow = read(database_url)
    migration.downgrade(database_url, "20261128_narrow-1")
    wide = read(database_url)
    assert len(wide) == 400
    assert wide == narrow
    migration.upgrade(database_url)
    assert read(database_url) == narrow
    # What the release before writes beside this one has the form of these rows; new ones join them.
    with psycopg.connect(database_url) as connection:
        assert connection.execute("SELECT count(boot_id), count(run_id) FROM result").fetchone() == (400, 0)
    async with running_collector(database_url) as collector:
        await collector.send(batch_of(any_results(1, seed=6)))
    assert len(read(database_url)) == 401
