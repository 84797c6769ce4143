"""A stream that failed has no latency, but it keeps the tokens that came: they are to be paid for."""

from datetime import date
from pathlib import Path

import msgspec
import pytest

from agent.budget import Budgets
from agent.simulator import Scenario, Silence
from agent.spool.files import write_durably
from isochrone.config import Budget
from isochrone.outcome import Outcome, TokenSource
from tests.simulated import FAST, inference, probes, simulator

pytestmark = pytest.mark.anyio

TODAY = date(2026, 1, 1)


@pytest.mark.parametrize(
    ("scenario", "outcome"),
    [
        (Scenario(cut_after=4), Outcome.TRUNCATED),
        (Scenario(end_after=4), Outcome.TRUNCATED),
        (Scenario(error_after=4), Outcome.STREAM_ERROR),
        (Scenario(silence=Silence.STALL), Outcome.TIMEOUT_STALL),
    ],
    ids=["cut", "ended", "error", "stall"],
)
async def test_a_stream_that_broke_off_keeps_the_tokens_that_came(scenario: Scenario, outcome: Outcome) -> None:
    async with simulator(msgspec.structs.replace(scenario, ttft=FAST.ttft, tpot=FAST.tpot)) as url, probes() as running:
        result = await running.run(inference(url, stall=0.3))
    assert result.outcome is outcome
    assert result.tokens is not None
    assert (result.tokens.source, result.tokens.output) == (TokenSource.ARRIVALS, result.tokens.arrivals)
    assert result.tokens.output == 4 or (outcome is Outcome.TIMEOUT_STALL and result.tokens.output > 0)
    assert (result.ttft_seconds, result.tokens_per_second, result.stall_seconds) == (None, None, None)


@pytest.mark.parametrize("scenario", [Scenario(status=429), Scenario(cut_after=0), Scenario(end_after=0)])
async def test_a_failure_before_the_first_token_has_none(scenario: Scenario) -> None:
    async with simulator(msgspec.structs.replace(scenario, ttft=FAST.ttft, tpot=FAST.tpot)) as url, probes() as running:
        result = await running.run(inference(url))
    assert result.tokens is None


async def test_streams_that_always_break_off_use_up_the_budget(tmp_path: Path) -> None:
    budgets = Budgets(tmp_path / "budget.json", write=write_durably)
    scenario = Scenario(cut_after=4, ttft=FAST.ttft, tpot=FAST.tpot)
    async with simulator(scenario) as url, probes() as running:
        target = msgspec.structs.replace(inference(url), budget=Budget(tokens_per_day=8))
        refusals = []
        for _ in range(3):
            refusals.append(budgets.refusal(target, TODAY))
            budgets.spend(target, await running.run(target), TODAY)
    assert [refusal and refusal.outcome for refusal in refusals] == [None, None, Outcome.BUDGET]
