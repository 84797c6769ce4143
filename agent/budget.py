"""The day's spending: of each endpoint against its budget, and of the whole agent against the operator's ceilings.

The collector is not trusted with the ceilings: whatever it asks for, no request begins beyond them, and the probe
becomes a result that says why. What may have been billed counts: a request that broke off counts with all the tokens
that it asked for, and a price below the operator's own with his.
"""

import asyncio
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Final, Self

import msgspec

from agent.config import Settings
from agent.config.reading import read_bounded
from agent.telemetry import LOG
from isochrone.config import Assignment, InferenceOptions, TokenPrice
from isochrone.outcome import Outcome, Prober, TokenSource
from isochrone.result import Result, Tokens

_MILLION: Final = 1_000_000
_OK: Final = 200


class Refusal(msgspec.Struct, frozen=True):
    """Why a probe is not attempted."""

    outcome: Outcome
    reason: str


class Ceilings(msgspec.Struct, frozen=True, kw_only=True):
    """What this agent may spend in one UTC day, all endpoints together; None: no bound. Settings by their names."""

    max_requests_per_day: int | None = None
    max_tokens_per_day: int | None = None
    max_usd_per_day: float | None = None
    min_usd_per_million_tokens: float | None = None

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """Return what `settings` say."""
        return cls(**{name: getattr(settings, name) for name in cls.__struct_fields__})


class Spent(msgspec.Struct, frozen=True, kw_only=True):
    """What was spent in one day."""

    tokens: int = 0
    usd: float = 0.0
    requests: int = 0
    """Of the whole agent alone."""


class Ledger(msgspec.Struct, frozen=True, kw_only=True):
    """The spending of one UTC day, by endpoint and of all together."""

    day: date
    spent: dict[str, Spent] = {}
    total: Spent = Spent()


MAX_LEDGER_BYTES: Final = 4 * 1024 * 1024
"""Of the file: a name and what was spent on it, for more endpoints than a configuration holds."""
PROMPT_TOKENS: Final = 64
"""What a prompt of ours counts for where nobody told: the longest has some 40."""

_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(Ledger)


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


def ceiling_refusal(ceilings: Ceilings, total: Spent) -> Refusal | None:
    """Return which of the operator's ceilings is reached, or None. A probe may end beyond it; none begins there."""
    spent = (
        ("max_requests_per_day", total.requests, ceilings.max_requests_per_day),
        ("max_tokens_per_day", total.tokens, ceilings.max_tokens_per_day),
        ("max_usd_per_day", round(total.usd, 4), ceilings.max_usd_per_day),
    )
    for name, used, most in spent:
        if most is not None and used >= most:
            return Refusal(Outcome.BUDGET, f"{used} of {most} are spent today (UTC): {name} of this agent's policy")
    return None


def billable(target: Assignment, result: Result) -> Tokens | None:
    """Return the tokens that a probe may be billed for: of a stream that broke off, all that were asked for.

    Else a collector that ends each probe early would spend without bound, and without a count.
    """
    if not _was_sent(result) or result.http_status not in {None, _OK}:
        return result.tokens
    if result.outcome is Outcome.OK and result.tokens is not None:
        return result.tokens
    asked = (target.options.inference or InferenceOptions()).max_output_tokens
    told = result.tokens or Tokens(source=TokenSource.ARRIVALS, output=0)
    prompt = PROMPT_TOKENS if told.input is None else told.input
    return msgspec.structs.replace(told, output=max(told.output, asked), input=prompt)


class Budgets:
    """The day's spending, kept in a file so that a restart does not forget it. `write` replaces a file durably."""

    def __init__(self, path: Path, *, write: Callable[[Path, bytes], None], ceilings: Ceilings | None = None) -> None:
        self._path = path
        self._write = write
        self._ceilings = ceilings or Ceilings()
        self._ledger = _read(path)
        self._kept = self._ledger
        self._writing = asyncio.Lock()

    def refusal(self, target: Assignment, today: date) -> Refusal | None:
        """Return that a ceiling or the budget of `target` is reached `today` (UTC), or None."""
        if target.options.prober is not Prober.INFERENCE:
            return None
        ledger = self._of(today)
        beyond = ceiling_refusal(self._ceilings, ledger.total)
        return beyond or budget_refusal(target, ledger.spent.get(target.endpoint, Spent()))

    def begin(self, target: Assignment, today: date) -> None:
        """Count a request that is about to be made: others may begin before it has ended."""
        if target.options.prober is Prober.INFERENCE:
            self._add(today, requests=1)

    def spend(self, target: Assignment, result: Result, today: date) -> None:
        """Note what a probe cost that was counted by `begin`; one whose request never left is counted no more."""
        if target.options.prober is not Prober.INFERENCE:
            return
        if target.budget is not None and result.tokens is not None:
            self._charge(target, result.tokens, today)
        billed = billable(target, result)
        tokens = 0 if billed is None else _count(billed)
        least = (self._ceilings.min_usd_per_million_tokens or 0.0) * tokens / _MILLION
        usd = 0.0 if billed is None else max(least, cost_usd(billed, target.price))
        self._add(today, requests=0 if _was_sent(result) else -1, tokens=tokens, usd=usd)

    async def keep(self) -> None:
        """Bring the file up to now, off the event loop. A failing disk is told; the count goes on in memory."""
        if self._ledger is self._kept:
            return
        async with self._writing:
            ledger = self._ledger
            if ledger is None or ledger == self._kept:
                return
            try:
                await asyncio.to_thread(self._write, self._path, _encoder.encode(ledger))
                self._kept = ledger
            except OSError as exc:
                LOG.warning("budget: what was spent cannot be written: %s", exc.strerror)

    def _charge(self, target: Assignment, tokens: Tokens, today: date) -> None:
        ledger = self._of(today)
        before = ledger.spent.get(target.endpoint, Spent())
        after = Spent(tokens=before.tokens + _count(tokens), usd=before.usd + cost_usd(tokens, target.price))
        self._ledger = msgspec.structs.replace(ledger, spent={**ledger.spent, target.endpoint: after})

    def _add(self, today: date, *, requests: int, tokens: int = 0, usd: float = 0.0) -> None:
        ledger = self._of(today)
        before = ledger.total
        after = Spent(requests=max(0, before.requests + requests), tokens=before.tokens + tokens, usd=before.usd + usd)
        self._ledger = msgspec.structs.replace(ledger, total=after)

    def _of(self, today: date) -> Ledger:
        ledger = self._ledger
        return ledger if ledger is not None and ledger.day == today else Ledger(day=today)


def _was_sent(result: Result) -> bool:
    """Tell whether a request left, or may have: a probe that was ended from outside has no marks."""
    return result.marks.request_started is not None or result.outcome is Outcome.TIMEOUT_TOTAL


def _count(tokens: Tokens) -> int:
    return tokens.output + (tokens.input or 0)


def _read(path: Path) -> Ledger | None:
    """Return what the file holds; one that cannot be read counts as nothing spent: it must not stop the agent."""
    try:
        return _decoder.decode(read_bounded(path, MAX_LEDGER_BYTES))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, msgspec.DecodeError, RecursionError):
        LOG.warning("budget: %s cannot be read: what was spent today begins at nothing", path)
        return None
