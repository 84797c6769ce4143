"""Reading rollups: counts and sketches of a span, merged by step, region, endpoint, model and connection."""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from itertools import groupby
from typing import Final

import msgspec
from sqlalchemy import Connection, RowMapping, text

from collector.schema import CONNECTIONS, PROBERS
from collector.stats.sketch import Sketch, merge
from collector.store import rollupsql
from collector.store.rolling import read_horizons
from collector.store.rollupsql import COUNTS, PACKED, PARTS, PINGS, UNPACKED, binned
from isochrone.outcome import Connection as ConnectionMode
from isochrone.outcome import Prober

HOUR: Final = timedelta(hours=1)
MINUTE: Final = timedelta(minutes=1)
SETTLED: Final = timedelta(minutes=10)
"""So long after its end an hour is rolled up for certain; before, its minutes are read."""

_EPOCH: Final = datetime(2000, 1, 1, tzinfo=UTC)
"""Steps are counted from here."""
# What is merged on the way has no statistics, and compiling takes longer than running.
TUNE: Final = text(
    "SELECT set_config('jit', 'off', true), set_config('enable_nestloop', 'off', true),"
    " set_config('work_mem', '32MB', true)"
)
_TARGETS: Final = (
    "SELECT t.id FROM target t JOIN endpoint e ON e.id = t.endpoint_id JOIN module m ON m.id = t.module_id WHERE "
)
_TARGET_FILTERS: Final = {"endpoint": "e.name = :endpoint", "model": "t.model = :model", "module": "m.name = :module"}
_REGIONS: Final = text("SELECT id FROM agent_region WHERE name = :agent_region")


class Span(msgspec.Struct, frozen=True, kw_only=True):
    """From a moment up to another, in whole minutes around them; None: all of it in one."""

    since: datetime
    until: datetime
    step: timedelta | None = None
    """Whole hours are read from hours, all else from minutes."""


class Filters(msgspec.Struct, frozen=True, kw_only=True):
    """Names that rows must have; None: any."""

    agent_region: str | None = None
    endpoint: str | None = None
    model: str | None = None
    module: str | None = None
    connection: ConnectionMode | None = None
    prober: Prober | None = None


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """Which signals (`schema.SIGNALS`) are wanted."""

    quantiles: tuple[str, ...] = ()
    """Whole sketches."""
    means: tuple[str, ...] = ()
    """Without buckets, which costs less: such a sketch has a mean, and no quantiles."""


class Merged(msgspec.Struct, frozen=True, kw_only=True):
    """The probes of one prober from a region to an endpoint's model over one kind of connection, in one step."""

    at: datetime
    """Start of the step; of the whole span, if there are no steps."""
    agent_region: str
    endpoint: str
    model: str | None
    connection: str | None
    """What happened, or was planned where the probe failed before; None for sites."""
    prober: str
    probes: int
    failures: int
    spoiled: int
    """Successes that a flag keeps out of `signals`."""
    sent: int | None
    lost: int | None
    """Round trips of `rtt` probes; None: there were none."""
    signals: dict[str, Sketch]
    """Those asked for that have a value."""


class Piece(msgspec.Struct, frozen=True):
    """A part of a span that one level answers."""

    level: str
    since: datetime
    until: datetime


def pieces(span: Span, *, settled: datetime, minutes_since: datetime | None) -> list[Piece]:
    """Return what answers a span: hours where they are whole and settled, minutes at its ends.

    Where minutes are gone (`minutes_since`), whole hours stand for the ends too.
    """
    since, until = _floor(span.since, MINUTE), _ceil(span.until, MINUTE)
    if span.step is not None and span.step % HOUR:
        return [Piece("minute", since, until)]
    gone = minutes_since is not None and since < minutes_since
    first = _floor(since, HOUR) if gone else _ceil(since, HOUR)
    last = min(_floor(until, HOUR), _floor(settled, HOUR))
    if minutes_since is not None and last < minutes_since:
        last = _ceil(min(until, minutes_since), HOUR)
    if first >= last:
        return [Piece("minute", since, until)]
    parts = (Piece("minute", since, first), Piece("hour", first, last), Piece("minute", last, until))
    return [one for one in parts if one.since < one.until]


def read_merged(connection: Connection, span: Span, *, filters: Filters, asked: Asked, now: datetime) -> list[Merged]:
    """Return what the rollups hold of a span, in order of step and names. A name that nobody has: nothing."""
    minutes_since = read_horizons(connection).minute
    parts = pieces(span, settled=now - SETTLED, minutes_since=minutes_since)
    parameters: dict[str, object] = {"step": span.step, "since": parts[0].since}
    parameters |= _identify(connection, filters)
    if [] in parameters.values():
        return []
    connection.execute(TUNE)
    sources = [_source(number, piece, parameters) for number, piece in enumerate(parts)]
    at = "CAST(:since AS timestamptz)" if span.step is None else binned("CAST(:step AS interval)", "bucket")
    statement = text(_statement(" UNION ALL ".join(sources), at=at, asked=asked))
    rows = [_merged(row, asked) for row in connection.execute(statement, parameters).mappings()]
    wanted = filters.connection
    return _together([row for row in rows if wanted is None or row.connection == wanted.value])


def _identify(connection: Connection, filters: Filters) -> dict[str, object]:
    """Return the ids behind names: an index is found by them."""
    found: dict[str, object] = {}
    if filters.agent_region is not None:
        found["regions"] = list(connection.execute(_REGIONS, {"agent_region": filters.agent_region}).scalars())
    if filters.prober is not None:
        found["prober"] = PROBERS.index(filters.prober) + 1
    named = {name: value for name in _TARGET_FILTERS if (value := getattr(filters, name)) is not None}
    if named:
        where = " AND ".join(_TARGET_FILTERS[name] for name in named)
        found["targets"] = list(connection.execute(text(_TARGETS + where), named).scalars())
    return found


