"""What a wire format is: a request out of a question, and the meaning of one event. Pure on both sides.

Below stands what the formats share: keys in headers, URLs, counts, errors, JSON.
"""

import json
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Final, TypeGuard
from urllib.parse import SplitResult, urlsplit

import msgspec

from agent.framing import Event, Framing
from agent.servertiming import Told
from agent.sse import SSE
from agent.timeline import Usage
from isochrone.config import Assignment, InferenceOptions

Payload = dict[str, object]

DONE: Final = "[DONE]"
ERROR: Final = "error"
NO_REASON: Final = "the provider named no reason"
MAX_COUNT: Final = 2**31 - 1
MAX_OBJECTS: Final = 64
"""Choices, parts or calls that are looked at in one event: a list of 300,000 would hold the agent for 5 s."""
_WORDS: Final = ("message", "Message", "code")


class Ask(msgspec.Struct, frozen=True, kw_only=True):
    """One question. Holds the key: never logged."""

    target: Assignment
    key: str | None
    prompt: str
    at: datetime
    """Now, in UTC: a signed request says when it was signed."""

    @property
    def model(self) -> str:
        """The model's name; "" where the target has none."""
        return self.target.model or ""

    @property
    def max_output_tokens(self) -> int:
        """The bound of the answer."""
        return (self.target.options.inference or InferenceOptions()).max_output_tokens


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """One POST that asks for a stream. Holds the key: never logged."""

    url: str
    headers: Mapping[str, str]
    body: bytes


class Reading(msgspec.Struct, frozen=True, kw_only=True):
    """What one event of a stream said. The default says nothing: a ping, a role, a filter's note."""

    answer: bool = False
    """A token of the visible answer."""
    reasoning: bool = False
    """A token of thought."""
    tool: bool = False
    """A token of a tool call."""
    finished: bool = False
    """The model came to its end, at the length limit or before: the stream is good."""
    done: bool = False
    """Nothing follows."""
    usage: Usage | None = None
    told: Told | None = None
    """What the server told of its own time."""
    region: str | None = None
    """Where the server says that it works."""
    error: str | None = None
    """The provider's words when it failed after it had begun."""
    unreadable: str | None = None
    """Why the event is not of this format."""

    @property
    def token(self) -> bool:
        """Whether the event carried a token of any channel."""
        return self.answer or self.reasoning or self.tool


class WireFormat(msgspec.Struct, frozen=True, kw_only=True):
    """One provider's way."""

    request: Callable[[Ask], Request]
    """Raises ValueError when the target cannot be asked this way; its words never hold the key."""
    interpret: Callable[[Event], Reading]
    ending: str | None
    """The terminal marker, for people; None where the format has none: there the end of the body is a good end."""
    framing: Framing = SSE
    secrets: Callable[[str], tuple[str, ...]] = lambda key: (key,)
    """The parts of a key that must stand in no text."""


def post(url: str, body: Payload, *, headers: Mapping[str, str], framing: Framing = SSE) -> Request:
    """Return the request that sends `body` as JSON."""
    fields = {"Content-Type": "application/json", "Accept": framing.media_types[0], **headers}
    return Request(url=url, headers=fields, body=msgspec.json.encode(body))


def key_header(name: str, key: str | None, *, scheme: str = "") -> dict[str, str]:
    """Return the header that carries the key, or none; raise ValueError for a key that no header may hold."""
    if key is None:
        return {}
    if not (key.isascii() and key.isprintable()):
        raise ValueError("the key holds characters that no header may: is there a line end in it?")
    return {name: f"{scheme}{key}"}


def bearer(key: str | None) -> dict[str, str]:
    """Return the key as a bearer token."""
    return key_header("Authorization", key, scheme="Bearer ")


def stream_url(base: str, path: str, *, version: str = "") -> str:
    """Return where to post: a base gets `version` (unless it ends so) and `path`; a URL that ends in `path` stays."""
    parts = split_base(base)
    there = parts.path
    if not there.endswith(path):
        there += path if there.endswith(version) else version + path
    return parts._replace(path=there).geturl()


