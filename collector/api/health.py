"""GET /healthz: the process answers. GET /readyz: the database serves and has this release's schema."""

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
    revision = await context.check_ready()
    return Response(b'{"status":"ready","schema":"%b"}' % revision.encode(), media_type="application/json")