def _source(number: int, piece: Piece, parameters: dict[str, object]) -> str:
    """Return SQL for the rows of a piece, and add what it needs to `parameters`."""
    parameters |= {f"since_{number}": piece.since, f"until_{number}": piece.until}
    where = [f"bucket >= :since_{number}", f"bucket < :until_{number}"]
    if "regions" in parameters:
        where.append("agent_region_id = ANY(:regions)")
    if "targets" in parameters:
        where.append("target_id = ANY(:targets)")
    if "prober" in parameters:
        where.append("prober = :prober")
    if "regions" in parameters and "targets" in parameters:
        # Every bucket by name: so the index leads to each row, where a range would read those of all series.
        length = HOUR if piece.level == "hour" else MINUTE
        parameters[f"buckets_{number}"] = [
            piece.since + n * length for n in range((piece.until - piece.since) // length)
        ]
        where.append(f"bucket = ANY(:buckets_{number})")
    return f"SELECT * FROM rollup_{piece.level} WHERE {' AND '.join(where)}"


def _statement(source: str, *, at: str, asked: Asked) -> str:
    signals = (*asked.quantiles, *asked.means)
    columns = [f"{name}_{part}" for name in signals for part in (PARTS if name in asked.quantiles else PARTS[:4])]
    picked = (
        f"SELECT {at} AS bucket, {PACKED} AS place, {', '.join(('prober', *COUNTS, *PINGS, *columns))} FROM ({source})"
    )
    tables = f"picked AS MATERIALIZED ({picked} AS r), totals AS ({rollupsql.merged_totals(signals)})"
    arrays = joined = ""
    if asked.quantiles:
        tables += (
            f", spread AS ({rollupsql.merged_spread(asked.quantiles)})"
            f", sketches AS ({rollupsql.sketches(asked.quantiles)})"
        )
        arrays = "".join(f", s.{name}_{part}" for name in asked.quantiles for part in PARTS[4:])
        joined = " LEFT JOIN sketches AS s USING (bucket, place)"
    return (
        f"WITH {tables} SELECT t.*{arrays}, g.name AS agent_region, e.name AS endpoint, p.model AS target_model,"
        f" coalesce(nullif({UNPACKED['connection']}, 0), p.connection) AS connection"
        f" FROM totals AS t{joined} JOIN agent_region g ON g.id = {UNPACKED['agent_region_id']}"
        f" JOIN target p ON p.id = {UNPACKED['target_id']} JOIN endpoint e ON e.id = p.endpoint_id"
        " ORDER BY bucket, agent_region, endpoint, target_model, connection NULLS FIRST, t.prober"
    )


def _merged(row: RowMapping, asked: Asked) -> Merged:
    code = row["connection"]
    found = {name: _sketch(row, name, whole=name in asked.quantiles) for name in (*asked.quantiles, *asked.means)}
    return Merged(
        at=row["bucket"],
        agent_region=row["agent_region"],
        endpoint=row["endpoint"],
        model=row["target_model"] or None,
        connection=None if code is None else CONNECTIONS[code - 1].value,
        prober=PROBERS[row["prober"] - 1].value,
        probes=row["probes"],
        failures=row["failures"],
        spoiled=row["spoiled"],
        sent=row["pings_sent"],
        lost=row["pings_lost"],
        signals={name: sketch for name, sketch in found.items() if sketch is not None},
    )


def _together(rows: list[Merged]) -> list[Merged]:
    """Return the rows with those of one name as one: of several modules, or of probes that failed before connecting."""
    return [_one(list(group)) for _, group in groupby(rows, key=_name)]


def _name(row: Merged) -> tuple[object, ...]:
    return row.at, row.agent_region, row.endpoint, row.model, row.connection, row.prober


def _one(group: list[Merged]) -> Merged:
    first, *others = group
    if not others:
        return first
    names = dict.fromkeys(name for row in group for name in row.signals)
    merged = {name: merge(row.signals.get(name) for row in group) for name in names}
    return msgspec.structs.replace(
        first,
        probes=sum(row.probes for row in group),
        failures=sum(row.failures for row in group),
        spoiled=sum(row.spoiled for row in group),
        sent=_sum(row.sent for row in group),
        lost=_sum(row.lost for row in group),
        signals={name: sketch for name, sketch in merged.items() if sketch is not None},
    )


def _sum(numbers: Iterable[int | None]) -> int | None:
    known = [number for number in numbers if number is not None]
    return sum(known) if known else None


def _sketch(row: RowMapping, name: str, *, whole: bool) -> Sketch | None:
    if row[f"{name}_min"] is None:
        return None
    pairs = sorted(zip(row[f"{name}_buckets"], row[f"{name}_counts"], strict=True)) if whole else []
    return Sketch(
        count=row[f"{name}_count"],
        sum=row[f"{name}_sum"],
        lowest=row[f"{name}_min"],
        highest=row[f"{name}_max"],
        buckets=tuple(bucket for bucket, _ in pairs),
        counts=tuple(count for _, count in pairs),
    )


def _floor(moment: datetime, length: timedelta) -> datetime:
    return _EPOCH + (moment - _EPOCH) // length * length


def _ceil(moment: datetime, length: timedelta) -> datetime:
    return _EPOCH - ((_EPOCH - moment) // length) * length
