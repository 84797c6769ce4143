"""Keeping the rollups: dirty minutes are worked off from raw results, hours from minutes; both can be made anew.

A minute is always made from all its results, so that late ones count where they belong and a rebuild comes out alike.
What retention has taken results from is sealed: a late result for it stays raw, and changes no rollup.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Final

import msgspec

from collector.errors import DatabaseUnavailable, SettingsError, StatementTooSlow
from collector.store import rolling
from collector.store.engine import AsyncEngine, Connection, admin_connection, admin_transaction, run, transaction
from collector.store.partitions import existing_days
from collector.store.rolling import Pair, Rest, Waiting

MINUTES_AT_ONCE: Final = 30
"""Of one transaction: the newest first, so that a day's backlog of one agent does not hold up what pages show."""
HOURS_AT_ONCE: Final = 200
"""Hours of one region each, of one transaction."""
TURNS: Final = 20
"""Transactions of one pass, of minutes and of hours each: the next pass goes on."""
REST: Final = Rest(over=timedelta(seconds=60), open=timedelta(seconds=900))
ANSWER_SECONDS: Final = 120.0
BUSY_SECONDS: Final = 1.0
"""A transaction that takes longer is followed by a rest of `REST_TIMES` as long: a fleet that floods the collector sees
its newest minute later, and storing keeps three quarters of a processor."""
REST_TIMES: Final = 3.0
REST_SECONDS: Final = 60.0
"""The longest rest."""
HOURS_OF_REBUILD: Final = 24
"""Of one transaction at most, where there is little in an hour."""
LOCK_SECONDS: Final = 0.1
"""How long a rebuild waits before it asks for the lock again."""
HOUR: Final = timedelta(hours=1)
AHEAD: Final = timedelta(minutes=10)
"""Results may start so far ahead of this clock."""

_log = logging.getLogger(__name__)


class Worked(msgspec.Struct, frozen=True, kw_only=True):
    """What one pass did, and what it left."""

    minutes: int = 0
    """Minutes of one region each that were rolled up."""
    hours: int = 0
    sealed: int = 0
    """Minutes and hours that late results touched after retention had taken the others: left as they were."""
    waiting: Waiting


class Rebuilt(msgspec.Struct, frozen=True, kw_only=True):
    """What a rebuild came to."""

    since: datetime
    until: datetime
    hours: int
    minute_rows: int
    hour_rows: int
    sealed_hours: int
    """Hours that were left as they are: retention has taken their results."""


class _Turn(msgspec.Struct, frozen=True):
    rolled: int
    sealed: int
    more: bool


async def work_off(engine: AsyncEngine, now: datetime) -> Worked:
    """Roll up what is dirty, a bounded part of it; does nothing while another process does. Raise DatabaseUnavailable.

    `now` says which hours are over.
    """
    minutes = await _turns(engine, lambda connection, limit: _minutes(connection, now, limit), limit=MINUTES_AT_ONCE)
    hours = await _turns(engine, lambda connection, limit: _hours(connection, now, limit), limit=HOURS_AT_ONCE)
    waiting = await run(engine, rolling.read_waiting)
    return Worked(minutes=minutes.rolled, hours=hours.rolled, sealed=minutes.sealed + hours.sealed, waiting=waiting)


async def _turns(engine: AsyncEngine, work: Callable[[Connection, int], _Turn | None], *, limit: int) -> _Turn:
    rolled = sealed = 0
    for _ in range(TURNS):
        started = time.monotonic()
        turn = await _turn(engine, work, limit)
        if turn is None:
            break
        await asyncio.sleep(_rest(time.monotonic() - started))
        rolled, sealed = rolled + turn.rolled, sealed + turn.sealed
        if not turn.more:
            break
    return _Turn(rolled, sealed, more=False)


def _rest(spent_seconds: float) -> float:
    return min(REST_TIMES * spent_seconds, REST_SECONDS) if spent_seconds > BUSY_SECONDS else 0.0


