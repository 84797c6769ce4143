"""The wiring: settings in, a running collector out. `create_app` builds, `serve` runs until a signal."""

import asyncio
import gc
import logging
import signal
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from datetime import UTC, datetime
from importlib.metadata import version
from random import Random
from typing import Final

import uvicorn
from fastapi import FastAPI

from collector import admin, api, clockcheck, rollout, work
from collector.api.context import Context
from collector.api.deadlines import bounded
from collector.api.readers import Readers
from collector.commits import Commits
from collector.config import Settings
from collector.errors import CollectorError, DatabaseUnavailable, SchemaBehind, SettingsError
from collector.health import Standing
from collector.metrics import LiveMetrics, limits_of
from collector.registry import Registry, RegistryCache, Rows
from collector.replica import Replica
from collector.rollout import Applied, Rollout
from collector.store import migration
from collector.store.clock import database_now
from collector.store.engine import AsyncEngine, check_encoding, open_engine, run
from collector.store.partitions import Partitions
from collector.store.registry import load_rows
from collector.store.runs import Runs
from collector.telemetry.exporter import Clock
from collector.telemetry.exports import Exports, open_exports

GRACE_SECONDS: Final = 5
"""For requests under way when the collector is told to stop."""
KEEP_ALIVE_SECONDS: Final = 75
"""Agents send every 10 s to 60 s: a connection outlives the pause."""
GC_THRESHOLD: Final = 100_000
"""Decoding makes thousands of objects without a cycle among them: at the default the cycle search costs 40 % of the
CPU (docs/explanation, measured)."""
NEWER: Final = (
    "the schema is at {current}, newer than this release, which knows {head}: everything works that this release does;"
    " install the newer one here, too"
)

_log = logging.getLogger(__name__)


def create_app(settings: Settings) -> FastAPI:
    """Return the app. It connects when it starts, and starts whether or not the database is up."""
    engine = open_engine(settings.database_url)
    metrics = LiveMetrics(limits_of(settings), monotonic=time.monotonic)
    exports = open_exports(settings.receivers, clock=_export_clock(), families=metrics.exports)
    registry = RegistryCache(
        _loader(engine, metrics), monotonic=time.monotonic, on_change=lambda now: _show(now, metrics, exports)
    )
    context = Context(
        settings=settings,
        engine=engine,
        readers=Readers(engine, _replica(settings, engine, metrics)),
        commits=Commits(engine, by_agent=settings.commit_by_agent),
        partitions=Partitions(),
        runs=Runs(engine),
        registry=registry,
        metrics=metrics,
        telemetry=exports,
        utc_now=lambda: datetime.now(UTC),
        reload=lambda confirmed: _reload(settings, engine, registry, confirmed=confirmed),
        check_ready=_readiness(engine, lambda: context.utc_now()),  # noqa: PLW0108  a test sets another clock
    )
    app = FastAPI(
        title="Isochrone collector", version=version("isochrone"), lifespan=_lifespan, docs_url=None, redoc_url=None
    )
    app.state.context = context
    api.install(app)
    return app


def serve(settings: Settings, *, announce: Callable[[str], None]) -> None:
    """Serve until SIGTERM or SIGINT; raise SettingsError when the address cannot be had.

    `announce` gets the address once it listens.
    """
    with _listening(settings) as sock:
        app = create_app(settings)
        server = _Server(server_config(app, settings))
        announce(_address(sock))
        gc.collect()
        gc.freeze()
        gc.set_threshold(GC_THRESHOLD, 20, 20)
        asyncio.run(server.serve(sockets=[sock]))


def server_config(app: FastAPI, settings: Settings) -> uvicorn.Config:
    """Return how the app is served. Who a request comes from is the peer's word only where the peer is trusted."""
    proxies = settings.trusted_proxies or ()
    return uvicorn.Config(
        app,
        http=bounded(settings.connections_per_address, proxies=proxies),
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=bool(proxies),
        forwarded_allow_ips=list(proxies),
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=GRACE_SECONDS,
    )


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
    async with work.running(context), context.telemetry.running():
        yield
    context.summaries.forget()
    context.series.forget()
    with suppress(DatabaseUnavailable):
        await work.write_reports(context)
    await context.engine.dispose()
    if context.readers.replica is not None:
        await context.readers.replica.close()


def _export_clock() -> Clock:
    return Clock(
        utc_now=lambda: datetime.now(UTC),
        monotonic=time.monotonic,
        sleep=asyncio.sleep,
        random=Random(),  # noqa: S311  it spreads waits
    )


async def _show(registry: Registry, metrics: LiveMetrics, exports: Exports) -> None:
    """Take a new snapshot of the registry to those who tell of results."""
    await metrics.sync(registry)
    exports.sync(registry)


def _replica(settings: Settings, engine: AsyncEngine, metrics: LiveMetrics) -> Replica | None:
    if settings.read_database_url is None:
        return None
    reading = open_engine(settings.read_database_url, name="ISOCHRONE_READ_DATABASE_URL")
    return Replica(reading, engine, tell=metrics.set_read_database)


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


def _readiness(engine: AsyncEngine, utc_now: Callable[[], datetime]) -> Callable[[], Awaitable[Standing]]:
    known = migration.known_revisions()
    head = migration.head_revision()

    async def check() -> Standing:
        clockcheck.check_year(utc_now())
        await run(engine, check_encoding)
        current = await run(engine, migration.current_revision)
        if current is None or (current in known and current != head):
            raise SchemaBehind(
                f"the schema is at {current}, this release needs {head}: run isochrone-collector migrate"
            )
        there = await run(engine, database_now)
        clockcheck.check_clock(utc_now(), database_now=there)
        # A revision that this release does not know is a newer release's: migrations run beside the one before.
        return Standing(
            schema=current, warnings=() if current in known else (NEWER.format(current=current, head=head),)
        )

    return check


async def _tell_readiness(context: Context) -> None:
    try:
        standing = await context.check_ready()
    except CollectorError as exc:
        _log.error("not ready: %s", exc)
    else:
        _log.info("ready: schema %s", standing.schema)


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
