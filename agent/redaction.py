"""What must not be shown, taken out of words: known secrets in every form in which they come back. Pure.

An endpoint may repeat a key in its error, a library may quote a header: words are cleaned before they are cut, for half
a key would be missed.
"""

import json
import re
from collections.abc import Iterable
from typing import Final
from urllib.parse import quote

STARS: Final = "***"
SECRET_FORMS: Final = re.compile(r"\b(iso[aej]_|sk-)[A-Za-z0-9_-]{6,}|(?i:bearer)\s+[A-Za-z0-9._~+/=-]{8,}")
"""Tokens of this product, keys as several providers make them, and whatever follows `Bearer`."""


def pattern_of(hidden: Iterable[str]) -> re.Pattern[str] | None:
    """Return what finds `hidden` as it stands or as a URL, JSON or a representation has it; None for nothing."""
    forms = {form for text in hidden for form in (text, quote(text, safe=""), json.dumps(text)[1:-1], repr(text)[1:-1])}
    pattern = "|".join(re.escape(form) for form in sorted(forms, key=len, reverse=True) if form)
    return re.compile(pattern, re.IGNORECASE) if pattern else None


def without(hidden: Iterable[str], words: str) -> str:
    """Return `words` with stars for `hidden` and for all that has the form of a token or key."""
    pattern = pattern_of(hidden)
    words = words if pattern is None else pattern.sub(STARS, words)
    return SECRET_FORMS.sub(STARS, words)
