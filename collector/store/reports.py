"""Writing down what an agent says of itself, in the transaction of the batch that says it.

The books of an agent must balance: every result that one of its runs gave a number to was stored here, or was told as
lost, or waits in the spool. What is left over is lost without a word: unaccounted.
"""

from collections.abc import Sequence
from datetime import datetime
from functools import cache
from typing import Final
from uuid import UUID

import msgspec
import psycopg

# Two lanes, repeats and other collectors bring batches in any order: totals only grow.
_RUN: Final = (
    "INSERT INTO agent_run AS r"
    " (agent_id, boot_id, last_received_at, recorded, received, dropped, dropped_by_reason)"
    " VALUES {rows} ON CONFLICT (agent_id, boot_id) DO UPDATE SET"
    " last_received_at = greatest(r.last_received_at, excluded.last_received_at),"
    " recorded = greatest(r.recorded, excluded.recorded), received = r.received + excluded.received,"
    " dropped_by_reason = CASE WHEN excluded.dropped > r.dropped THEN excluded.dropped_by_reason"
    " ELSE r.dropped_by_reason END, dropped = greatest(r.dropped, excluded.dropped)"
)
_RUN_VALUES: Final = "(%s, %s, %s, %s, %s, %s, %s::jsonb)"
_REPORT_COLUMNS: Final = (
    "agent_id, received_at, boot_id, version, config_revision, flush_seconds, queued_results, oldest_queued_seconds,"
    " expected_results, missed_probes, clock_offset_seconds, clock_error_seconds"
)
_REPORT_VALUES: Final = (
    "(%s::int, %s::timestamptz, %s::uuid, %s::text, %s::int, %s::float8, %s::int, %s::float8, %s::bigint, %s::bigint,"
    " %s::float8, %s::float8, %s::bigint, %s::bool)"
)
_REPORT: Final = (
    f"INSERT INTO agent_report AS r ({_REPORT_COLUMNS}, unaccounted, unaccounted_since)"  # noqa: S608  literals
    f" SELECT {_REPORT_COLUMNS}, b.left_over, CASE WHEN b.left_over > 0 THEN received_at END"
    f" FROM (VALUES {{rows}}) AS w ({_REPORT_COLUMNS}, refused_results, balances)"
    " CROSS JOIN LATERAL (SELECT CASE WHEN w.balances THEN"
    " greatest(least(sum(recorded - received - dropped), 2^53), -2^53)::bigint"
    " - w.queued_results - w.refused_results END AS left_over FROM agent_run a WHERE a.agent_id = w.agent_id) b"
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


async def note_words(cursor: psycopg.AsyncCursor, words: Sequence[Word]) -> None:
    """Write the books and the reports: of several reports of one agent the latest, of one run the sum."""
    runs: dict[tuple[int, UUID], _Books] = {}
    reports: dict[int, Report] = {}
    for word in words:
        report = word.report
        known = reports.setdefault(report.agent_id, report)
        if known.received_at <= report.received_at:
            reports[report.agent_id] = report
        for run in word.runs:
            key = report.agent_id, run.boot_id
            books = _books(report, run)
            runs[key] = _sum(runs[key], books) if key in runs else books
    # One order for all: nobody waits in a circle.
    await _put(cursor, _RUN_VALUES, [msgspec.structs.astuple(books) for _, books in sorted(runs.items())])
    await _put(cursor, _REPORT_VALUES, [msgspec.structs.astuple(report) for _, report in sorted(reports.items())])


async def _put(cursor: psycopg.AsyncCursor, form: str, rows: Sequence[tuple[object, ...]]) -> None:
    if rows:
        await cursor.execute(_statement(form, len(rows)), [value for row in rows for value in row])


@cache  # for as many as batches may be under way at once
def _statement(form: str, count: int) -> bytes:
    statement = _RUN if form == _RUN_VALUES else _REPORT
    return statement.format(rows=", ".join([form] * count)).encode()


class _Books(msgspec.Struct, frozen=True):
    """A row of `agent_run` to come; `received` is added to what stands there."""

    agent_id: int
    boot_id: UUID
    last_received_at: datetime
    recorded: int
    received: int
    dropped: int
    dropped_by_reason: str


def _books(report: Report, run: Run) -> _Books:
    dropped = {reason: min(count, MAX_TOTAL) for reason, count in run.dropped_by_reason.items()}
    return _Books(
        report.agent_id,
        run.boot_id,
        report.received_at,
        min(run.recorded, MAX_TOTAL),
        run.received,
        min(sum(dropped.values()), MAX_TOTAL),
        msgspec.json.encode(dropped).decode(),
    )


def _sum(one: _Books, other: _Books) -> _Books:
    """Return what both together come to, as two statements one after the other would."""
    most = max(one, other, key=lambda books: books.dropped)
    return _Books(
        one.agent_id,
        one.boot_id,
        max(one.last_received_at, other.last_received_at),
        max(one.recorded, other.recorded),
        one.received + other.received,
        most.dropped,
        most.dropped_by_reason,
    )
