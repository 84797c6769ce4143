"""Statements that keep the rollups: what is dirty, rolling it up, and what is too old to be rolled up again.

All of it runs under one advisory lock, which ends with its transaction. A mark is deleted in a statement before the one
that reads the results: whatever is committed between the two has left a mark of its own that is still there.
"""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from itertools import groupby
from typing import Final

import msgspec
from sqlalchemy import Connection, text

from collector.store import rollupsql
from collector.store.rollupsql import HOUR, MINUTE, binned

STATEMENT_SECONDS: Final = 60
"""A minute of a very busy fleet may take longer to roll up than a reader may wait."""
APART: Final = timedelta(minutes=10)
"""Minutes nearer than this are rolled up by one statement: results that came late lie anywhere on the disk."""

Pair = tuple[datetime, int]
"""A bucket, and the id of an agent region."""

_TRY_LOCK: Final = text("SELECT pg_try_advisory_xact_lock(hashtext('rollup'))")
# A plan that was made for one span does not fit another, compiling takes longer than running, and a table that is
# made on the way has no statistics: a nested loop over it would take for ever.
_TUNE: Final = tuple(
    text(f"SET LOCAL {setting}")
    for setting in (
        f"statement_timeout = '{STATEMENT_SECONDS}s'",
        "work_mem = '64MB'",
        "jit = off",
        "enable_nestloop = off",
        "plan_cache_mode = force_custom_plan",
    )
)
_PATIENCE: Final = text("SET LOCAL statement_timeout = '1h'")
"""Of a rebuild, which has no less to do when it is told to hurry."""
# For a share: whoever drops results sets the horizon first, and so waits until what is rolled up now is committed.
_HOLD_HORIZONS: Final = text("SELECT level, since FROM rollup_horizon FOR SHARE")
_HORIZONS: Final = text("SELECT level, since FROM rollup_horizon")
_RAISE: Final = text(
    "UPDATE rollup_horizon SET since = :since WHERE level = :level AND (since IS NULL OR since < :since)"
)
_NEWEST: Final = text("SELECT DISTINCT minute FROM dirty_minute ORDER BY minute DESC LIMIT :limit")
_TAKE_MINUTES: Final = text(
    "DELETE FROM dirty_minute WHERE minute = ANY(CAST(:minutes AS timestamptz[])) RETURNING minute, agent_region_id"
)
_PAIRS: Final = "(SELECT * FROM unnest(CAST(:buckets AS timestamptz[]), CAST(:regions AS int4[])))"
_ROLL_MINUTES: Final = text(
    rollupsql.minutes_from_raw(where=f"({binned(MINUTE, 'started_at')}, agent_region_id) IN {_PAIRS}")
)
_ROLL_HOURS: Final = text(
    rollupsql.hours_from_minutes(where=f"({binned(HOUR, 'bucket')}, agent_region_id) IN {_PAIRS}")
)
_MARK_HOURS: Final = text(
    "INSERT INTO dirty_hour (hour, agent_region_id, marked_at)"
    f" SELECT DISTINCT {binned(HOUR, 'bucket')}, agent_region_id, CAST(:now AS timestamptz)"
    f" FROM {_PAIRS} AS u (bucket, agent_region_id) ON CONFLICT DO NOTHING"
)
# A mark from the future was set by a clock that was wrong since: it would wait for years, and hold up retention.
_DUE_HOURS: Final = text(
    "SELECT hour, agent_region_id FROM dirty_hour WHERE marked_at > :ahead OR marked_at <= CASE WHEN hour <= :ended"
    " THEN CAST(:over AS timestamptz) ELSE CAST(:open AS timestamptz) END"
    " ORDER BY hour DESC, agent_region_id LIMIT :limit"
)
_UNMARK_HOURS: Final = text(f"DELETE FROM dirty_hour WHERE (hour, agent_region_id) IN {_PAIRS}")
_CREATE_PARTITION: Final = text("SELECT create_rollup_partition(:level, :moment)")
_LAG: Final = text("SELECT count(DISTINCT minute) AS waiting, min(marked_at) AS since FROM dirty_minute")
_EVERYTHING: Final = {
    "roll_minutes": text(rollupsql.minutes_from_raw(where="true")),
    "roll_hours": text(rollupsql.hours_from_minutes(where="true")),
    "delete_minutes": text("DELETE FROM rollup_minute WHERE bucket >= :since AND bucket < :until"),
    "delete_hours": text("DELETE FROM rollup_hour WHERE bucket >= :since AND bucket < :until"),
}


class Horizons(msgspec.Struct, frozen=True, kw_only=True):
    """Since when each level is whole; None: from the beginning."""

    raw: datetime | None
    minute: datetime | None
    hour: datetime | None

    def sealed(self, moment: datetime) -> bool:
        """Tell whether a minute or an hour lies before what is whole: rolled up again, it would shrink."""
        return any(since is not None and moment < since for since in (self.raw, self.minute))


class Waiting(msgspec.Struct, frozen=True, kw_only=True):
    """What is still to be rolled up."""

    minutes: int
    since: datetime | None
    """When the oldest mark was set; None without any."""


