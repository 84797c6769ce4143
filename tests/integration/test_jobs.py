"""Jobs: when they run, that they never overlap, what is told of them, and that one collector of several does each."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime

import pytest

from collector import jobs, work
from collector.errors import DatabaseUnavailable, DoneElsewhere
from collector.jobs import End, Job, ticks_of
from collector.store import locks
from collector.store.engine import AsyncEngine, admin_transaction, open_engine, run
from tests.collecting import Collector, running_collector

pytestmark = pytest.mark.anyio


class Told:
    """What the jobs said of themselves."""

    def __init__(self) -> None:
        self.ends: list[tuple[End, str | None]] = []
        self.missed_runs = 0
        self.changed = asyncio.Event()

    def ended(self, _name: str, end: End, reason: str | None = None) -> None:
        self.ends.append((end, reason))
        self.changed.set()

    def missed(self, _name: str, count: int) -> None:
        self.missed_runs += count
        self.changed.set()

    async def until(self, holds: Callable[[], bool]) -> None:
        while not holds():
            self.changed.clear()
            await self.changed.wait()


def job(work: Callable[[], Awaitable[object]], *, seconds: float = 0.05, once: bool = False) -> Job:
    return Job(name="a job", seconds=seconds, work=work, once=once)


async def nothing() -> None:
    """Do nothing."""


def test_the_moments_of_a_job_are_whole_intervals_since_1970_and_its_own_phase() -> None:
    ticks = ticks_of(Job(name="partitions", seconds=60, work=nothing))
    assert 0 <= ticks.phase < 60
    assert ticks == ticks_of(Job(name="partitions", seconds=60, work=nothing))
    assert ticks != ticks_of(Job(name="retention", seconds=60, work=nothing))
    first = ticks.after(datetime(2026, 3, 1, tzinfo=UTC))
    assert (first.timestamp() - ticks.phase) % 60 == pytest.approx(0, abs=1e-3)
    assert ticks.after(first).timestamp() - first.timestamp() == pytest.approx(60)


async def test_a_job_runs_at_the_start_and_again_and_again() -> None:
    told = Told()
    async with jobs.running([job(nothing)], told):
        await told.until(lambda: len(told.ends) >= 3)
    assert set(told.ends) == {(End.DONE, None)}


async def test_a_job_that_is_still_at_work_is_not_started_again_and_its_moments_count_as_missed() -> None:
    told, runs, go_on = Told(), [], asyncio.Event()

    async def slow() -> None:
        runs.append(1)
        await go_on.wait()

    async with jobs.running([job(slow)], told):
        await told.until(lambda: told.missed_runs >= 3)
        assert len(runs) == 1
        go_on.set()
        await told.until(lambda: len(told.ends) >= 2)


async def test_a_job_that_failed_is_tried_again_soon_and_told_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(jobs, "RETRY_SECONDS", 0.01)
    told = Told()

    async def fail() -> None:
        raise DatabaseUnavailable(f"db.internal refuses {len(told.ends)} times", plain="the database does not serve")

    async with jobs.running([job(fail, seconds=3_600)], told):
        await told.until(lambda: len(told.ends) >= 3)
    assert set(told.ends) == {(End.FAILED, "the database does not serve")}, "no host in what everybody may read"
    assert caplog.text.count("db.internal refuses") == 1


async def test_a_fault_of_ours_ends_one_run_and_no_more(caplog: pytest.LogCaptureFixture) -> None:
    told, runs = Told(), []

    async def break_once() -> None:
        runs.append(1)
        if len(runs) == 1:
            raise KeyError("secret")

    async with jobs.running([job(break_once)], told):
        await told.until(lambda: len(told.ends) >= 2)
    assert told.ends[0] == (End.FAILED, jobs.FAULT)
    assert told.ends[1] == (End.DONE, None)
    assert "job a job failed" in caplog.text


async def test_what_is_to_be_done_once_is_done_once() -> None:
    told, runs = Told(), []

    async def work_on() -> None:
        runs.append(1)
        if len(runs) < 3:
            raise DatabaseUnavailable("not yet")

    async with jobs.running([job(work_on, once=True), Job(name="other", seconds=0.05, work=nothing)], told):
        await told.until(lambda: len(told.ends) >= 12)
    assert len(runs) == 3


async def test_a_clock_that_is_set_back_by_a_year_stops_no_job(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "WATCH_SECONDS", 0.01)
    told = Told()
    async with jobs.running([job(nothing, seconds=3_600)], told):
        await told.until(lambda: len(told.ends) == 1)
        monkeypatch.setattr(jobs, "_wall_minus_monotonic", lambda: -365 * 86_400.0)
        await told.until(lambda: len(told.ends) == 2)
    assert told.missed_runs == 0


async def test_a_run_under_way_may_end_when_the_collector_stops() -> None:
    told, begun, ended = Told(), asyncio.Event(), []

    async def take_time() -> None:
        begun.set()
        await asyncio.sleep(0.05)
        ended.append(1)

    async with jobs.running([job(take_time, seconds=3_600)], told):
        await begun.wait()
    assert ended == [1]


async def test_a_job_of_all_collectors_is_done_by_one_at_a_time(database_url: str) -> None:
    engine = open_engine(database_url)
    try:
        with admin_transaction(database_url) as other:
            locks.take(other, "fold")
            with pytest.raises(DoneElsewhere):
                await locks.run_alone(engine, "fold", lambda _connection: None)
            assert await locks.run_alone(engine, "retention", lambda _connection: 1) == 1
        assert await locks.run_alone(engine, "fold", lambda _connection: 2) == 2
        assert await held(engine) == 0, "a lock ends with its transaction"
    finally:
        await engine.dispose()


async def test_every_job_shows_its_last_success_and_a_failing_one_shows_on_readyz(database_url: str) -> None:
    async with running_collector(database_url) as collector:
        names = {one.name for one in work.jobs_of(collector.context)}
        async with asyncio.timeout(30):
            while await succeeded(collector) != names:  # noqa: ASYNC110  jobs set it
                await asyncio.sleep(0.05)
        assert {"partitions", "retention", "rollup", "registry", "readiness"} <= names
        work.Observed(collector.context).ended("retention", End.FAILED, "the disk is full")
        assert (await collector.fetch("/readyz")).json()["warnings"] == ["job retention fails: the disk is full"]
        assert '\nisochrone_job_failures_total{job_name="retention"} 1\n' in (await collector.fetch("/metrics")).text
        work.Observed(collector.context).ended("retention", End.ELSEWHERE)
        assert (await collector.fetch("/readyz")).json()["warnings"] == []


async def succeeded(collector: Collector) -> set[str]:
    """Return the jobs that show when they last succeeded."""
    lines = (await collector.fetch("/metrics")).text.splitlines()
    return {line.split('"')[1] for line in lines if line.startswith("isochrone_job_last_success_timestamp_seconds{")}


async def held(engine: AsyncEngine) -> int:
    """Return how many advisory locks of jobs are held in this database."""
    query = (
        "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND classid = 5388"
        " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
    )
    return int(await run(engine, lambda connection: connection.exec_driver_sql(query).scalar_one()))
