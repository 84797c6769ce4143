"""Parsers of the ceilings and exceptions that an operator sets. Each raises ValueError saying what would be right."""

import math
import re
from collections.abc import Callable
from ipaddress import ip_network
from typing import Final

from isochrone.names import printable

MAX_DAY_COUNT: Final = 10**12
MAX_USD: Final = 1e9
MAX_OUTPUT_TOKENS: Final = 4_096
"""As in a target file."""

_HOST: Final = re.compile(r"[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?)*")
_HAS_LETTER: Final = re.compile(r"[a-z]")


def shown(value: object) -> str:
    """Return a refused value for a message."""
    return printable(repr(value), limit=80)


def private_places(value: object) -> tuple[str, ...]:
    """Return networks (an address is the smallest) and host names, in their usual form."""
    items = value.split(",") if isinstance(value, str) else value
    if not isinstance(items, list) or not all(isinstance(item, str) for item in items):
        raise ValueError(f"{shown(value)} is no list of networks and host names, as in 10.0.0.0/8,llm.internal")
    return tuple(_private_place(item.strip()) for item in items if item.strip())


def whole_number(most: int) -> Callable[[object], int]:
    """Return a parser of whole numbers from 1 to `most`."""

    def parse(value: object) -> int:
        text = str(value)
        if isinstance(value, bool) or not re.fullmatch(r"\d{1,13}", text, re.ASCII) or not 1 <= int(text) <= most:
            raise ValueError(f"{shown(value)} is no whole number between 1 and {most}")
        return int(text)

    return parse


def us_dollars(value: object) -> float:
    """Return an amount of money, more than nothing."""
    try:
        amount = math.nan if isinstance(value, bool) or not isinstance(value, str | int | float) else float(value)
    except ValueError:
        amount = math.nan
    if not 0 < amount <= MAX_USD:
        raise ValueError(f"{shown(value)} is no amount in US dollars, more than 0 and at most {MAX_USD:g}: as in 2.50")
    return amount


def _private_place(text: str) -> str:
    try:
        return str(ip_network(text))
    except ValueError as exc:
        name = text.lower()
        if "/" in text or not (_HOST.fullmatch(name) and _HAS_LETTER.search(name)):
            raise ValueError(
                f"{shown(text)} is neither a network, as in 10.0.0.0/8, nor a host name, as in llm.internal"
                + (": its address has bits beyond the prefix" if "host bits" in str(exc) else "")
            ) from exc
        return name
