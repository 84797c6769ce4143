"""GET /v1/agents: who reports."""

import msgspec
from fastapi import APIRouter, Response

from collector.api.context import Reading, Running
from collector.store.agents import list_agents

router = APIRouter(tags=["reading"], dependencies=[Reading])


@router.get("/v1/agents")
async def get_agents(context: Running) -> Response:
    """Return the registered agents by name, with the time of their last report."""
    agents = await context.readers.read(list_agents)
    return Response(msgspec.json.encode({"agents": agents}), media_type="application/json")
