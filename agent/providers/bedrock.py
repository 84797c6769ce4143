"""Amazon Bedrock, ConverseStream: event-stream frames with checksums.

Rules:
- a key is `ACCESS_KEY_ID:SECRET_ACCESS_KEY` or `…:SESSION_TOKEN`, and signs each request for the region in the host's
  name (`bedrock-runtime.REGION.`); any other is a Bedrock API key, and a bearer token;
- the frame's header says what an event is; a token is a non-empty text, thought or tool input in a
  `contentBlockDelta`, or the name of a tool in a `contentBlockStart`;
- `messageStop` is the model's end; `metadata` with usage and the server's time is the last event;
- a frame that is an exception is a failure after HTTP 200;
- input tokens that a cache held are counted apart from the others: their sum is the input.
"""

import re
from typing import Final
from urllib.parse import quote, urlsplit

import msgspec

from agent.eventstream import EVENT_STREAM
from agent.framing import Event
from agent.providers.sigv4 import Credentials, Post, Scope, sign
from agent.providers.wire import (
    Ask,
    Payload,
    Reading,
    Request,
    bearer,
    count,
    inner,
    key_header,
    post,
    read_json,
    split_base,
    text_of,
    total,
)
from agent.servertiming import told_by_bedrock
from agent.timeline import Usage

PATH: Final = "/converse-stream"
ENDING: Final = "messageStop"
SERVICE: Final = "bedrock"
_PAIR: Final = re.compile(r"([A-Z0-9]{16,128}):([A-Za-z0-9+/=]{16,128})(?::([A-Za-z0-9+/=_.-]+))?\Z")
_REGION: Final = re.compile(r"(?:^|\.)bedrock-runtime(?:-fips)?\.([a-z]{2,}(?:-[a-z0-9]+)+)\.")


def request(ask: Ask) -> Request:
    """Return the request for a stream of at most `max_output_tokens`."""
    body: Payload = {
        "messages": [{"role": "user", "content": [{"text": ask.prompt}]}],
        "inferenceConfig": {"maxTokens": ask.max_output_tokens},
    }
    unsigned = post(_url(ask), body, headers={}, framing=EVENT_STREAM)
    credentials = _credentials(ask.key)
    if credentials is None:
        return msgspec.structs.replace(unsigned, headers={**unsigned.headers, **bearer(ask.key)})
    what = Post(url=unsigned.url, content_type=unsigned.headers["Content-Type"], body=unsigned.body)
    signed = sign(what, credentials, Scope(at=ask.at, region=_region(unsigned.url), service=SERVICE))
    return msgspec.structs.replace(unsigned, headers={**unsigned.headers, **signed})


def secrets(key: str) -> tuple[str, ...]:
    """Return what of a key must stand in no text: an access key's id is none."""
    pair = _PAIR.match(key)
    return (key,) if pair is None else (key, *(part for part in pair.groups()[1:] if part is not None))


def interpret(event: Event) -> Reading:
    """Return what `event` says."""
    return read_json(event, lambda payload: _event(event.name, payload))


def _url(ask: Ask) -> str:
    parts = split_base(ask.target.url)
    path = parts.path
    if not path.endswith(PATH):
        path += f"/model/{quote(ask.model, safe='')}{PATH}"
    return parts._replace(path=path, query="").geturl()


def _credentials(key: str | None) -> Credentials | None:
    if key is None:
        return None
    pair = _PAIR.match(key)
    if pair is None:
        key_header("Authorization", key)  # refuses what no header may hold
        if ":" in key:
            raise ValueError("the key is no ACCESS_KEY_ID:SECRET_ACCESS_KEY[:SESSION_TOKEN], and no Bedrock API key")
        return None
    access_key_id, secret_access_key, session_token = pair.groups()
    return Credentials(access_key_id=access_key_id, secret_access_key=secret_access_key, session_token=session_token)


def _region(url: str) -> str:
    host = urlsplit(url).hostname or ""
    found = _REGION.search(host)
    if found is None:
        raise ValueError(f"{host} names no region to sign for: give https://bedrock-runtime.REGION.amazonaws.com")
    return found[1]


def _event(name: str, payload: Payload) -> Reading:
    match name:
        case "contentBlockStart":
            return Reading(tool=text_of(inner(payload, "start", "toolUse"), "name") is not None)
        case "contentBlockDelta":
            return _delta(inner(payload, "delta"))
        case "messageStop":
            return Reading(finished=True)
        case "metadata":
            usage = _usage(inner(payload, "usage"))
            return Reading(done=True, usage=usage, told=told_by_bedrock(payload))
        case _:
            return Reading()


def _delta(delta: Payload) -> Reading:
    return Reading(
        answer=text_of(delta, "text") is not None,
        reasoning=text_of(inner(delta, "reasoningContent"), "text", "redactedContent") is not None,
        tool=text_of(inner(delta, "toolUse"), "input") is not None,
    )


def _usage(counts: Payload) -> Usage:
    cached = count(counts, "cacheReadInputTokens")
    written = count(counts, "cacheWriteInputTokens")
    return Usage(
        output=count(counts, "outputTokens"),
        input=total(count(counts, "inputTokens"), cached, written),
        cached_input=cached,
    )
