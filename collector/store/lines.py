"""Reading rollups as lines: one signal by step, merged, ranked and laid out by the database, a row for each line.

What a step holds is merged by what the line is called, not by its targets: modules of one endpoint are one line.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Final

import msgspec
from sqlalchemy import Connection, RowMapping, text

from collector.schema import CONNECTIONS, PROBERS
from collector.store import rollupsql
from collector.store.rollups import SETTLED, TUNE, Filters, Piece, Span, pieces
from collector.store.rollupsql import COUNTS, PARTS, PINGS, binned

_WIDTH: Final = 2**34 + 2_654_435_761
"""Above all that a target and three bits come to; uneven, as `rollupsql.PACKED` is."""
_CONNECTION: Final = "coalesce(nullif(r.connection, 0), n.planned, 0)"
_PLACE: Final = f"(r.agent_region_id * {_WIDTH} + n.line::int8 * 8 + (r.prober - 1) * 4 + {_CONNECTION})"
"""A line in one number."""
_TARGET_FILTERS: Final = {"endpoint": "e.name = :endpoint", "model": "t.model = :model", "module": "m.name = :module"}
# Targets of one name are one line, called by the first of them.
_NAMES: Final = (
    "SELECT t.id AS target_id, t.connection AS planned, min(t.id) OVER (PARTITION BY t.endpoint_id, t.model) AS line"
    " FROM target t JOIN endpoint e ON e.id = t.endpoint_id JOIN module m ON m.id = t.module_id"
)
_REGIONS: Final = "ARRAY(SELECT id FROM agent_region WHERE name = :agent_region)"
_TARGETS: Final = "ARRAY(SELECT target_id FROM names)"
_LENGTHS: Final = {"minute": rollupsql.MINUTE, "hour": rollupsql.HOUR}


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """What is wanted of a signal."""

    signal: str
    ranks: tuple[float, ...] = ()
    """Shares (0 to 1) of which the quantile is wanted."""
    by_hour: bool = False
    """All days laid upon each other, by hour of the day in UTC."""


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """The probes of one prober from a region to an endpoint's model over one kind of connection, step by step."""

    agent_region: str
    endpoint: str
    model: str | None
    connection: str | None
    """What happened, or was planned where the probe failed before; None for sites."""
    prober: str
    at: list[int]
    """Starts of the steps in Unix seconds, or hours of the day; they rise. Every list below is as long."""
    probes: list[int]
    failures: list[int]
    spoiled: list[int]
    """Successes that a flag keeps out of the values."""
    sent: list[int | None]
    lost: list[int | None]
    count: list[int | None]
    """Values; None: there are none, and nothing in the lists below either."""
    sum: list[float | None]
    lowest: list[float | None]
    highest: list[float | None]
    buckets: dict[float, list[int | None]]
    """By rank, the number of the bucket (`collector.stats.sketch`) in which the quantile lies."""


def read_lines(
    connection: Connection,
    span: Span,
    *,
    filters: Filters,
    asked: Asked,
    now: datetime,
    minutes_since: datetime | None,
) -> list[Line]:
    """Return the lines that fit, in no order. `span` has a step. `minutes_since`: before it there are hours alone."""
    parts = pieces(span, settled=now - SETTLED, minutes_since=minutes_since)
    parameters = {"step": span.step, **_named(filters)}
    for number, piece in enumerate(parts):
        parameters |= {f"since_{number}": piece.since, f"until_{number}": piece.until}
    parameters |= {f"rank_{number}": rank for number, rank in enumerate(asked.ranks)}
    connection.execute(TUNE)
    rows = connection.execute(text(_statement(parts, filters, asked)), parameters)
    return [_line(row, asked) for row in rows.mappings()]


def _named(filters: Filters) -> dict[str, object]:
    """Return the filters as parameters."""
    given = {name: value for name, value in msgspec.structs.asdict(filters).items() if value is not None}
    if filters.prober is not None:
        given["prober"] = PROBERS.index(filters.prober) + 1
    if filters.connection is not None:
        given["connection"] = CONNECTIONS.index(filters.connection) + 1
    return given


def _statement(parts: Sequence[Piece], filters: Filters, asked: Asked) -> str:
    named = [condition for name, condition in _TARGET_FILTERS.items() if getattr(filters, name) is not None]
    names = _NAMES + (f" WHERE {' AND '.join(named)}" if named else "")
    tables = [
        f"names AS MATERIALIZED ({names})",
        f"picked AS MATERIALIZED ({_picked(parts, filters, asked)})",
        f"totals AS ({rollupsql.merged_totals((asked.signal,))})",
    ]
    if asked.ranks:
        tables += [
            f"spread AS ({rollupsql.merged_spread((asked.signal,))})",
            f"ranked AS ({_ranked(asked.signal, len(asked.ranks))})",
        ]
    return f"WITH {', '.join(tables)} {_laid_out(asked)}"


