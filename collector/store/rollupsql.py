"""The text of the statements that roll up: results to minutes, minutes to hours, rollups to what is asked. Pure.

All have the same form. `picked` are the rows with bucket and place (region, target, connection); `totals` counts, sums,
least and greatest by these; `spread` how many values of a signal lie in which bucket; `sketches` that as two arrays.
A signal with one value alone in a key stands in its `_min`; only more than one have count, sum, max and arrays.
"""

from collections.abc import Iterable
from typing import Final

from collector.schema import OUTCOMES, SIGNALS
from collector.stats.sketch import PER_OCTAVE, UNIT, ZERO
from isochrone.outcome import Outcome

KEYS: Final = ("bucket", "agent_region_id", "target_id", "connection")
_SPREAD: Final = 2**33 + 2_654_435_761
"""Above all that a target and two bits for a connection come to; and uneven, for the database hashes a number by the
exclusive or of its halves: were regions and targets two halves, most would meet in a few places of its table."""
PACKED: Final = f"(agent_region_id * {_SPREAD} + target_id::int8 * 4 + connection)"
"""All keys but the bucket in one number: to hash and to sort by it takes half the time."""
UNPACKED: Final = {
    "agent_region_id": f"(place / {_SPREAD})::int4",
    "target_id": f"(place % {_SPREAD} / 4)::int4",
    "connection": f"(place % {_SPREAD} % 4)::int2",
}
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
        f"SELECT {binned(MINUTE, 'started_at')} AS bucket,"
        f" {PACKED.replace('connection', 'coalesce(connection, 0)')} AS place, prober,"
        f" (NOT {_OK})::int AS failures, ({_OK} AND flags <> 0)::int AS spoiled, {pings}, {values}"
        f" FROM result WHERE started_at >= :since AND started_at < :until AND {where}"
    )
    totals = (
        "SELECT bucket, place, min(prober) AS prober, count(*)::int AS probes, sum(failures)::int AS failures,"
        f" sum(spoiled)::int AS spoiled, {_ping_sums()}, {', '.join(map(_total_of_values, SIGNALS))}"
        " FROM picked GROUP BY bucket, place"
    )
    pairs = ", ".join(f"({number}, {name})" for number, name in enumerate(SIGNALS))
    spread = (
        f"SELECT bucket, place, signal, {_bucket('x')} AS b, count(*)::int AS n"
        " FROM picked JOIN (SELECT bucket, place FROM totals WHERE probes > 1) AS many USING (bucket, place)"
        f" CROSS JOIN LATERAL (VALUES {pairs}) AS v (signal, x) WHERE x IS NOT NULL"
        " GROUP BY bucket, place, signal, b"
    )
    return _upsert("rollup_minute", picked=picked, totals=totals, spread=spread)


def hours_from_minutes(*, where: str) -> str:
    """Return the statement that rolls up the minutes from :since before :until for which `where` holds."""
    picked = (
        f"SELECT bucket AS minute, {binned(HOUR, 'bucket')} AS bucket, {PACKED} AS place,"
        f" {_list(_COLUMNS[len(KEYS) :])} FROM rollup_minute WHERE bucket >= :since AND bucket < :until AND {where}"
    )
    # The rule of the compact form: what one value alone would repeat is NULL.
    compact = ", ".join(
        f"{name}_min" if part == "min" else f"CASE WHEN {name}_count > 1 THEN {name}_{part} END AS {name}_{part}"
        for name in SIGNALS
        for part in PARTS[:4]
    )
    counts = _list(f"{name}::int AS {name}" for name in COUNTS)
    whole = merged_totals(SIGNALS, order=" ORDER BY minute")
    totals = f"SELECT bucket, place, prober, {counts}, {_list(PINGS)}, {compact} FROM ({whole}) AS whole"
    return _upsert("rollup_hour", picked=picked, totals=totals, spread=merged_spread(SIGNALS))


