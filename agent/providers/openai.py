"""OpenAI chat completions, as OpenAI, vLLM, SGLang, llama.cpp, LiteLLM, Groq, OpenRouter and others stream it.

Rules:
- a token is a non-empty `content`, `refusal`, `reasoning_content`, `reasoning` or tool call in any choice's `delta`;
- role alone, empty text, no choices (Azure's filter, the usage chunk), no `delta`: no token;
- `finish_reason` and `[DONE]` end a good stream, at the length limit too;
- `usage` may come in its own chunk, with the last, on every one, or in `x_groq`;
- text may come as a list of parts (Mistral's thoughts do);
- a top-level `error`, or an event named so, is a failure after HTTP 200; so is a choice's `error` (OpenRouter), or
  its `finish_reason` `error` or `abort` (OpenRouter, vLLM, SGLang).
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
    error_words,
    inner,
    objects,
    post,
    read_json,
    stream_url,
    text_of,
)
from agent.servertiming import told_by_openai
from agent.timeline import Usage

PATH: Final = "/chat/completions"
ENDING: Final = "finish_reason or [DONE]"
_FAILED: Final = frozenset({"error", "abort"})


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
    return read_json(event, _chunk, done_is_good=True)


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
        answer=any(text_of(delta, "content", "refusal") or _parts(delta, "text") for delta in deltas),
        reasoning=any(
            text_of(delta, "reasoning_content", "reasoning") or _parts(delta, "thinking") for delta in deltas
        ),
        tool=any(_calls(delta) for delta in deltas),
        finished=finished(choices),
        usage=usage(payload),
        told=told_by_openai(payload),
        error=failure(choices),
    )


def finished(choices: list[Payload]) -> bool:
    """Return whether the model came to its end."""
    return any(text_of(choice, "finish_reason") for choice in choices)


def failure(choices: list[Payload]) -> str | None:
    """Return the words of the choice that failed, if one did."""
    for choice in choices:
        words, reason = error_words(choice), text_of(choice, "finish_reason")
        if words is not None or reason in _FAILED:
            return words or f"the model's end is {reason}"
    return None


def _parts(delta: Payload, kind: str) -> bool:
    """Tell whether `content` is a list with a part of this kind that is not empty."""
    return any(bool(part.get(kind)) for part in objects(delta, "content"))


def _calls(delta: Payload) -> bool:
    """Tell whether a tool is named or its arguments go on; some servers end a call with empty ones."""
    calls = [inner(call, holder) for call in objects(delta, "tool_calls") for holder in ("function", "custom")]
    calls.append(inner(delta, "function_call"))
    return any(text_of(call, "name", "arguments", "input") or inner(call, "arguments") for call in calls)
