"""A year of retention, lived through in seconds by a clock of its own, on a real Postgres."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import psycopg
import pytest

from collector import retention
from collector.config import Keep
from collector.store.engine import AsyncEngine, open_engine

pytestmark = pytest.mark.anyio

START = datetime(2026, 1, 1, 12, tzinfo=UTC)
DAY = timedelta(days=1)
KEEP = Keep(results=30 * DAY, batches=14 * DAY, runs=30 * DAY, minutes=45 * DAY, hours=60 * DAY)
A_DAY = 200
"""Results and batches in a day of the simulated year; a tenth of the results come a week late."""
# What the table asks for and no more: the other columns do not matter here.
INSERT = """
INSERT INTO result (started_at, started_at_agent, received_at, started_boottime_seconds, seq, boot_id, batch_id,
    agent_id, agent_region_id, target_id, prober, outcome, clock_source, flags)
SELECT d + n * interval '4 minutes', d, d, 1, n, gen_random_uuid(), gen_random_uuid(), 1, 1, 1, 1, 1, 1, 0
FROM generate_series(1, %s) AS s (n), (SELECT %s::timestamptz AS d) AS day
"""
LEDGER = """
INSERT INTO batch (agent_id, batch_id, boot_id, received_at, accepted, late)
SELECT (SELECT min(id) FROM agent), gen_random_uuid(), gen_random_uuid(), %s, 1, 0 FROM generate_series(1, %s)
"""
ROLLUP = """
INSERT INTO rollup_{0} (bucket, agent_region_id, target_id, connection, prober, probes, failures, spoiled)
SELECT %s::timestamptz + n * interval '1 {0}', 1, 1, 0, 1, 1, 0, 0 FROM generate_series(0, %s) AS s (n)
"""
SIZE = """
SELECT sum(pg_total_relation_size(oid)) FROM pg_class
WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace
"""


@pytest.fixture
async def engine(database_url: str) -> AsyncIterator[AsyncEngine]:
    """Give the pool of a collector whose database knows one agent."""
    with psycopg.connect(database_url) as connection:
        connection.execute("INSERT INTO agent_region (name) VALUES ('eu')")
        connection.execute("INSERT INTO agent (name, agent_region_id) SELECT 'a', id FROM agent_region")
    engine = open_engine(database_url)
    yield engine
    await engine.dispose()


class Year:
    """A database that lives through a day in a few milliseconds."""

    def __init__(self, connection: psycopg.Connection, engine: AsyncEngine) -> None:
        self._connection = connection
        self._engine = engine
        self.now = START

    async def live(self, days: int) -> None:
        for _ in range(days):
            self.now += DAY
            midnight = self.now.replace(hour=0)
            self._insert(midnight, A_DAY - A_DAY // 10)
            self._insert(midnight - 7 * DAY, A_DAY // 10)
            self._roll_up(midnight)
            self._connection.execute(LEDGER, (self.now, A_DAY))
            self._connection.commit()
            await retention.enforce(self._engine, KEEP, self.now)

    def _roll_up(self, midnight: datetime) -> None:
        for level, rows in (("minute", A_DAY), ("hour", 23)):
            self._connection.execute("SELECT create_rollup_partition(%s, %s)", (level, midnight))
            self._connection.execute(ROLLUP.format(level).encode(), (midnight, rows))

    def _insert(self, day: datetime, rows: int) -> None:
        self._connection.execute("SELECT create_result_partition(%s)", (day.date(),))
        self._connection.execute(INSERT, (rows, day))

    def size(self) -> int:
        """Return the bytes of all tables, after what autovacuum does in such a month."""
        self._connection.commit()
        self._connection.autocommit = True
        self._connection.execute("VACUUM batch")
        self._connection.autocommit = False
        return self._number(SIZE)

    def results(self, since: datetime) -> int:
        return self._number("SELECT count(*) FROM result WHERE started_at >= %s", since)

    def batches(self, since: datetime) -> int:
        return self._number("SELECT count(*) FROM batch WHERE received_at >= %s", since)

    def minutes(self, since: datetime) -> int:
        return self._number("SELECT count(*) FROM rollup_minute WHERE bucket >= %s", since)

    def hours(self, since: datetime) -> int:
        return self._number("SELECT count(*) FROM rollup_hour WHERE bucket >= %s", since)

    def _number(self, query: str, *parameters: object) -> int:
        row = self._connection.execute(query.encode(), parameters).fetchone()
        assert row is not None
        return int(row[0])


@pytest.mark.parametrize("months", [5, pytest.param(12, marks=pytest.mark.slow_fault)])
async def test_over_a_year_the_disk_stays_flat_and_no_row_inside_the_window_is_lost(
    database_url: str, engine: AsyncEngine, months: int
) -> None:
    sizes = []
    with psycopg.connect(database_url) as connection:
        year = Year(connection, engine)
        await year.live(90)
        year.size()
        for _ in range(months - 3):
            await year.live(30)
            sizes.append(year.size())
            full = year.now.replace(hour=0) - KEEP.results
            # Those of the last seven days that come late are not here yet.
            assert year.results(full) == 31 * (A_DAY - A_DAY // 10) + 24 * (A_DAY // 10)
            assert year.results(full - DAY) == year.results(full), "the day before is gone"
            assert year.batches(year.now - KEEP.batches) == 15 * A_DAY
            assert year.batches(START) == 15 * A_DAY, "older rows of the ledger are gone"
            assert year.minutes(START) == 46 * (A_DAY + 1)
            # Hours go by whole months.
            assert year.hours(year.now.replace(hour=0) - KEEP.hours) == 61 * 24
            assert year.hours(START) <= (61 + 31) * 24
    assert max(sizes) <= 1.1 * min(sizes), sizes