async def _turn(engine: AsyncEngine, work: Callable[[Connection, int], _Turn | None], limit: int) -> _Turn | None:
    """Do one transaction's work; with less in it when it takes too long."""
    while True:
        started = time.monotonic()
        try:
            async with transaction(engine, answer_seconds=ANSWER_SECONDS) as connection:
                return await connection.run_sync(work, limit)
        except DatabaseUnavailable as exc:
            slow = isinstance(exc, StatementTooSlow) or time.monotonic() - started >= ANSWER_SECONDS
            if limit == 1 or not slow:
                raise
            limit = max(1, limit // 8)


def _minutes(connection: Connection, now: datetime, limit: int) -> _Turn | None:
    if not rolling.try_lock(connection):
        return None
    horizons = rolling.hold_horizons(connection)
    taken = rolling.take_minutes(connection, limit)
    open_, sealed = _split(taken, horizons)
    rolling.roll_minutes(connection, open_, now=now)
    return _Turn(len(open_), sealed, more=len({minute for minute, _ in taken}) == limit)


def _hours(connection: Connection, now: datetime, limit: int) -> _Turn | None:
    if not rolling.try_lock(connection):
        return None
    horizons = rolling.hold_horizons(connection)
    taken = rolling.take_hours(connection, now, rest=REST, limit=limit)
    open_, sealed = _split(taken, horizons)
    rolling.roll_hours(connection, open_)
    return _Turn(len(open_), sealed, more=len(taken) == limit)


def _split(pairs: list[Pair], horizons: rolling.Horizons) -> tuple[list[Pair], int]:
    """Return what may be rolled up, and how much may not, which is told."""
    whole = [pair for pair in pairs if not horizons.sealed(pair[0])]
    sealed = len(pairs) - len(whole)
    if sealed:
        _log.warning(
            "results came for %d minutes or hours that retention has taken others from, the earliest %s:"
            " they stay raw, and change no rollup; keep raw results longer than agents keep theirs",
            sealed,
            pairs[0][0].isoformat(),
        )
    return whole, sealed


def rebuild(
    database_url: str, *, since: datetime | None, until: datetime | None, progress: Callable[[int, int], None]
) -> Rebuilt:
    """Make the rollups anew from raw results, a few hours in a transaction.

    None: from the oldest raw result, up to now. Raise SettingsError for an empty span, and DatabaseUnavailable: what
    was rebuilt until then stays. `progress` is told how many hours of how many are done.
    """
    first, last = _span(database_url, since, until)
    hours = (last - first) // HOUR
    done, at_once, minute_rows, hour_rows, sealed = 0, 1, 0, 0, 0
    with admin_connection(database_url) as connection:
        while done < hours:
            started = time.monotonic()
            turn = _rebuild_hours(connection, first + done * HOUR, min(at_once, hours - done))
            at_once = _next_size(at_once, time.monotonic() - started)
            minute_rows, hour_rows = minute_rows + turn.minute_rows, hour_rows + turn.hour_rows
            sealed += turn.sealed_hours
            for number in range(done, done + turn.hours):
                progress(number + 1, hours)
            done += turn.hours
    return Rebuilt(
        since=first, until=last, hours=hours, minute_rows=minute_rows, hour_rows=hour_rows, sealed_hours=sealed
    )


def _next_size(at_once: int, seconds: float) -> int:
    """Return how many hours come next: more where there is little in them, fewer where others wait for the lock."""
    return max(1, at_once // 2) if seconds > BUSY_SECONDS else min(at_once * 2, HOURS_OF_REBUILD)


def _span(database_url: str, since: datetime | None, until: datetime | None) -> tuple[datetime, datetime]:
    """Return whole hours around what is asked for, as far as there are raw results to make them from."""
    now = datetime.now(UTC)
    until = now + AHEAD if until is None else until
    if since is not None and until <= since:
        raise SettingsError(f"--until {until.isoformat()} is not after --since {since.isoformat()}")
    with admin_transaction(database_url) as connection:
        days = existing_days(connection)
    if not days:
        return _floor(now), _floor(now)
    # Of days without a partition nothing can be made anew: rollups that stand there would be taken for wrong.
    oldest, newest = (
        datetime.combine(day, datetime.min.time(), UTC) for day in (days[0], days[-1] + timedelta(days=1))
    )
    first = _floor(oldest if since is None else max(since, oldest))
    return first, max(first, _EPOCH - ((_EPOCH - min(until, newest)) // HOUR) * HOUR)


_EPOCH: Final = datetime(2000, 1, 1, tzinfo=UTC)


def _floor(moment: datetime) -> datetime:
    return _EPOCH + (moment - _EPOCH) // HOUR * HOUR


def _rebuild_hours(connection: Connection, first: datetime, count: int) -> Rebuilt:
    """Rebuild so many hours in one transaction, but those that are sealed, which come first."""
    while True:
        with connection.begin():
            if rolling.try_lock(connection):
                horizons = rolling.hold_horizons(connection)
                sealed = sum(horizons.sealed(first + number * HOUR) for number in range(count))
                since, until = first + sealed * HOUR, first + count * HOUR
                rows = (0, 0) if since == until else rolling.rebuild_hours(connection, since, until)
                return Rebuilt(
                    since=first,
                    until=until,
                    hours=count,
                    minute_rows=rows[0],
                    hour_rows=rows[1],
                    sealed_hours=sealed,
                )
        time.sleep(LOCK_SECONDS)
