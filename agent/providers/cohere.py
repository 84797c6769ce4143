"""Cohere's chat, version 2.

Rules:
- the JSON field `type` says what an event is;
- a token is a non-empty `text` or `thinking` in a `content-delta`, a tool's plan (thought), a tool's name or arguments;
- `message-end` ends the stream, good unless its `finish_reason` is an error or its `delta` holds one.
"""

from typing import Final

from agent.framing import Event
from agent.providers.wire import (
    NO_REASON,
    Ask,
    Payload,
    Reading,
    Request,
    bearer,
    count,
    error_words,
    inner,
    post,
    read_json,
    stream_url,
    text_of,
)
from agent.timeline import Usage

PATH: Final = "/chat"
ENDING: Final = "message-end"
_FAILED: Final = frozenset({"ERROR", "ERROR_TOXIC", "ERROR_LIMIT", "TIMEOUT"})


def request(ask: Ask) -> Request:
    """Return the request for a stream of at most `max_output_tokens`; the models that think are asked not to."""
    body: Payload = {
        "model": ask.model,
        "messages": [{"role": "user", "content": ask.prompt}],
        "max_tokens": ask.max_output_tokens,
        "stream": True,
        **({"thinking": {"type": "disabled"}} if "reasoning" in ask.model else {}),
    }
    return post(stream_url(ask.target.url, PATH, version="/v2"), body, headers=bearer(ask.key))


def interpret(event: Event) -> Reading:
    """Return what `event` says."""
    return read_json(event, _event)


def _event(payload: Payload) -> Reading:
    delta = inner(payload, "delta")
    message = inner(delta, "message")
    match payload.get("type"):
        case "content-start" | "content-delta":
            content = inner(message, "content")
            thought = text_of(content, "thinking") is not None
            return Reading(answer=text_of(content, "text") is not None, reasoning=thought)
        case "tool-plan-delta":
            return Reading(reasoning=text_of(message, "tool_plan") is not None)
        case "tool-call-start" | "tool-call-delta":
            call = inner(message, "tool_calls", "function")
            return Reading(tool=text_of(call, "name", "arguments") is not None)
        case "message-end":
            return _end(delta)
        case _:
            return Reading()


def _end(delta: Payload) -> Reading:
    words, reason = error_words(delta), text_of(delta, "finish_reason")
    if words is not None or reason in _FAILED:
        return Reading(error=words or reason or NO_REASON)
    counts = inner(delta, "usage")
    spent = inner(counts, "tokens") or inner(counts, "billed_units")
    usage = Usage(
        output=count(spent, "output_tokens"),
        input=count(spent, "input_tokens"),
        cached_input=count(counts, "cached_tokens"),
    )
    return Reading(finished=True, done=True, usage=usage)
