"""What every route works with, and who may ask."""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Annotated, Final

from fastapi import Depends, Request

from collector import auth
from collector.api.readers import Readers
from collector.config import Settings
from collector.errors import Refused
from collector.metrics import LiveMetrics
from collector.registry import AgentRow, Registry, RegistryCache
from collector.rollout import Applied
from collector.store.engine import AsyncEngine
from collector.store.partitions import Partitions

MAX_BATCHES_AT_ONCE: Final = 64
"""Each may hold 4 MiB inflated and a connection to the database."""
MAX_BATCHES_OF_ONE_AGENT: Final = 4
"""Read or worked on at once: an agent has two lanes, and what it still holds open from before a broken connection."""
TURN_SECONDS: Final = 5.0
"""How long a batch waits, unread, for another one of its agent."""


class Admission:
    """Bounds how many requests of a route are worked on at once."""

    def __init__(self, limit: int) -> None:
        self._free = limit

    @contextmanager
    def slot(self) -> Iterator[None]:
        """Hold a slot; raise Refused (503) when there is none: waiting here would fill the memory."""
        if self._free <= 0:
            raise Refused("busy", "The collector works on as many batches as it can hold. Send it again later.")
        self._free -= 1
        try:
            yield
        finally:
            self._free += 1


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
    partitions: Partitions
    registry: RegistryCache
    metrics: LiveMetrics
    utc_now: Callable[[], datetime]
    reload: Callable[[bool], Awaitable[Applied]]
    """Takes whether a file that takes most away is confirmed."""
    check_ready: Callable[[], Awaitable[str]]
    """Returns the schema's revision; raises SchemaBehind, DatabaseUnfit or DatabaseUnavailable."""
    reports: dict[int, dict[str, object]] = field(default_factory=dict)
    """By agent: when it last reported, until a job writes it down."""
    config_reports: dict[int, dict[str, object]] = field(default_factory=dict)
    """By agent: what it last said of its configuration, until a job writes it down."""
    batches: Admission = field(default_factory=lambda: Admission(MAX_BATCHES_AT_ONCE))
    turns: Turns = field(default_factory=lambda: Turns(MAX_BATCHES_OF_ONE_AGENT, wait_seconds=TURN_SECONDS))


@dataclass(frozen=True, kw_only=True)
class Caller:
    """The agent that a request comes from, and the registry that says so."""

    agent: AgentRow
    registry: Registry


def context_of(request: Request) -> Context:
    """Return the running collector."""
    context: Context = request.app.state.context
    return context


async def calling_agent(request: Request) -> Caller:
    """Return the agent whose credential the request bears; raise Refused. Reads nothing of the body."""
    cache = context_of(request).registry
    token = auth.bearer_token(request.headers.get("authorization"))
    registry = await cache.get()
    key_id = auth.key_id_of(token)
    if key_id is not None and key_id not in registry.credentials:
        registry = await cache.after_miss()
    agent = registry.agents.get(auth.authenticate(token, registry.credentials))
    if agent is None:
        raise Refused("unauthorized", "This agent is no longer registered.")
    return Caller(agent=agent, registry=registry)


def may_read(request: Request) -> None:
    """Raise Refused unless reading is open or the request bears the read token."""
    settings = context_of(request).settings
    auth.check_read_token(request.headers.get("authorization"), expected_sha256=settings.read_token_sha256)


Running = Annotated[Context, Depends(context_of)]
Calling = Annotated[Caller, Depends(calling_agent)]
Reading = Depends(may_read)
