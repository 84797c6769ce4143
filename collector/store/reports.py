"""Writing down what an agent says of itself, in the transaction of the batch that says it.

The books of an agent must balance: every result that one of its runs gave a number to was stored here, or was told as
lost, or waits in the spool. What is left over is lost without a word: unaccounted.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Final
from uuid import UUID

import msgspec
import psycopg

from collector.errors import DatabaseUnavailable

# Two lanes, repeats and other collectors bring batches in any order: totals only grow.
_RUN: Final = (
    "INSERT INTO agent_run AS r"
    " (agent_id, boot_id, last_received_at, recorded, received, dropped, dropped_by_reason)"
    " VALUES (%s, %s, %s, %s, %s, %s, %s::jsonb) ON CONFLICT (agent_id, boot_id) DO UPDATE SET"
    " last_received_at = greatest(r.last_received_at, excluded.last_received_at),"
    " recorded = greatest(r.recorded, excluded.recorded), received = r.received + excluded.received,"
    " dropped_by_reason = CASE WHEN excluded.dropped > r.dropped THEN excluded.dropped_by_reason"
    " ELSE r.dropped_by_reason END, dropped = greatest(r.dropped, excluded.dropped)"
)
_REPORT: Final = (
    "INSERT INTO agent_report AS r"
    " (agent_id, received_at, boot_id, version, config_revision, flush_seconds, queued_results, oldest_queued_seconds,"
    " expected_results, missed_probes, clock_offset_seconds, clock_error_seconds, unaccounted, unaccounted_since)"
    " SELECT %(agent_id)s, %(received_at)s, %(boot_id)s, %(version)s, %(config_revision)s, %(flush_seconds)s,"
    " %(queued_results)s, %(oldest_queued_seconds)s, %(expected_results)s, %(missed_probes)s,"
    " %(clock_offset_seconds)s, %(clock_error_seconds)s, b.left_over,"
    " CASE WHEN b.left_over > 0 THEN %(received_at)s::timestamptz END"
    " FROM (SELECT CASE WHEN %(balances)s THEN"
    " greatest(least(sum(recorded - received - dropped), 2^53), -2^53)::bigint"
    " - %(queued_results)s - %(refused_results)s END AS left_over"
    " FROM agent_run WHERE agent_id = %(agent_id)s) b"
    " ON CONFLICT (agent_id) DO UPDATE SET received_at = excluded.received_at, boot_id = excluded.boot_id,"
    " version = excluded.version, config_revision = excluded.config_revision, flush_seconds = excluded.flush_seconds,"
    " queued_results = excluded.queued_results, oldest_queued_seconds = excluded.oldest_queued_seconds,"
    " expected_results = excluded.expected_results, missed_probes = excluded.missed_probes,"
    " clock_offset_seconds = excluded.clock_offset_seconds, clock_error_seconds = excluded.clock_error_seconds,"
    " unaccounted = excluded.unaccounted, unaccounted_since = CASE WHEN excluded.unaccounted > 0"
    " THEN coalesce(r.unaccounted_since, excluded.unaccounted_since) END"
    " WHERE r.received_at <= excluded.received_at"
)


MAX_TOTAL: Final = 2**53
"""Larger totals are nonsense, and are kept as this."""


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of one run of an agent's process; `received` is added, the rest are totals."""

    boot_id: UUID
    recorded: int = 0
    received: int = 0
    dropped_by_reason: dict[str, int] = {}


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """An agent's word on itself, as it is stored; counts are those after its batch."""

    agent_id: int
    received_at: datetime
    boot_id: UUID
    version: str
    config_revision: int | None
    flush_seconds: float
    queued_results: int
    oldest_queued_seconds: float | None
    expected_results: int
    missed_probes: int
    clock_offset_seconds: float | None
    clock_error_seconds: float | None
    refused_results: int
    """Refused in this batch: the agent tells them as lost from its next word on."""
    balances: bool
    """The agent tells enough for its books."""


class Word(msgspec.Struct, frozen=True, kw_only=True):
    """All that one batch tells of its agent."""

    report: Report
    runs: tuple[Run, ...]
    """One for each boot id."""

    def of_repeat(self) -> "Word":
        """Return what a batch tells that was stored before: its results were counted then."""
        runs = tuple(msgspec.structs.replace(run, received=0) for run in self.runs)
        return Word(report=self.report, runs=runs)


async def note_word(cursor: psycopg.AsyncCursor, word: Word) -> None:
    """Write the books and the report; raise DatabaseUnavailable when they are refused: no result is at fault."""
    try:
        for run in sorted(word.runs, key=lambda run: run.boot_id.bytes):  # one order for all: nobody waits in a circle
            await cursor.execute(_RUN, _run_values(word.report, run))
        await cursor.execute(_REPORT, msgspec.structs.asdict(word.report))
    except (psycopg.DataError, psycopg.IntegrityError) as exc:
        raise DatabaseUnavailable(f"the database refuses an agent's books: {str(exc).splitlines()[0]}") from exc


def _run_values(report: Report, run: Run) -> Sequence[object]:
    dropped = {reason: min(count, MAX_TOTAL) for reason, count in run.dropped_by_reason.items()}
    names = msgspec.json.encode(dropped).decode()
    total = min(sum(dropped.values()), MAX_TOTAL)
    recorded = min(run.recorded, MAX_TOTAL)
    return (report.agent_id, run.boot_id, report.received_at, recorded, run.received, total, names)
