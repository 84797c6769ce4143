"""What an answer of the collector means for the segment that was sent. Pure.

| answer                                              | verb    | the segment          |
|-----------------------------------------------------|---------|----------------------|
| 200, an acknowledgement of this very batch          | ACK     | is forgotten         |
| 413; 400, 415, 422 told by the collector            | SPLIT   | is halved, one aside |
| 409 told by the collector: other content stands     | GIVE_UP | goes to corrupt/     |
| 401, 403                                            | WAIT    | stays, minutes       |
| 403 told by the collector: the token is revoked     | REVOKED | stays, an hour       |
| everything else, any 200 that is no acknowledgement | RETRY   | stays, backoff       |

"Told by the collector" is a body of the type application/problem+json: a proxy's page must never cost a result.
"""

from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from typing import Final
from uuid import UUID

import msgspec

from agent.retryafter import retry_after_seconds
from isochrone.batch import Ack
from isochrone.names import printable
from isochrone.wire import WireError, decode_ack

PROBLEM_TYPE: Final = "application/problem+json"  # RFC 9457

_OK: Final = 200
_TOO_LARGE: Final = 413
_BAD_ENVELOPE: Final = frozenset({400, 415, 422})
_CONFLICT: Final = 409
_NOT_US: Final = frozenset({401, 403})
_FORBIDDEN: Final = 403
_REVOKED_TYPE: Final = "urn:isochrone:problem:revoked"
_RETRY_AFTER: Final = frozenset({429, 503})


class Verb(StrEnum):
    """What to do with the segment."""

    ACK = "ack"
    SPLIT = "split"
    GIVE_UP = "give_up"
    WAIT = "wait"
    REVOKED = "revoked"
    RETRY = "retry"


class Action(msgspec.Struct, frozen=True, kw_only=True):
    """The answer, understood."""

    verb: Verb
    reason: str = ""
    """One line for the log; empty for an acknowledgement."""
    told_by_collector: bool = False
    """The answer has our own format of problems."""
    ack: Ack | None = None
    retry_after_seconds: float | None = None
    """What the collector asked for, bounded."""


class _Problem(msgspec.Struct):
    type: str = ""
    title: str = ""
    detail: str = ""


_problem_decoder = msgspec.json.Decoder(_Problem)


class Answered(msgspec.Struct, frozen=True, kw_only=True):
    """An HTTP answer. Names of headers in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


def action(answer: Answered, batch_id: UUID, *, now: datetime) -> Action:
    """Return what `answer` means for `batch_id`; `now` is only for a Retry-After that is a date."""
    status = answer.status
    told = answer.headers.get("content-type", "").partition(";")[0].strip().lower() == PROBLEM_TYPE
    problem = _problem(answer) if told else _Problem()
    reason = f"{status} {printable(problem.detail or problem.title)}".strip()
    if status == _OK:
        return _acknowledgement(answer.body, batch_id)
    if status == _TOO_LARGE or (told and status in _BAD_ENVELOPE):
        return Action(verb=Verb.SPLIT, reason=reason, told_by_collector=told)
    if told and status == _CONFLICT:
        return Action(verb=Verb.GIVE_UP, reason=reason, told_by_collector=told)
    if status in _NOT_US:
        revoked = status == _FORBIDDEN and problem.type == _REVOKED_TYPE
        return Action(verb=Verb.REVOKED if revoked else Verb.WAIT, reason=reason)
    if status in _RETRY_AFTER:
        wait = retry_after_seconds(answer.headers.get("retry-after"), now=now)
        return Action(verb=Verb.RETRY, reason=reason, retry_after_seconds=wait)
    return Action(verb=Verb.RETRY, reason=reason)


def _acknowledgement(body: bytes, batch_id: UUID) -> Action:
    try:
        ack = decode_ack(body)
    except WireError:
        return Action(verb=Verb.RETRY, reason="200, but not from a collector: is something in between?")
    if ack.batch_id != batch_id:
        return Action(verb=Verb.RETRY, reason=f"200, but for another batch ({ack.batch_id})")
    return Action(verb=Verb.ACK, ack=ack)


def _problem(answer: Answered) -> _Problem:
    try:
        return _problem_decoder.decode(answer.body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return _Problem()
