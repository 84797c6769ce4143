"""GET /v1/endpoints: what is probed now, and how often."""

import msgspec
from fastapi import APIRouter, Response

from collector.api.context import Reading, Running
from collector.registry import Assigned

router = APIRouter(tags=["reading"], dependencies=[Reading])


@router.get("/v1/endpoints")
async def get_endpoints(context: Running) -> Response:
    """Return the endpoints and sites that at least one agent probes, with their modules and regions."""
    registry = await context.registry.get()
    found: dict[str, dict[str, object]] = {}
    modules: dict[str, set[str]] = {}
    regions: dict[str, set[str]] = {}
    for one in registry.places():
        name = one.endpoint.name
        found.setdefault(name, _describe(one))
        modules.setdefault(name, set()).add(one.target.module)
        regions.setdefault(name, set()).add(one.agent.region.name)
    rows = [{**found[n], "modules": sorted(modules[n]), "agent_regions": sorted(regions[n])} for n in sorted(found)]
    return Response(
        msgspec.json.encode({"revision": registry.revision, "endpoints": rows}), media_type="application/json"
    )


def _describe(one: Assigned) -> dict[str, object]:
    row = one.endpoint
    names = ("url", "provider", "model", "endpoint_region", "latitude", "longitude", "simulated")
    return {"endpoint": row.name, **{name: getattr(row, name) for name in names}}
