"""GET /v1/agents: how the fleet stands."""

import asyncio
from typing import Annotated

import msgspec
from fastapi import APIRouter, Query, Response

from collector import fleet
from collector.api.asking import window_seconds
from collector.api.context import Reading, Running
from collector.store.fleet import count_received, list_facts

router = APIRouter(tags=["reading"], dependencies=[Reading])


class Fleet(msgspec.Struct, frozen=True, kw_only=True):
    """The answer."""

    window_seconds: float
    agents: list[fleet.FleetRow]


@router.get("/v1/agents")
async def get_agents(context: Running, window: Annotated[str, Query(max_length=20)] = "1h") -> Response:
    """Return every registered agent by name; coverage over the last `window` (`15m`, `1h`, `1d`; at most 31 days)."""
    settings = context.settings
    view = fleet.View(
        now=context.utc_now(),
        window_seconds=window_seconds(window),
        late_seconds=settings.late_seconds,
        flush_seconds=settings.flush_seconds,
    )
    registry = await context.registry.get()
    facts = await context.readers.read(list_facts)
    received = await context.readers.read(count_received, since=view.since, until=view.now)
    # In a thread: of 1,000 agents all that was planned takes seconds.
    rows = await asyncio.to_thread(fleet.overview, facts, registry, received, view=view)
    answer = Fleet(window_seconds=view.window_seconds, agents=rows)
    return Response(msgspec.json.encode(answer), media_type="application/json")
