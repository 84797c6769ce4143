"""Rollups on a real Postgres: they hold what the raw results say, whatever came late, twice, or at the same time."""

import math
import random
from datetime import UTC, datetime, timedelta

import psycopg
import pytest

from collector import rollup
from collector.schema import SIGNALS
from collector.stats.sketch import UNIT
from collector.store import rolling
from collector.store.engine import Connection, admin_transaction, run
from isochrone.outcome import Flag, Outcome
from tests.collecting import Collector, batch_of, inference_result, rtt_result, running_collector
from tests.rolled import DAY, aged, batch_at, expected, random_batch, settled, sketch_in, stored

pytestmark = pytest.mark.anyio
LEVELS = {"minute": timedelta(minutes=1), "hour": timedelta(hours=1)}


def check(url: str) -> None:
    """Hold both levels against the raw results."""
    for level, span in LEVELS.items():
        held, wanted = stored(url, level), expected(url, span)
        assert held.keys() == wanted.keys()
        for key, row in held.items():
            for name, value in wanted[key].items():
                found = sketch_in(row, name) if name in SIGNALS else row[name]
                if level == "hour" and name in SIGNALS and found != value:  # their sums are made of rounded ones
                    assert math.isclose(found.sum, value.sum, rel_tol=1e-12, abs_tol=UNIT * value.count), (key, name)
                    assert (found.count, found.buckets, found.counts) == (value.count, value.buckets, value.counts)
                    continue
                assert found == value, (level, key, name)


@pytest.mark.parametrize("seed", [1, 2, 3])
async def test_a_rebuild_changes_no_row_after_late_double_and_unordered_batches(database_url: str, seed: int) -> None:
    rng = random.Random(seed)  # noqa: S311  no secret
    async with running_collector(database_url) as collector:
        sent = []
        for _ in range(30):
            batch = rng.choice(sent) if sent and rng.random() < 0.2 else random_batch(rng)
            answer = await collector.send(batch)
            assert answer.status_code == 200, answer.text
            sent.append(batch)
            if rng.random() < 0.5:
                now = datetime.now(UTC) + timedelta(minutes=rng.uniform(-10, 90))
                await rollup.work_off(collector.context.engine, now)
        await settled(collector)
        check(database_url)
        kept = {level: stored(database_url, level) for level in LEVELS}
        rebuilt = rollup.rebuild(database_url, since=None, until=None, progress=lambda _done, _all: None)
    assert {level: stored(database_url, level) for level in LEVELS} == kept
    assert (rebuilt.minute_rows, rebuilt.hour_rows) == (len(kept["minute"]), len(kept["hour"]))


async def test_a_rebuild_mends_what_was_spoiled(database_url: str) -> None:
    async with running_collector(database_url) as collector:
        await collector.send(batch_at([(60.0 * n, inference_result()) for n in range(5)]))
        await settled(collector)
        kept = {level: stored(database_url, level) for level in LEVELS}
        collector.rows("UPDATE rollup_minute SET probes = 9, rtt_min = 7 RETURNING 1")
        collector.rows("DELETE FROM rollup_hour RETURNING 1")
        collector.rows(
            "INSERT INTO rollup_minute"
            " (bucket, agent_region_id, target_id, connection, prober, probes, failures, spoiled)"
            " SELECT min(bucket), 99, 99, 0, 1, 1, 1, 0 FROM rollup_minute RETURNING 1"
        )
        rollup.rebuild(database_url, since=None, until=None, progress=lambda _done, _all: None)
    assert {level: stored(database_url, level) for level in LEVELS} == kept


def _clone(connection: psycopg.Connection, *, fields: str = "'{}'::jsonb", times: str = "") -> None:
    """Store the results that are there once more, with other `fields`, and mark their minutes."""
    connection.execute(
        f"INSERT INTO result SELECT (jsonb_populate_record(r, {fields})).* FROM result r {times}".encode()  # noqa: S608  literals of tests
    )
    connection.execute(
        "INSERT INTO dirty_minute (agent_id, agent_region_id, minute)"
        " SELECT DISTINCT agent_id, agent_region_id, date_trunc('minute', started_at) FROM result"
    )


def probes(collector: Collector) -> list[int]:
    return [count for (count,) in collector.rows("SELECT probes FROM rollup_minute ORDER BY bucket")]  # type: ignore[misc]


