"""What a batch tells of its agent, made ready for the books. Pure."""

from datetime import datetime

import msgspec

from collector.store.reports import Report, Run, Word
from isochrone.batch import Batch


class Brought(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a batch's results."""

    stored: int
    refused: int
    recorded: int
    """One more than the largest number among them; 0 without any."""


class Receipt(msgspec.Struct, frozen=True, kw_only=True):
    """Whose batch it is, when it came, and how often its agent is told to report."""

    agent_id: int
    received_at: datetime
    flush_seconds: float


def word_of(batch: Batch, brought: Brought, receipt: Receipt) -> Word:
    """Return what a batch tells of its agent.

    A run is known to have recorded what it says and what came of it, whichever is more: the last word of a run that was
    killed is older than its last results.
    """
    return Word(report=_report(batch, brought, receipt), runs=_runs(batch, brought))


def _runs(batch: Batch, brought: Brought) -> tuple[Run, ...]:
    status = batch.status
    came = Run(boot_id=batch.boot_id, recorded=brought.recorded, received=brought.stored)
    if status.boot_id is None:
        return (came,)
    told = Run(
        boot_id=status.boot_id,
        recorded=status.recorded_results or 0,
        dropped_by_reason={reason.value: count for reason, count in status.dropped_results.items()},
    )
    if told.boot_id != came.boot_id:
        return (came, told)
    return (msgspec.structs.replace(told, recorded=max(came.recorded, told.recorded), received=came.received),)


def _report(batch: Batch, brought: Brought, receipt: Receipt) -> Report:
    status, clock = batch.status, batch.clock
    queued = max(0, status.queued_results - brought.stored - brought.refused)
    return Report(
        agent_id=receipt.agent_id,
        received_at=receipt.received_at,
        boot_id=status.boot_id or batch.boot_id,
        version=status.version,
        config_revision=status.config_revision,
        flush_seconds=receipt.flush_seconds,
        queued_results=queued,
        oldest_queued_seconds=status.oldest_queued_seconds if queued else None,
        expected_results=status.expected_results,
        missed_probes=status.missed_probes,
        clock_offset_seconds=None if clock is None else clock.offset_seconds,
        clock_error_seconds=None if clock is None else clock.error_seconds,
        refused_results=brought.refused,
        balances=status.boot_id is not None and status.recorded_results is not None,
    )
