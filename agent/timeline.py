"""Arrivals of tokens in, pace out: time per output token, tokens per second, stalls, buffering. Pure.

    tpot = (last - first) / (tokens after the first arrival)      at least 3 arrivals over at least 50 ms, else None

Tokens per arrival are taken as equal: of N tokens in A arrivals N (A - 1) / A came after the first. Where each arrival
is one token that is N - 1; where a server sends k at a time, leaving only one token out would read k - 1 short.

Reasoning tokens that were counted but never streamed did not come between the arrivals: they are left out.
A stream that somebody gathered on the way (a proxy) tells nothing of the model's pace: it has no tokens per second.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Final

import msgspec

from isochrone.outcome import TokenSource
from isochrone.result import Tokens

MIN_ARRIVALS: Final = 3
MIN_SPAN_NS: Final = 50_000_000
MAX_TOKENS_PER_SECOND: Final = 1e6
"""No stream is so fast: beyond it the provider's usage is nonsense, and no rate is told."""
BUFFERED_MIN_TOKENS: Final = 8
BUFFERED_MIN_READS: Final = 3
BUFFERED_GAP_NS: Final = 1_000_000
BUFFERED_SHARE: Final = 0.8
"""A buffering proxy shows as reads of many tokens, or as gaps under 1 ms: no model is that fast for one stream."""


class TokenArrival(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One event that carried at least one token."""

    at_ns: int
    read: int
    """Ordinal of the socket read that completed it."""
    answer: bool
    """It carried visible answer text."""
    reasoning: bool
    """It carried reasoning."""
    bound_ns: int = 0
    """How much earlier than `at_ns` it may have come."""


class Usage(msgspec.Struct, frozen=True, kw_only=True):
    """What the provider counted; None where it does not say."""

    output: int | None = None
    """Reasoning included."""
    input: int | None = None
    cached_input: int | None = None
    reasoning: int | None = None

    def merged(self, later: "Usage") -> "Usage":
        """Return the greater of each number: providers count up, or spread usage over events.

        A later one can also be less: what repeats the input may leave out the part that a cache held.
        """
        return Usage(**{name: _greater(getattr(self, name), getattr(later, name)) for name in self.__struct_fields__})


class Pace(msgspec.Struct, frozen=True, kw_only=True):
    """How the tokens came."""

    tokens: Tokens
    tpot_seconds: float | None = None
    tokens_per_second: float | None = None
    stall_seconds: float | None = None
    """Longest gap between two arrivals after the first; None with fewer than two."""
    buffered: bool = False


def pace(arrivals: Sequence[TokenArrival], usage: Usage) -> Pace:
    """Return how `arrivals`, in order of time, came."""
    tokens = count_tokens(arrivals, usage)
    gaps_ns = [later.at_ns - earlier.at_ns for earlier, later in pairwise(arrivals)]
    stall_seconds = max(gaps_ns) / 1e9 if gaps_ns else None
    streamed = _streamed_tokens(arrivals, tokens)
    if is_buffered(arrivals, streamed):
        return Pace(tokens=tokens, stall_seconds=stall_seconds, buffered=True)
    tpot_seconds = _tpot_seconds(arrivals, streamed)
    rate = None if tpot_seconds is None else 1 / tpot_seconds
    return Pace(tokens=tokens, tpot_seconds=tpot_seconds, tokens_per_second=rate, stall_seconds=stall_seconds)


def is_buffered(arrivals: Sequence[TokenArrival], streamed_tokens: int) -> bool:
    """Return whether somebody gathered the tokens on the way."""
    if streamed_tokens < BUFFERED_MIN_TOKENS or not arrivals:
        return False
    if len({arrival.read for arrival in arrivals}) < BUFFERED_MIN_READS:
        return True
    close = sum(later.at_ns - earlier.at_ns < BUFFERED_GAP_NS for earlier, later in pairwise(arrivals))
    return close >= BUFFERED_SHARE * (len(arrivals) - 1)


def count_tokens(arrivals: Sequence[TokenArrival], usage: Usage) -> Tokens:
    """Return what came by the provider's word, else by the arrivals; of a stream that broke off, what came so far."""
    given = usage.output is not None and usage.output > 0
    return Tokens(
        source=TokenSource.USAGE if given else TokenSource.ARRIVALS,
        output=usage.output if usage.output is not None and given else len(arrivals),
        input=usage.input,
        cached_input=usage.cached_input,
        reasoning=usage.reasoning,
        arrivals=len(arrivals),
    )


def _greater(one: int | None, other: int | None) -> int | None:
    return max((value for value in (one, other) if value is not None), default=None)


def _streamed_tokens(arrivals: Sequence[TokenArrival], tokens: Tokens) -> int:
    """Leave out reasoning that nobody saw. Where more was thought than put out, `output` excludes it already."""
    if tokens.reasoning is None or any(arrival.reasoning for arrival in arrivals):
        return tokens.output
    visible = tokens.output - tokens.reasoning
    return visible if visible > 0 else tokens.output


def _tpot_seconds(arrivals: Sequence[TokenArrival], streamed_tokens: int) -> float | None:
    count = len(arrivals)
    if count < MIN_ARRIVALS:
        return None
    span_ns = arrivals[-1].at_ns - arrivals[0].at_ns
    if span_ns < MIN_SPAN_NS:
        return None
    tpot_seconds = span_ns / 1e9 / (streamed_tokens * (count - 1) / count)
    return tpot_seconds if tpot_seconds * MAX_TOKENS_PER_SECOND >= 1 else None