async def test_what_is_stored_while_its_minute_is_rolled_up_is_rolled_up_next(database_url: str) -> None:
    async with running_collector(database_url) as collector:
        engine, now = collector.context.engine, datetime.now(UTC)
        await collector.send(aged(300))
        with psycopg.connect(database_url) as other:
            _clone(other)  # not committed: neither its result nor its mark can be seen
            assert (await rollup.work_off(engine, now)).minutes == 1
            assert probes(collector) == [1]
            other.commit()
        assert (await rollup.work_off(engine, now)).minutes == 1
        assert probes(collector) == [2]


async def test_what_is_stored_between_taking_the_mark_and_reading_is_counted_once_and_marked_still(
    database_url: str,
) -> None:
    async with running_collector(database_url) as collector:
        engine, now = collector.context.engine, datetime.now(UTC)
        await collector.send(aged(300))
        with admin_transaction(database_url) as connection:
            assert rolling.try_lock(connection)
            taken = rolling.take_minutes(connection, 10)
            with psycopg.connect(database_url) as other:
                _clone(other)
            rolling.roll_minutes(connection, taken, now=now)
        assert probes(collector) == [2]
        assert (await run(engine, rolling.read_waiting)).minutes == 1
        await rollup.work_off(engine, now)
        assert probes(collector) == [2]


async def test_one_at_a_time_rolls_up_and_the_other_leaves_the_marks(database_url: str) -> None:
    async with running_collector(database_url) as collector:
        await collector.send(aged(300))
        with admin_transaction(database_url) as connection:
            assert rolling.try_lock(connection)
            worked = await rollup.work_off(collector.context.engine, datetime.now(UTC))
        assert (worked.minutes, worked.waiting.minutes) == (0, 1)
        assert worked.waiting.since is not None


async def test_a_backlog_does_not_hold_up_the_newest_minutes(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rollup, "MINUTES_AT_ONCE", 2)
    monkeypatch.setattr(rollup, "TURNS", 2)
    async with running_collector(database_url) as collector:
        engine, now = collector.context.engine, datetime.now(UTC)
        await collector.send(batch_at([(DAY + 60.0 * n, inference_result()) for n in range(10)]))
        await collector.send(aged(0))
        worked = await rollup.work_off(engine, now)
        assert (worked.minutes, worked.waiting.minutes) == (4, 7)
        ((newest,),) = collector.rows("SELECT max(bucket) FROM rollup_minute")
        assert now - newest < timedelta(minutes=2)
        await settled(collector)
        check(database_url)


async def test_a_transaction_that_takes_too_long_is_tried_with_less_in_it(database_url: str) -> None:
    tried = []

    def work(connection: Connection, limit: int) -> None:
        tried.append(limit)
        if limit > 3:
            connection.exec_driver_sql("SET LOCAL statement_timeout = '20ms'")
            connection.exec_driver_sql("SELECT pg_sleep(60)")

    async with running_collector(database_url) as collector:
        await rollup._turn(collector.context.engine, work, 30)  # noqa: SLF001  what is slow for certain is no rollup
    assert tried == [30, 3]


def _before_yesterday() -> tuple[float, datetime, datetime]:
    """Return the age of a noon two days ago or more, that noon, and now: no test runs long enough to leave its day."""
    now = datetime.now(UTC)
    noon = now.replace(hour=12, minute=0, second=0, microsecond=0) - timedelta(days=2)
    return (now - noon).total_seconds(), noon, now


