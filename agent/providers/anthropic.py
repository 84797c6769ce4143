"""Anthropic messages.

Rules:
- the JSON field `type` says what an event is; `ping` and what is not known says nothing;
- a token is a non-empty text, thinking or partial JSON in a `content_block_delta`, or the name of a tool or the
  redacted thought with which a `content_block_start` begins;
- a `stop_reason` in `message_delta` is the model's end, `message_stop` the stream's;
- usage comes in two parts: input in `message_start`, output (cumulative) in `message_delta`, input perhaps again;
- input tokens that a cache held are counted apart from the others: their sum is the input (where `message_delta`
  repeats the others alone, the greater sum stands).
"""

from typing import Final

from agent.framing import Event
from agent.providers.wire import (
    Ask,
    Payload,
    Reading,
    Request,
    count,
    inner,
    key_header,
    post,
    read_json,
    stream_url,
    text_of,
    total,
)
from agent.timeline import Usage

PATH: Final = "/messages"
ENDING: Final = "stop_reason or message_stop"
VERSION: Final = "2023-06-01"
_NO_GEO: Final = frozenset({"not_available", "unknown"})


def request(ask: Ask) -> Request:
    """Return the request for a stream of at most `max_output_tokens`; thinking is off unless it is asked for."""
    headers = {"anthropic-version": VERSION, **key_header("x-api-key", ask.key)}
    body: Payload = {
        "model": ask.model,
        "max_tokens": ask.max_output_tokens,
        "messages": [{"role": "user", "content": ask.prompt}],
        "stream": True,
    }
    return post(stream_url(ask.target.url, PATH, version="/v1"), body, headers=headers)


def interpret(event: Event) -> Reading:
    """Return what `event` says."""
    return read_json(event, _event)


def _event(payload: Payload) -> Reading:
    match payload.get("type"):
        case "message_start":
            counts = inner(payload, "message", "usage")
            return Reading(usage=_input(counts), region=_geo(counts))
        case "content_block_start":
            return _start(inner(payload, "content_block"))
        case "content_block_delta":
            return _delta(inner(payload, "delta"))
        case "message_delta":
            counts = inner(payload, "usage")
            finished = text_of(payload.get("delta"), "stop_reason") is not None
            return Reading(finished=finished, usage=_input(counts).merged(_output(counts)), region=_geo(counts))
        case "message_stop":
            return Reading(finished=True, done=True)
        case _:
            return Reading()


def _start(block: Payload) -> Reading:
    return Reading(
        answer=text_of(block, "text") is not None,
        reasoning=text_of(block, "thinking", "data") is not None,
        tool=text_of(block, "name") is not None,
    )


def _delta(delta: Payload) -> Reading:
    return Reading(
        answer=text_of(delta, "text") is not None,
        reasoning=text_of(delta, "thinking") is not None,
        tool=text_of(delta, "partial_json") is not None,
    )


def _input(counts: Payload) -> Usage:
    cached = count(counts, "cache_read_input_tokens")
    fresh = count(counts, "input_tokens")
    return Usage(input=total(fresh, cached, count(counts, "cache_creation_input_tokens")), cached_input=cached)


def _output(counts: Payload) -> Usage:
    """Of `message_start` it would be a placeholder: only `message_delta` counts."""
    thought = count(counts.get("output_tokens_details"), "thinking_tokens", "reasoning_tokens")
    return Usage(output=count(counts, "output_tokens"), reasoning=thought)


def _geo(counts: Payload) -> str | None:
    geo = text_of(counts, "inference_geo")
    return None if geo in _NO_GEO else geo
