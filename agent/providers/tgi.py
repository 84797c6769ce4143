"""Text Generation Inference's own interface, `generate_stream`: one token per event.

Rules:
- a token is a non-empty `token.text`; special tokens (the end of the text) are none;
- the event with `generated_text` is the last, and its `details` hold the usage;
- a top-level `error` is a failure after HTTP 200.
"""

from typing import Final

from agent.framing import Event
from agent.providers.wire import (
    Ask,
    Payload,
    Reading,
    Request,
    bearer,
    count,
    inner,
    post,
    read_json,
    stream_url,
    text_of,
)
from agent.timeline import Usage

PATH: Final = "/generate_stream"
ENDING: Final = "generated_text"


def request(ask: Ask) -> Request:
    """Return the request for a stream of at most `max_output_tokens`; a server holds one model, which is not named."""
    body: Payload = {
        "inputs": ask.prompt,
        "parameters": {"max_new_tokens": ask.max_output_tokens, "details": True},
    }
    return post(stream_url(ask.target.url, PATH), body, headers=bearer(ask.key))


def interpret(event: Event) -> Reading:
    """Return what `event` says."""
    return read_json(event, _event)


def _event(payload: Payload) -> Reading:
    token, details = inner(payload, "token"), inner(payload, "details")
    ended = bool(details) or isinstance(payload.get("generated_text"), str)
    return Reading(
        answer=text_of(token, "text") is not None and token.get("special") is not True,
        finished=ended,
        done=ended,
        usage=Usage(output=count(details, "generated_tokens"), input=count(details, "input_length")) if ended else None,
    )
