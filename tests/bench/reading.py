"""How long readers wait with millions of results over 30 days, beside percentile_cont over the raw rows.

`ISOCHRONE_BENCH_MILLIONS=1,10,30` tells how many. Every question is asked over HTTP of a real collector: of another
series each time, so that the answer is made, and of one again and again, so that it is kept. The same question of the
raw rows is put to the database alone, as one would write it, which favours it. Waits are told as the 95th percentile;
ratios are of medians. What asks nothing tells how busy the machine is with other things: every wait has a share of it.
From `FULL_MILLIONS` on a ratio is a promise: fewer raw rows are soon counted.
"""

import asyncio
import os
import statistics
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

import httpx
import psycopg

from collector import admin
from collector.app import create_app
from collector.config import Settings
from collector.store.engine import admin_transaction
from collector.store.summary import summarise_streams, summarise_trips
from tests.bench.expectation import Expectation
from tests.bench.filling import DAY, ENDPOINTS, HOUR, REGIONS, Filled, fill, hurry
from tests.collecting import serving
from tests.postgres import running_postgres

DEFAULT_MILLIONS: Final = "3"
FULL_MILLIONS: Final = 30
WARM_UP: Final = 3
ASKED: Final = 60
"""Times each question is asked."""
ASKED_RAW: Final = 5
FASTER: Final = 50
SUMMARY_MS: Final = 50.0
SERIES_MS: Final = 50.0
BASELINE_MS: Final = 200.0

_LINE: Final = (
    "percentile_cont(ARRAY[0.5, 0.95]) WITHIN GROUP (ORDER BY r.ttft_seconds)"
    " FROM result r JOIN agent_region g ON g.id = r.agent_region_id JOIN target t ON t.id = r.target_id"
    " JOIN endpoint e ON e.id = t.endpoint_id WHERE r.started_at >= %(since)s AND r.started_at < %(until)s"
    " AND g.name = %(region)s AND e.name = %(endpoint)s AND r.prober = 2 AND r.outcome = 1 AND r.flags = 0 GROUP BY 1"
)
RAW_SERIES: Final = f"SELECT date_bin('5 minutes', r.started_at, '2000-01-01'), {_LINE}"
RAW_BASELINE: Final = f"SELECT extract(hour FROM r.started_at), {_LINE}"  # noqa: S608  literals of this file


@dataclass(frozen=True, kw_only=True)
class Waits:
    """Milliseconds."""

    median: float
    p95: float


@dataclass(frozen=True, kw_only=True)
class Asked:
    """One question, three times."""

    what: str
    limit: float
    """Of the 95th percentile, in milliseconds."""
    made: Waits | None
    """None: all readers ask the same, so it is nearly always kept."""
    kept: Waits
    raw: float
    """Median."""


def run() -> list[Expectation]:
    """Fill databases, ask, and return what was measured."""
    found = []
    with running_postgres() as server:
        hurry(server)
        for millions in _millions():
            url = server.new_database()
            admin.migrate(url)
            filled = fill(url, round(millions * 1e6), now=datetime.now(UTC).replace(second=0, microsecond=0))
            found += [*_rebuilt(filled), *measure(url, millions)]
            server.drop_database(url)
    return found


def measure(url: str, millions: float) -> list[Expectation]:
    """Ask a database that holds so many results."""
    asked, nothing, first = asyncio.run(_ask(url))
    what = f"summary of 1 h, made, median, {millions:g} million"
    return [
        Expectation(bench="reading", what="/healthz, which asks nothing, p95", measured=nothing.p95, unit="ms"),
        Expectation(bench="reading", what=what, measured=first.median, unit="ms"),
        *(row for one in asked for row in _rows(one, millions)),
    ]


def _millions() -> list[float]:
    return sorted(map(float, os.environ.get("ISOCHRONE_BENCH_MILLIONS", DEFAULT_MILLIONS).split(",")))


