"""GET /v1/agent/config: an agent's share of the targets, with an ETag."""

from http import HTTPStatus

from fastapi import APIRouter, Request, Response

from collector.api.context import Caller, Calling, Context, Running
from isochrone.config import STATE_HEADER, ConfigState, decode_state

router = APIRouter(tags=["agents"])


@router.get("/v1/agent/config")
async def get_agent_config(request: Request, caller: Calling, context: Running) -> Response:
    """Return what the calling agent shall probe; 304 when it has that already."""
    with context.configs.slot():
        share = caller.registry.share(caller.agent.id)
    _note(caller, context, decode_state(request.headers.get(STATE_HEADER)))
    headers = {"ETag": share.etag, "Cache-Control": "no-cache", **caller.headers}
    if _matches(request.headers.get("if-none-match"), share.etag):
        return Response(status_code=HTTPStatus.NOT_MODIFIED, headers=headers)
    return Response(share.body, media_type="application/json", headers=headers)


def _note(caller: Caller, context: Context, state: ConfigState | None) -> None:
    """Keep what the agent says of its configuration; one of an earlier release says nothing."""
    if state is None:
        return
    agent_id = caller.agent.id
    context.config_reports[agent_id] = {
        "agent_id": agent_id,
        "given": caller.registry.share(agent_id).config.revision,
        "running": state.running,
        "probation": state.probation,
        "received": state.received,
        "failed": state.failed,
        "reason": state.reason,
        "reported_at": context.utc_now(),
    }


def _matches(header: str | None, etag: str) -> bool:
    """Compare weakly, as RFC 9110 13.1.2 wants for If-None-Match."""
    if header is None:
        return False
    tags = [tag.strip().removeprefix("W/") for tag in header.split(",")]
    return etag in tags or "*" in tags
