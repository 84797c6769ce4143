"""OpenAI chat completions, as OpenAI, Azure, vLLM, SGLang, llama.cpp, LiteLLM, Groq, OpenRouter and others stream it.

Rules:
- a token is a non-empty `content`, `refusal`, `reasoning_content`, `reasoning` or tool call in any choice's `delta`;
- role alone, empty text, no choices (Azure's filter, the usage chunk), no `delta`: no token;
- `finish_reason` and `[DONE]` end a good stream, at the length limit too;
- `usage` may come in its own chunk, with the last, on every one, or in `x_groq`;
- a top-level `error`, or an event named so, is a failure after HTTP 200.
"""

import json
import re
from typing import Final
from urllib.parse import urlsplit

import msgspec

from agent.providers.wire import Reading, Request
from agent.sse import Event
from agent.timeline import Usage
from isochrone.config import Assignment, InferenceOptions

PATH: Final = "/chat/completions"
_DONE: Final = "[DONE]"
_REASONING_MODEL: Final = re.compile(r"^(?:o[1-9]|gpt-[5-9])(?:$|[-.:])")
"""Models that refuse `max_tokens`; compatible servers know no other name."""
_EFFORT_MINIMAL: Final = re.compile(r"^gpt-5(?:$|-mini|-nano|-20)")
"""Models of the first gpt-5 series; the later ones can do without."""
_EFFORT_NONE: Final = re.compile(r"^gpt-5\.[1-9](?:$|-20|-mini|-nano)")


def request(target: Assignment, *, key: str | None, prompt: str) -> Request:
    """Return the request for a stream of at most `max_output_tokens`; raise ValueError for a key that is none."""
    options = target.options.inference or InferenceOptions()
    headers = {"Content-Type": "application/json", "Accept": "text/event-stream"}
    if key is not None:
        if not (key.isascii() and key.isprintable()):
            raise ValueError("the key holds characters that no header may: is there a line end in it?")
        headers["Authorization"] = f"Bearer {key}"
    url = stream_url(target.url)
    body: dict[str, object] = {
        "model": target.model,
        "messages": [{"role": "user", "content": prompt}],
        "stream": True,
        "stream_options": _stream_options(url),
        **_model_options(url, target.model or "", options.max_output_tokens),
    }
    return Request(url=url, headers=headers, body=msgspec.json.encode(body))


def stream_url(base_url: str) -> str:
    """Return where to post: a base such as https://api.openai.com/v1 gets the path, a full URL stays."""
    parts = urlsplit(base_url)
    path = parts.path.rstrip("/")
    return parts._replace(path=path if path.endswith(PATH) else path + PATH, fragment="").geturl()


def interpret(event: Event) -> Reading:
    """Return what `event` says."""
    if event.data.strip() == _DONE:
        return Reading(done=True)
    try:
        payload = json.loads(event.data)
    except (ValueError, RecursionError):
        if event.name == "error":
            return Reading(error=event.data)
        return Reading(unreadable="an event of the stream is not JSON")
    if not isinstance(payload, dict):
        return Reading()
    error = _error_words(payload)
    if error is not None or event.name == "error":
        return Reading(error=error or "the provider named no reason")
    return _chunk(payload)


def error_text(body: bytes) -> str | None:
    """Return the provider's words in an error's body."""
    try:
        payload = json.loads(body)
    except (ValueError, RecursionError):
        return None
    return _error_words(payload) if isinstance(payload, dict) else None


def _stream_options(url: str) -> dict[str, bool]:
    """Ask for usage; refuse padding where it exists, and there only: strict servers refuse what they don't know."""
    padded = {"include_obfuscation": False} if _is_official(url) else {}
    return {"include_usage": True, **padded}


def _is_official(url: str) -> bool:
    return urlsplit(url).hostname == "api.openai.com"


def _model_options(url: str, model: str, limit: int) -> dict[str, object]:
    name = model.rpartition("/")[2]
    if not (_is_official(url) or _REASONING_MODEL.match(name)):
        return {"max_tokens": limit}
    options: dict[str, object] = {"max_completion_tokens": limit}
    if _EFFORT_MINIMAL.match(name):
        options["reasoning_effort"] = "minimal"
    elif _EFFORT_NONE.match(name):
        options["reasoning_effort"] = "none"
    return options


def _chunk(payload: dict[str, object]) -> Reading:
    choices = payload.get("choices")
    found = [choice for choice in choices if isinstance(choice, dict)] if isinstance(choices, list) else []
    deltas = [delta for choice in found if isinstance(delta := choice.get("delta"), dict)]
    return Reading(
        answer=any(_text(delta, "content", "refusal") for delta in deltas),
        reasoning=any(_text(delta, "reasoning_content", "reasoning") for delta in deltas),
        tool=any(_calls(delta) for delta in deltas),
        finished=any(choice.get("finish_reason") for choice in found),
        usage=_usage(payload),
    )


def _text(delta: dict[str, object], *names: str) -> bool:
    """Tell whether one of the fields holds text (some servers send lists of parts)."""
    return any(isinstance(value := delta.get(name), str | list) and len(value) > 0 for name in names)


def _calls(delta: dict[str, object]) -> bool:
    return bool(delta.get("tool_calls") or delta.get("function_call"))


def _usage(payload: dict[str, object]) -> Usage | None:
    usage = payload.get("usage")
    groq = payload.get("x_groq")
    if usage is None and isinstance(groq, dict):
        usage = groq.get("usage")
    if not isinstance(usage, dict):
        return None
    return Usage(
        output=_count(usage, "completion_tokens"),
        input=_count(usage, "prompt_tokens"),
        cached_input=_count(usage.get("prompt_tokens_details"), "cached_tokens"),
        reasoning=_count(usage.get("completion_tokens_details"), "reasoning_tokens"),
    )


def _count(holder: object, name: str) -> int | None:
    value = holder.get(name) if isinstance(holder, dict) else None
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**31:
        return value
    return None


def _error_words(payload: dict[str, object]) -> str | None:
    error = payload.get("error")
    if error is None or error is False:
        return None
    if not isinstance(error, dict):
        return str(error)
    words = error.get("message") or error.get("code") or error.get("type")
    return str(words) if words is not None else "the provider named no reason"
