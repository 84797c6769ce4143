"""OpenAI completions: the older text interface, which vLLM, llama.cpp, TGI and others keep.

Rules: a token is a non-empty `text` in any choice; usage, ending and errors are those of chat completions.
"""

from typing import Final

from agent.framing import Event
from agent.providers.openai import failure, finished, is_official, stream_options, usage
from agent.providers.wire import Ask, Payload, Reading, Request, bearer, objects, post, read_json, stream_url, text_of
from agent.servertiming import told_by_openai

PATH: Final = "/completions"


def request(ask: Ask) -> Request:
    """Return the request for a stream of at most `max_output_tokens`."""
    url = stream_url(ask.target.url, PATH)
    body: Payload = {
        "model": ask.model,
        "prompt": ask.prompt,
        "max_tokens": ask.max_output_tokens,
        "stream": True,
        "stream_options": stream_options(official=is_official(url)),
    }
    return post(url, body, headers=bearer(ask.key))


def interpret(event: Event) -> Reading:
    """Return what `event` says."""
    return read_json(event, _chunk, done_is_good=True)


def _chunk(payload: Payload) -> Reading:
    choices = objects(payload, "choices")
    return Reading(
        answer=any(text_of(choice, "text") for choice in choices),
        finished=finished(choices),
        usage=usage(payload),
        told=told_by_openai(payload),
        error=failure(choices),
    )
