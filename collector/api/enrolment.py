"""POST /v1/agents/enroll, GET and PUT /v1/agent/credential: how agents come in, and renew what they came in with."""

import asyncio
from typing import Annotated, Final, TypeVar

import msgspec
from fastapi import APIRouter, Depends, Request, Response
from starlette.requests import ClientDisconnect

from collector import auth
from collector.api.context import Calling, Running
from collector.errors import Refused
from collector.identity import Enrolled, Enrolment, NewKey, enroll, renew
from collector.store.engine import run
from isochrone.names import printable

MAX_BYTES: Final = 4 * 1024
BODY_SECONDS: Final = 5.0

T = TypeVar("T")
router = APIRouter(tags=["agents"])


def joining(request: Request) -> str:
    """Return the join token that the request bears, whatever it is worth; raise Refused for another kind."""
    token = auth.bearer_token(request.headers.get("authorization"))
    if auth.join_token_id(token) is None:
        raise Refused("unauthorized", "Send a join token, isoe_…, in the header: Authorization: Bearer <token>.")
    return token


@router.post("/v1/agents/enroll")
async def post_enroll(request: Request, token: Annotated[str, Depends(joining)], context: Running) -> Response:
    """Let in an agent that bears a join token, with the digest of a secret that it made itself."""
    enrolment = await _read(request, Enrolment)  # before the slot: slow bodies must not keep others out
    address = None if request.client is None else request.client.host
    async with context.enrolments.slot_for(MAX_BYTES):
        enrolled = await run(context.engine, enroll, enrolment, token=token, address=address)
    context.registry.expect(enrolled.key_id)
    return _json(enrolled)


@router.get("/v1/agent/credential")
async def get_credential(caller: Calling) -> Response:
    """Say whose credential this is: an agent tries a new one here."""
    return _json(_held(caller, caller.credential.key_id), caller.headers)


@router.put("/v1/agent/credential")
async def put_credential(request: Request, caller: Calling, context: Running) -> Response:
    """Take one more credential of the agent; the one in use retires a day after the first use of the new one."""
    key = await _read(request, NewKey)
    async with context.enrolments.slot_for(MAX_BYTES):
        await run(context.engine, renew, key, agent_id=caller.agent.id, replaces=caller.credential.key_id)
    context.registry.expect(key.key_id)
    return _json(_held(caller, key.key_id))


def _held(caller: Calling, key_id: str) -> Enrolled:
    return Enrolled(agent=caller.agent.name, agent_region=caller.agent.region.name, key_id=key_id)


def _json(value: Enrolled, headers: dict[str, str] | None = None) -> Response:
    return Response(
        msgspec.json.encode(value),
        media_type="application/json",
        headers={"Cache-Control": "no-store", **(headers or {})},
    )


async def _read(request: Request, kind: type[T]) -> T:
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_SECONDS):
            async for chunk in request.stream():
                body += chunk
                if len(body) > MAX_BYTES:
                    raise Refused("too_large", f"At most {MAX_BYTES} bytes.")
    except TimeoutError as exc:
        raise Refused("timeout", f"The body must be complete within {BODY_SECONDS:g} s.") from exc
    except ClientDisconnect as exc:
        raise Refused("malformed", "The connection closed before the body was complete.") from exc
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
        raise Refused("invalid", printable(str(exc))) from exc
