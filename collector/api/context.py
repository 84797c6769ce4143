"""What every route works with, and who may ask."""

import asyncio
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Annotated, Final

from fastapi import Depends, Request

from collector import auth
from collector.api.admission import Admission, Buckets
from collector.api.kept import Kept
from collector.api.readers import Readers
from collector.auth import Credential, Keyhole, Scope
from collector.clones import CloneWatch
from collector.commits import Commits
from collector.config import Settings
from collector.errors import DatabaseUnavailable, Refused, SchemaBehind
from collector.health import Health, Standing
from collector.metrics import LiveMetrics
from collector.registry import AgentRow, Registry, RegistryCache
from collector.rollout import Applied
from collector.store.credentials import confirm_credential
from collector.store.engine import AsyncEngine, run
from collector.store.partitions import Partitions
from collector.store.runs import Runs
from collector.telemetry.exports import Exports

MAX_BATCHES_AT_ONCE: Final = 32
"""Each may hold 4 MiB inflated and a connection to the database."""
MAX_CONFIGS_AT_ONCE: Final = 64
BATCH_BURST: Final = 10
"""Batches of one agent at once, before its rate (a setting) holds."""
FAILURES_PER_SECOND: Final = 10 / 60
FAILURES_BURST: Final = 10
"""Wrong credentials of one address that are answered one by one."""
MAX_BATCHES_OF_ONE_AGENT: Final = 4
"""Read or worked on at once: an agent has two lanes, and what it still holds open from before a broken connection."""
MAX_ENROLMENTS_AT_ONCE: Final = 4
"""A fleet that enrols takes so many connections to the database, and no more."""
MAX_EXPORTS_AT_ONCE: Final = 2
"""Of the four readings at once: others read meanwhile."""
SERIES_RENEW_SECONDS: Final = 60.0
MAX_SERIES_KEPT: Final = 32
"""Answers of a dashboard or two; making them anew takes the database a thirtieth of a core."""
ROTATE_HEADER: Final = "Isochrone-Rotate"
"""Stands in answers to an agent of which the operator wants a new credential."""
TURN_SECONDS: Final = 5.0
"""How long a batch waits, unread, for another one of its agent."""


class Turns:
    """Bounds how many batches of one agent are under way at once. The next waits unread and holds up no other agent."""

    def __init__(self, limit: int, *, wait_seconds: float) -> None:
        self._wait_seconds = wait_seconds
        self._free: defaultdict[int, asyncio.Semaphore] = defaultdict(lambda: asyncio.Semaphore(limit))

    @asynccontextmanager
    async def turn(self, agent_id: int) -> AsyncIterator[None]:
        """Hold one of the agent's turns; raise Refused (503) when none comes free in time."""
        free = self._free[agent_id]
        try:
            async with asyncio.timeout(self._wait_seconds):
                await free.acquire()
        except TimeoutError as exc:
            raise Refused("busy", "Other batches of this agent are still under way. Send it again later.") from exc
        try:
            yield
        finally:
            free.release()


