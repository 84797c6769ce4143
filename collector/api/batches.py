"""POST /v1/batches: results come in. Authenticate, bound, decode, plan, store, commit, answer, count."""

import asyncio
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from fastapi import APIRouter, Request, Response

from collector import clockcheck
from collector.api.bodies import check_headers, inflate, read_body
from collector.api.context import Caller, Calling, Context, Running, calling_agent, context_of
from collector.books import Receipt
from collector.clones import Run
from collector.errors import ClockWrong, DatabaseUnavailable, Refused
from collector.ingest import Ingested, Ledger, Moments, Plan, RejectReason, Sender, ingest, plan_batch
from collector.metrics.live import Source
from collector.registry import Registry
from collector.store import engine
from collector.telemetry.facts import Origin
from isochrone.batch import Ack
from isochrone.names import printable
from isochrone.wire import Decoded, WireError, decode_batch, encode_ack

FULL_RETRY_SECONDS: Final = 60.0
"""The size of the database is looked at as often."""
DATABASE_FULL: Final = "The database has reached its bound. Keep the results and send them again later."

router = APIRouter(tags=["agents"])


@dataclass(frozen=True, kw_only=True)
class Delivery:
    """A batch that was read whole, whose it is, and when it came."""

    decoded: Decoded
    caller: Caller
    moments: Moments


async def receive(request: Request) -> Response:
    """Do as `post_batch`, without what FastAPI spends on each request: a third of a small batch's cost."""
    return await post_batch(request, await calling_agent(request), context_of(request))


@router.post("/v1/batches")
async def post_batch(request: Request, caller: Calling, context: Running) -> Response:
    """Store a batch exactly once. Good results are kept, bad ones named; a repeat is all duplicate."""
    came_at = context.utc_now()
    _admit(caller, context)
    gzipped = check_headers(request)
    async with context.turns.turn(caller.agent.id):
        body = await read_body(request)
        # Not before the body is here: one agent's slow bodies must not take the room of the others.
        async with context.batches.slot_for(len(body)):
            decoded = _decode(inflate(body) if gzipped else body)
            _check_sender(decoded, caller)
            moments = Moments(came_at=came_at, received_at=context.utc_now())
            delivery = Delivery(decoded=decoded, caller=caller, moments=moments)
            done = await _keep(delivery, context)
    context.metrics.count_batch(done, Source(caller.agent, decoded.batch.boot_id, moments.came_at))
    _export(delivery, done, context)
    _note_report(delivery, context)
    _watch_for_clones(delivery, done, context)
    ack = encode_ack(_ack(delivery, done, context))
    return Response(ack, media_type="application/json", headers=caller.headers)


def _admit(caller: Caller, context: Context) -> None:
    """Raise before anything of the body is read: the clock is wrong, the database full, the agent sends too often."""
    clockcheck.check_year(context.utc_now())
    if context.health.clock is not None:
        raise ClockWrong(context.health.clock)
    if context.health.full:
        raise Refused("full", DATABASE_FULL, retry_after_seconds=FULL_RETRY_SECONDS)
    wait = context.rates.wait_seconds(caller.agent.id)
    if wait is not None:
        detail = f"At most {context.settings.batches_per_second:g} batches in a second. Send larger ones."
        raise Refused("too_fast", detail, retry_after_seconds=wait)


def _decode(data: bytes) -> Decoded:
    try:
        return decode_batch(data)
    except WireError as exc:
        raise Refused("invalid", printable(str(exc))) from exc
    except RecursionError as exc:
        raise Refused("invalid", "The JSON is nested too deeply.") from exc


def _check_sender(decoded: Decoded, caller: Caller) -> None:
    named = decoded.batch.agent
    if named is not None and named != caller.agent.name:
        raise Refused("forbidden", "The batch names another agent than the one whose credential it came with.")


