"""From a decoded batch to rows, and to the answer. `plan_batch` is pure; `ingest` stores what it planned.

The order is a promise: ledger row and results in one transaction, commit, then the answer, then the counters. Batches
that come at once share a transaction (`collector.commits`).
"""

from collections.abc import Callable, Collection, Iterable, Mapping
from datetime import UTC, date, datetime, timedelta
from enum import StrEnum
from typing import Final

import msgspec

from collector.books import Brought, Receipt, word_of
from collector.commits import Commits
from collector.errors import Conflict, DatabaseUnavailable
from collector.registry import AgentRow, Known
from collector.rows import Common, row_maker
from collector.store.partitions import Partitions
from collector.store.reports import Word
from collector.store.results import (
    LedgerRow,
    MissingPartition,
    Parcel,
    Repeated,
    Row,
    UnstorableRow,
    unstorable_rows,
)
from isochrone.batch import Batch, Rejected
from isochrone.result import Result
from isochrone.wire import Decoded

MAX_AGE_SECONDS: Final = 7 * 86_400.0
"""Older results are refused: an agent keeps none so long."""
MAX_AHEAD_SECONDS: Final = 600.0
"""As Prometheus: results from farther in the future are refused."""
EARLIEST: Final = datetime(1970, 1, 1, tzinfo=UTC)
LATEST: Final = datetime(2200, 1, 1, tzinfo=UTC)
"""What an agent's wall clock may claim: a wrong clock is kept, a stamp that readers cannot hold is not."""
MAX_SEQ: Final = 2**62


class RejectReason(StrEnum):
    """Why a result is refused for ever; the label of the metric."""

    INVALID = "invalid"
    UNKNOWN_TARGET = "unknown_target"
    TOO_OLD = "too_old"
    FUTURE = "future"
    WRONG_PROBER = "wrong_prober"
    """Its module measures something else."""
    STARTED_AT = "started_at_out_of_range"
    """The agent's wall clock says a year before 1970 or after 2199."""
    UNSTORABLE = "unstorable"
    """The database refuses this very row."""


class Taken(msgspec.Struct, frozen=True, gc=False):
    """A result that will be stored, for the counters."""

    result: Result
    target_id: int
    age_seconds: float
    late: bool


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What a batch comes to, before anything is stored."""

    rows: list[Row]
    taken: list[Taken]
    rejected: tuple[Rejected, ...]
    reasons: dict[RejectReason, int]
    days: set[date]

    @property
    def late(self) -> int:
        """How many of the results taken are late."""
        return sum(one.late for one in self.taken)


class Sender(msgspec.Struct, frozen=True, kw_only=True):
    """Who sent the batch, and the targets of which it may speak, as `Registry.known_targets` has them."""

    agent: AgentRow
    run_id: int
    """Of the run that recorded the batch, as `Runs` has it."""
    targets: Mapping[tuple[str, str, int | None], Known]


class Moments(msgspec.Struct, frozen=True, kw_only=True):
    """When a batch came, by the collector's clock."""

    came_at: datetime
    """Its headers: ages count from here, however long the body took."""
    received_at: datetime
    """Its body is here and decoded: the order in which followers read."""


class Ledger(msgspec.Struct, frozen=True, kw_only=True):
    """What the ledger keeps of a batch beside its counts."""

    batch: Batch
    receipt: Receipt
    deadline: float | None = None
    """By the loop's clock: when the sender is told that it was not stored; None: after the longest wait from now."""


class Ingested(msgspec.Struct, frozen=True, kw_only=True):
    """What was done with a batch."""

    plan: Plan
    """As it was stored."""
    accepted: int
    duplicate: int
    late: int
    rejected: tuple[Rejected, ...]
    repeated: bool = False
    """The batch had been stored before."""


_rejected_decoder = msgspec.json.Decoder(tuple[Rejected, ...])


async def ingest(commits: Commits, partitions: Partitions, *, plan: Plan, ledger: Ledger) -> Ingested:
    """Store the plan once; a repeat stores nothing and is answered as before. Raise DatabaseUnavailable.

    A row that the database refuses is rejected by name, and does not hold the others.
    """
    await partitions.ensure(commits.engine, plan.days)
    try:
        return await _store(commits, plan, ledger)
    except Conflict:  # a deadlock has a loser: it wins when it tries again
        pass
    except MissingPartition:
        partitions.forget()
        await partitions.ensure(commits.engine, plan.days)
    except UnstorableRow:
        plan = without(plan, await unstorable_rows(commits.engine, plan.rows))
    try:
        return await _store(commits, plan, ledger)
    except UnstorableRow as exc:
        raise DatabaseUnavailable(f"the database refuses rows and does not say which: {exc}") from exc


def plan_batch(decoded: Decoded, sender: Sender, *, moments: Moments, late_seconds: float) -> Plan:
    """Return the rows of the good results, and every refused one by name."""
    batch = decoded.batch
    plan = Plan(rows=[], taken=[], rejected=(), reasons={}, days=set())
    rejected = [_storable(one) for one in decoded.rejected]
    age_of = _age_by(moments.came_at, batch)
    row_of = row_maker(
        Common(
            came_at=moments.came_at,
            received_at=moments.received_at,
            agent=sender.agent,
            batch_id=batch.batch_id.bytes,
            run_id=sender.run_id,
        )
    )
    known_at = sender.targets.get
    for index, result in zip(_indices(decoded), batch.results, strict=True):
        endpoint, module = result.endpoint, result.module
        known = known_at((endpoint, module, result.config_revision)) or known_at((endpoint, module, None))
        age = age_of(result)
        reason = _reason_against(result, known, age)
        if known is None or reason is not None:
            rejected.append(Rejected(seq=result.seq, index=index, reason=reason or RejectReason.UNKNOWN_TARGET))
            continue
        target_id = known.target.id
        plan.rows.append(row_of(result, target_id, age))
        plan.taken.append(Taken(result, target_id, age, age > late_seconds))
    plan.days.update(_days(plan.taken, moments.came_at))
    reasons = _count_reasons(rejected, invalid=len(decoded.rejected))
    return msgspec.structs.replace(plan, rejected=tuple(rejected), reasons=reasons)


