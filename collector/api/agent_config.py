"""GET /v1/agent/config: an agent's share of the targets, with an ETag."""

from http import HTTPStatus

from fastapi import APIRouter, Request, Response

from collector.api.context import Calling, Running

router = APIRouter(tags=["agents"])


@router.get("/v1/agent/config")
async def get_agent_config(request: Request, caller: Calling, context: Running) -> Response:
    """Return what the calling agent shall probe; 304 when it has that already."""
    with context.configs.slot():
        share = caller.registry.share(caller.agent.id)
    headers = {"ETag": share.etag, "Cache-Control": "no-cache"}
    if _matches(request.headers.get("if-none-match"), share.etag):
        return Response(status_code=HTTPStatus.NOT_MODIFIED, headers=headers)
    return Response(share.body, media_type="application/json", headers=headers)


def _matches(header: str | None, etag: str) -> bool:
    """Compare weakly, as RFC 9110 13.1.2 wants for If-None-Match."""
    if header is None:
        return False
    tags = [tag.strip().removeprefix("W/") for tag in header.split(",")]
    return etag in tags or "*" in tags
