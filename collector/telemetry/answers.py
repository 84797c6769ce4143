"""What a receiver answered, and what it means for the request: taken, refused for good, or to be sent again. Pure."""

from collections.abc import Mapping
from datetime import datetime
from email.utils import parsedate_to_datetime
from enum import StrEnum
from typing import Final, Protocol

import msgspec

from collector.telemetry.facts import Fact
from isochrone.names import printable

MAX_RETRY_AFTER_SECONDS: Final = 3_600.0
_OK: Final = range(200, 300)


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """An HTTP answer."""

    status: int
    headers: Mapping[str, str]
    """Names in lower case."""
    body: bytes


class Fate(StrEnum):
    """What becomes of a request."""

    TAKEN = "taken"
    REFUSED = "refused"
    """The same request would be refused again."""
    AGAIN = "again"


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """What an answer means."""

    fate: Fate
    words: str = ""
    """One line for the log; empty: there is nothing to say."""
    rejected: int = 0
    """Data points that were refused while the others were taken."""
    retry_after_seconds: float | None = None
    """What the receiver asks for; None: nothing."""


class Encoded(msgspec.Struct, frozen=True, kw_only=True):
    """A request, and what became of the facts that it was made of."""

    body: bytes | None
    """None: nothing is left to send."""
    results: int
    """How many are in it."""
    skipped: Mapping[str, int] = {}
    """How many were left out, by reason."""


class Dialect(Protocol):
    """How one kind of receiver is spoken to."""

    name: str
    headers: Mapping[str, str]
    results_per_request: int

    def encode(self, facts: list[Fact], now: datetime) -> Encoded:
        """Return the request. Runs in a thread, one at a time."""

    def judge(self, answer: Answer, now: datetime) -> Verdict:
        """Return what the answer means."""


def judge_status(answer: Answer, *, again: frozenset[int], now: datetime) -> Verdict:
    """Return what the status means, `again` being those after which the same request is right."""
    if answer.status in _OK:
        return Verdict(fate=Fate.TAKEN)
    words = f"HTTP {answer.status}: {said_in(answer.body)}"
    if answer.status not in again:
        return Verdict(fate=Fate.REFUSED, words=words)
    wait = retry_after_seconds(answer.headers.get("retry-after"), now=now)
    return Verdict(fate=Fate.AGAIN, words=words, retry_after_seconds=wait)


def said_in(body: bytes) -> str:
    """Return the start of a body as one line."""
    return printable(body[:400].decode("utf-8", "replace")) or "without a word"


def retry_after_seconds(value: str | None, *, now: datetime) -> float | None:
    """Return the seconds that Retry-After asks for (RFC 9110 10.2.3), at most an hour; None for nonsense."""
    text = "" if value is None else value.strip()[:100]
    if text.isascii() and text.isdigit():
        return min(float(text), MAX_RETRY_AFTER_SECONDS)
    try:
        moment = parsedate_to_datetime(text)
        seconds = (moment - now).total_seconds()
    except (ValueError, TypeError, OverflowError):  # TypeError: a date without a zone
        return None
    return min(max(0.0, seconds), MAX_RETRY_AFTER_SECONDS)
