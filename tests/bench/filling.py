"""Fills a database with a month of results and their rollups, faster than they could come in.

One day is made by generate_series and rolled up by the product's own rebuild. Every other day is that one again, so
many days earlier or later, results and rollups alike; what a rebuild makes of one of these is held against what was
copied. Ten regions, ten endpoints, a round trip and a stream each, evenly over the days.
"""

import sys
import time
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Final

import msgspec
import psycopg

from collector import admin, rollup
from collector.schema import RESULT_COLUMNS
from isochrone.config import Targets
from tests.collecting import TARGETS
from tests.postgres import Postgres

DAYS: Final = 30
REGIONS: Final = 10
ENDPOINTS: Final = 10
DAY: Final = timedelta(days=1)
HOUR: Final = timedelta(hours=1)

_SETTINGS: Final = {
    "fsync": "off", "synchronous_commit": "off", "wal_level": "minimal", "max_wal_senders": "0",
    "max_wal_size": "'16GB'", "checkpoint_timeout": "'1h'", "autovacuum": "off",
}  # fmt: skip
"""Of a server that may lose everything: what goes into a table of the same transaction needs no log. Tables are cleaned
once, when all are full."""
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
_MOMENTS: Final = ("started_at", "started_at_agent", "received_at")


@dataclass(frozen=True, kw_only=True)
class Filled:
    """How long the steps took, in seconds."""

    results_a_day: int
    rebuilt: float
    """A day, by the product."""
    whole: float


def hurry(server: Postgres) -> None:
    """Let the server write as fast as it can; it starts anew."""
    for name, value in _SETTINGS.items():
        server.execute(psycopg.sql.SQL(f"ALTER SYSTEM SET {name} = {value}"))
    server.stop()
    server.start()


def fill(url: str, count: int, *, now: datetime) -> Filled:
    """Make the results of 30 days before `now`, which is a whole minute, and their rollups."""
    begun = time.monotonic()
    _name_everything(url)
    since = now.replace(minute=0) - DAYS * DAY
    model = since.replace(hour=0) + DAY
    a_day = count // DAYS
    _make_day(url, model, a_day)
    _tell(f"one day of {a_day:,} results was made after {time.monotonic() - begun:.0f} s")
    rebuilt = rebuild(url, model, model + DAY)
    _tell(f"it was rolled up within {rebuilt:.0f} s")
    for number in range(-1, DAYS):
        if number:
            _copy_day(url, model, number, since=since, until=now)
            _tell(f"day {number + 2} of {DAYS + 1}: after {time.monotonic() - begun:.0f} s")
    rebuild(url, now.replace(minute=0), now)
    _check_day(url, model + DAY)
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("SET default_statistics_target = 10")  # arrays in wide rows: 100 takes as long as filling
        connection.execute("VACUUM ANALYZE")
    whole = time.monotonic() - begun
    _tell(f"filled and rolled up after {whole:.0f} s")
    return Filled(results_a_day=a_day, rebuilt=rebuilt, whole=whole)


def rebuild(url: str, since: datetime, until: datetime) -> float:
    """Let the product roll a span up; return the seconds it took."""
    begun = time.monotonic()
    rollup.rebuild(url, since=since, until=until, progress=lambda _done, _hours: None)
    return time.monotonic() - begun


def _name_everything(url: str) -> None:
    (endpoint,) = TARGETS.endpoints
    (region,) = TARGETS.regions
    replace = msgspec.structs.replace
    targets: Targets = replace(
        TARGETS,
        endpoints=tuple(replace(endpoint, name=f"e-{n}", modules=("rtt", "chat")) for n in range(ENDPOINTS)),
        regions=tuple(replace(region, name=f"r-{n}") for n in range(REGIONS)),
        sites=(),
    )
    admin.apply_targets(url, targets)
    for number in range(REGIONS):
        admin.add_agent(url, name=f"a-{number}", region=f"r-{number}")


