"""The text of the statements that roll up: results to minutes, minutes to hours, rollups to what is asked. Pure.

All have the same form. `picked` are the rows with their keys; `totals` counts, sums, least and greatest by key;
`spread` how many values of a signal lie in which bucket; `sketches` the same as two arrays per signal.
A signal with one value alone in a key stands in its `_min`; only more than one have count, sum, max and arrays.
"""

from collections.abc import Iterable, Sequence
from typing import Final

from collector.schema import OUTCOMES, SIGNALS
from collector.stats.sketch import PER_OCTAVE, UNIT, ZERO
from isochrone.outcome import Outcome

KEYS: Final = ("bucket", "agent_region_id", "target_id", "connection")
COUNTS: Final = ("probes", "failures", "spoiled")
PINGS: Final = ("pings_sent", "pings_lost")
PARTS: Final = ("count", "sum", "min", "max", "buckets", "counts")
"""The columns of a signal in a rollup, behind its name."""

_ORIGIN: Final = "timestamptz '2000-01-01 00:00:00+00'"
_OK: Final = f"outcome = {OUTCOMES.index(Outcome.OK) + 1}"
_UNITS: Final = round(1 / UNIT)
_MOST: Final = 1e9
"""What the contract lets a rate be; a second is bounded lower. Above it, units would not fit an int8."""
_COLUMNS: Final = (*KEYS, "prober", *COUNTS, *PINGS, *(f"{name}_{part}" for name in SIGNALS for part in PARTS))


def binned(span: str, column: str) -> str:
    """Return SQL for the start of the `span` (an interval, or a parameter) in which a moment lies, in UTC."""
    return f"date_bin({span}, {column}, {_ORIGIN})"


MINUTE: Final = "interval '1 minute'"
HOUR: Final = "interval '1 hour'"


def minutes_from_raw(*, where: str) -> str:
    """Return the statement that rolls up the results from :since before :until for which `where` holds."""
    values = ", ".join(f"CASE WHEN {_OK} AND flags = 0 THEN {column} END AS {name}" for name, column in SIGNALS.items())
    pings = ", ".join(f"CASE WHEN flags = 0 THEN {column} END AS {column}" for column in PINGS)
    picked = (
        f"SELECT {binned(MINUTE, 'started_at')} AS bucket, agent_region_id, target_id,"
        " coalesce(connection, 0)::int2 AS connection, prober,"
        f" (NOT {_OK})::int AS failures, ({_OK} AND flags <> 0)::int AS spoiled, {pings}, {values}"
        f" FROM result WHERE started_at >= :since AND started_at < :until AND {where}"
    )
    totals = (
        f"SELECT {_list(KEYS)}, min(prober) AS prober, count(*)::int AS probes, sum(failures)::int AS failures,"
        f" sum(spoiled)::int AS spoiled, {_ping_sums()}, {', '.join(map(_total_of_values, SIGNALS))}"
        f" FROM picked GROUP BY {_list(KEYS)}"
    )
    pairs = ", ".join(f"({number}, {name})" for number, name in enumerate(SIGNALS))
    spread = (
        f"SELECT {_list(KEYS)}, signal, {_bucket('x')} AS b, count(*)::int AS n"
        f" FROM picked JOIN (SELECT {_list(KEYS)} FROM totals WHERE probes > 1) AS many USING ({_list(KEYS)})"
        f" CROSS JOIN LATERAL (VALUES {pairs}) AS v (signal, x) WHERE x IS NOT NULL"
        f" GROUP BY {_list(KEYS)}, signal, b"
    )
    return _upsert("rollup_minute", picked=picked, totals=totals, spread=spread)


def hours_from_minutes(*, where: str) -> str:
    """Return the statement that rolls up the minutes from :since before :until for which `where` holds."""
    columns = _list((*_COLUMNS[1:],))
    picked = (
        f"SELECT bucket AS minute, {binned(HOUR, 'bucket')} AS bucket, {columns} FROM rollup_minute"
        f" WHERE bucket >= :since AND bucket < :until AND {where}"
    )
    totals = merged_totals(KEYS, SIGNALS, order=" ORDER BY minute", extra="min(prober) AS prober, ")
    # The rule of the compact form: what one value alone would repeat is NULL.
    compact = ", ".join(
        f"CASE WHEN {name}_count > 1 THEN {name}_{part} END AS {name}_{part}" if part != "min" else f"{name}_min"
        for name in SIGNALS
        for part in ("count", "sum", "min", "max")
    )
    totals = f"SELECT {_list(KEYS)}, prober, {_list(COUNTS)}, {_list(PINGS)}, {compact} FROM ({totals}) AS whole"
    return _upsert("rollup_hour", picked=picked, totals=totals, spread=merged_spread(KEYS, SIGNALS))


def merged_totals(keys: Sequence[str], signals: Iterable[str], *, order: str = "", extra: str = "") -> str:
    """Return SQL for counts, sums, least and greatest of rollup rows, by key. `order` makes sums come out alike."""
    sums = ", ".join(f"sum({name})::bigint AS {name}" for name in COUNTS) if not order else _int_sums()
    return (
        f"SELECT {_list(keys)}, {extra}{sums}, {_ping_sums()}"
        f"{''.join(', ' + _total_of_rollups(name, order) for name in signals)} FROM picked GROUP BY {_list(keys)}"
    )


