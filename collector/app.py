"""The wiring: settings in, a running collector out. `create_app` builds, `serve` runs until a signal."""

import asyncio
import gc
import logging
import signal
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from datetime import UTC, datetime, timedelta
from importlib.metadata import version
from typing import Final

import uvicorn
from fastapi import FastAPI

from collector import admin, api, jobs, rollout, room
from collector.api.context import Context
from collector.api.deadlines import bounded
from collector.api.readers import Readers
from collector.clones import FORGET
from collector.config import Settings
from collector.errors import CollectorError, ConfirmationNeeded, DatabaseUnavailable, SchemaBehind, SettingsError
from collector.fleet import Share, View, row_of
from collector.jobs import Job
from collector.metrics import LiveMetrics, limits_of
from collector.registry import RegistryCache, Rows
from collector.rollout import Applied, Rollout
from collector.store import migration
from collector.store.agent_config import put_reports
from collector.store.agents import list_agents, record_reports
from collector.store.credentials import clones_since, record_clone
from collector.store.engine import AsyncEngine, check_encoding, database_bytes, open_engine, run
from collector.store.fleet import fold_runs, list_facts
from collector.store.partitions import Partitions
from collector.store.registry import load_rows

REGISTRY_SECONDS: Final = 10.0
PARTITIONS_SECONDS: Final = 60.0
REPORTS_SECONDS: Final = 15.0
FLEET_SECONDS: Final = 15.0
FOLD_SECONDS: Final = 3_600.0
KEPT_RUN_DAYS: Final = 30
"""How long the books of a run that is over stay apart: longer than any agent keeps its results."""
CANARY_SECONDS: Final = 15.0
SIZE_SECONDS: Final = 60.0
RETRY_SECONDS: Final = 5.0
GRACE_SECONDS: Final = 5
"""For requests under way when the collector is told to stop."""
KEEP_ALIVE_SECONDS: Final = 75
"""Agents send every 10 s to 60 s: a connection outlives the pause."""
GC_THRESHOLD: Final = 100_000
"""Decoding makes thousands of objects without a cycle among them: at the default the cycle search costs 40 % of the
CPU (docs/explanation, measured)."""

_log = logging.getLogger(__name__)


def create_app(settings: Settings) -> FastAPI:
    """Return the app. It connects when it starts, and starts whether or not the database is up."""
    engine = open_engine(settings.database_url)
    metrics = LiveMetrics(limits_of(settings), monotonic=time.monotonic)
    registry = RegistryCache(_loader(engine, metrics), monotonic=time.monotonic, on_change=metrics.sync)
    context = Context(
        settings=settings,
        engine=engine,
        readers=Readers(engine),
        partitions=Partitions(),
        registry=registry,
        metrics=metrics,
        utc_now=lambda: datetime.now(UTC),
        reload=lambda confirmed: _reload(settings, engine, registry, confirmed=confirmed),
        check_ready=_readiness(engine),
    )
    app = FastAPI(title="Isochrone collector", version=version("isochrone"), lifespan=_lifespan, redoc_url=None)
    app.state.context = context
    api.install(app)
    return app


def serve(settings: Settings, *, announce: Callable[[str], None]) -> None:
    """Serve until SIGTERM or SIGINT; raise SettingsError when the address cannot be had.

    `announce` gets the address once it listens.
    """
    with _listening(settings) as sock:
        app = create_app(settings)
        server = _Server(
            uvicorn.Config(
                app,
                http=bounded(settings.connections_per_address),
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,
                timeout_keep_alive=KEEP_ALIVE_SECONDS,
                timeout_graceful_shutdown=GRACE_SECONDS,
            )
        )
        announce(_address(sock))
        gc.collect()
        gc.freeze()
        gc.set_threshold(GC_THRESHOLD, 20, 20)
        asyncio.run(server.serve(sockets=[sock]))


