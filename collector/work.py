"""The jobs of a running collector: what each does, how often, and who must be alone at it."""

import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Final

from collector import jobs, retention, rollout, rollup, room
from collector.api.context import Context
from collector.clones import FORGET
from collector.errors import ClockWrong, ConfirmationNeeded, DatabaseUnavailable
from collector.fleet import Share, View, row_of
from collector.jobs import End, Job
from collector.store.agent_config import put_reports
from collector.store.agents import list_agents, record_reports
from collector.store.credentials import clones_since, record_clone
from collector.store.engine import database_bytes, run
from collector.store.fleet import list_facts
from collector.store.stalled import end_stalled

READINESS_SECONDS: Final = 15.0
REGISTRY_SECONDS: Final = 10.0
PARTITIONS_SECONDS: Final = 60.0
REPORTS_SECONDS: Final = 15.0
FLEET_SECONDS: Final = 15.0
ROLLUP_SECONDS: Final = 5.0
"""So that pages stay fresh."""
RETENTION_SECONDS: Final = 3_600.0
CANARY_SECONDS: Final = 15.0
SIZE_SECONDS: Final = 60.0
REPLICA_SECONDS: Final = 10.0
STALLED_LOOK_SECONDS: Final = 15.0
RETRY_SECONDS: Final = 5.0

_log = logging.getLogger(__name__)


class Observed:
    """Takes how the jobs fare to `/metrics` and `/readyz`."""

    def __init__(self, context: Context) -> None:
        self._context = context

    def ended(self, name: str, end: End, reason: str | None = None) -> None:
        """Note a run."""
        if end is End.DONE:
            self._context.metrics.jobs.last_success.series(name).set(self._context.utc_now().timestamp())
        elif end is End.FAILED:
            self._context.metrics.jobs.failures.series(name).add()
        self._context.health.note_job(name, reason)

    def missed(self, name: str, count: int) -> None:
        """Note runs that did not start."""
        self._context.metrics.jobs.missed.series(name).add(count)


@asynccontextmanager
async def running(context: Context) -> AsyncIterator[None]:
    """Run every job of the collector until the block ends."""
    listed = jobs_of(context)
    for job in listed:
        context.metrics.jobs.failures.series(job.name)
        context.metrics.jobs.missed.series(job.name)
    async with jobs.running(listed, Observed(context)):
        yield


def jobs_of(context: Context) -> list[Job]:
    """Return the jobs, each at work for this collector alone, or alone among all collectors."""

    async def renew_registry() -> None:
        await context.registry.newer_than(REGISTRY_SECONDS / 2)

    return [
        Job(name="registry", seconds=REGISTRY_SECONDS, work=renew_registry),
        Job(name="readiness", seconds=READINESS_SECONDS, work=_readiness_work(context)),
        Job(name="partitions", seconds=PARTITIONS_SECONDS, work=lambda: make_partitions(context)),
        Job(name="reports", seconds=REPORTS_SECONDS, work=lambda: write_reports(context)),
        Job(name="clones", seconds=REPORTS_SECONDS, work=lambda: write_clones(context)),
        Job(name="fleet", seconds=FLEET_SECONDS, work=lambda: show_fleet(context)),
        Job(name="rollup", seconds=ROLLUP_SECONDS, work=lambda: roll_up(context)),
        Job(name="retention", seconds=RETENTION_SECONDS, work=lambda: drop_old(context)),
        Job(name="stalled", seconds=STALLED_LOOK_SECONDS, work=lambda: free_batches(context)),
        Job(name="canary", seconds=CANARY_SECONDS, work=lambda: watch_canary(context)),
        Job(name="recall", seconds=RETRY_SECONDS, work=lambda: recall(context), once=True),
        *_size_job(context),
        *_replica_job(context),
        *_targets_job(context),
    ]


def _size_job(context: Context) -> list[Job]:
    bound = context.settings.max_db_bytes
    if bound is None:
        return []

    space = room.Room(bound)

    async def measure() -> None:
        size = await run(context.engine, database_bytes)
        context.metrics.set_database_size(size, bound=bound)
        context.health.full = space.judge(size)

    return [Job(name="database_size", seconds=SIZE_SECONDS, work=measure)]


def _replica_job(context: Context) -> list[Job]:
    replica = context.readers.replica
    return [] if replica is None else [Job(name="reading_database", seconds=REPLICA_SECONDS, work=replica.look)]


