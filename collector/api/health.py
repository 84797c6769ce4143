"""GET /healthz: the process answers. GET /readyz: the database serves and has this release's schema."""

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
    """Say that batches would be stored; else 503 with the reason."""
    body: dict[str, object] = {"status": "ready", "schema": await context.check_ready()}
    replica = context.readers.replica
    if replica is not None:  # batches do not need it: it makes no collector unready
        body["reading"] = {"status": replica.state.value, "lag_seconds": replica.lag_seconds}
    return Response(msgspec.json.encode(body), media_type="application/json")