def merged_spread(keys: Sequence[str], signals: Iterable[str]) -> str:
    """Return SQL for how many values lie in which bucket, over rollup rows, by key and number of the signal."""
    ones = ", ".join(f"({n}, {name}_min, {name}_buckets)" for n, name in enumerate(signals))
    many = ", ".join(f"({n}, {name}_buckets, {name}_counts)" for n, name in enumerate(signals))
    return (
        f"SELECT {_list(keys)}, signal, b, sum(n)::int AS n FROM ("
        f"SELECT {_list(keys)}, signal, {_bucket('x')} AS b, 1 AS n FROM picked"
        f" CROSS JOIN LATERAL (VALUES {ones}) AS v (signal, x, buckets) WHERE x IS NOT NULL AND buckets IS NULL"
        f" UNION ALL SELECT {_list(keys)}, signal, b, n FROM picked"
        f" CROSS JOIN LATERAL (VALUES {many}) AS v (signal, buckets, counts)"
        " CROSS JOIN LATERAL unnest(buckets, counts) AS u (b, n) WHERE buckets IS NOT NULL"
        f") AS one GROUP BY {_list(keys)}, signal, b"
    )


def sketches(keys: Sequence[str], signals: Iterable[str]) -> str:
    """Return SQL for two arrays per signal, from `spread`, by key."""
    arrays = ", ".join(
        f"max({part}) FILTER (WHERE signal = {number}) AS {name}_{part}"
        for number, name in enumerate(signals)
        for part in ("buckets", "counts")
    )
    return (
        f"SELECT {_list(keys)}, {arrays} FROM (SELECT {_list(keys)}, signal, array_agg(b ORDER BY b) AS buckets,"
        f" array_agg(n ORDER BY b) AS counts FROM spread GROUP BY {_list(keys)}, signal) AS one GROUP BY {_list(keys)}"
    )


def _upsert(table: str, *, picked: str, totals: str, spread: str) -> str:
    """Return the whole statement. Rows that come out as they were are not written again."""
    chosen = ", ".join(_chosen(column) for column in _COLUMNS)
    others = _COLUMNS[len(KEYS) :]
    return (
        f"WITH picked AS MATERIALIZED ({picked}), totals AS MATERIALIZED ({totals}), spread AS ({spread}),"
        f" sketches AS ({sketches(KEYS, SIGNALS)})"
        f" INSERT INTO {table} AS old ({_list(_COLUMNS)}) SELECT {chosen} FROM totals AS t"
        f" LEFT JOIN sketches AS s USING ({_list(KEYS)}) ORDER BY {_list(KEYS)}"
        f" ON CONFLICT ({_list(KEYS)}) DO UPDATE SET {', '.join(f'{name} = excluded.{name}' for name in others)}"
        f" WHERE ({', '.join(f'old.{name}' for name in others)})"
        f" IS DISTINCT FROM ({', '.join(f'excluded.{name}' for name in others)})"
    )


def _chosen(column: str) -> str:
    name, _, part = column.rpartition("_")
    return f"CASE WHEN t.{name}_count IS NOT NULL THEN s.{column} END" if part in PARTS[-2:] else column


def _total_of_values(name: str) -> str:
    # least() leaves out what is NULL, and would make the bound of it.
    present = f"FILTER (WHERE {name} IS NOT NULL)"
    exact = f"sum((least({name}::float8, {_MOST:g}) * {_UNITS})::int8) {present}::float8 / {_UNITS}"
    return (
        f"CASE WHEN count({name}) > 1 THEN count({name})::int END AS {name}_count,"
        f" CASE WHEN count({name}) > 1 THEN {exact} END AS {name}_sum,"
        f" min({name}) AS {name}_min, CASE WHEN count({name}) > 1 THEN max({name}) END AS {name}_max"
    )


def _total_of_rollups(name: str, order: str) -> str:
    return (
        f"sum(coalesce({name}_count, 1)) FILTER (WHERE {name}_min IS NOT NULL)::int AS {name}_count,"
        f" sum(coalesce({name}_sum, {name}_min){order}) AS {name}_sum, min({name}_min) AS {name}_min,"
        f" max(coalesce({name}_max, {name}_min)) AS {name}_max"
    )


def _int_sums() -> str:
    return ", ".join(f"sum({name})::int AS {name}" for name in COUNTS)


def _ping_sums() -> str:
    return ", ".join(f"sum({name})::bigint AS {name}" for name in PINGS)


def _bucket(value: str) -> str:
    """Return SQL for `collector.stats.sketch.bucket_of`."""
    number = f"ceil(ln({value}::float8) * ({PER_OCTAVE} / ln(2::float8)))"
    return f"(CASE WHEN {value} > 0 THEN {number} ELSE {ZERO} END)::int2"


def _list(names: Iterable[str]) -> str:
    return ", ".join(names)
