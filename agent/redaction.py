"""What must not be shown, taken out of words: known secrets in every form in which they come back. Pure.

An endpoint may repeat a key in its error, a library may quote a header: words are cleaned before they are cut, for half
a key would be missed.
"""

import re
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from traceback import extract_tb
from typing import Final
from urllib.parse import quote

STARS: Final = "***"
MOST_FRAMES: Final = 6
_PLAIN: Final = re.compile(r"[A-Za-z0-9]")
"""What nobody escapes."""
_MOST_ESCAPES: Final = 8
"""Backslashes before one character: three escapings of one another make seven."""
SECRET_FORMS: Final = re.compile(r"\b(iso[aejt]_|sk-)[A-Za-z0-9_-]{6,}|(?i:bearer)\s+[A-Za-z0-9._~+/=-]{8,}")
"""Tokens of this product, keys as several providers make them, and whatever follows `Bearer`."""


def fault_words(fault: BaseException) -> str:
    """Return a fault of ours by its kind and place alone: its text may quote a key, a prompt or an answer."""
    frames = [f"{Path(one.filename).name}:{one.lineno} {one.name}" for one in extract_tb(fault.__traceback__)]
    return " < ".join([type(fault).__name__, *reversed(frames[-MOST_FRAMES:])])


def pattern_of(hidden: Iterable[str]) -> re.Pattern[str] | None:
    """Return what finds `hidden` however often URLs, JSON or representations have escaped it; None for nothing."""
    longest_first = sorted(filter(None, set(hidden)), key=len, reverse=True)
    pattern = "|".join(_pattern(text).pattern for text in longest_first)
    return re.compile(pattern, re.IGNORECASE) if pattern else None


@lru_cache(maxsize=256)  # 3 to 20 ms for a long key: once, not within each probe
def _pattern(text: str) -> re.Pattern[str]:
    return re.compile("".join(map(_forms, text)), re.IGNORECASE)


def _forms(character: str) -> str:
    """Return a pattern of a character in all its forms. Bounded: an endpoint may send nothing but backslashes."""
    if _PLAIN.fullmatch(character):
        return re.escape(character)
    code = ord(character)
    escaped = f"u{code:04x}|x{code:02x}"
    percent = re.escape(quote(character, safe="", errors="replace")).replace("%", "%(?:25)*")
    if character == "\\":
        return rf"(?:\\{{1,{_MOST_ESCAPES}}}(?:{escaped})?|{percent})"
    return rf"(?:\\{{0,{_MOST_ESCAPES}}}(?:{re.escape(character)}|{escaped})|{percent})"


def without(hidden: Iterable[str], words: str) -> str:
    """Return `words` with stars for `hidden` and for all that has the form of a token or key."""
    for text in sorted(filter(None, set(hidden)), key=len, reverse=True):
        words = _pattern(text).sub(STARS, words)
    return SECRET_FORMS.sub(STARS, words)
