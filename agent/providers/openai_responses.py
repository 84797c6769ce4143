"""OpenAI Responses.

Rules:
- the JSON field `type` says what an event is: some proxies send no `event:` line, and a `[DONE]` that OpenAI does not;
- a token is a non-empty `delta` of an event `response.….delta`, its channel is in the name;
- `response.completed` and `response.incomplete` (the length limit) end a good stream and hold the usage;
- `response.failed`, `response.cancelled` and `error` are failures after HTTP 200.
"""

from typing import Final

from agent.framing import Event
from agent.providers.models import effort
from agent.providers.openai import is_official
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

PATH: Final = "/responses"
ENDING: Final = "response.completed or response.incomplete"
_ENDS: Final = frozenset({"response.completed", "response.incomplete"})
_FAILS: Final = frozenset({"response.failed", "response.cancelled"})
_ANSWERS: Final = ("output_text", "refusal", "audio.transcript")
_TOOLS: Final = ("arguments", "input", "code")


def request(ask: Ask) -> Request:
    """Return the request for a stream of at most `max_output_tokens` that nobody stores."""
    url = stream_url(ask.target.url, PATH)
    least = effort(ask.model)
    body: Payload = {
        "model": ask.model,
        "input": ask.prompt,
        "max_output_tokens": ask.max_output_tokens,
        "stream": True,
        "store": False,
        **({"stream_options": {"include_obfuscation": False}} if is_official(url) else {}),
        **({} if least is None else {"reasoning": {"effort": least}}),
    }
    return post(url, body, headers=bearer(ask.key))


def interpret(event: Event) -> Reading:
    """Return what `event` says."""
    return read_json(event, _event)


def _event(payload: Payload) -> Reading:
    kind = text_of(payload, "type") or ""
    if kind.endswith(".delta"):
        return _delta(kind.removesuffix(".delta"), payload)
    response = inner(payload, "response")
    if kind in _ENDS:
        return Reading(finished=True, done=True, usage=_usage(response))
    if kind in _FAILS:
        return Reading(error=error_words(response) or NO_REASON)
    if kind == "error":
        return Reading(error=text_of(payload, "message", "code") or NO_REASON)
    return Reading()


def _delta(kind: str, payload: Payload) -> Reading:
    if text_of(payload, "delta") is None:
        return Reading()
    if "reasoning" in kind:
        return Reading(reasoning=True)
    return Reading(answer=kind.endswith(_ANSWERS), tool=kind.endswith(_TOOLS))


def _usage(response: Payload) -> Usage | None:
    counts = inner(response, "usage")
    if not counts:
        return None
    return Usage(
        output=count(counts, "output_tokens"),
        input=count(counts, "input_tokens"),
        cached_input=count(counts.get("input_tokens_details"), "cached_tokens"),
        reasoning=count(counts.get("output_tokens_details"), "reasoning_tokens"),
    )