def _targets_job(context: Context) -> list[Job]:
    """Return the job that applies the target file as soon as the database serves."""
    if context.settings.targets is None:
        return []
    told: set[str] = set()

    async def reload() -> None:
        try:
            await context.reload(False)  # noqa: FBT003  the field is a callable: it has no keywords
        except ConfirmationNeeded as exc:
            if str(exc) not in told:
                _log.error("targets were not read, the old ones stay: %s", exc)
            told.add(str(exc))
            raise

    return [Job(name="targets", seconds=RETRY_SECONDS, work=reload, once=True)]


def _readiness_work(context: Context) -> Callable[[], Awaitable[None]]:
    """Return work that looks whether the collector is ready, and tells the log what is new to warn of."""
    told: set[str] = set()

    async def look() -> None:
        for warning in await watch_readiness(context):
            if warning not in told:
                _log.warning("%s", warning)
                told.add(warning)

    return look


async def watch_readiness(context: Context) -> tuple[str, ...]:
    """Return what to warn of, and keep for those who take batches whether the clock can be right."""
    try:
        standing = await context.check_ready()
    except ClockWrong as exc:
        context.health.clock = str(exc)
        raise
    context.health.clock = None
    return standing.warnings


async def make_partitions(context: Context) -> None:
    """Make the partitions of the coming days: not by a wrong clock, nor in a schema of before."""
    await context.check_ready()
    await context.partitions.ensure_ahead(context.engine, context.utc_now().date())


async def roll_up(context: Context) -> None:
    """Bring the rollups up to what was stored, and show how far behind they are."""
    now = context.utc_now()
    waiting = (await rollup.work_off(context.engine, now)).waiting
    behind = 0.0 if waiting.since is None else max(0.0, (now - waiting.since).total_seconds())
    context.metrics.jobs.rollup_backlog.series().set(waiting.minutes)
    context.metrics.jobs.rollup_behind.series().set(behind)


async def drop_old(context: Context) -> None:
    """Drop what is older than it is kept: not by a wrong clock."""
    await context.check_ready()
    await retention.enforce(context.engine, context.settings.keep, context.utc_now())


async def free_batches(context: Context) -> None:
    """End transactions in which another collector stands still: their batches come again, and would wait for it."""
    ended = await run(context.engine, end_stalled)
    if ended:
        _log.warning(
            "ended %d transactions of a collector that stood still in the middle of storing: look whether all"
            " collectors are well; agents send those batches again",
            ended,
        )


async def recall(context: Context) -> None:
    """Take over when agents last reported to a process before this one."""
    registry = await context.registry.get()
    by_name = {agent.name: agent for agent in registry.rows.agents}
    for entry in await run(context.engine, list_agents):
        agent = by_name.get(entry.agent)
        if agent is not None and agent.id not in context.reports and entry.last_report_at is not None:
            context.metrics.recall(agent, last_report_at=entry.last_report_at, version=entry.version)


async def show_fleet(context: Context) -> None:
    """Take how every agent stands to the metrics."""
    settings = context.settings
    view = View(now=context.utc_now(), late_seconds=settings.late_seconds, flush_seconds=settings.flush_seconds)
    facts = await run(context.engine, list_facts)
    context.metrics.show_fleet(row_of(one, Share(), view) for one in facts)


async def write_reports(context: Context) -> None:
    """Write down what agents said since the last time; what comes meanwhile waits for the next."""
    for pending, write in ((context.reports, record_reports), (context.config_reports, put_reports)):
        reports = dict(pending)
        await run(context.engine, write, list(reports.values()))
        for agent_id, report in reports.items():
            if pending.get(agent_id) is report:
                del pending[agent_id]


async def watch_canary(context: Context) -> None:
    """Halt a canary that does harm: at once here, within the registry's age at other collectors."""
    registry = await context.registry.get()
    if registry.canary is None:
        return
    now = context.utc_now()
    try:
        halted = await run(context.engine, rollout.halt_if_harmful, now, heard_since=context.heard_since)
    except DatabaseUnavailable:
        context.heard_since = now  # what agents say now is written down later
        raise
    if halted is not None:
        _log.error("canary halted, its agents get what the others have: %s", halted)
        await context.registry.newer_than(0.0)


async def write_clones(context: Context) -> None:
    """Write down which agents have a clone, take over what other collectors saw, and end what is over."""
    now, clones = context.utc_now(), context.clones
    for agent_id, seen_at in list(clones.seen.items()):
        await run(context.engine, record_clone, agent_id, seen_at)
    concerned = clones.take_over(await run(context.engine, clones_since, now - FORGET), now=now)
    agents = (await context.registry.get()).agents
    for agent_id in concerned & agents.keys():
        context.metrics.set_duplicate(agents[agent_id], duplicate=clones.current(agent_id, now=now))