def split_base(base: str) -> SplitResult:
    """Return a URL in parts, without a slash at the end of its path and without a fragment."""
    parts = urlsplit(base)
    return parts._replace(path=parts.path.rstrip("/"), fragment="")


def read_json(event: Event, read: Callable[[Payload], Reading], *, done_is_good: bool = False) -> Reading:
    """Return what `read` makes of the event's JSON object. Every format's failures are known here.

    A top-level `error` (alone in a list, too), an event named so, an object that calls itself one, and a fault of the
    framing fail the stream. `[DONE]` ends a good stream only where the format has it (`done_is_good`): proxies add it
    to others, cut ones as well.
    """
    failed = event.fault or event.name == "error"
    if event.data.strip() == DONE and not failed:
        return Reading(done=True, finished=done_is_good)
    try:
        payload = json.loads(event.data)
    except (ValueError, RecursionError):
        return Reading(error=_named(event, event.data)) if failed else Reading(unreadable="an event is not JSON")
    if isinstance(payload, list) and payload:
        payload = payload[0]
    if not isinstance(payload, dict):
        return Reading(error=_named(event, NO_REASON)) if failed else Reading()
    words = error_words(payload)
    if failed or ERROR in {text_of(payload, "type"), text_of(payload, "object")}:
        return Reading(error=_named(event, words or text_of(payload, *_WORDS) or NO_REASON))
    return read(payload) if words is None else Reading(error=words)


def error_text(body: bytes) -> str | None:
    """Return the provider's words in the body of a failed answer; None when it holds none."""
    try:
        payload = json.loads(body)
    except (ValueError, RecursionError):
        return None
    if isinstance(payload, list) and payload:
        payload = payload[0]
    if not isinstance(payload, dict):
        return None
    return error_words(payload) or text_of(payload, "message", "Message", "detail")


def error_words(payload: Payload) -> str | None:
    """Return the words of the top-level `error`; None where it holds none."""
    error = payload.get("error")
    if error is None or error is False or error == "":
        return None
    if isinstance(error, list) and error:
        error = error[0]
    if not isinstance(error, dict):
        return str(error)
    words = error.get("message") or error.get("code") or error.get("type")
    return str(words) if words else NO_REASON


def text_of(holder: object, *names: str) -> str | None:
    """Return the first of the fields that holds text, never ""."""
    if not isinstance(holder, dict):
        return None
    values = (holder.get(name) for name in names)
    return next((value for value in values if isinstance(value, str) and value), None)


def inner(holder: object, *path: str) -> Payload:
    """Return the object at `path`; an empty one where there is none."""
    for name in path:
        holder = holder.get(name) if isinstance(holder, dict) else None
    return holder if isinstance(holder, dict) else {}


def objects(holder: object, name: str) -> list[Payload]:
    """Return the objects among the first `MAX_OBJECTS` of the list `name`; none where there is no list."""
    values = holder.get(name) if isinstance(holder, dict) else None
    return [value for value in values[:MAX_OBJECTS] if isinstance(value, dict)] if isinstance(values, list) else []


def count(holder: object, *names: str) -> int | None:
    """Return the first of the fields that is a count; None where there is none."""
    for name in names:
        value = holder.get(name) if isinstance(holder, dict) else None
        if _is_count(value):
            return int(value)
    return None


def total(*counts: int | None) -> int | None:
    """Return the sum of the counts that are known; None where the first is not."""
    if counts[0] is None:
        return None
    return min(MAX_COUNT, sum(value for value in counts if value is not None))


def _is_count(value: object) -> TypeGuard[int | float]:
    """Tell whether it is one: Cohere counts in floats, text and booleans are none."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        return False
    return 0 <= value <= MAX_COUNT and value == int(value)


def _named(event: Event, words: str) -> str:
    return f"{event.name}: {words}" if event.fault and event.name not in {"", "error"} else words
