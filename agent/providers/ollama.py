"""Ollama's own interface: one JSON object per line.

Rules:
- a token is a non-empty `content`, `thinking` or tool call of the `message`;
- `done` ends a good stream, and its line holds the usage and the durations;
- a line with an `error` is a failure after HTTP 200.
"""

from typing import Final

from agent.framing import Event
from agent.ndjson import NDJSON
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
from agent.servertiming import told_by_ollama
from agent.timeline import Usage

PATH: Final = "/chat"
ENDING: Final = "done"


def request(ask: Ask) -> Request:
    """Return the request for a stream of at most `max_output_tokens`, without thinking."""
    body: Payload = {
        "model": ask.model,
        "messages": [{"role": "user", "content": ask.prompt}],
        "stream": True,
        "think": False,
        "options": {"num_predict": ask.max_output_tokens},
    }
    return post(stream_url(ask.target.url, PATH, version="/api"), body, headers=bearer(ask.key), framing=NDJSON)


def interpret(event: Event) -> Reading:
    """Return what a line says."""
    return read_json(event, _line)


def _line(payload: Payload) -> Reading:
    message = inner(payload, "message")
    done = payload.get("done") is True
    return Reading(
        answer=text_of(message, "content") is not None,
        reasoning=text_of(message, "thinking") is not None,
        tool=bool(message.get("tool_calls")),
        finished=done,
        done=done,
        usage=Usage(output=count(payload, "eval_count"), input=count(payload, "prompt_eval_count")) if done else None,
        told=told_by_ollama(payload) if done else None,
    )