def _indices(decoded: Decoded) -> Iterable[int]:
    """Return the places of the good results in the batch as it was sent."""
    refused = {one.index for one in decoded.rejected}
    places = range(len(decoded.batch.results) + len(refused))
    return [place for place in places if place not in refused] if refused else places


def without(plan: Plan, places: Collection[int]) -> Plan:
    """Return the plan with the rows at `places` rejected as unstorable."""
    if not places:
        return plan
    refused = {one.index for one in plan.rejected}
    indices = [index for index in range(len(plan.rows) + len(plan.rejected)) if index not in refused]
    rejected = tuple(
        Rejected(seq=plan.taken[place].result.seq, index=indices[place], reason=RejectReason.UNSTORABLE)
        for place in places
    )
    return msgspec.structs.replace(
        plan,
        rows=[row for place, row in enumerate(plan.rows) if place not in places],
        taken=[one for place, one in enumerate(plan.taken) if place not in places],
        rejected=(*plan.rejected, *rejected),
        reasons={**plan.reasons, RejectReason.UNSTORABLE: len(rejected)},
    )


async def _store(commits: Commits, plan: Plan, ledger: Ledger) -> Ingested:
    parcel = Parcel(ledger=_ledger_row(ledger, plan), rows=plan.rows, word=_word(ledger, plan))
    repeated = await commits.store(parcel, deadline=ledger.deadline)
    if repeated is not None:
        return _repeat(plan, repeated)
    return Ingested(plan=plan, accepted=len(plan.rows), duplicate=0, late=plan.late, rejected=plan.rejected)


def _ledger_row(ledger: Ledger, plan: Plan) -> LedgerRow:
    return LedgerRow(
        agent_id=ledger.receipt.agent_id,
        batch_id=ledger.batch.batch_id,
        boot_id=ledger.batch.boot_id,
        received_at=ledger.receipt.received_at,
        accepted=len(plan.rows),
        late=plan.late,
        rejected=msgspec.json.encode(plan.rejected).decode() if plan.rejected else None,
    )


def _word(ledger: Ledger, plan: Plan) -> Word:
    numbers = [one.result.seq for one in plan.taken] + [one.seq for one in plan.rejected if one.seq is not None]
    brought = Brought(stored=len(plan.rows), refused=len(plan.rejected), recorded=max(numbers, default=-1) + 1)
    return word_of(ledger.batch, brought, ledger.receipt)


def _repeat(plan: Plan, repeated: Repeated) -> Ingested:
    rejected = () if repeated.rejected is None else _rejected_decoder.decode(repeated.rejected)
    return Ingested(plan=plan, accepted=0, duplicate=repeated.accepted, late=0, rejected=rejected, repeated=True)


def _age_by(came_at: datetime, batch: Batch) -> Callable[[Result], float]:
    """Return how to tell a result's age at `came_at`.

    By the agent's CLOCK_BOOTTIME where it holds: its age at the sending, and the way here, taken as half the best round
    trip. Else, for what an earlier start of the machine recorded, by its wall clock, less what that is wrong by.
    """
    sent_boottime, clock = batch.sent_boottime_seconds, batch.clock
    if sent_boottime is not None:
        sent = sent_boottime + (0.0 if clock is None else clock.round_trip_seconds / 2)
        return lambda result: sent - result.started_boottime_seconds
    offset = 0.0 if clock is None else clock.offset_seconds
    return lambda result: (came_at - result.started_at).total_seconds() + offset


def _reason_against(result: Result, known: Known | None, age_seconds: float) -> RejectReason | None:
    if known is None:
        return RejectReason.UNKNOWN_TARGET
    if result.prober is not known.prober:
        return RejectReason.WRONG_PROBER
    if age_seconds > MAX_AGE_SECONDS:
        return RejectReason.TOO_OLD
    if age_seconds < -MAX_AHEAD_SECONDS:
        return RejectReason.FUTURE
    if not EARLIEST <= result.started_at < LATEST:
        return RejectReason.STARTED_AT
    return None


def _count_reasons(rejected: list[Rejected], *, invalid: int) -> dict[RejectReason, int]:
    counts = {RejectReason.INVALID: invalid} if invalid else {}
    for one in rejected[invalid:]:
        reason = RejectReason(one.reason)
        counts[reason] = counts.get(reason, 0) + 1
    return counts


def _days(taken: list[Taken], came_at: datetime) -> set[date]:
    if not taken:
        return set()
    ages = [one.age_seconds for one in taken]
    first = (came_at - timedelta(seconds=max(ages))).date()
    last = (came_at - timedelta(seconds=min(ages))).date()
    return {first + timedelta(days=n) for n in range((last - first).days + 1)}


def _storable(one: Rejected) -> Rejected:
    """Return the refusal with a number that JSON and the agent can hold: a hostile one may be of any size."""
    if one.seq is not None and not 0 <= one.seq <= MAX_SEQ:
        return msgspec.structs.replace(one, seq=None)
    return one
