"""OpenAI chat completions, as OpenAI, vLLM, SGLang, llama.cpp, LiteLLM, Groq, OpenRouter and others stream it.

Rules:
- a token is a non-empty `content`, `refusal`, `reasoning_content`, `reasoning` or tool call in any choice's `delta`;
- role alone, empty text, no choices (Azure's filter, the usage chunk), no `delta`: no token;
- `finish_reason` and `[DONE]` end a good stream, at the length limit too;
- `usage` may come in its own chunk, with the last, on every one, or in `x_groq`;
- a top-level `error`, or an event named so, is a failure after HTTP 200.
"""

from typing import Final
from urllib.parse import urlsplit

from agent.framing import Event
from agent.providers.models import effort, is_reasoning
from agent.providers.wire import (
    Ask,
    Payload,
    Reading,
    Request,
    bearer,
    count,
    inner,
    objects,
    post,
    read_json,
    stream_url,
)
from agent.servertiming import told_by_openai
from agent.timeline import Usage

PATH: Final = "/chat/completions"
ENDING: Final = "finish_reason or [DONE]"


def request(ask: Ask) -> Request:
    """Return the request for a stream of at most `max_output_tokens`."""
    url = stream_url(ask.target.url, PATH)
    return post(url, chat_body(ask, official=is_official(url)), headers=bearer(ask.key))


def chat_body(ask: Ask, *, official: bool) -> Payload:
    """Return the body; `official` is OpenAI itself, which knows what strict servers refuse."""
    return {
        "model": ask.model,
        "messages": [{"role": "user", "content": ask.prompt}],
        "stream": True,
        "stream_options": stream_options(official=official),
        **_model_options(ask, official=official),
    }


def stream_options(*, official: bool) -> dict[str, bool]:
    """Ask for usage; refuse padding where it exists, and there only: strict servers refuse what they don't know."""
    padded = {"include_obfuscation": False} if official else {}
    return {"include_usage": True, **padded}


def is_official(url: str) -> bool:
    """Return whether OpenAI itself is asked."""
    return urlsplit(url).hostname == "api.openai.com"


def interpret(event: Event) -> Reading:
    """Return what `event` says."""
    return read_json(event, _chunk)


def usage(payload: Payload) -> Usage | None:
    """Return the counts of a chunk, wherever servers put them."""
    counts = inner(payload, "usage") or inner(payload, "x_groq", "usage")
    if not counts:
        return None
    return Usage(
        output=count(counts, "completion_tokens"),
        input=count(counts, "prompt_tokens"),
        cached_input=count(counts.get("prompt_tokens_details"), "cached_tokens"),
        reasoning=count(counts.get("completion_tokens_details"), "reasoning_tokens"),
    )


def _model_options(ask: Ask, *, official: bool) -> Payload:
    if not (official or is_reasoning(ask.model)):
        return {"max_tokens": ask.max_output_tokens}
    options: Payload = {"max_completion_tokens": ask.max_output_tokens}
    least = effort(ask.model)
    return options if least is None else {**options, "reasoning_effort": least}


def _chunk(payload: Payload) -> Reading:
    choices = objects(payload, "choices")
    deltas = [inner(choice, "delta") for choice in choices]
    return Reading(
        answer=any(_text(delta, "content", "refusal") for delta in deltas),
        reasoning=any(_text(delta, "reasoning_content", "reasoning") for delta in deltas),
        tool=any(delta.get("tool_calls") or delta.get("function_call") for delta in deltas),
        finished=any(choice.get("finish_reason") for choice in choices),
        usage=usage(payload),
        told=told_by_openai(payload),
    )


def _text(delta: Payload, *names: str) -> bool:
    """Tell whether one of the fields holds text (some servers send lists of parts)."""
    return any(isinstance(value := delta.get(name), str | list) and len(value) > 0 for name in names)