class _Server(uvicorn.Server):
    """Uvicorn that ends with 0 when it was told to end, and reads the targets anew on SIGHUP."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        loop = asyncio.get_running_loop()
        context = self._context()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self.handle_exit, number, None)
        pending: set[asyncio.Task[None]] = set()

        def hang_up() -> None:
            task = loop.create_task(_reload_and_log(context))
            pending.add(task)
            task.add_done_callback(pending.discard)

        loop.add_signal_handler(signal.SIGHUP, hang_up)
        yield
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            loop.remove_signal_handler(number)

    def _context(self) -> Context:
        app = self.config.app
        if not isinstance(app, FastAPI):  # pragma: no cover
            raise TypeError("the server serves what create_app made")
        context: Context = app.state.context
        return context


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    context: Context = app.state.context
    context.heard_since = context.utc_now()
    with suppress(CollectorError):
        await context.registry.get()
    await _tell_readiness(context)
    async with jobs.running(_jobs(context)):
        yield
    with suppress(DatabaseUnavailable):
        await _write_reports(context)
    await context.engine.dispose()


def _jobs(context: Context) -> list[Job]:
    async def renew_registry() -> None:
        await context.registry.newer_than(REGISTRY_SECONDS / 2)

    async def make_partitions() -> None:
        await context.partitions.ensure_ahead(context.engine, context.utc_now().date())

    return [
        Job(name="registry", seconds=REGISTRY_SECONDS, work=renew_registry),
        Job(name="partitions", seconds=PARTITIONS_SECONDS, work=make_partitions),
        Job(name="reports", seconds=REPORTS_SECONDS, work=lambda: _write_reports(context)),
        Job(name="clones", seconds=REPORTS_SECONDS, work=lambda: _write_clones(context)),
        Job(name="fleet", seconds=FLEET_SECONDS, work=lambda: _show_fleet(context)),
        Job(name="fold", seconds=FOLD_SECONDS, work=lambda: _fold_runs(context)),
        Job(name="canary", seconds=CANARY_SECONDS, work=lambda: _watch_canary(context)),
        Job(name="recall", seconds=RETRY_SECONDS, work=_once(lambda: _recall(context))),
        *_size_job(context),
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
        context.database_full = space.judge(size)

    return [Job(name="database size", seconds=SIZE_SECONDS, work=measure)]


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

    return [Job(name="targets", seconds=RETRY_SECONDS, work=_once(reload))]


def _once(work: Callable[[], Awaitable[object]]) -> Callable[[], Awaitable[object]]:
    """Return work that does nothing any more once it has succeeded."""
    done = False

    async def work_until_done() -> None:
        nonlocal done
        if not done:
            await work()
            done = True

    return work_until_done


async def _recall(context: Context) -> None:
    """Take over when agents last reported to a process before this one."""
    registry = await context.registry.get()
    by_name = {agent.name: agent for agent in registry.rows.agents}
    for entry in await run(context.engine, list_agents):
        agent = by_name.get(entry.agent)
        if agent is not None and agent.id not in context.reports and entry.last_report_at is not None:
            context.metrics.recall(agent, last_report_at=entry.last_report_at, version=entry.version)


async def _show_fleet(context: Context) -> None:
    settings = context.settings
    view = View(now=context.utc_now(), late_seconds=settings.late_seconds, flush_seconds=settings.flush_seconds)
    facts = await run(context.engine, list_facts)
    context.metrics.show_fleet(row_of(one, Share(), view) for one in facts)


async def _fold_runs(context: Context) -> None:
    await run(context.engine, fold_runs, before=context.utc_now() - timedelta(days=KEPT_RUN_DAYS))


async def _write_reports(context: Context) -> None:
    for pending, write in ((context.reports, record_reports), (context.config_reports, put_reports)):
        reports = dict(pending)
        await run(context.engine, write, list(reports.values()))
        for agent_id, report in reports.items():
            if pending.get(agent_id) is report:
                del pending[agent_id]


async def _watch_canary(context: Context) -> None:
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


async def _write_clones(context: Context) -> None:
    """Write down which agents have a clone, take over what other collectors saw, and end what is over."""
    now, clones = context.utc_now(), context.clones
    for agent_id, seen_at in list(clones.seen.items()):
        await run(context.engine, record_clone, agent_id, seen_at)
    concerned = clones.take_over(await run(context.engine, clones_since, now - FORGET), now=now)
    agents = (await context.registry.get()).agents
    for agent_id in concerned & agents.keys():
        context.metrics.set_duplicate(agents[agent_id], duplicate=clones.current(agent_id, now=now))


def _loader(engine: AsyncEngine, metrics: LiveMetrics) -> Callable[[], Awaitable[Rows]]:
    async def load() -> Rows:
        try:
            rows = await run(engine, load_rows)
        except DatabaseUnavailable:
            metrics.set_database_up(up=False)
            raise
        metrics.set_database_up(up=True)
        return rows

    return load


async def _reload(settings: Settings, engine: AsyncEngine, registry: RegistryCache, *, confirmed: bool) -> Applied:
    if settings.targets is None:
        raise SettingsError("no target file: start the collector with --targets FILE")
    document = await asyncio.to_thread(admin.read_targets, settings.targets)
    applied = await run(engine, rollout.apply_document, document, Rollout(confirmed=confirmed))
    await registry.newer_than(0.0)
    _log.info(
        "targets %s: revision %d, %s", settings.targets, applied.revision, "new" if applied.changed else "as before"
    )
    return applied


async def _reload_and_log(context: Context) -> None:
    try:
        await context.reload(False)  # noqa: FBT003  the field is a callable: it has no keywords
    except CollectorError as exc:
        _log.error("targets were not read anew, the old ones stay: %s", exc)


def _readiness(engine: AsyncEngine) -> Callable[[], Awaitable[str]]:
    known = migration.known_revisions()
    head = migration.head_revision()

    async def check() -> str:
        await run(engine, check_encoding)
        current = await run(engine, migration.current_revision)
        # A revision that this release does not know is a newer release's: migrations run beside the one before.
        if current is None or (current in known and current != head):
            raise SchemaBehind(
                f"the schema is at {current}, this release needs {head}: run isochrone-collector migrate"
            )
        return current

    return check


async def _tell_readiness(context: Context) -> None:
    try:
        revision = await context.check_ready()
    except CollectorError as exc:
        _log.error("not ready: %s", exc)
    else:
        _log.info("ready: schema %s", revision)


@contextmanager
def _listening(settings: Settings) -> Iterator[socket.socket]:
    listen = settings.listen
    try:
        family, *_, address = socket.getaddrinfo(listen.host, listen.port, type=socket.SOCK_STREAM)[0]
        sock = socket.create_server(address[:2], family=family, backlog=2048)
    except OSError as exc:
        raise SettingsError(f"ISOCHRONE_LISTEN={listen}: {exc.strerror}: choose another address or port") from exc
    with sock:
        yield sock


def _address(sock: socket.socket) -> str:
    host, port = sock.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