def _make_day(url: str, since: datetime, count: int) -> None:
    names = [name for name in RESULT_COLUMNS if name in _VALUES]
    values = ", ".join(_VALUES[name] for name in names)
    statement = (
        f"INSERT INTO result ({', '.join(names)})"  # noqa: S608  literals of this file
        f" SELECT {values} FROM ("
        " SELECT i, %(since)s + i * %(step)s::interval AS at,"
        " a.id AS agent, a.agent_region_id AS region, t.id AS target, t.connection IS NOT NULL AS streams,"
        " (0.3 * exp(random() + random() + random() - 1.5))::real AS x"
        " FROM generate_series(0, %(count)s::int8 - 1) AS i"
        " JOIN (SELECT *, row_number() OVER (ORDER BY id) - 1 AS n FROM agent) a ON a.n = i %% %(agents)s"
        " JOIN (SELECT *, row_number() OVER (ORDER BY id) - 1 AS n FROM target) t"
        " ON t.n = (i / %(agents)s) %% %(targets)s) AS one ORDER BY at"
    )
    parameters = {
        "since": since, "count": count, "step": DAY / max(count, 1), "agents": REGIONS, "targets": 2 * ENDPOINTS,
    }  # fmt: skip
    with psycopg.connect(url, autocommit=True) as connection:
        with connection.transaction():
            connection.execute("SELECT create_result_partition(%s)", [since.date()])
            connection.execute(statement.encode(), parameters)
        # The index by time knows what was there when the table was last cleaned.
        connection.execute(f"VACUUM ANALYZE {_partition('result', since.date())}".encode())


def _copy_day(url: str, model: datetime, days: int, *, since: datetime, until: datetime) -> None:
    """Store the model day so many days later (or earlier), as far as that lies within the span."""
    first, last = max(since, model + days * DAY), min(until, model + (days + 1) * DAY)
    whole = last.replace(minute=0)  # of the hour that is not over there are fewer results
    if first >= last:
        return
    with psycopg.connect(url) as connection:
        connection.execute("SELECT create_result_partition(%s)", [first.date()])
        _copy(connection, "result", _result_columns(), first=first, last=last, days=days)
        for level in ("minute", "hour"):
            connection.execute("SELECT create_rollup_partition(%s, %s)", [level, first])
            table = f"rollup_{level}"
            columns = _columns(connection, table)
            _copy(connection, table, columns, first=first, last=whole, days=days)


def _copy(
    connection: psycopg.Connection,
    table: str,
    columns: list[str],
    *,
    first: datetime,
    last: datetime,
    days: int,
) -> None:
    moments = {*_MOMENTS, "bucket"}
    values = ", ".join(f"{name} + %(by)s" if name in moments else name for name in columns)
    by, place = days * DAY, "started_at" if table == "result" else "bucket"
    connection.execute(
        f"INSERT INTO {table} ({', '.join(columns)}) SELECT {values} FROM {table}"  # noqa: S608  names of the schema
        f" WHERE {place} >= %(first)s AND {place} < %(last)s".encode(),
        {"by": by, "first": first - by, "last": last - by},
    )


def _result_columns() -> list[str]:
    return [name for name in RESULT_COLUMNS if name in _VALUES]


def _columns(connection: psycopg.Connection, table: str) -> list[str]:
    found = connection.execute(
        "SELECT column_name::text FROM information_schema.columns WHERE table_name = %s ORDER BY ordinal_position",
        [table],
    )
    return [name for (name,) in found]


def _check_day(url: str, since: datetime) -> None:
    """Hold what was copied against what the product makes of the results of that day; raise RuntimeError."""
    span = {"since": since, "until": since + DAY}
    where = "bucket >= %(since)s AND bucket < %(until)s"
    with psycopg.connect(url, autocommit=True) as connection:
        for level in ("minute", "hour"):
            copied = f"CREATE TEMPORARY TABLE copied_{level} AS SELECT * FROM rollup_{level} WHERE {where}"  # noqa: S608  literals
            connection.execute(psycopg.ClientCursor(connection).mogrify(copied, span))
        seconds = rebuild(url, since, since + DAY)
        for level in ("minute", "hour"):
            now = f"SELECT * FROM rollup_{level} WHERE {where}"  # noqa: S608  literals of this file
            unlike = (
                f"SELECT count(*) FROM ((TABLE copied_{level} EXCEPT ALL ({now}))"  # noqa: S608  as above
                f" UNION ALL (({now}) EXCEPT ALL TABLE copied_{level})) AS one"
            )
            (count,) = connection.execute(unlike.encode(), span).fetchone() or (None,)
            if count != 0:
                raise RuntimeError(f"{count} rows of rollup_{level} are not what a rebuild makes of {since:%Y-%m-%d}")
    _tell(f"a copied day equals its rebuild (of {seconds:.0f} s), row for row")


def _partition(table: str, day: date) -> str:
    return f"{table}_{day:%Y%m%d}"


def _tell(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
