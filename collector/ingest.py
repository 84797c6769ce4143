"""From a decoded batch to rows, and to the answer. `plan_batch` is pure; `ingest` stores what it planned.

The order is a promise: ledger row and results in one transaction, commit, then the answer, then the counters.
"""

import math
from collections.abc import Callable, Mapping
from datetime import date, datetime, timedelta
from enum import StrEnum
from typing import Final

import msgspec
from msgspec.structs import astuple

from collector import schema
from collector.registry import AgentRow, TargetRow
from collector.store.engine import AsyncEngine
from collector.store.partitions import Partitions
from collector.store.results import LedgerRow, MissingPartition, Repeated, Row, store_batch
from isochrone.batch import Rejected
from isochrone.outcome import Flag
from isochrone.result import Result
from isochrone.wire import Decoded

MAX_AGE_SECONDS: Final = 7 * 86_400.0
"""Older results are refused: an agent keeps none so long."""
MAX_AHEAD_SECONDS: Final = 600.0
"""As Prometheus: results from farther in the future are refused."""
MAX_SEQ: Final = 2**62

_EPOCH_2000_MICROSECONDS: Final = 946_684_800 * 1_000_000
"""Postgres counts time from 2000-01-01 UTC."""


class RejectReason(StrEnum):
    """Why a result is refused for ever; the label of the metric."""

    INVALID = "invalid"
    UNKNOWN_TARGET = "unknown_target"
    TOO_OLD = "too_old"
    FUTURE = "future"


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
    """Who sent the batch, and the targets of which it may speak, by (endpoint, module)."""

    agent: AgentRow
    targets: Mapping[tuple[str, str], TargetRow]


class Ingested(msgspec.Struct, frozen=True, kw_only=True):
    """What was done with a batch."""

    accepted: int
    duplicate: int
    late: int
    rejected: tuple[Rejected, ...]
    repeated: bool = False
    """The batch had been stored before."""


def _codes(members: tuple[StrEnum, ...]) -> dict[object, int | None]:
    return {None: None, **{member: code for code, member in enumerate(members, start=1)}}


_OUTCOME: Final = _codes(schema.OUTCOMES)
_PROBER: Final = _codes(schema.PROBERS)
_CONNECTION: Final = _codes(schema.CONNECTIONS)
_RTT_METHOD: Final = _codes(schema.RTT_METHODS)
_RTT_SOURCE: Final = _codes(schema.RTT_SOURCES)
_CLOCK_SOURCE: Final = _codes(schema.CLOCK_SOURCES)
_TOKEN_SOURCE: Final = _codes(schema.TOKEN_SOURCES)
_FLAG_BIT: Final = {flag: 1 << bit for bit, flag in enumerate(schema.FLAGS)}
_NO_COMPONENTS: Final = (None,) * 3
_NO_PINGS: Final = (None,) * 8
_NO_TOKENS: Final = (None,) * 6
_NO_SERVER_TIMING: Final = (None,) * 5
_rejected_decoder = msgspec.json.Decoder(tuple[Rejected, ...])


async def ingest(engine: AsyncEngine, partitions: Partitions, *, plan: Plan, ledger: LedgerRow) -> Ingested:
    """Store the plan once; a repeat stores nothing and is answered as before. Raise DatabaseUnavailable."""
    await partitions.ensure(engine, plan.days)
    try:
        repeated = await store_batch(engine, ledger, plan.rows)
    except MissingPartition:
        partitions.forget()
        await partitions.ensure(engine, plan.days)
        repeated = await store_batch(engine, ledger, plan.rows)
    if repeated is not None:
        return _repeat(repeated)
    return Ingested(accepted=len(plan.rows), duplicate=0, late=plan.late, rejected=plan.rejected)


def plan_batch(decoded: Decoded, sender: Sender, *, received_at: datetime, late_seconds: float) -> Plan:
    """Return the rows of the good results, and every refused one by name."""
    batch = decoded.batch
    plan = Plan(rows=[], taken=[], rejected=(), reasons={}, days=set())
    rejected = [_storable(one) for one in decoded.rejected]
    age_of = _age_by(received_at, batch.sent_boottime_seconds)
    row_of = _row_maker(received_at, batch_id=batch.batch_id.bytes, boot_id=batch.boot_id.bytes, agent=sender.agent)
    refused_before = {one.index for one in rejected}
    indices = (index for index in range(len(batch.results) + len(rejected)) if index not in refused_before)
    for index, result in zip(indices, batch.results, strict=True):
        target = sender.targets.get((result.endpoint, result.module))
        age = age_of(result)
        reason = _reason_against(target, age)
        if target is None or reason is not None:
            rejected.append(Rejected(seq=result.seq, index=index, reason=reason or RejectReason.UNKNOWN_TARGET))
            continue
        plan.rows.append(row_of(result, target.id, age))
        plan.taken.append(Taken(result, target.id, age, age > late_seconds))
    plan.days.update(_days(plan.taken, received_at))
    reasons = _count_reasons(rejected, invalid=len(decoded.rejected))
    return msgspec.structs.replace(plan, rejected=tuple(rejected), reasons=reasons)