def merged_totals(signals: Iterable[str], *, order: str = "") -> str:
    """Return SQL for counts, sums, least and greatest of rollup rows, by bucket and place.

    `order` is that of the summands: two sums of the same numbers are alike to the last bit in the same order alone.
    """
    counts = _list(f"sum({name})::bigint AS {name}" for name in COUNTS)
    return (
        f"SELECT bucket, place, min(prober) AS prober, {counts}, {_ping_sums()}"
        f"{''.join(', ' + _total_of_rollups(name, order) for name in signals)} FROM picked GROUP BY bucket, place"
    )


def merged_spread(signals: Iterable[str]) -> str:
    """Return SQL for how many values of a signal (by its number) lie in which bucket, over rollup rows."""
    ones = ", ".join(f"({n}, {name}_min, {name}_buckets)" for n, name in enumerate(signals))
    many = ", ".join(f"({n}, {name}_buckets, {name}_counts)" for n, name in enumerate(signals))
    return (
        f"SELECT bucket, place, signal, b, sum(n)::int AS n FROM ("
        f"SELECT bucket, place, signal, {_bucket('x')} AS b, 1 AS n FROM picked"
        f" CROSS JOIN LATERAL (VALUES {ones}) AS v (signal, x, buckets) WHERE x IS NOT NULL AND buckets IS NULL"
        " UNION ALL SELECT bucket, place, signal, b, n FROM picked"
        f" CROSS JOIN LATERAL (VALUES {many}) AS v (signal, buckets, counts)"
        " CROSS JOIN LATERAL unnest(buckets, counts) AS u (b, n) WHERE buckets IS NOT NULL"
        ") AS one GROUP BY bucket, place, signal, b"
    )


def sketches(signals: Iterable[str], *, order: str = "") -> str:
    """Return SQL for two arrays per signal, from `spread`, by bucket and place; rising if `order` says so."""
    arrays = ", ".join(
        f"max({part}) FILTER (WHERE signal = {number}) AS {name}_{part}"
        for number, name in enumerate(signals)
        for part in ("buckets", "counts")
    )
    return (
        f"SELECT bucket, place, {arrays} FROM (SELECT bucket, place, signal, array_agg(b{order}) AS buckets,"
        f" array_agg(n{order}) AS counts FROM spread GROUP BY bucket, place, signal) AS one GROUP BY bucket, place"
    )


def _upsert(table: str, *, picked: str, totals: str, spread: str) -> str:
    """Return the whole statement. Rows that come out as they were are not written again."""
    chosen = ", ".join(_chosen(column) for column in _COLUMNS)
    others = _COLUMNS[len(KEYS) :]
    return (
        f"WITH picked AS MATERIALIZED ({picked}), totals AS MATERIALIZED ({totals}), spread AS ({spread}),"
        f" sketches AS ({sketches(SIGNALS, order=' ORDER BY b')})"
        f" INSERT INTO {table} AS old ({_list(_COLUMNS)}) SELECT {chosen} FROM totals AS t"
        " LEFT JOIN sketches AS s USING (bucket, place) ORDER BY bucket, place"
        f" ON CONFLICT ({_list(KEYS)}) DO UPDATE SET {', '.join(f'{name} = excluded.{name}' for name in others)}"
        f" WHERE ({', '.join(f'old.{name}' for name in others)})"
        f" IS DISTINCT FROM ({', '.join(f'excluded.{name}' for name in others)})"
    )


def _chosen(column: str) -> str:
    name, _, part = column.rpartition("_")
    if column in UNPACKED:
        return UNPACKED[column]
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
        f"(sum(coalesce({name}_count, 1)) FILTER (WHERE {name}_min IS NOT NULL))::int AS {name}_count,"
        f" sum(coalesce({name}_sum, {name}_min){order}) AS {name}_sum, min({name}_min) AS {name}_min,"
        f" max(coalesce({name}_max, {name}_min)) AS {name}_max"
    )


def _ping_sums() -> str:
    return ", ".join(f"sum({name})::bigint AS {name}" for name in PINGS)


def _bucket(value: str) -> str:
    """Return SQL for `collector.stats.sketch.bucket_of`."""
    number = f"ceil(ln({value}::float8) * ({PER_OCTAVE} / ln(2::float8)))"
    return f"(CASE WHEN {value} > 0 THEN {number} ELSE {ZERO} END)::int2"


def _list(names: Iterable[str]) -> str:
    return ", ".join(names)
