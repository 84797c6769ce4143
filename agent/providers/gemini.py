"""Gemini, by API key (generativelanguage.googleapis.com) or on Vertex AI (a project's URL).

Rules:
- a base gets `/models/NAME:streamGenerateContent`, on Vertex `/publishers/google` before it; `alt=sse` always, for
  without it the answer is one JSON array;
- a key goes into `x-goog-api-key`; on Vertex, and where it is an OAuth token (`ya29.`), it is a bearer token;
- a token is a part with text (`thought` tells its channel) or a call of a function; chunks hold many tokens;
- a `finishReason` ends a good stream, and nothing follows it but the close; a blocked prompt is a failure;
- thoughts are counted apart from the candidates: their sum is the output (a count of 0 is left out).
"""

import re
from typing import Final
from urllib.parse import parse_qs, quote

from agent.framing import Event
from agent.providers.wire import (
    Ask,
    Payload,
    Reading,
    Request,
    bearer,
    count,
    inner,
    key_header,
    objects,
    post,
    read_json,
    split_base,
    text_of,
    total,
)
from agent.timeline import Usage

METHOD: Final = ":streamGenerateContent"
ENDING: Final = "finishReason"
_UNSPECIFIED: Final = frozenset({"FINISH_REASON_UNSPECIFIED", "BLOCK_REASON_UNSPECIFIED"})
_THINKING: Final[tuple[tuple[re.Pattern[str], Payload], ...]] = (
    (re.compile(r"^gemini-2\.5-flash"), {"thinkingBudget": 0}),
    (re.compile(r"^gemini-2\.5-pro"), {"thinkingBudget": 128}),
    (re.compile(r"^gemini-[3-9].*flash"), {"thinkingLevel": "minimal"}),
    (re.compile(r"^gemini-[3-9]"), {"thinkingLevel": "low"}),
)
"""The least thought that a model takes; the older ones refuse the question."""


def request(ask: Ask) -> Request:
    """Return the request for a stream of at most `max_output_tokens`."""
    options: Payload = {"maxOutputTokens": ask.max_output_tokens}
    name = ask.model.rpartition("/")[2]
    thinking = next((config for pattern, config in _THINKING if pattern.match(name)), None)
    if thinking is not None:
        options["thinkingConfig"] = thinking
    body: Payload = {"contents": [{"role": "user", "parts": [{"text": ask.prompt}]}], "generationConfig": options}
    return post(_url(ask), body, headers=_headers(ask))


def interpret(event: Event) -> Reading:
    """Return what `event` says."""
    return read_json(event, _chunk)


def _url(ask: Ask) -> str:
    parts = split_base(ask.target.url)
    path = parts.path
    if not path.endswith(METHOD):
        if "/projects/" in path and "/publishers/" not in path:
            path += "/publishers/google"
        name = quote(ask.model.removeprefix("models/"), safe="")
        path = f"{path.removesuffix('/models')}/models/{name}{METHOD}"
    asked = parse_qs(parts.query)
    query = parts.query if "alt" in asked else "&".join(part for part in (parts.query, "alt=sse") if part)
    return parts._replace(path=path, query=query).geturl()


def _headers(ask: Ask) -> dict[str, str]:
    is_token = ask.key is not None and ask.key.startswith("ya29.")
    if is_token or "/projects/" in ask.target.url:
        return bearer(ask.key)
    return key_header("x-goog-api-key", ask.key)


def _chunk(payload: Payload) -> Reading:
    blocked = _reason(inner(payload, "promptFeedback"), "blockReason")
    if blocked is not None:
        return Reading(error=f"the prompt was blocked: {blocked}")
    candidates = objects(payload, "candidates")
    parts = [part for candidate in candidates for part in objects(candidate.get("content"), "parts")]
    texts = [part.get("thought") is True for part in parts if text_of(part, "text") is not None]
    return Reading(
        answer=not all(texts),
        reasoning=any(texts),
        tool=any("functionCall" in part or "executableCode" in part for part in parts),
        finished=any(_reason(candidate, "finishReason") is not None for candidate in candidates),
        usage=_usage(inner(payload, "usageMetadata")),
    )


def _reason(holder: Payload, name: str) -> str | None:
    reason = text_of(holder, name)
    return None if reason in _UNSPECIFIED else reason


def _usage(counts: Payload) -> Usage | None:
    if not counts:
        return None
    drawn, thought = count(counts, "candidatesTokenCount"), count(counts, "thoughtsTokenCount")
    return Usage(
        output=total(drawn, thought) if drawn is not None else thought,
        input=count(counts, "promptTokenCount"),
        cached_input=count(counts, "cachedContentTokenCount"),
        reasoning=thought,
    )
