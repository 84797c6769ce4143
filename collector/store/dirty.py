"""The dirty list: which minutes got results, told by the transaction that stores them, before they are rolled up."""

from collections.abc import Iterable, Sequence
from typing import Any, Final

import psycopg

from collector.schema import RESULT_COLUMNS

_MINUTE_MICROSECONDS: Final = 60_000_000
_AGENT: Final = RESULT_COLUMNS.index("agent_id")
_REGION: Final = RESULT_COLUMNS.index("agent_region_id")
_STARTED: Final = RESULT_COLUMNS.index("started_at")
_MARK: Final = (
    "INSERT INTO dirty_minute (agent_id, agent_region_id, minute)"
    " SELECT agent_id, agent_region_id, timestamptz '2000-01-01 00:00:00+00' + minute * interval '1 minute'"
    " FROM unnest(%s::int4[], %s::int4[], %s::int4[]) AS u (agent_id, agent_region_id, minute)"
)

Minute = tuple[int, int, int]
"""Agent, its region, and the minutes since 2000-01-01 UTC."""


def minutes_of(rows: Iterable[Sequence[Any]]) -> set[Minute]:  # Any: columns of every type; these three hold int
    """Return the minutes in which rows of `result` (as `store.results.Row`) started."""
    return {(row[_AGENT], row[_REGION], row[_STARTED] // _MINUTE_MICROSECONDS) for row in rows}


async def mark_dirty(cursor: psycopg.AsyncCursor, minutes: Iterable[Minute]) -> None:
    """Put minutes on the list, in the transaction that stored their results."""
    agents, regions, numbers = zip(*minutes, strict=True)
    await cursor.execute(_MARK, (list(agents), list(regions), list(numbers)))
