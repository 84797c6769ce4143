"""The agent's own word on what it may do: which origins, which keys, how much money in a day."""

from datetime import date
from pathlib import Path

import pytest

from agent.budget import Budgets, Spent, budget_refusal, cost_usd, policy_refusal
from isochrone.config import ApiKey, Assignment, Budget, Duration, Module, Provider, TokenPrice
from isochrone.outcome import Outcome, Prober, TokenSource
from isochrone.result import Tokens

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
    ("url", "allow", "allowed"),
    [
        ("https://api.example.org/v1", (), True),
        ("https://api.example.org/v1", ("https://api.example.org:443",), True),
        ("https://API.example.org:443/v1", ("https://api.example.org:443",), True),
        ("http://api.example.org/v1", ("https://api.example.org:443",), False),
        ("https://api.example.org:8443/v1", ("https://api.example.org:443",), False),
        ("https://api.example.org.evil.example/v1", ("https://api.example.org:443",), False),
        ("https://api.example.org@evil.example/v1", ("https://api.example.org:443",), False),
        ("http://[::1]:8000/", ("http://[::1]:8000",), True),
        ("file:///etc/passwd", (), False),
        ("https://", (), False),
        ("https://host:99999/", (), False),
        ("http://host:0/", ("http://host:80",), False),
        ("https://user:word@host/", (), False),
        ("https://b\N{LATIN SMALL LETTER U WITH DIAERESIS}cher.example/", ("https://xn--bcher-kva.example:443",), True),
    ],
)
def test_only_listed_origins_are_probed_and_only_over_http(*, url: str, allow: tuple[str, ...], allowed: bool) -> None:
    refusal = policy_refusal(target(url), allow)
    assert (refusal is None) == allowed
    assert refusal is None or refusal.outcome is Outcome.DENIED


@pytest.mark.parametrize("name", ["ISOCHRONE_CREDENTIAL_FILE", "isochrone_anything"])
def test_no_setting_of_the_agent_goes_out_as_a_key(name: str) -> None:
    refusal = policy_refusal(target(key=name), ())
    assert refusal is not None
    assert refusal.outcome is Outcome.DENIED
    assert policy_refusal(target(key="OPENAI_API_KEY"), ()) is None


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


def test_spending_adds_up_survives_a_restart_and_is_forgotten_with_the_day(tmp_path: Path) -> None:
    path = tmp_path / "budget.json"
    probed = target(budget=Budget(tokens_per_day=250), price=PRICE)
    budgets = Budgets(path)
    budgets.spend(probed, TOKENS, MONDAY)
    assert budgets.refusal(probed, MONDAY) is None
    budgets.spend(probed, TOKENS, MONDAY)
    assert budgets.refusal(probed, MONDAY) is not None
    again = Budgets(path)
    assert again.refusal(probed, MONDAY) is not None
    assert again.refusal(probed, TUESDAY) is None


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"day":"yesterday"}', b"\xff\xfe", b"[" * 100_000])
def test_a_broken_file_counts_as_nothing_spent(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "budget.json"
    path.write_bytes(content)
    assert Budgets(path).refusal(target(budget=Budget(tokens_per_day=1)), MONDAY) is None


def test_a_failing_disk_is_told_and_the_spending_counts_all_the_same(tmp_path: Path) -> None:
    budgets = Budgets(tmp_path / "missing" / "budget.json")
    probed = target(budget=Budget(tokens_per_day=100))
    with pytest.raises(OSError, match="No such file"):
        budgets.spend(probed, TOKENS, MONDAY)
    assert budgets.refusal(probed, MONDAY) is not None
