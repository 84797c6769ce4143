"""POST /v1/batches: results come in. Authenticate, bound, decode, plan, store, commit, answer, count."""

from datetime import datetime

from fastapi import APIRouter, Request, Response

from collector.api.bodies import check_headers, inflate, read_body
from collector.api.context import Caller, Calling, Context, Running
from collector.errors import DatabaseUnavailable, Refused
from collector.ingest import Ingested, Plan, RejectReason, Sender, ingest, ledger_row, plan_batch
from isochrone.batch import Ack, Batch
from isochrone.names import printable
from isochrone.wire import Decoded, WireError, decode_batch, encode_ack

router = APIRouter(tags=["agents"])


@router.post("/v1/batches")
async def post_batch(request: Request, caller: Calling, context: Running) -> Response:
    """Store a batch exactly once. Good results are kept, bad ones named; a repeat is all duplicate."""
    received_at = context.utc_now()
    gzipped = check_headers(request)
    with context.batches.slot():
        body = await read_body(request)
        decoded = _decode(inflate(body) if gzipped else body)
        plan = await _plan(decoded, caller, context, received_at=received_at)
        done = await _store(decoded, plan, context, caller=caller, received_at=received_at)
    context.metrics.count_batch(plan, done, agent_id=caller.agent.id)
    _note_report(decoded.batch, caller, context, received_at=received_at)
    return Response(encode_ack(_ack(decoded.batch, done, caller, context, received_at)), media_type="application/json")


def _decode(data: bytes) -> Decoded:
    try:
        return decode_batch(data)
    except WireError as exc:
        raise Refused("invalid", printable(str(exc))) from exc
    except RecursionError as exc:
        raise Refused("invalid", "The JSON is nested too deeply.") from exc


async def _plan(decoded: Decoded, caller: Caller, context: Context, *, received_at: datetime) -> Plan:
    late_seconds = context.settings.late_seconds
    sender = Sender(agent=caller.agent, targets=caller.registry.known_targets(caller.agent.id))
    plan = plan_batch(decoded, sender, received_at=received_at, late_seconds=late_seconds)
    if RejectReason.UNKNOWN_TARGET not in plan.reasons:
        return plan
    # Another collector may have handed out a newer configuration than the one in memory here.
    registry = await context.registry.after_miss()
    if registry is caller.registry or caller.agent.id not in registry.agents:
        return plan
    sender = Sender(agent=registry.agents[caller.agent.id], targets=registry.known_targets(caller.agent.id))
    return plan_batch(decoded, sender, received_at=received_at, late_seconds=late_seconds)


async def _store(decoded: Decoded, plan: Plan, context: Context, *, caller: Caller, received_at: datetime) -> Ingested:
    ledger = ledger_row(decoded, plan, agent_id=caller.agent.id, received_at=received_at)
    try:
        done = await ingest(context.engine, context.partitions, plan=plan, ledger=ledger)
    except DatabaseUnavailable:
        context.metrics.set_database_up(up=False)
        raise
    context.metrics.set_database_up(up=True)
    return done


def _note_report(batch: Batch, caller: Caller, context: Context, *, received_at: datetime) -> None:
    context.metrics.report(caller.agent, batch, received_at=received_at)
    context.reports[caller.agent.id] = {
        "id": caller.agent.id,
        "last_report_at": received_at,
        "version": batch.status.version,
    }


def _ack(batch: Batch, done: Ingested, caller: Caller, context: Context, received_at: datetime) -> Ack:  # noqa: PLR0917
    return Ack(
        batch_id=batch.batch_id,
        accepted=done.accepted,
        duplicate=done.duplicate,
        late=done.late,
        rejected=done.rejected,
        t1=received_at.timestamp(),
        t2=context.utc_now().timestamp(),
        config_etag=caller.registry.share(caller.agent.id).etag,
        next_flush_seconds=context.settings.flush_seconds,
    )