async def test_a_late_result_for_what_retention_took_changes_no_rollup_and_is_told(
    database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with running_collector(database_url) as collector:
        old, noon, now = _before_yesterday()
        await collector.send(batch_at([(old, inference_result()), (60.0, inference_result())]))
        await settled(collector)
        kept = {level: stored(database_url, level) for level in LEVELS}
        with admin_transaction(database_url) as connection:
            rolling.raise_horizon(connection, "raw", noon + timedelta(hours=12))
            connection.exec_driver_sql(f"DROP TABLE result_{noon:%Y%m%d}")
        collector.context.partitions.forget()
        assert (await collector.send(aged(old))).json()["accepted"] == 1
        worked = await rollup.work_off(collector.context.engine, now)
        assert (worked.minutes, worked.sealed, worked.waiting.minutes) == (0, 1, 0)
        assert "keep raw results longer" in caplog.text
        rebuilt = rollup.rebuild(database_url, since=None, until=None, progress=lambda _done, _all: None)
        assert rebuilt.sealed_hours >= 1
        assert {level: stored(database_url, level) for level in LEVELS} == kept


async def test_whoever_drops_results_waits_for_who_rolls_them_up(database_url: str) -> None:
    with admin_transaction(database_url) as connection:
        rolling.hold_horizons(connection)
        with psycopg.connect(database_url) as other:
            other.execute("SET lock_timeout = '50ms'")
            with pytest.raises(psycopg.errors.LockNotAvailable):
                other.execute("UPDATE rollup_horizon SET since = now() WHERE level = 'raw'")


async def test_a_horizon_never_goes_back(database_url: str) -> None:
    with admin_transaction(database_url) as connection:
        early, late = datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 2, tzinfo=UTC)
        for moment in (late, early):
            rolling.raise_horizon(connection, "minute", moment)
        horizons = rolling.read_horizons(connection)
    assert (horizons.raw, horizons.minute, horizons.hour) == (None, late, None)


async def test_minutes_that_retention_took_do_not_come_back_one_by_one(database_url: str) -> None:
    async with running_collector(database_url) as collector:
        old, noon, now = _before_yesterday()
        await collector.send(batch_at([(old, inference_result()), (60.0, inference_result())]))
        await settled(collector)
        with admin_transaction(database_url) as connection:
            rolling.raise_horizon(connection, "minute", noon + timedelta(hours=12))
            connection.exec_driver_sql(f"DROP TABLE rollup_minute_{noon:%Y%m%d}")
        kept = {level: stored(database_url, level) for level in LEVELS}
        assert (len(kept["minute"]), len(kept["hour"])) == (1, 2)
        await collector.send(aged(old))
        assert (await rollup.work_off(collector.context.engine, now)).sealed == 1
        assert {level: stored(database_url, level) for level in LEVELS} == kept


async def test_a_row_of_one_result_takes_no_more_disk_than_the_result(database_url: str) -> None:
    """Else minutes would cost more than they save, at one result a minute."""
    async with running_collector(database_url) as collector:
        await collector.send(batch_of([inference_result()]))
        with psycopg.connect(database_url) as connection:
            _clone(
                connection,
                fields="jsonb_build_object('agent_region_id', g, 'target_id', t,"
                " 'started_at', r.started_at - m * interval '1 min')",
                times=", generate_series(2, 41) g, generate_series(1, 50) t, generate_series(0, 2) m",
            )
        await settled(collector)
        sizes = {}
        for table in ("result", "rollup_minute"):
            ((size,),) = collector.rows(
                "SELECT sum(pg_relation_size(inhrelid) + pg_indexes_size(inhrelid)) FROM pg_inherits"  # noqa: S608  literals
                f" WHERE inhparent = '{table}'::regclass"
            )
            sizes[table] = size
        assert len(stored(database_url, "minute")) >= 6_000
        assert sizes["rollup_minute"] < sizes["result"], sizes


async def test_a_minute_is_seen_one_row_per_signal(database_url: str) -> None:
    async with running_collector(database_url) as collector:
        values = [0.1 * n for n in range(1, 101)]
        results = [inference_result(ttft_seconds=value, setup_seconds=0.0) for value in values]
        results += [inference_result(outcome=Outcome.DNS, connection=None), inference_result(flags=(Flag.LOOP_LAG,))]
        await collector.send(batch_at([*((600.0, one) for one in results), (600.0, rtt_result())]))
        await settled(collector)
        names = "endpoint, model, module, prober, connection, signal, probes, failures, spoiled, count, min, max"
        columns = f"{names}, sent, lost"
        for level in LEVELS:
            rows = collector.rows(f"SELECT {columns} FROM v_{level}")  # noqa: S608  literals of this test
            by_signal = {row[5]: row for row in rows if row[2] == "chat" and row[7] == 0}
            assert set(by_signal) == set(SIGNALS)
            assert by_signal["ttft"][:12] == (
                *("near", "model-1", "chat", "inference", "cold", "ttft", 101, 0, 1, 100),
                *(pytest.approx(0.1), pytest.approx(10.0)),
            )
            failed = {row[5]: row for row in rows if row[7] == 1}
            assert set(failed) == set(SIGNALS), "what failed before it had a connection shows with what was planned"
            assert all(row[4] == "cold" and row[9] == 0 for row in failed.values())
            trips = {row[5]: row for row in rows if row[3] == "rtt"}
            assert set(trips) == {"rtt", "duration"}
            assert trips["rtt"][12:] == (5, 1)
            ((p50, p95, p99),) = collector.rows(
                f"SELECT p50, p95, p99 FROM v_{level} WHERE signal = 'ttft' AND count > 0"  # noqa: S608  as above
            )
            assert (p50, p95, p99) == pytest.approx((5.0, 9.5, 9.9), rel=0.045)
            ((setup,),) = collector.rows(f"SELECT p95 FROM v_{level} WHERE signal = 'setup' AND count > 0")  # noqa: S608  as above
            assert setup == 0.0


