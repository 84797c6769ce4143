"""What an agent spends in a day, on each endpoint and in all: counted to the safe side, and kept over a restart."""

from datetime import UTC, date, datetime
from pathlib import Path

import msgspec
import pytest

from agent.budget import PROMPT_TOKENS, Budgets, Ceilings, Spent, billable, budget_refusal, cost_usd
from agent.spool.files import write_durably
from isochrone.config import ApiKey, Assignment, Budget, Duration, Module, Provider, TokenPrice
from isochrone.marks import Marks
from isochrone.outcome import Outcome, Prober, TokenSource
from isochrone.result import Result, Tokens

pytestmark = pytest.mark.anyio

CHAT = Module(prober=Prober.INFERENCE, interval=Duration(60), timeout=Duration(30))
RTT = Module(prober=Prober.RTT, interval=Duration(60), timeout=Duration(30))
MONDAY, TUESDAY = date(2026, 3, 2), date(2026, 3, 3)
PRICE = TokenPrice(input_per_million=1.0, output_per_million=4.0)
TOKENS = Tokens(source=TokenSource.USAGE, output=25, input=100)


def target(
    url: str = "https://api.example.org/v1",
    *,
    options: Module = CHAT,
    key: str | None = None,
    budget: Budget | None = None,
    price: TokenPrice | None = None,
) -> Assignment:
    return Assignment(
        endpoint="e",
        module="m",
        url=url,
        options=options,
        provider=Provider.OPENAI,
        model="x",
        api_key=None if key is None else ApiKey(env=key),
        budget=budget,
        price=price,
    )


@pytest.mark.parametrize(
    ("budget", "spent", "refused"),
    [
        (None, Spent(tokens=10**9), False),
        (Budget(tokens_per_day=100), Spent(tokens=99), False),
        (Budget(tokens_per_day=100), Spent(tokens=100), True),
        (Budget(usd_per_day=0.5), Spent(usd=0.49), False),
        (Budget(usd_per_day=0.5), Spent(usd=0.5), True),
        (Budget(tokens_per_day=100, usd_per_day=0.5), Spent(tokens=1, usd=0.6), True),
    ],
)
def test_no_probe_begins_once_the_budget_is_used_up(*, budget: Budget | None, spent: Spent, refused: bool) -> None:
    refusal = budget_refusal(target(budget=budget), spent)
    assert (refusal is not None) == refused
    assert refusal is None or refusal.outcome is Outcome.BUDGET


def test_a_round_trip_costs_nothing_and_is_never_refused_for_money() -> None:
    assert budget_refusal(target(options=RTT, budget=Budget(tokens_per_day=1)), Spent(tokens=5)) is None


def test_cost_is_input_and_output_at_their_prices() -> None:
    assert cost_usd(TOKENS, PRICE) == pytest.approx((100 * 1.0 + 25 * 4.0) / 1e6)
    assert cost_usd(TOKENS, None) == 0


def budgets_at(path: Path, **ceilings: float) -> Budgets:
    return Budgets(path, write=write_durably, ceilings=msgspec.convert(ceilings, Ceilings))


def result(
    *, tokens: Tokens | None = TOKENS, outcome: Outcome = Outcome.OK, sent: bool = True, status: int | None = 200
) -> Result:
    return Result(
        seq=0,
        endpoint="e",
        module="m",
        prober=Prober.INFERENCE,
        started_at=datetime(2026, 3, 2, tzinfo=UTC),
        started_boottime_seconds=1.0,
        outcome=outcome,
        marks=Marks(request_started=0.1) if sent else Marks(),
        http_status=status if sent else None,
        tokens=tokens,
    )


async def spend(budgets: Budgets, probed: Assignment, ended: Result) -> None:
    budgets.begin(probed, MONDAY)
    budgets.spend(probed, ended, MONDAY)
    await budgets.keep()


async def test_spending_adds_up_survives_a_restart_and_is_forgotten_with_the_day(tmp_path: Path) -> None:
    path = tmp_path / "budget.json"
    probed = target(budget=Budget(tokens_per_day=250), price=PRICE)
    budgets = budgets_at(path)
    await spend(budgets, probed, result())
    assert budgets.refusal(probed, MONDAY) is None
    await spend(budgets, probed, result())
    assert budgets.refusal(probed, MONDAY) is not None
    again = budgets_at(path)
    assert again.refusal(probed, MONDAY) is not None
    assert again.refusal(probed, TUESDAY) is None


