"""GET /healthz: the process answers. GET /readyz: the database serves, has this release's schema, and the same time."""

import msgspec
from fastapi import APIRouter, Response

from collector.api.context import Running

router = APIRouter(tags=["health"])


@router.get("/healthz")
async def get_healthz() -> Response:
    """Say that the process lives; asks nothing of the database."""
    return Response(b'{"status":"ok"}', media_type="application/json")


@router.get("/readyz")
async def get_readyz(context: Running) -> Response:
    """Say that the collector works, and what an operator should know all the same; else 503 with the reason."""
    standing = await context.check_ready()
    warnings = [*standing.warnings, *context.health.warnings()]
    body: dict[str, object] = {"status": "ready", "schema": standing.schema, "warnings": warnings}
    replica = context.readers.replica
    if replica is not None:  # batches do not need it: it makes no collector unready
        body["reading"] = {"status": replica.state.value, "lag_seconds": replica.lag_seconds}
    return Response(msgspec.json.encode(body), media_type="application/json")
