"""How long readers wait with 30 million results over 30 days, beside percentile_cont over the raw rows.

`ISOCHRONE_BENCH_MILLIONS` makes it smaller. The results are made by the server itself: ten regions, ten endpoints, a
round trip and a stream each, evenly over the days, and rolled up by the same statements as those that came in. Every
question is asked over HTTP of a real collector, of another series each time; the raw question is asked of the database
alone, which favours it.
"""

import asyncio
import os
import statistics
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

import httpx
import msgspec
import psycopg

from collector import admin, rollup
from collector.api.context import Context
from collector.app import create_app
from collector.config import Settings
from collector.schema import RESULT_COLUMNS
from collector.store.engine import run as ask
from collector.store.summary import summarise_streams, summarise_trips
from isochrone.config import Targets
from tests.bench.expectation import Expectation
from tests.collecting import TARGETS, serving
from tests.postgres import running_postgres

DAYS: Final = 30
REGIONS: Final = 10
ENDPOINTS: Final = 10
ASKED: Final = 60
"""Times each question is asked."""
ASKED_RAW: Final = 3
FASTER: Final = 50
SUMMARY_MS: Final = 50.0
SERIES_MS: Final = 50.0
BASELINE_MS: Final = 200.0

_VALUES: Final = {
    "started_at": "at", "started_at_agent": "at", "received_at": "at + interval '5 s'",
    "started_boottime_seconds": "i", "seq": "i", "boot_id": "'0196a7c2-0000-7000-8000-00000000000a'::uuid",
    "batch_id": "'0196a7c2-1111-7000-8000-000000000001'::uuid", "agent_id": "agent", "agent_region_id": "region",
    "target_id": "target", "prober": "CASE WHEN streams THEN 2 ELSE 1 END",
    "outcome": "CASE WHEN i %% 97 = 0 THEN 3 ELSE 1 END", "clock_source": "1", "flags": "0", "connection": "1",
    "duration_seconds": "1 + x", "setup_seconds": "x / 9", "rtt_seconds": "x / 7",
    "ttft_seconds": "CASE WHEN streams THEN x END", "answer_ttft_seconds": "CASE WHEN streams THEN x END",
    "tpot_seconds": "CASE WHEN streams THEN x / 20 END", "tokens_per_second": "CASE WHEN streams THEN 20 / x END",
    "stall_seconds": "CASE WHEN streams THEN x / 10 END", "network_seconds": "CASE WHEN streams THEN x / 4 END",
    "model_seconds": "CASE WHEN streams THEN x / 2 END", "streaming_seconds": "CASE WHEN streams THEN 1 END",
    "marks_end": "1 + x",
}  # fmt: skip
"""What a result has, by column."""


@dataclass(frozen=True, kw_only=True)
class Waits:
    """Milliseconds."""

    p95: float
    first: float


def run() -> list[Expectation]:
    """Fill a database, ask, and return what was measured."""
    count = round(float(os.environ.get("ISOCHRONE_BENCH_MILLIONS", "30")) * 1e6)
    with running_postgres() as server:
        url = server.new_database()
        admin.migrate(url)
        now = datetime.now(UTC).replace(second=0, microsecond=0)
        _fill(url, count, now=now)
        return asyncio.run(_measure(url, count))


def _targets() -> Targets:
    (endpoint,) = TARGETS.endpoints
    (region,) = TARGETS.regions
    replace = msgspec.structs.replace
    return replace(
        TARGETS,
        endpoints=tuple(replace(endpoint, name=f"e-{n}", modules=("rtt", "chat")) for n in range(ENDPOINTS)),
        regions=tuple(replace(region, name=f"r-{n}") for n in range(REGIONS)),
        sites=(),
    )


def _fill(url: str, count: int, *, now: datetime) -> None:
    """Make the results of each day, and roll them up."""
    admin.apply_targets(url, _targets())
    for number in range(REGIONS):
        admin.add_agent(url, name=f"a-{number}", region=f"r-{number}")
    begun = time.monotonic()
    per_day = count // DAYS
    for day in range(DAYS):
        since = now - timedelta(days=DAYS - day)
        with psycopg.connect(url) as connection:
            connection.execute("SET synchronous_commit = off")
            for edge in (since, since + timedelta(days=1)):
                connection.execute("SELECT create_result_partition(%s)", [edge.date()])
            _fill_day(connection, since, per_day, first=day * per_day)
        _tell(f"day {day + 1} of {DAYS}: {per_day * (day + 1):,} results after {time.monotonic() - begun:.0f} s")
    rollup.rebuild(url, since=None, until=None, progress=_tell_hours)
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("VACUUM ANALYZE")
    _tell(f"rolled up after {time.monotonic() - begun:.0f} s")


