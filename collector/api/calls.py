"""What `/openapi.json` tells of each call beside its parameters: who may, an example, the problems.

One table; the examples stand in `examples.json`, where they can be read as they are sent.
"""

import json
from collections.abc import Mapping
from importlib.resources import files
from typing import Any, Final

import msgspec

from collector.api.agents import Fleet
from collector.api.results import Page
from collector.api.series import SeriesAnswer
from collector.api.summary import Summary
from collector.identity import Enrolled, Enrolment, NewKey
from collector.rollout import Applied
from isochrone.batch import MEDIA_TYPE, Ack, Batch


class Call(msgspec.Struct, frozen=True, kw_only=True):
    """One call."""

    who: str
    """As the reference has it: agent, join token, reader, administrator, anybody."""
    problems: tuple[str, ...]
    """Of the table in `problems.py`, beside `internal`, which any call may answer."""
    answer: type | None = None
    """The type of a JSON answer; None: the example alone tells it."""
    request: type | None = None
    media_type: str = "application/json"
    """Of the answer."""
    request_media_type: str = "application/json"
    more: Mapping[int, str] = {}
    """Other answers that are no problems."""


_DOWN: Final = ("unavailable", "not_ready")
_READ: Final = ("unauthorized", "too_many_failures", "invalid", "too_much", "busy", *_DOWN)
_NAMED: Final = (*_READ, "unknown_name")
_AGENT: Final = ("unauthorized", "revoked", "too_many_failures", *_DOWN)
_JOIN: Final = ("timeout", "too_large", "invalid", "busy", *_DOWN)

CALLS: Final[Mapping[str, Call]] = {
    "POST /v1/batches": Call(
        who="agent",
        request=Batch,
        request_media_type=MEDIA_TYPE,
        answer=Ack,
        problems=(
            *("malformed", "unauthorized", "revoked", "forbidden", "timeout", "too_large", "unsupported", "invalid"),
            *("too_fast", "too_many_failures", "busy", "full", *_DOWN),
        ),
    ),
    "GET /v1/agent/config": Call(who="agent", problems=(*_AGENT, "busy"), more={304: "Unchanged: without a body"}),
    "POST /v1/agents/enroll": Call(
        who="join token",
        request=Enrolment,
        answer=Enrolled,
        problems=("unauthorized", "name_taken", "key_taken", *_JOIN),
    ),
    "GET /v1/agent/credential": Call(who="agent", answer=Enrolled, problems=_AGENT),
    "PUT /v1/agent/credential": Call(
        who="agent", request=NewKey, answer=Enrolled, problems=(*_AGENT, "key_taken", *_JOIN)
    ),
    "GET /v1/agents": Call(who="reader", answer=Fleet, problems=_READ),
    "GET /v1/endpoints": Call(who="reader", problems=("unauthorized", "too_many_failures", *_DOWN)),
    "GET /v1/summary": Call(who="reader", answer=Summary, problems=_READ),
    "GET /v1/series": Call(who="reader", answer=SeriesAnswer, problems=_NAMED),
    "GET /v1/results": Call(who="reader", answer=Page, problems=_NAMED),
    "GET /v1/export": Call(who="reader", media_type="text/csv", problems=_NAMED),
    "GET /healthz": Call(who="anybody", problems=()),
    "GET /readyz": Call(who="anybody", problems=_DOWN),
    "GET /metrics": Call(who="reader", media_type="text/plain", problems=("unauthorized", "too_many_failures")),
    "POST /-/reload": Call(
        who="administrator",
        answer=Applied,
        problems=(
            *("unauthorized", "too_many_failures", "forbidden", "no_targets", "confirmation_needed", "invalid"),
            *("targets_refused", *_DOWN),
        ),
    ),
}


def examples() -> dict[str, dict[str, Any]]:
    """Return by call: `answer`, and where there are any `request` and `parameters`. Any: JSON."""
    found: dict[str, dict[str, Any]] = json.loads(files("collector.api").joinpath("examples.json").read_bytes())
    return found
