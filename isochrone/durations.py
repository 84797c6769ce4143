"""Durations as people write them: `500ms`, `30s`, `5m`, `1h`, `1d`."""

import math
import re
from typing import Final

_UNITS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3_600.0, "d": 86_400.0}
_DURATION: Final = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")


def parse_duration(text: str) -> float:
    """Return the seconds that `text` says, or raise ValueError that tells the form."""
    found = _DURATION.fullmatch(text.strip())
    if found is None:
        raise ValueError(f"{text!r} is not a duration: write a number and a unit, as in 500ms, 30s, 5m, 1h, 1d")
    seconds = float(found[1]) * _UNITS[found[2]]
    if not math.isfinite(seconds):
        raise ValueError(f"{text[:20]!r}… is longer than a number can say")
    return seconds


def format_duration(seconds: float) -> str:
    """Return `seconds` in the largest unit that needs no fraction, else in milliseconds or seconds."""
    for unit in ("d", "h", "m", "s"):
        count = seconds / _UNITS[unit]
        if count >= 1 and count == int(count):
            return f"{int(count)}{unit}"
    return f"{_plain(seconds * 1000)}ms" if seconds < 1 else f"{_plain(seconds)}s"


def _plain(number: float) -> str:
    """Return `number` to six decimals, without an exponent: `parse_duration` reads none."""
    return f"{number:.6f}".rstrip("0").rstrip(".")
