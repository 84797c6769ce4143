"""Names and units: the value types that every other part of the contract is made of.

All bounds are checked by msgspec while decoding; `check_name` and `check_seconds` are for values made in Python.
"""

import math
import re
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import lru_cache
from typing import Annotated, Final

import msgspec

NAME_PATTERN: Final = r"^[a-z0-9][a-z0-9._/-]{0,63}\Z"
"""Names of agents, regions, endpoints, modules: safe as label values, file names and in URLs."""

TEXT_PATTERN: Final = r"^[^\x00-\x08\x0b-\x1f\x7f]*\Z"
"""Free text: anything printable; no NUL (Postgres refuses it), no control characters (terminals obey them)."""

MAX_SECONDS: Final = 1e6
"""Longest duration that is believed, in seconds (eleven days): refuses the infinity that 1e999 decodes to."""

MAX_TEXT: Final = 200
"""Longest reason, in characters."""

MAX_COUNT: Final = 2**31 - 1
"""Largest count: what an int4 column holds."""

Name = Annotated[str, msgspec.Meta(pattern=NAME_PATTERN)]
Model = Annotated[str, msgspec.Meta(max_length=128, pattern=r"^[\x21-\x7e]*\Z")]
"""A provider's name of a model: printable ASCII without spaces, as providers write them (`org/Model-7B:free`)."""
Text = Annotated[str, msgspec.Meta(max_length=MAX_TEXT, pattern=TEXT_PATTERN)]
Seconds = Annotated[float, msgspec.Meta(ge=0, le=MAX_SECONDS)]
"""A duration in seconds: finite, not negative."""
Count = Annotated[int, msgspec.Meta(ge=0, le=MAX_COUNT)]
Rate = Annotated[float, msgspec.Meta(ge=0, le=1e9)]
"""Events per second: finite, not negative."""
Latitude = Annotated[float, msgspec.Meta(ge=-90, le=90)]
Longitude = Annotated[float, msgspec.Meta(ge=-180, le=180)]

_NAME: Final = re.compile(NAME_PATTERN)
_decoding: ContextVar[bool] = ContextVar("decoding", default=False)
bounds_hold = _decoding.get
"""Tell whether msgspec has checked the bounds of what is being constructed, so that nobody needs to do it again."""


@contextmanager
def decoding() -> Iterator[None]:
    """Let `bounds_hold` while msgspec decodes: its checks cost a tenth of those in Python."""
    token = _decoding.set(True)
    try:
        yield
    finally:
        _decoding.reset(token)


@lru_cache(maxsize=8_192)
def matches(pattern: str, value: str) -> bool:
    """Return whether `value`, which is short, has the form: names and addresses come again and again."""
    return re.search(pattern, value) is not None


def check_name(value: str, *, place: str) -> str:
    """Return `value` if it is a name, else raise ValueError naming `place` and the value."""
    if _NAME.match(value) is None:
        raise ValueError(f"{place}: {value!r} is not a name ({NAME_PATTERN[1:-2]})")
    return value


def check_seconds(value: float | None, *, place: str) -> None:
    """Raise ValueError unless `value` is None or a finite duration that is not negative."""
    if value is not None and not (math.isfinite(value) and 0 <= value <= MAX_SECONDS):
        raise ValueError(f"{place}: {value!r} is not a duration in seconds (0 to {MAX_SECONDS:g})")


def check_all_seconds(values: tuple[float | None, ...], names: tuple[str, ...], *, place: str = "") -> None:
    """Raise ValueError naming the first of `values` that `check_seconds` would refuse.

    One sum finds NaN and infinity wherever they stand: this runs for every decoded result, so it costs 0.5 µs, not 3.
    """
    present = [value for value in values if value is not None]
    if present and not (min(present) >= 0 and sum(present) <= MAX_SECONDS):
        for name, value in zip(names, values, strict=True):
            check_seconds(value, place=f"{place}{name}")


def printable(text: str, *, limit: int = MAX_TEXT) -> str:
    """Return `text` as one line of at most `limit` characters that `Text` accepts.

    Control characters, lone surrogates and line ends become spaces: foreign error texts go into results this way.
    """
    clean = "".join(c if c.isprintable() else " " for c in text)
    line = " ".join(clean.split())
    return line if len(line) <= limit else line[: limit - 1] + "…"