def _picked(parts: Sequence[Piece], filters: Filters, asked: Asked) -> str:
    """Return SQL for the rows of all pieces with step and place."""
    wanted = PARTS if asked.ranks else PARTS[:4]
    columns = ", ".join((*COUNTS, *PINGS, *(f"{asked.signal}_{part}" for part in wanted)))
    stepped = binned("CAST(:step AS interval)", "r.bucket")
    step = "extract(hour FROM r.bucket AT TIME ZONE 'UTC')::int4" if asked.by_hour else stepped
    sources = " UNION ALL ".join(_source(number, piece, filters) for number, piece in enumerate(parts))
    where = "" if filters.connection is None else f" WHERE {_CONNECTION} = :connection"
    return (
        f"SELECT {step} AS bucket, {_PLACE} AS place, r.prober, {columns}"  # noqa: S608  names of the schema
        f" FROM ({sources}) AS r JOIN names AS n USING (target_id){where}"
    )


def _source(number: int, piece: Piece, filters: Filters) -> str:
    """Return SQL for the rows of a piece."""
    since, until = (f"CAST(:{edge}_{number} AS timestamptz)" for edge in ("since", "until"))
    where = [f"bucket >= {since}", f"bucket < {until}"]
    if filters.prober is not None:
        where.append("prober = :prober")
    if filters.agent_region is not None:
        where.append(f"agent_region_id = ANY({_REGIONS})")
    if filters.agent_region is not None and filters.endpoint is not None:
        # Every bucket by name: so the index leads to each row, where a range would read those of all lines.
        length = _LENGTHS[piece.level]
        buckets = f"ARRAY(SELECT generate_series({since}, {until} - {length}, {length}))"
        where += [f"target_id = ANY({_TARGETS})", f"bucket = ANY({buckets})"]
    return f"SELECT * FROM rollup_{piece.level} WHERE {' AND '.join(where)}"  # noqa: S608  names of the schema


def _ranked(signal: str, ranks: int) -> str:
    """Return SQL for the bucket of each rank, from `spread`: the first up to which enough values lie."""
    buckets = ", ".join(
        f"min(b) FILTER (WHERE seen >= CAST(:rank_{number} AS float8) * total) AS rank_{number}"
        for number in range(ranks)
    )
    return (
        f"SELECT bucket, place, {buckets} FROM (SELECT bucket, place, b, {signal}_count AS total,"  # noqa: S608  as above
        " sum(n) OVER (PARTITION BY bucket, place ORDER BY b ROWS UNBOUNDED PRECEDING) AS seen"
        " FROM spread JOIN totals USING (bucket, place)) AS one GROUP BY bucket, place"
    )


def _laid_out(asked: Asked) -> str:
    """Return SQL for one row per line, from `totals` and `ranked`."""
    parts = {part: f"{asked.signal}_{part}" for part in PARTS[:4]}
    named = {name: name for name in (*COUNTS, *PINGS)} | parts
    if asked.ranks:
        named |= {f"rank_{number}": f"rank_{number}" for number in range(len(asked.ranks))}
    lists = ", ".join(f"array_agg({column} ORDER BY bucket) AS {name}" for name, column in named.items())
    at = "bucket" if asked.by_hour else "extract(epoch FROM bucket)::int8"
    joined = " LEFT JOIN ranked USING (bucket, place)" if asked.ranks else ""
    return (
        "SELECT g.name AS agent_region, e.name AS endpoint, nullif(p.model, '') AS model,"  # noqa: S608  as above
        " (l.low % 4)::int4 AS connection, (l.low / 4 % 2)::int4 AS prober, l.*"
        f" FROM (SELECT place, place % {_WIDTH} AS low, array_agg({at} ORDER BY bucket) AS at, {lists}"
        f" FROM totals{joined} GROUP BY place) AS l"
        f" JOIN agent_region g ON g.id = (l.place / {_WIDTH})::int4"
        " JOIN target p ON p.id = (l.low / 8)::int4 JOIN endpoint e ON e.id = p.endpoint_id"
    )


def _line(row: RowMapping, asked: Asked) -> Line:
    code = row["connection"]
    return Line(
        agent_region=row["agent_region"],
        endpoint=row["endpoint"],
        model=row["model"],
        connection=CONNECTIONS[code - 1].value if code else None,
        prober=PROBERS[row["prober"]].value,
        at=row["at"],
        probes=row["probes"],
        failures=row["failures"],
        spoiled=row["spoiled"],
        sent=row["pings_sent"],
        lost=row["pings_lost"],
        count=row["count"],
        sum=row["sum"],
        lowest=row["min"],
        highest=row["max"],
        buckets={rank: row[f"rank_{number}"] for number, rank in enumerate(asked.ranks)},
    )
