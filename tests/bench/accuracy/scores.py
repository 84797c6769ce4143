"""What the lab says of one client under one condition, and whether it says enough to be judged. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from tests.bench.accuracy.conditions import TOKENS, Cell

ENOUGH: Final = 0.5
"""Share of the requests that must be left when those are taken out during which the machine stood still."""
ENOUGH_TOKENS: Final = 0.9
"""Of the arrivals of the judged streams: one whose tokens were miscounted gives none, a stall takes single ones."""


@dataclass(frozen=True, kw_only=True)
class Score:
    """Errors in milliseconds, reported less true; None: nothing was reported, or nothing is left of it."""

    client: str
    cell: Cell
    judged: int
    """Requests that were scored."""
    stalled: int
    """Requests left out because the machine itself stood still."""
    ttft_p99_ms: float | None = None
    token_p99_ms: float | None = None
    rtt_ms: float | None = None
    """Median of the round trips that the client reported."""
    true_rtt_ms: float | None = None
    """What the packets took: median over connections of the least round trip of each."""
    unstated: int | None = None
    """Tokens more than a millisecond off, and more than the client said that they may be."""
    cpu_ms_per_stream: float | None = None
    trouble: str | None = None
    """Why this is no measurement; None: it is one."""


def score(client: str, cell: Cell, found: Mapping[str, Any]) -> Score:
    """Read what the lab's bench returned for one run; `said` are the client's own errors."""
    # Cold requests are judged only where the client has no others; where a connection broke there may be a few.
    part = found["warm"] if found["warm"]["requests"] else found["cold"]
    token = part["token"] or {}
    bounds = part.get("bounds") or {}
    judged = part["requests"] - part["errors"] - part["stalled"]
    used_seconds = max(0.0, found["cpu_s"] - found["startup_cpu_s"])
    return Score(
        client=client,
        cell=cell,
        judged=judged,
        stalled=part["stalled"],
        ttft_p99_ms=_field(part["ttft"], "abs_p99"),
        token_p99_ms=_field(part["token"], "abs_p99"),
        rtt_ms=_field(part["rtt_ms"], "p50"),
        true_rtt_ms=found["least_ms"],
        unstated=bounds.get("over_1ms_unstated"),
        cpu_ms_per_stream=used_seconds / found["served"] * 1e3 if found["served"] else None,
        trouble=_incomplete(cell, found["all"], said=found["said"])
        or _too_little(cell, part, tokens=token.get("n", 0)),
    )


def _field(spread: Mapping[str, float] | None, name: str) -> float | None:
    return None if spread is None else spread[name]


def _incomplete(cell: Cell, whole: Mapping[str, Any], *, said: Sequence[str]) -> str | None:
    reported = whole["requests"] - whole["errors"]
    if reported >= cell.requests:
        return None
    reason = next(filter(str.strip, reversed(said)), "it said nothing").strip()
    return f"{reported} of {cell.requests} requests were reported without an error: {reason}"


def _too_little(cell: Cell, part: Mapping[str, Any], *, tokens: int) -> str | None:
    judged = part["requests"] - part["errors"] - part["stalled"]
    if judged < ENOUGH * cell.requests:
        return f"the machine stood still during {part['stalled']} of {cell.requests} requests: run it on a quieter one"
    if tokens < ENOUGH_TOKENS * TOKENS * judged:
        return f"only {tokens} arrivals of tokens were reported for {judged} streams of {TOKENS}"
    return None
