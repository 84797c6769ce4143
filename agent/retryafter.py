"""How long a server asks to be left alone: `retry-after-ms`, else `Retry-After` (seconds or a date). Pure.

    retry-after-ms: 1500                          1.5 s, before the other: of OpenAI and Azure
    retry-after: 20                               20 s
    retry-after: Sun, 01 Mar 2026 12:00:30 GMT    until then, by the clock of the answer's own Date where it has one

Never less than nothing nor more than an hour; nonsense counts as not said.
"""

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final

MAX_RETRY_AFTER_SECONDS: Final = 3_600.0

_NUMBER: Final = re.compile(r"[0-9]+(?:\.[0-9]+)?", re.ASCII)
_MAX_CHARACTERS: Final = 100
"""Longer is no date, and no number that matters."""


def asked_wait_seconds(headers: Mapping[str, str], *, now: datetime) -> float | None:
    """Return what an answer asks for; None if nothing. `now` is for a date in an answer that does not say its own."""
    milliseconds = _number(headers.get("retry-after-ms"))
    if milliseconds is not None:
        return _bounded(milliseconds / 1_000)
    date = _moment(headers.get("date"))
    return retry_after_seconds(headers.get("retry-after"), now=now if date is None else date)


def retry_after_seconds(value: str | None, *, now: datetime) -> float | None:
    """Return the seconds that Retry-After asks for (RFC 9110 10.2.3), at most an hour; None for nonsense."""
    seconds = _number(value)
    if seconds is not None:
        return _bounded(seconds)
    moment = _moment(value)
    return None if moment is None else _bounded((moment - now).total_seconds())


def _number(value: str | None) -> float | None:
    text = "" if value is None else value.strip()
    return float(text) if len(text) <= _MAX_CHARACTERS and _NUMBER.fullmatch(text) else None


def _moment(value: str | None) -> datetime | None:
    if value is None or len(value) > _MAX_CHARACTERS:
        return None
    try:
        moment = parsedate_to_datetime(value.strip())
    except (ValueError, OverflowError):  # OverflowError: a year or an offset beyond any C integer
        return None
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)


def _bounded(seconds: float) -> float:
    return min(max(0.0, seconds), MAX_RETRY_AFTER_SECONDS)
