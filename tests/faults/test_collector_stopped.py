"""The collector or its database stopped in the middle: what is sent again stands once, and nothing answers 500."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from uuid import uuid4

import httpx
import psycopg
import pytest

from collector import admin
from collector.config import Listen
from collector.up import ask
from isochrone.batch import MEDIA_TYPE, Batch
from isochrone.wire import encode_batch
from tests.bench import herd
from tests.collecting import REGION, TARGETS, Collector, batch_of, inference_result, running_collector
from tests.postgres import TEMPLATE, Postgres
from tests.system.disk import small_disk

pytestmark = pytest.mark.anyio
LARGE = 500
"""Results of a batch that the pages in use have no room for."""


@pytest.fixture
async def collector(database_url: str) -> AsyncIterator[Collector]:
    async with running_collector(database_url) as running:
        yield running


@dataclass(kw_only=True)
class Program:
    """`isochrone-collector serve` as a process, at one address for ever."""

    url: str
    token: str
    listen: Listen = field(default_factory=lambda: ask.reserve(Listen("127.0.0.1", 0)))
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        environment = {**os.environ, "ISOCHRONE_DATABASE_URL": self.url, "ISOCHRONE_LISTEN": str(self.listen),
                       "ISOCHRONE_BATCHES_PER_SECOND": "1000"}  # fmt: skip
        self.process = subprocess.Popen(
            [sys.executable, "-m", "collector.cli", "serve"], env=environment, stderr=subprocess.DEVNULL
        )

    def signal(self, number: int) -> None:
        assert self.process is not None
        self.process.send_signal(number)
        if number == signal.SIGKILL:
            self.process.wait(10)

    async def send(self, batch: Batch, *, seconds: float = 10) -> dict[str, int] | None:
        """Return the acknowledgement; None without one."""
        headers = {"Authorization": f"Bearer {self.token}", "Content-Type": MEDIA_TYPE}
        try:
            async with httpx.AsyncClient(trust_env=False, timeout=seconds) as client:
                url = f"http://{self.listen}/v1/batches"
                answer = await client.post(url, content=encode_batch(batch), headers=headers)
        except httpx.HTTPError:
            return None
        assert answer.status_code in {200, 503}
        return answer.json() if answer.status_code == 200 else None

    async def until_sent(self, batch: Batch) -> dict[str, int]:
        """Send again and again until it is acknowledged."""
        for _ in range(600):
            ack = await self.send(batch)
            if ack is not None:
                return ack
            await asyncio.sleep(0.05)
        pytest.fail("never acknowledged")


@contextmanager
def running_program(url: str) -> Iterator[Program]:
    admin.apply_targets(url, TARGETS)
    program = Program(url=url, token=admin.add_agent(url, name="agent-1", region=REGION))
    program.start()
    try:
        yield program
    finally:
        program.signal(signal.SIGCONT)
        program.signal(signal.SIGKILL)


def fresh() -> Batch:
    return batch_of([inference_result(n) for n in range(5)], boot_id=uuid4())


def large() -> Batch:
    return batch_of([inference_result(n) for n in range(LARGE)], boot_id=uuid4())


async def until_taken(collector: Collector, batch: Batch) -> None:
    """Send again and again, as an agent does, until the database works again."""
    async with asyncio.timeout(60):
        while (await collector.send(batch)).status_code != 200:  # noqa: ASYNC110  the database gives no event
            await asyncio.sleep(0.1)  # agents wait, too


def counts(url: str) -> tuple[int, int]:
    """Return how many rows there are, and how many different ones."""
    with psycopg.connect(url) as connection:
        row = connection.execute("SELECT count(*), count(DISTINCT (boot_id, seq)) FROM v_result").fetchone()
    assert row is not None
    return row


async def test_f05_a_collector_killed_under_load_stores_each_batch_once(database_url: str) -> None:
    batches = [fresh() for _ in range(60)]
    with running_program(database_url) as program:
        await program.until_sent(batches[0])
        for round_number in range(3):
            some = batches[round_number * 20 : round_number * 20 + 20]
            sending = [asyncio.create_task(program.until_sent(batch)) for batch in some]
            await asyncio.sleep(0.05 * round_number)
            program.signal(signal.SIGKILL)
            program.start()
            await asyncio.gather(*sending)
        assert counts(database_url) == (300, 300)


async def test_f06_an_answer_lost_after_the_commit_costs_a_duplicate_and_no_row(
    collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = fresh()

    def lost(*_: object, **__: object) -> None:
        raise RuntimeError("killed between commit and answer")

    with monkeypatch.context() as patch:
        patch.setattr(collector.context.metrics, "count_batch", lost)
        assert (await collector.send(batch)).status_code == 500
    assert counts(collector.database_url) == (5, 5)
    ack = (await collector.send(batch)).json()
    assert (ack["accepted"], ack["duplicate"]) == (0, 5)
    assert counts(collector.database_url) == (5, 5)


@pytest.mark.slow_fault
async def test_f07_a_collector_that_stands_still_and_goes_on_stores_once(database_url: str) -> None:
    with running_program(database_url) as program:
        await program.until_sent(fresh())
        program.signal(signal.SIGSTOP)
        batch = fresh()
        assert await program.send(batch, seconds=1) is None
        program.signal(signal.SIGCONT)
        ack = await program.until_sent(batch)
        assert ack["accepted"] + ack["duplicate"] == 5
        assert counts(database_url) == (10, 10)


async def test_f10_backends_ended_again_and_again_lose_nothing(collector: Collector) -> None:
    for _ in range(10):
        batch = fresh()
        sending = asyncio.create_task(collector.send(batch))
        await asyncio.to_thread(_end_backends, collector.database_url)
        first = await sending
        assert first.status_code in {200, 503}
        while first.status_code != 200:
            first = await collector.send(batch)
    assert counts(collector.database_url) == (50, 50)


def _end_backends(url: str) -> None:
    with psycopg.connect(url) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE application_name = 'isochrone-collector' AND datname = current_database()"
        )


async def test_f09_a_database_that_crashes_under_load_is_503_and_nothing_is_lost(own_postgres: Postgres) -> None:
    url = own_postgres.new_database(TEMPLATE)
    async with running_collector(url) as collector:
        for _ in range(2):
            batch = fresh()
            await asyncio.to_thread(own_postgres.stop, "immediate")
            refused = await collector.send(batch)
            assert refused.status_code == 503
            assert int(refused.headers["retry-after"]) > 0
            await asyncio.to_thread(own_postgres.start)
            await until_taken(collector, batch)
        assert counts(url) == (10, 10)


async def test_f11_a_database_killed_with_all_its_children_is_503_and_keeps_what_it_acknowledged(
    own_postgres: Postgres,
) -> None:
    url = own_postgres.new_database(TEMPLATE)
    async with running_collector(url) as collector:
        assert (await collector.send(fresh())).status_code == 200
        for _ in range(2):
            batch = fresh()
            sending = asyncio.create_task(collector.send(batch))
            await asyncio.to_thread(own_postgres.kill)
            assert (await sending).status_code in {200, 503}
            refused = await collector.send(batch)
            assert (refused.status_code, int(refused.headers["retry-after"]) > 0) == (503, True)
            await asyncio.to_thread(own_postgres.start)
            await until_taken(collector, batch)
        assert counts(url) == (15, 15)


@pytest.mark.slow_fault
async def test_f28_a_full_disk_of_the_database_is_503_and_with_room_again_nothing_is_lost(data: Path) -> None:
    with small_disk(data / "database", "160m") as disk:
        if disk is None:
            pytest.skip("no disk of its own: not root, or mounting is not allowed here")
        server = Postgres(disk)
        try:
            server.make_template()
            await _through_a_full_disk(server, disk / "filler")
        finally:
            server.remove()


async def _through_a_full_disk(server: Postgres, filler: Path) -> None:
    url = server.new_database(TEMPLATE)
    async with running_collector(url) as collector:
        batches = [large()]
        assert (await collector.send(batches[0])).status_code == 200
        with filler.open("wb", buffering=0) as file, suppress(OSError):
            while file.write(bytes(4_096)):
                pass
        answers: set[int] = set()
        while 503 not in answers and len(batches) < 60:
            batches.append(large())
            answers.add((await collector.send(batches[-1])).status_code)
        assert 503 in answers <= {200, 503}
        assert (await collector.send(large())).status_code == 503, "full is full"
        await asyncio.to_thread(filler.unlink)
        await asyncio.to_thread(server.start)  # it may have ended in panic
        for batch in batches:
            await until_taken(collector, batch)
        assert counts(url) == (len(batches) * LARGE, len(batches) * LARGE)


@pytest.mark.slow_fault
async def test_f12_a_lock_that_is_held_is_503_in_bounded_time(collector: Collector) -> None:
    with psycopg.connect(collector.database_url) as connection:
        connection.execute("LOCK TABLE batch IN EXCLUSIVE MODE")
        async with asyncio.timeout(15):
            assert (await collector.send(fresh())).status_code == 503
    assert (await collector.send(fresh())).status_code == 200


async def test_f71_a_request_replayed_a_hundred_times_is_one(collector: Collector) -> None:
    batch = fresh()
    answers = [(await collector.send(batch)).json() for _ in range(101)]
    assert [one["accepted"] for one in answers] == [5] + [0] * 100
    assert {one["duplicate"] for one in answers[1:]} == {5}
    assert counts(collector.database_url) == (5, 5)


def test_f44_a_returning_fleet_is_stored_exactly_once() -> None:
    rows = {row.what: row for row in herd.run(60, batches=1, splay=False)}
    assert rows["rows stored"].met
    assert rows["different rows"].met