@pytest.mark.parametrize(
    ("ceilings", "words"),
    [
        ({"max_requests_per_day": 2}, "2 of 2 are spent today (UTC): max_requests_per_day of this agent's policy"),
        ({"max_tokens_per_day": 250}, "250 of 250 are spent today (UTC): max_tokens_per_day"),
        ({"max_usd_per_day": 0.0004}, "0.0004 of 0.0004 are spent today (UTC): max_usd_per_day"),
        ({"max_usd_per_day": 0.2, "min_usd_per_million_tokens": 1000.0}, "0.25 of 0.2 are spent"),
    ],
)
async def test_a_ceiling_holds_for_all_endpoints_together_and_over_a_restart(
    tmp_path: Path, ceilings: dict[str, float], words: str
) -> None:
    path = tmp_path / "budget.json"
    one, other = target(price=PRICE), msgspec.structs.replace(target(price=PRICE), endpoint="other")
    budgets = budgets_at(path, **ceilings)
    for probed in (one, other):
        assert budgets.refusal(probed, MONDAY) is None
        await spend(budgets, probed, result())
    for counted in (budgets, budgets_at(path, **ceilings)):
        refusal = counted.refusal(one, MONDAY)
        assert refusal is not None
        assert (refusal.outcome, words in refusal.reason) == (Outcome.BUDGET, True), refusal.reason
        assert counted.refusal(one, TUESDAY) is None
        assert counted.refusal(target(options=RTT), MONDAY) is None


async def test_requests_in_flight_count_before_they_end(tmp_path: Path) -> None:
    budgets = budgets_at(tmp_path / "budget.json", max_requests_per_day=1)
    budgets.begin(target(), MONDAY)
    assert budgets.refusal(target(), MONDAY) is not None


@pytest.mark.parametrize(
    ("ended", "tokens"),
    [
        (result(), 125),
        (result(tokens=None, outcome=Outcome.TIMEOUT_FIRST_TOKEN), 32 + PROMPT_TOKENS),
        (result(tokens=None, outcome=Outcome.TIMEOUT_HEADERS, status=None), 32 + PROMPT_TOKENS),
        (result(tokens=Tokens(source=TokenSource.ARRIVALS, output=4), outcome=Outcome.TRUNCATED), 32 + PROMPT_TOKENS),
        (result(tokens=None, outcome=Outcome.RATE_LIMITED, status=429), 0),
        (result(tokens=None, outcome=Outcome.CONNECT, sent=False), 0),
        (result(tokens=None, outcome=Outcome.TIMEOUT_TOTAL, sent=False), 32 + PROMPT_TOKENS),
    ],
    ids=["whole", "no token in time", "no head in time", "broken off", "refused", "not sent", "ended from outside"],
)
def test_what_may_be_billed_counts(ended: Result, tokens: int) -> None:
    """A collector that sets every timeout to a moment must not spend uncounted."""
    billed = billable(target(), ended)
    assert (0 if billed is None else billed.output + (billed.input or 0)) == tokens


async def test_a_request_that_never_left_is_counted_no_more(tmp_path: Path) -> None:
    budgets = budgets_at(tmp_path / "budget.json", max_requests_per_day=1)
    await spend(budgets, target(), result(tokens=None, outcome=Outcome.CONNECT, sent=False))
    assert budgets.refusal(target(), MONDAY) is None


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"day":"yesterday"}', b"\xff\xfe", b"[" * 100_000])
def test_a_broken_file_counts_as_nothing_spent_and_is_told(
    tmp_path: Path, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "budget.json"
    path.write_bytes(content)
    assert budgets_at(path).refusal(target(budget=Budget(tokens_per_day=1)), MONDAY) is None
    assert "what was spent today begins at nothing" in caplog.text


async def test_a_failing_disk_is_told_and_the_spending_counts_all_the_same(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    budgets = budgets_at(tmp_path / "missing" / "budget.json")
    probed = target(budget=Budget(tokens_per_day=100))
    await spend(budgets, probed, result())
    assert "budget: what was spent cannot be written: No such file" in caplog.text
    assert budgets.refusal(probed, MONDAY) is not None


async def test_the_file_of_the_release_before_is_read(tmp_path: Path) -> None:
    path = tmp_path / "budget.json"
    path.write_text('{"day":"2026-03-02","spent":{"e":{"tokens":125,"usd":0.1}}}')
    assert budgets_at(path).refusal(target(budget=Budget(tokens_per_day=100)), MONDAY) is not None
