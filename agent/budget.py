"""What this agent may do at all: the operator's allow-list, and the day's spending on each endpoint.

The collector is not trusted with either: it may ask, this module says no, and the probe becomes a result that says why.
"""

import os
from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import Final

import msgspec

from agent.config import ENVIRONMENT_PREFIX, parse_origin
from isochrone.config import Assignment, TokenPrice
from isochrone.outcome import Outcome, Prober
from isochrone.result import Tokens

_MILLION: Final = 1_000_000


class Refusal(msgspec.Struct, frozen=True):
    """Why a probe is not attempted."""

    outcome: Outcome
    reason: str


class Spent(msgspec.Struct, frozen=True, kw_only=True):
    """What one endpoint cost in one day."""

    tokens: int = 0
    usd: float = 0.0


class Ledger(msgspec.Struct, frozen=True, kw_only=True):
    """The spending of one UTC day, by endpoint."""

    day: date
    spent: dict[str, Spent] = {}


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(Ledger)


def policy_refusal(target: Assignment, allow: tuple[str, ...]) -> Refusal | None:
    """Return why the local policy forbids `target`, or None. `allow` holds origins; empty allows all."""
    try:
        origin = str(parse_origin(target.url))
    except ValueError as exc:
        return Refusal(Outcome.DENIED, str(exc))
    if allow and origin not in allow:
        return Refusal(Outcome.DENIED, f"{origin} is not in this agent's allow-list (ISOCHRONE_ALLOW)")
    key = target.api_key
    if key is not None and key.env is not None and key.env.upper().startswith(ENVIRONMENT_PREFIX):
        return Refusal(Outcome.DENIED, f"api_key names {key.env}, a setting of the agent itself")
    return None


def budget_refusal(target: Assignment, spent: Spent) -> Refusal | None:
    """Return that the day's budget is used up, or None. A probe may end beyond it; none begins there."""
    budget = target.budget
    if budget is None or target.options.prober is not Prober.INFERENCE:
        return None
    if budget.tokens_per_day is not None and spent.tokens >= budget.tokens_per_day:
        return Refusal(Outcome.BUDGET, f"{spent.tokens} of {budget.tokens_per_day} tokens are spent today (UTC)")
    if budget.usd_per_day is not None and spent.usd >= budget.usd_per_day:
        return Refusal(Outcome.BUDGET, f"{spent.usd:.4f} of {budget.usd_per_day:g} US dollars are spent today (UTC)")
    return None


def cost_usd(tokens: Tokens, price: TokenPrice | None) -> float:
    """Return what `tokens` cost; 0 without a price. Cached input is counted in full: budgets err to the safe side."""
    if price is None:
        return 0.0
    money = (tokens.input or 0) * price.input_per_million + tokens.output * price.output_per_million
    return money / _MILLION


class Budgets:
    """The day's spending, kept in a file so that a restart does not forget it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._ledger = _read(path)

    def refusal(self, target: Assignment, today: date) -> Refusal | None:
        """Return that the budget of `target` is used up `today` (UTC), or None."""
        return budget_refusal(target, self._today(today).get(target.endpoint, Spent()))

    def spend(self, target: Assignment, tokens: Tokens | None, today: date) -> None:
        """Note what a probe cost. Raises OSError when it cannot be kept on disk; it is kept in memory all the same."""
        if target.budget is None or tokens is None:
            return
        spent = dict(self._today(today))
        before = spent.get(target.endpoint, Spent())
        spent[target.endpoint] = Spent(
            tokens=before.tokens + tokens.output + (tokens.input or 0),
            usd=before.usd + cost_usd(tokens, target.price),
        )
        self._ledger = Ledger(day=today, spent=spent)
        _write(self._path, _encoder.encode(self._ledger))

    def _today(self, today: date) -> Mapping[str, Spent]:
        return self._ledger.spent if self._ledger is not None and self._ledger.day == today else {}


def _read(path: Path) -> Ledger | None:
    """Return what the file holds; one that cannot be read counts as nothing spent: it must not stop the agent."""
    try:
        return _decoder.decode(path.read_bytes())
    except (OSError, msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def _write(path: Path, data: bytes) -> None:
    unfinished = path.with_suffix(".tmp")
    descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
    unfinished.replace(path)