async def test_an_hour_that_a_clock_of_the_future_marked_is_rolled_up_all_the_same(database_url: str) -> None:
    async with running_collector(database_url) as collector:
        await collector.send(aged(3 * 3600.0))
        await settled(collector)
        collector.alter(
            "WITH gone AS (DELETE FROM rollup_hour RETURNING bucket, agent_region_id)"
            " INSERT INTO dirty_hour SELECT bucket, agent_region_id, now() + interval '10 years' FROM gone"
        )
        await rollup.work_off(collector.context.engine, datetime.now(UTC))
        assert collector.rows("SELECT * FROM dirty_hour") == []
        check(database_url)


async def test_a_rebuild_leaves_what_has_no_results_to_be_made_of(database_url: str) -> None:
    """However far back it is asked to go, and whether retention took the results or somebody by hand."""
    async with running_collector(database_url) as collector:
        old, noon, _ = _before_yesterday()
        await collector.send(batch_at([(old, inference_result()), (60.0, inference_result())]))
        await settled(collector)
        kept = {level: stored(database_url, level) for level in LEVELS}
        collector.alter(f"DROP TABLE result_{noon:%Y%m%d}")
        rebuilt = rollup.rebuild(
            database_url,
            since=datetime(1970, 1, 1, tzinfo=UTC),
            until=datetime(9999, 1, 1, tzinfo=UTC),
            progress=lambda _done, _all: None,
        )
        assert {level: stored(database_url, level) for level in LEVELS} == kept
        assert rebuilt.hours <= 24 * 8


async def test_a_partition_of_another_name_does_no_harm(database_url: str) -> None:
    """Somebody keeps what is older by himself, or what has no partition."""
    async with running_collector(database_url) as collector:
        await collector.send(aged(60))
        collector.alter("CREATE TABLE rest PARTITION OF result DEFAULT")
        collector.alter(
            "CREATE TABLE x2020 PARTITION OF result FOR VALUES FROM ('2020-01-01 00:00Z') TO ('2021-01-01 00:00Z')"
        )
        answer = await collector.client.get("/v1/results")
        assert (answer.status_code, len(answer.json()["results"])) == (200, 1)


async def test_a_rebuild_leaves_sealed_hours_as_they_are_and_makes_the_others(database_url: str) -> None:
    """Hours of one transaction, some of them sealed."""
    async with running_collector(database_url) as collector:
        await collector.send(batch_at([(3600.0 * n, inference_result()) for n in range(30)]))
        await settled(collector)
        kept = {level: stored(database_url, level) for level in LEVELS}
        horizon = datetime.now(UTC).replace(minute=0, second=0, microsecond=0) - timedelta(hours=10)
        with admin_transaction(database_url) as connection:
            rolling.raise_horizon(connection, "raw", horizon)
        collector.rows(f"DELETE FROM result WHERE started_at < '{horizon}' RETURNING 1")  # noqa: S608  ours
        collector.rows("UPDATE rollup_hour SET probes = 9 RETURNING 1")
        told: list[int] = []
        rebuilt = rollup.rebuild(database_url, since=None, until=None, progress=lambda done, _all: told.append(done))
    assert told == list(range(1, rebuilt.hours + 1))
    assert rebuilt.until - timedelta(hours=rebuilt.hours - rebuilt.sealed_hours) == horizon
    assert stored(database_url, "minute") == kept["minute"]
    hours = stored(database_url, "hour")
    assert {key: row for key, row in hours.items() if key[0] >= horizon} == {
        key: row for key, row in kept["hour"].items() if key[0] >= horizon
    }
    assert {row["probes"] for key, row in hours.items() if key[0] < horizon} == {9}
