"""A database that cannot store: its disk is full, a partition is gone or in the way. Nothing is lost, all is told."""

import asyncio
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

import psycopg
import pytest

from collector import work
from collector.errors import DatabaseUnavailable
from tests.collecting import Collector, batch_of, inference_result, running_collector
from tests.postgres import TEMPLATE, Postgres
from tests.system.disk import small_disk

pytestmark = pytest.mark.anyio

FULL = "the disk of the database is full"


@pytest.fixture
def small_database(own_postgres: Postgres) -> Iterator[str]:
    """Give a database whose new tables lie on a disk of 4 MB, or skip."""
    with TemporaryDirectory(prefix="isochrone-full-") as folder, small_disk(Path(folder) / "disk", "4m") as disk:
        if disk is None:
            pytest.skip("mounting a small file system needs root")
        url = own_postgres.new_database(TEMPLATE)
        with psycopg.connect(url, autocommit=True) as connection:
            owner = connection.execute("SELECT current_setting('data_directory')").fetchone()
            assert owner is not None
            data = Path(owner[0]).stat()
            Path(folder).chmod(0o711)
            shutil.chown(disk, data.st_uid, data.st_gid)
            connection.execute(f"CREATE TABLESPACE small LOCATION '{disk}'".encode())
            connection.execute(f"ALTER DATABASE {connection.info.dbname} SET default_tablespace = small".encode())
        yield url
        own_postgres.stop("immediate")


async def warnings(collector: Collector) -> list[str]:
    answer = await collector.fetch("/readyz")
    assert answer.status_code == 200, "configuration and reading go on"
    said: list[str] = answer.json()["warnings"]
    return said


def fits(connection: psycopg.Connection, statement: str) -> bool:
    try:
        connection.execute(statement.encode())
    except psycopg.errors.DiskFull:
        return False
    return True


async def test_a_full_disk_loses_nothing_is_told_and_is_over_when_there_is_room(
    small_database: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with running_collector(small_database) as collector:
        await work.make_partitions(collector.context)
        with psycopg.connect(small_database, autocommit=True) as filler:
            filler.execute("CREATE TABLE filler (what text)")
            assert not fits(filler, "INSERT INTO filler SELECT repeat('x', 2000) FROM generate_series(1, 10000)")
            filler.execute("CREATE TABLE crumbs (what int)")
            while fits(filler, "INSERT INTO crumbs SELECT generate_series(1, 1000)"):
                pass
            kept = batch_of([inference_result(seq) for seq in range(500)])
            refused = await collector.send(kept)
            assert refused.status_code == 503
            assert int(refused.headers["retry-after"]) > 0
            assert FULL in (await warnings(collector))[0]
            assert "No space left on device" in caplog.text
            assert (await collector.fetch("/v1/agent/config")).status_code == 200
            assert collector.rows() == []
            filler.execute("DROP TABLE filler")
        assert (await collector.send(kept)).json()["accepted"] == 500
        assert await warnings(collector) == []


def today() -> str:
    return f"result_{datetime.now(UTC) - timedelta(seconds=1):%Y%m%d}"


async def execute(database_url: str, statement: str) -> None:
    """Run a statement while the collector goes on: it may wait for one of its transactions."""
    await asyncio.to_thread(execute_now, database_url, statement)


def execute_now(database_url: str, statement: str) -> None:
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute(statement.encode())


async def test_a_partition_that_somebody_detached_is_attached_again_with_what_it_holds(database_url: str) -> None:
    async with running_collector(database_url) as collector:
        assert (await collector.send(batch_of([inference_result(0)]))).status_code == 200
        await execute(database_url, f"ALTER TABLE result DETACH PARTITION {today()}")
        assert collector.rows() == []
        assert (await collector.send(batch_of([inference_result(1)]))).json()["accepted"] == 1
        assert len(collector.rows()) == 2


async def test_a_table_in_the_way_of_a_partition_is_named_and_the_batch_is_kept(
    database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with running_collector(database_url) as collector:
        await work.make_partitions(collector.context)
        name = today()
        await execute(database_url, f"ALTER TABLE result DETACH PARTITION {name}")
        await execute(database_url, f"ALTER TABLE {name} RENAME TO before")
        await execute(database_url, f"CREATE TABLE {name} (what int)")
        kept = batch_of([inference_result(0)])
        assert (await collector.send(kept)).status_code == 503
        assert f"the table {name} is in the way" in (await warnings(collector))[0]
        collector.context.partitions.forget()
        with pytest.raises(DatabaseUnavailable, match=name):
            await work.make_partitions(collector.context)
        assert f"{name} cannot become the partition" in caplog.text
        await execute(database_url, f"ALTER TABLE {name} RENAME TO in_the_way")
        assert (await collector.send(kept)).json()["accepted"] == 1
        assert await warnings(collector) == []
