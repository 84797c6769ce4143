"""GET /v1/agents: who reports."""

import msgspec
from fastapi import APIRouter, Response

from collector.api.context import Reading, Running
from collector.store.agents import list_agents
from collector.store.engine import run

router = APIRouter(tags=["reading"], dependencies=[Reading])


@router.get("/v1/agents")
async def get_agents(context: Running) -> Response:
    """Return the registered agents by name, with the time of their last report."""
    entries = await run(context.engine, list_agents)
    agents = [{"agent": e.name, "agent_region": e.region, **_rest(e)} for e in entries]
    return Response(msgspec.json.encode({"agents": agents}), media_type="application/json")


def _rest(entry: msgspec.Struct) -> dict[str, object]:
    return {name: getattr(entry, name) for name in ("labels", "created_at", "last_report_at", "version")}
