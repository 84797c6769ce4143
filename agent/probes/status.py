"""What the head of an answer says: a stream, or the failure that it is."""

import asyncio
import contextlib
from contextlib import aclosing
from http import HTTPStatus
from typing import Final

from agent.eventstream import EVENT_STREAM
from agent.framing import Framing
from agent.ndjson import NDJSON
from agent.providers import error_text
from agent.sse import SSE
from agent.transport import Answer, Failure
from isochrone.outcome import Outcome

STREAMS: Final = frozenset({*SSE.media_types, *NDJSON.media_types, *EVENT_STREAM.media_types})
ERROR_BODY_BYTES: Final = 8 * 1024
ERROR_BODY_SECONDS: Final = 1.0
"""The status has said how the probe ends: a body that trickles must not make a timeout of it."""
OVERLOADED: Final = 529
"""Anthropic and others, beside 503."""

_OUTCOMES: Final[dict[int, Outcome]] = {
    HTTPStatus.UNAUTHORIZED: Outcome.AUTH,
    HTTPStatus.FORBIDDEN: Outcome.AUTH,
    HTTPStatus.TOO_MANY_REQUESTS: Outcome.RATE_LIMITED,
    HTTPStatus.SERVICE_UNAVAILABLE: Outcome.OVERLOADED,
    OVERLOADED: Outcome.OVERLOADED,
}
_HINTS: Final[dict[int, str]] = {
    HTTPStatus.UNAUTHORIZED: "is the key right?",
    HTTPStatus.FORBIDDEN: "may the key use this model?",
    HTTPStatus.NOT_FOUND: "are the URL and the model's name right?",
}


async def check_answer(answer: Answer, framing: Framing, *, wait_seconds: float | None = None) -> None:
    """Return if the answer may be a stream of `framing`; else raise Failure, with the provider's words if any.

    `wait_seconds` is what its Retry-After asks for, understood.
    """
    if answer.status != HTTPStatus.OK:
        raise Failure(outcome_of(answer.status), await _words(answer, wait_seconds))
    encoding = answer.headers.get("content-encoding", "").strip()
    if encoding.lower() not in {"", "identity"}:
        raise Failure(Outcome.PROTOCOL, f"the answer is encoded ({encoding}) although identity was asked for")
    kind = answer.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "application/json" or kind.endswith("+json"):
        await _refuse_json(answer)
    if "html" in kind:
        raise Failure(Outcome.PROTOCOL, "the answer is HTML, not a stream: is the URL that of the API?")
    if kind in STREAMS and kind not in framing.media_types:
        raise Failure(
            Outcome.PROTOCOL, f"a stream of {framing.media_types[0]} was asked for, {kind} came: which provider is it?"
        )


def outcome_of(status: int) -> Outcome:
    """Return how a probe ends whose answer is not 200."""
    named = _OUTCOMES.get(status)
    if named is not None:
        return named
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return Outcome.HTTP_5XX
    return Outcome.HTTP_4XX if status >= HTTPStatus.BAD_REQUEST else Outcome.PROTOCOL


async def _words(answer: Answer, wait_seconds: float | None) -> str:
    parts = [f"HTTP {answer.status}"]
    location = answer.headers.get("location")
    if HTTPStatus.MULTIPLE_CHOICES <= answer.status < HTTPStatus.BAD_REQUEST and location is not None:
        parts.append(f"redirected to {location}, not followed: give the final URL")
    if wait_seconds is not None:
        parts.append(f"retry after {wait_seconds:g} s")
    elif (retry_after := answer.headers.get("retry-after")) is not None:
        parts.append(f"retry after {retry_after!r}, which is no time")
    said = error_text(await _body(answer))
    hint = _HINTS.get(answer.status)
    parts.extend(part for part in (said, hint) if part is not None)
    return ": ".join(parts) if len(parts) > 1 else f"HTTP {answer.status} without a reason"


async def _refuse_json(answer: Answer) -> None:
    said = error_text(await _body(answer))
    if said is not None:
        raise Failure(Outcome.STREAM_ERROR, f"HTTP 200, but the provider failed: {said}")
    raise Failure(Outcome.PROTOCOL, "the answer is one JSON body although a stream was asked for")


async def _body(answer: Answer) -> bytes:
    """Return what can be had of an error's body: its words are welcome, its failure and its end are no matter."""
    whole = bytearray()
    with contextlib.suppress(TimeoutError, Failure):
        async with asyncio.timeout(ERROR_BODY_SECONDS), aclosing(answer.chunks()) as chunks:
            async for chunk in chunks:
                whole += chunk.data
                if len(whole) >= ERROR_BODY_BYTES:
                    break
    return bytes(whole[:ERROR_BODY_BYTES])