class Rest(msgspec.Struct, frozen=True, kw_only=True):
    """How long a mark on an hour waits for more of the same."""

    over: timedelta
    """When the hour is over."""
    open: timedelta
    """While it is not."""


def try_lock(connection: Connection) -> bool:
    """Let one at a time roll up, until the transaction ends; tell whether it is this one."""
    if not connection.execute(_TRY_LOCK).scalar_one():
        return False
    for setting in _TUNE:
        connection.execute(setting)
    return True


def hold_horizons(connection: Connection) -> Horizons:
    """Return since when each level is whole; nobody moves a horizon until the transaction ends."""
    return Horizons(**{row.level: row.since for row in connection.execute(_HOLD_HORIZONS)})


def read_horizons(connection: Connection) -> Horizons:
    """Return since when each level is whole, at this moment."""
    return Horizons(**{row.level: row.since for row in connection.execute(_HORIZONS)})


def raise_horizon(connection: Connection, level: str, since: datetime) -> None:
    """Say that what a level (`raw`, `minute`, `hour`) holds from before `since` goes, and wait for who reads it.

    To be called before it goes, in the transaction that drops it: so nothing is rolled up from what is half gone.
    """
    connection.execute(_RAISE, {"level": level, "since": since})


def take_minutes(connection: Connection, limit: int) -> list[Pair]:
    """Take the newest dirty minutes off the list, `limit` at most, with the regions that they concern."""
    minutes = list(connection.execute(_NEWEST, {"limit": limit}).scalars())
    return sorted(
        {(row.minute, row.agent_region_id) for row in connection.execute(_TAKE_MINUTES, {"minutes": minutes})}
    )


def roll_minutes(connection: Connection, pairs: Sequence[Pair], *, now: datetime) -> None:
    """Roll up minutes from results, and mark their hours. `pairs` are sorted."""
    _ensure(connection, "minute", pairs)
    for run in _runs(pairs):
        connection.execute(_ROLL_MINUTES, _parameters(run, timedelta(minutes=1)))
    if pairs:
        connection.execute(_MARK_HOURS, {**_parameters(pairs, timedelta(minutes=1)), "now": now})


def take_hours(connection: Connection, now: datetime, *, rest: Rest, limit: int) -> list[Pair]:
    """Take marks on hours that have waited long enough off their list."""
    moments = {
        "ended": now - timedelta(hours=1),
        "over": now - rest.over,
        "open": now - rest.open,
        "ahead": now + rest.open,  # by so much the clocks of two collectors may differ at no cost
    }
    pairs = sorted(
        (row.hour, row.agent_region_id) for row in connection.execute(_DUE_HOURS, {**moments, "limit": limit})
    )
    if pairs:
        connection.execute(_UNMARK_HOURS, _parameters(pairs, timedelta(hours=1)))
    return pairs


def roll_hours(connection: Connection, pairs: Sequence[Pair]) -> None:
    """Roll up hours from minutes. `pairs` are sorted."""
    _ensure(connection, "hour", pairs)
    for _, run in groupby(pairs, key=lambda pair: pair[0]):
        connection.execute(_ROLL_HOURS, _parameters(list(run), timedelta(hours=1)))


def rebuild_hours(connection: Connection, since: datetime, until: datetime) -> tuple[int, int]:
    """Make the rollups of whole hours, a day of them at most, anew from their results.

    Return how many rows of minutes and of hours there are.
    """
    connection.execute(_PATIENCE)
    span = {"since": since, "until": until}
    counts = []
    for level in ("minute", "hour"):
        for moment in (since, until - timedelta(hours=1)):
            connection.execute(_CREATE_PARTITION, {"level": level, "moment": moment})
        connection.execute(_EVERYTHING[f"delete_{level}s"], span)
        counts.append(connection.execute(_EVERYTHING[f"roll_{level}s"], span).rowcount)
    minutes, hours = counts
    return minutes, hours


def read_waiting(connection: Connection) -> Waiting:
    """Return how much is on the dirty list."""
    row = connection.execute(_LAG).one()
    return Waiting(minutes=row.waiting, since=row.since)


def _ensure(connection: Connection, level: str, pairs: Iterable[Pair]) -> None:
    """Make the partitions that the buckets fall in, unless they are there."""
    moments = {bucket.astimezone(UTC).date(): bucket for bucket, _ in pairs}
    for moment in moments.values():
        connection.execute(_CREATE_PARTITION, {"level": level, "moment": moment})


def _runs(pairs: Sequence[Pair]) -> list[list[Pair]]:
    """Return the sorted pairs in runs without a wide gap."""
    runs: list[list[Pair]] = []
    for pair in pairs:
        if runs and pair[0] - runs[-1][-1][0] <= APART:
            runs[-1].append(pair)
        else:
            runs.append([pair])
    return runs


def _parameters(pairs: Sequence[Pair], length: timedelta) -> dict[str, object]:
    buckets, regions = zip(*pairs, strict=True)
    return {"since": buckets[0], "until": buckets[-1] + length, "buckets": list(buckets), "regions": list(regions)}
