"""Triton's generate extension, `generate_stream`.

Rules:
- a token is a non-empty `text_output`, the whole text so far or its latest part, as the model's configuration says;
- there is no usage and no terminal marker: the end of the body is the end, if HTTP says that it is whole;
- a top-level `error` is a failure after HTTP 200, for the first response settles the status.
"""

from typing import Final
from urllib.parse import quote

from agent.framing import Event
from agent.providers.wire import Ask, Payload, Reading, Request, bearer, post, read_json, split_base, text_of

PATH: Final = "/generate_stream"


def request(ask: Ask) -> Request:
    """Return the request for a stream of at most `max_output_tokens`, by the names that vLLM's backend has."""
    body: Payload = {
        "text_input": ask.prompt,
        "parameters": {"stream": True, "max_tokens": ask.max_output_tokens},
    }
    return post(_url(ask), body, headers=bearer(ask.key))


def interpret(event: Event) -> Reading:
    """Return what `event` says."""
    return read_json(event, _event, done_is_good=True)


def _url(ask: Ask) -> str:
    parts = split_base(ask.target.url)
    path = parts.path
    if not path.endswith(PATH):
        path = f"{path.removesuffix('/v2')}/v2/models/{quote(ask.model, safe='')}{PATH}"
    return parts._replace(path=path).geturl()


def _event(payload: Payload) -> Reading:
    return Reading(answer=text_of(payload, "text_output") is not None)