@dataclass(kw_only=True)
class Context:
    """The parts of one running collector, wired in `collector.app`."""

    settings: Settings
    engine: AsyncEngine
    readers: Readers
    commits: Commits
    partitions: Partitions
    runs: Runs
    registry: RegistryCache
    metrics: LiveMetrics
    telemetry: Exports
    utc_now: Callable[[], datetime]
    reload: Callable[[bool], Awaitable[Applied]]
    """Takes whether a file that takes most away is confirmed."""
    check_ready: Callable[[], Awaitable[Standing]]
    """Raises SchemaBehind, DatabaseUnfit, ClockWrong or DatabaseUnavailable."""
    heard_since: datetime | None = None
    """Since when agents could be heard, and what they said be written down, without a break that a job saw."""
    monotonic: Callable[[], float] = time.monotonic
    reports: dict[int, dict[str, object]] = field(default_factory=dict)
    """By agent: when it last reported, until a job writes it down."""
    config_reports: dict[int, dict[str, object]] = field(default_factory=dict)
    """By agent: what it last said of its configuration, until a job writes it down."""
    batches: Admission = field(default_factory=lambda: Admission(MAX_BATCHES_AT_ONCE, monotonic=time.monotonic))
    configs: Admission = field(default_factory=lambda: Admission(MAX_CONFIGS_AT_ONCE, monotonic=time.monotonic))
    rates: Buckets = field(init=False)
    """Batches by agent."""
    failures: Buckets = field(
        default_factory=lambda: Buckets(per_second=FAILURES_PER_SECOND, burst=FAILURES_BURST, monotonic=time.monotonic)
    )
    """Wrong credentials by address."""
    turns: Turns = field(default_factory=lambda: Turns(MAX_BATCHES_OF_ONE_AGENT, wait_seconds=TURN_SECONDS))
    enrolments: Admission = field(default_factory=lambda: Admission(MAX_ENROLMENTS_AT_ONCE, monotonic=time.monotonic))
    scraping: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Held while the metrics are written: scrapes that come together take turns."""
    exports: Admission = field(default_factory=lambda: Admission(MAX_EXPORTS_AT_ONCE, monotonic=time.monotonic))
    summaries: Kept = field(default_factory=lambda: Kept(time.monotonic))
    series: Kept = field(
        default_factory=lambda: Kept(time.monotonic, renew_seconds=SERIES_RENEW_SECONDS, max_kept=MAX_SERIES_KEPT)
    )
    clones: CloneWatch = field(default_factory=CloneWatch)
    health: Health = field(default_factory=Health)
    confirmed: set[str] = field(default_factory=set)
    """Rotated credentials whose first use was written down by this process."""

    def __post_init__(self) -> None:
        """Take the rate from the settings."""
        per_second = self.settings.batches_per_second
        self.rates = Buckets(per_second=per_second, burst=max(BATCH_BURST, per_second), monotonic=time.monotonic)


@dataclass(frozen=True, kw_only=True)
class Caller:
    """The agent that a request comes from, and the registry that says so."""

    agent: AgentRow
    registry: Registry
    credential: Credential

    @property
    def headers(self) -> dict[str, str]:
        """What goes with every answer to this agent."""
        return {ROTATE_HEADER: "1"} if self.credential.rotate else {}


def context_of(request: Request) -> Context:
    """Return the running collector."""
    context: Context = request.app.state.context
    return context


async def running(request: Request) -> Context:
    """Return the running collector. FastAPI sends what is not async through a thread, at every request."""
    return context_of(request)


async def calling_agent(request: Request) -> Caller:
    """Return the agent whose credential the request bears; raise Refused. Reads nothing of the body.

    Only failures are counted against an address: a valid agent behind the same one is never refused for them.
    """
    with _counting_failures(request):
        return await _authenticated(request)


@contextmanager
def _counting_failures(request: Request) -> Iterator[None]:
    """Count a wrong token against its address, and say so instead once there are too many. None at all is no guess."""
    try:
        yield
    except Refused as exc:
        if exc.kind != "unauthorized" or "authorization" not in request.headers:
            raise
        wait = context_of(request).failures.wait_seconds("" if request.client is None else request.client.host)
        if wait is None:
            raise
        detail = "Too many wrong tokens came from this address. Try again later, with a valid one."
        raise Refused("too_many_failures", detail, retry_after_seconds=wait) from exc


async def _authenticated(request: Request) -> Caller:
    context = context_of(request)
    token = auth.bearer_token(request.headers.get("authorization"))
    registry = await context.registry.get()
    key_id = auth.key_id_of(token)
    if key_id is not None and key_id not in registry.credentials:
        # What came in here a moment ago is looked for at once; a flood of unknown keys has to wait.
        registry = await context.registry.with_key(key_id)
    credential = auth.authenticate(token, registry.credentials)
    agent = registry.agents.get(credential.agent_id)
    if agent is None:
        raise Refused("unauthorized", "This agent is no longer registered.")
    if credential.unconfirmed:
        await _confirm(context, credential)
    return Caller(agent=agent, registry=registry, credential=credential)


async def _confirm(context: Context, credential: Credential) -> None:
    """Write down the first use of a rotated credential: before the answer that lets the agent drop the old one."""
    if credential.key_id not in context.confirmed:
        await run(context.engine, confirm_credential, credential.key_id)
        context.confirmed.add(credential.key_id)


async def may_read(request: Request) -> None:
    """Raise Refused unless reading is open or the request bears a token for it."""
    context = context_of(request)
    _check(request, Scope.READ, await context.registry.get())


async def may_scrape(request: Request) -> None:
    """Do as `may_read`; before the database was ever there, memory holds nothing of anybody."""
    context = context_of(request)
    try:
        registry = await context.registry.get()
    except (DatabaseUnavailable, SchemaBehind):
        registry = None
    _check(request, Scope.READ, registry)


async def may_administer(request: Request) -> None:
    """Raise Refused unless the request bears an administrator's token, or nothing guards administration."""
    context = context_of(request)
    _check(request, Scope.ADMIN, await context.registry.get())


def _check(request: Request, scope: Scope, registry: Registry | None) -> None:
    tokens = () if registry is None else registry.rows.access_tokens
    keyhole = Keyhole(file_sha256=context_of(request).settings.read_token_sha256, tokens=tokens)
    with _counting_failures(request):
        auth.check_scope(request.headers.get("authorization"), scope, keyhole)


Running = Annotated[Context, Depends(running)]
Calling = Annotated[Caller, Depends(calling_agent)]
Reading = Depends(may_read)
Scraping = Depends(may_scrape)
Administering = Depends(may_administer)