async def _ask(url: str) -> tuple[list[Asked], Waits, Waits]:
    """Return what was asked, how long an answer takes that asks nothing, and a summary that nobody asked for before."""
    app = create_app(Settings(database_url=url))
    async with serving(app) as address, httpx.AsyncClient(base_url=address, trust_env=False, timeout=60) as client:
        until = datetime.now(UTC)
        day, week = (f"since={until - span:%Y-%m-%dT%H:%M:%SZ}" for span in (DAY, 7 * DAY))
        hours = "by=hour_of_day&"
        asked = [
            Asked(
                what="summary of 1 h",
                limit=SUMMARY_MS,
                made=None,
                kept=await _waits(client, lambda _: "/v1/summary?window=1h"),
                raw=await asyncio.to_thread(_raw_summary, url),
            ),
            Asked(
                what="series of 24 h",
                limit=SERIES_MS,
                made=await _waits(client, lambda n: _series(f"{day}&{_pair(n)}")),
                kept=await _waits(client, lambda _: _series(f"window=24h&{_pair(0)}")),
                raw=await asyncio.to_thread(_raw, url, RAW_SERIES, DAY),
            ),
            Asked(
                what="7 days by hour of day",
                limit=BASELINE_MS,
                made=await _waits(client, lambda n: _series(f"{hours}{week}&{_pair(n)}")),
                kept=await _waits(client, lambda _: _series(f"{hours}window=7d&{_pair(0)}")),
                raw=await asyncio.to_thread(_raw, url, RAW_BASELINE, 7 * DAY),
            ),
        ]
        nothing = await _waits(client, lambda _: "/healthz")
        # Last, for each of these is made anew for a while: of another window each time.
        first = await _waits(client, lambda n: f"/v1/summary?window={3_600 + n}s", times=ASKED_RAW)
        return asked, nothing, first


def _series(query: str) -> str:
    return f"/v1/series?signal=ttft&prober=inference&{query}"


def _pair(number: int) -> str:
    return f"agent_region=r-{number % REGIONS}&endpoint=e-{number // REGIONS % ENDPOINTS}"


async def _waits(client: httpx.AsyncClient, path: Callable[[int], str], *, times: int = ASKED) -> Waits:
    for number in range(WARM_UP):
        await _get(client, path(number))
    waits = [await _timed(_get(client, path(WARM_UP + number))) for number in range(times)]
    return Waits(median=statistics.median(waits), p95=statistics.quantiles(waits, n=20)[-1])


async def _timed(work: Awaitable[None]) -> float:
    begun = time.perf_counter()
    await work
    return (time.perf_counter() - begun) * 1_000


async def _get(client: httpx.AsyncClient, path: str) -> None:
    answer = await client.get(path)
    answer.raise_for_status()
    body = answer.json()
    if path.startswith("/v1/") and not body.get("rows", body.get("series")):
        raise RuntimeError(f"nothing came: {path}")


def _raw(url: str, statement: str, span: timedelta) -> float:
    """Return the median milliseconds of a question to the raw rows."""
    waits = []
    with psycopg.connect(url) as connection:
        for number in range(ASKED_RAW + 1):
            until = datetime.now(UTC)
            parameters = {"since": until - span, "until": until, "region": f"r-{number}", "endpoint": f"e-{number}"}
            begun = time.perf_counter()
            if not connection.execute(statement.encode(), parameters).fetchall():
                raise RuntimeError(f"nothing came: {statement}")
            waits.append((time.perf_counter() - begun) * 1_000)
    return statistics.median(waits[1:])


def _raw_summary(url: str) -> float:
    """Return the median milliseconds of the statements by which the product itself sums up short windows."""
    waits = []
    for _ in range(ASKED_RAW + 1):
        until = datetime.now(UTC)
        with admin_transaction(url) as connection:
            begun = time.perf_counter()
            for statement in (summarise_streams, summarise_trips):
                statement(connection, since=until - HOUR, until=until)
            waits.append((time.perf_counter() - begun) * 1_000)
    return statistics.median(waits[1:])


def _rows(asked: Asked, millions: float) -> list[Expectation]:
    size = f"{millions:g} million"
    promised = FASTER if millions >= FULL_MILLIONS else None
    rows = []
    if asked.made is not None:
        rows += [
            _wait(f"{asked.what}, made, p95, {size}", asked.made.p95, asked.limit),
            _peer(f"percentile_cont for {asked.what}, {size}", asked.raw, asked.made.median, how="made"),
        ]
    return [
        *rows,
        _wait(f"{asked.what}, kept, p95, {size}", asked.kept.p95, asked.limit),
        _peer(f"percentile_cont for {asked.what}, {size}", asked.raw, asked.kept.median, how="kept", at_least=promised),
    ]


def _wait(what: str, milliseconds: float, limit: float) -> Expectation:
    return Expectation(
        bench="reading", what=what, measured=milliseconds, unit="ms", against="limit", reference=limit, at_most=1
    )


def _peer(what: str, raw: float, ours: float, *, how: str, at_least: float | None = None) -> Expectation:
    return Expectation(
        bench="reading", what=what, measured=raw, unit="ms", against=how, reference=ours, at_least=at_least
    )


def _rebuilt(filled: Filled) -> list[Expectation]:
    what = f"a day of {filled.results_a_day:,} results rolled up anew"
    return [Expectation(bench="reading", what=what, measured=filled.rebuilt, unit="s")]