def ledger_row(decoded: Decoded, plan: Plan, *, agent_id: int, received_at: datetime) -> LedgerRow:
    """Return the ledger's row of a plan."""
    return LedgerRow(
        agent_id=agent_id,
        batch_id=decoded.batch.batch_id,
        boot_id=decoded.batch.boot_id,
        received_at=received_at,
        accepted=len(plan.rows),
        late=plan.late,
        rejected=msgspec.json.encode(plan.rejected).decode() if plan.rejected else None,
    )


def _repeat(repeated: Repeated) -> Ingested:
    rejected = () if repeated.rejected is None else _rejected_decoder.decode(repeated.rejected)
    return Ingested(accepted=0, duplicate=repeated.accepted, late=0, rejected=rejected, repeated=True)


def _age_by(received_at: datetime, sent_boottime: float | None) -> Callable[[Result], float]:
    """Return how to tell a result's age: by the agent's CLOCK_BOOTTIME where it holds, else by its wall clock."""
    if sent_boottime is not None:
        return lambda result: sent_boottime - result.started_boottime_seconds
    return lambda result: (received_at - result.started_at).total_seconds()


def _reason_against(target: TargetRow | None, age_seconds: float) -> RejectReason | None:
    if target is None:
        return RejectReason.UNKNOWN_TARGET
    if age_seconds > MAX_AGE_SECONDS:
        return RejectReason.TOO_OLD
    if age_seconds < -MAX_AHEAD_SECONDS:
        return RejectReason.FUTURE
    return None


def _count_reasons(rejected: list[Rejected], *, invalid: int) -> dict[RejectReason, int]:
    counts = {RejectReason.INVALID: invalid} if invalid else {}
    for one in rejected[invalid:]:
        reason = RejectReason(one.reason)
        counts[reason] = counts.get(reason, 0) + 1
    return counts


def _days(taken: list[Taken], received_at: datetime) -> set[date]:
    if not taken:
        return set()
    ages = [one.age_seconds for one in taken]
    first = (received_at - timedelta(seconds=max(ages))).date()
    last = (received_at - timedelta(seconds=min(ages))).date()
    return {first + timedelta(days=n) for n in range((last - first).days + 1)}


def _storable(one: Rejected) -> Rejected:
    """Return the refusal with a number that JSON and the agent can hold: a hostile one may be of any size."""
    if one.seq is not None and not 0 <= one.seq <= MAX_SEQ:
        return msgspec.structs.replace(one, seq=None)
    return one


def _microseconds(moment: datetime) -> int:
    return round(moment.timestamp() * 1e6) - _EPOCH_2000_MICROSECONDS


def _row_maker(
    received_at: datetime, *, batch_id: bytes, boot_id: bytes, agent: AgentRow
) -> Callable[[Result, int, float], Row]:
    """Return the function that makes one row; what all rows of a batch share is worked out once."""
    received = _microseconds(received_at)
    agent_id, region_id = agent.id, agent.region.id

    def row_of(result: Result, target_id: int, age_seconds: float) -> Row:
        tokens, pings, components, timing = result.tokens, result.pings, result.components, result.server_timing
        return (
            received - math.floor(age_seconds * 1e6),
            _microseconds(result.started_at),
            received,
            result.started_boottime_seconds,
            result.seq,
            boot_id,
            batch_id,
            agent_id,
            region_id,
            target_id,
            _PROBER[result.prober],
            _OUTCOME[result.outcome],
            _CLOCK_SOURCE[result.clock_source],
            _flag_bits(result.flags) if result.flags else 0,
            _CONNECTION[result.connection],
            _RTT_SOURCE[result.rtt_source],
            result.ip_version,
            result.http_status,
            result.duration_seconds,
            result.setup_seconds,
            result.rtt_seconds,
            result.ttft_seconds,
            result.answer_ttft_seconds,
            result.tpot_seconds,
            result.tokens_per_second,
            result.stall_seconds,
            result.start_delay_seconds,
            *astuple(result.marks),
            *(_NO_COMPONENTS if components is None else astuple(components)),
            *(_NO_PINGS if pings is None else (_RTT_METHOD[pings.method], *astuple(pings)[1:])),
            *(_NO_TOKENS if tokens is None else (_TOKEN_SOURCE[tokens.source], *astuple(tokens)[1:])),
            result.reason,
            result.address,
            *(_NO_SERVER_TIMING if timing is None else astuple(timing)),
            result.served_region,
        )

    return row_of


def _flag_bits(flags: tuple[Flag, ...]) -> int:
    bits = 0
    for flag in flags:
        bits |= _FLAG_BIT[flag]
    return bits