async def _keep(delivery: Delivery, context: Context) -> Ingested:
    """Plan and store, within the time that followers of `/v1/results` wait for what was received before."""
    try:
        async with asyncio.timeout(engine.ANSWER_SECONDS) as bound:
            done = await _store(delivery, await _plan(delivery, context), context, deadline=bound.when())
    except TimeoutError as exc:
        context.metrics.set_database_up(up=False)
        context.health.note_storing(DatabaseUnavailable.plain)
        raise DatabaseUnavailable(f"the batch was not stored within {engine.ANSWER_SECONDS:g} s") from exc
    except DatabaseUnavailable as exc:
        context.metrics.set_database_up(up=False)
        context.health.note_storing(exc.plain)
        raise
    context.metrics.set_database_up(up=True)
    context.health.note_storing(None)
    return done


async def _plan(delivery: Delivery, context: Context) -> Plan:
    caller = delivery.caller
    run_id = await context.runs.number(caller.agent.id, delivery.decoded.batch.boot_id)
    plan = _plan_by(delivery, caller.registry, run_id=run_id, late_seconds=context.settings.late_seconds)
    if RejectReason.UNKNOWN_TARGET not in plan.reasons:
        return plan
    # Another collector may have handed out a newer configuration than the one in memory here.
    registry = await context.registry.after_miss()
    if registry is caller.registry or caller.agent.id not in registry.agents:
        return plan
    return _plan_by(delivery, registry, run_id=run_id, late_seconds=context.settings.late_seconds)


def _plan_by(delivery: Delivery, registry: Registry, *, run_id: int, late_seconds: float) -> Plan:
    agent_id = delivery.caller.agent.id
    sender = Sender(agent=registry.agents[agent_id], run_id=run_id, targets=registry.known_targets(agent_id))
    return plan_batch(delivery.decoded, sender, moments=delivery.moments, late_seconds=late_seconds)


async def _store(delivery: Delivery, plan: Plan, context: Context, *, deadline: float | None) -> Ingested:
    receipt = Receipt(
        agent_id=delivery.caller.agent.id,
        received_at=delivery.moments.received_at,
        flush_seconds=context.settings.flush_seconds,
    )
    ledger = Ledger(batch=delivery.decoded.batch, receipt=receipt, deadline=deadline)
    return await ingest(context.commits, context.partitions, plan=plan, ledger=ledger)


def _export(delivery: Delivery, done: Ingested, context: Context) -> None:
    boot_id = str(delivery.decoded.batch.boot_id)
    context.telemetry.take(done, Origin(agent=delivery.caller.agent, boot_id=boot_id, came_at=delivery.moments.came_at))


def _note_report(delivery: Delivery, context: Context) -> None:
    agent, batch, came_at = delivery.caller.agent, delivery.decoded.batch, delivery.moments.came_at
    context.metrics.report(agent, batch, received_at=came_at)
    context.reports[agent.id] = {"id": agent.id, "last_report_at": came_at, "version": batch.status.version}


def _watch_for_clones(delivery: Delivery, done: Ingested, context: Context) -> None:
    """Compare the times of this run with the agent's others. Only of results that the agent's CLOCK_BOOTTIME dates."""
    batch, came_at = delivery.decoded.batch, delivery.moments.came_at
    ages = [taken.age_seconds for taken in done.plan.taken]
    if done.repeated or not ages or batch.sent_boottime_seconds is None:
        return
    oldest, newest = came_at - timedelta(seconds=max(ages)), came_at - timedelta(seconds=min(ages))
    run = Run(boot_id=batch.boot_id, oldest=oldest, newest=newest)
    agent = delivery.caller.agent
    if context.clones.note(agent.id, run, now=came_at):
        context.metrics.set_duplicate(agent, duplicate=True)


def _ack(delivery: Delivery, done: Ingested, context: Context) -> Ack:
    caller = delivery.caller
    return Ack(
        batch_id=delivery.decoded.batch.batch_id,
        accepted=done.accepted,
        duplicate=done.duplicate,
        late=done.late,
        rejected=done.rejected,
        t1=delivery.moments.came_at.timestamp(),
        t2=context.utc_now().timestamp(),
        config_etag=caller.registry.share(caller.agent.id).etag,
        next_flush_seconds=context.settings.flush_seconds,
    )