def _fill_day(connection: psycopg.Connection, since: datetime, count: int, *, first: int) -> None:
    names = [name for name in RESULT_COLUMNS if name in _VALUES]
    values = ", ".join(_VALUES[name] for name in names)
    statement = (
        f"INSERT INTO result ({', '.join(names)})"  # noqa: S608  literals of this file
        f" SELECT {values} FROM ("
        " SELECT i, %(since)s + (i - %(first)s::int8) * %(step)s::interval AS at,"
        " a.id AS agent, a.agent_region_id AS region, t.id AS target, t.connection IS NOT NULL AS streams,"
        " (0.3 * exp(random() + random() + random() - 1.5))::real AS x"
        " FROM generate_series(%(first)s::int8, %(last)s::int8) AS i"
        " JOIN (SELECT *, row_number() OVER (ORDER BY id) - 1 AS n FROM agent) a ON a.n = i %% %(agents)s"
        " JOIN (SELECT *, row_number() OVER (ORDER BY id) - 1 AS n FROM target) t"
        " ON t.n = (i / %(agents)s) %% %(targets)s) AS one"
    )
    parameters = {
        "since": since, "first": first, "last": first + count - 1, "step": timedelta(days=1) / max(count, 1),
        "agents": REGIONS, "targets": 2 * ENDPOINTS,
    }  # fmt: skip
    connection.execute(statement.encode(), parameters)


async def _measure(url: str, count: int) -> list[Expectation]:
    app = create_app(Settings(database_url=url))
    async with serving(app) as address, httpx.AsyncClient(base_url=address, trust_env=False, timeout=60) as client:
        context: Context = app.state.context
        summary = await _asked(lambda _: _get(client, "/v1/summary?window=1h"))
        series = await _asked(lambda n: _get(client, f"/v1/series?signal=ttft&window=24h&{_pair(n)}"))
        baseline = await _asked(lambda n: _get(client, f"/v1/series?signal=ttft&by=hour_of_day&window=7d&{_pair(n)}"))
        raw_summary = await _raw_summary(context)
        raw_series = await asyncio.to_thread(_raw, url, "date_bin('5 minutes', started_at, '2000-01-01')", days=1)
        raw_baseline = await asyncio.to_thread(_raw, url, "extract(hour FROM started_at)", days=7)
    size = f"{count / 1e6:g} million results"
    return [
        _record(f"summary of 1 h, not kept, {size}", summary.first),
        *_rows(f"summary of 1 h, kept, p95, {size}", summary.p95, limit=SUMMARY_MS, raw=raw_summary),
        *_rows(f"series of 24 h, p95, {size}", series.p95, limit=SERIES_MS, raw=raw_series),
        *_rows(f"7 days by hour of day, p95, {size}", baseline.p95, limit=BASELINE_MS, raw=raw_baseline),
    ]


def _rows(what: str, milliseconds: float, *, limit: float, raw: float) -> list[Expectation]:
    bench, unit = "reading", "ms"
    return [
        Expectation(
            bench=bench, what=what, measured=milliseconds, unit=unit, against="limit", reference=limit, at_most=1
        ),
        Expectation(
            bench=bench,
            what=f"percentile_cont for the same, raw rows ({what.partition(',')[0]})",
            measured=raw,
            unit=unit,
            against="by rollups",
            reference=milliseconds,
            at_least=FASTER,
        ),
    ]


def _record(what: str, milliseconds: float) -> Expectation:
    return Expectation(bench="reading", what=what, measured=milliseconds, unit="ms")


def _pair(number: int) -> str:
    return f"agent_region=r-{number % REGIONS}&endpoint=e-{number // REGIONS % ENDPOINTS}&prober=inference"


async def _get(client: httpx.AsyncClient, path: str) -> None:
    answer = await client.get(path)
    answer.raise_for_status()
    body = answer.json()
    if not body.get("rows", body.get("series")):
        raise RuntimeError(f"nothing came: {path}")


async def _asked(question: Callable[[int], Awaitable[None]]) -> Waits:
    waits = []
    for number in range(ASKED + 1):
        begun = time.perf_counter()
        await question(number)
        waits.append((time.perf_counter() - begun) * 1_000)
    return Waits(first=waits[0], p95=statistics.quantiles(waits[1:], n=20)[-1])


async def _raw_summary(context: Context) -> float:
    """Return the median milliseconds of the statements that a summary of raw rows takes."""
    waits = []
    for _ in range(ASKED_RAW):
        until = context.utc_now()
        begun = time.perf_counter()
        for statement in (summarise_streams, summarise_trips):
            await ask(context.engine, statement, since=until - timedelta(hours=1), until=until)
        waits.append((time.perf_counter() - begun) * 1_000)
    return statistics.median(waits)


def _raw(url: str, by: str, *, days: int) -> float:
    """Return the median milliseconds of percentile_cont over the raw rows of a series."""
    statement = (
        f"SELECT {by}, percentile_cont(ARRAY[0.5, 0.95])"  # noqa: S608  literals of this file
        " WITHIN GROUP (ORDER BY ttft_seconds) FROM v_result"
        " WHERE agent_region = %s AND endpoint = %s AND prober = 'inference' AND outcome = 'ok' AND flags = '{}'"
        " AND started_at >= now() - make_interval(days => %s) GROUP BY 1"
    )
    waits = []
    with psycopg.connect(url) as connection:
        for number in range(ASKED_RAW):
            begun = time.perf_counter()
            connection.execute(statement.encode(), [f"r-{number}", f"e-{number}", days]).fetchall()
            waits.append((time.perf_counter() - begun) * 1_000)
    return statistics.median(waits)


def _tell_hours(done: int, hours: int) -> None:
    if done % 24 == 0 or done == hours:
        _tell(f"hour {done} of {hours} rolled up")


def _tell(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    for row in run():
        print(row)
