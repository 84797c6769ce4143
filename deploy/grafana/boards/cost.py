"""Cost: what probing itself takes, by endpoint, in dollars and tokens, and what budgets hold back."""

from typing import Final

from deploy.grafana.boards.board import ENDPOINT, MODEL, Board, Panel, Row
from deploy.grafana.boards.panels import (
    COUNT,
    DOLLARS,
    SHARE,
    bars,
    cells_of,
    graph_of,
    grid,
    lines,
    merged,
    now_of,
    number,
    renamed,
    shown_as,
    stacked,
)
from deploy.grafana.boards.promql import RANGE, total

WHERE: Final = 'endpoint=~"$endpoint", model=~"$model"'
COST: Final = "isochrone_probe_cost_usd_total"
TOKENS: Final = "isochrone_probe_tokens_total"
PROBES: Final = "isochrone_probes_total"
FAILURES: Final = "isochrone_probe_failures_total"
DAY_SECONDS: Final = 86_400
MONTH_DAYS: Final = 30
HELD: Final = f'{WHERE}, reason="budget"'
ANSWERS: Final = f'{WHERE}, probe="inference"'


def spent(by: str = "") -> str:
    """Return the dollars of the time shown."""
    return total(COST, by, WHERE, over=RANGE)


def board() -> Board:
    """Return the dashboard."""
    return Board(
        uid="cost",
        title="Isochrone / Cost",
        description="What probing costs: dollars by the prices of the target file, tokens, and what budgets held back.",
        variables=[ENDPOINT, MODEL],
        since="now-24h",
        refresh="1m",
        rows=[
            Row("Over the time shown", _numbers()),
            Row("By endpoint", [_table(), *_by_endpoint()]),
            Row("Tokens", _tokens()),
            Row("Budgets", _budgets()),
        ],
    )


def _numbers() -> list[Panel]:
    per_probe = f"{spent()} / ({total(PROBES, '', ANSWERS, over=RANGE)} > 0)"
    cached = total(TOKENS, "", f'{WHERE}, token_type="cached_input"', over=RANGE)
    given = total(TOKENS, "", f'{WHERE}, token_type="input"', over=RANGE)
    everything = total(TOKENS, "", f'{WHERE}, token_type=~"input|output"', over=RANGE)
    numbers = [
        number("Spent", "What probes cost.", DOLLARS).with_target(now_of(spent())),
        number("A month like this", f"The same for {MONTH_DAYS} days.", DOLLARS)
        .with_target(now_of(f"{spent()} / $__range_s * {MONTH_DAYS * DAY_SECONDS}")),
        number("A thousand probes", "What a thousand inference probes cost.", DOLLARS)
        .with_target(now_of(f"1000 * {per_probe}")),
        number("Tokens", "Input and output.", COUNT).with_target(now_of(everything)),
        number("Input from caches", "Share of the input tokens that a cache answered: should be 0, for a nonce stands "
               "before every prompt.", SHARE).with_target(now_of(f"{cached} / ({given} > 0)")),
        number("Held back", "Probes that were not tried because a budget was used up.", COUNT)
        .with_target(now_of(f"{total(FAILURES, '', HELD, over=RANGE)} or vector(0)")),
    ]  # fmt: skip
    return list(numbers)


def _table() -> Panel:
    panel = (
        grid("Endpoints", "Dollars, tokens and probes over the time shown.", COUNT)
        .with_target(cells_of(spent("endpoint, model"), "A"))
        .with_target(cells_of(total(TOKENS, "endpoint, model", f'{WHERE}, token_type="input"', over=RANGE), "B"))
        .with_target(cells_of(total(TOKENS, "endpoint, model", f'{WHERE}, token_type="output"', over=RANGE), "C"))
        .with_target(cells_of(total(PROBES, "endpoint, model", ANSWERS, over=RANGE), "D"))
        .override_by_name("spent", shown_as(DOLLARS))
    )
    names = {
        "endpoint": "endpoint", "model": "model", "Value #A": "spent", "Value #B": "input tokens",
        "Value #C": "output tokens", "Value #D": "inference probes",
    }  # fmt: skip
    return renamed(merged(panel), names)


def _by_endpoint() -> list[Panel]:
    a_day = f"{DAY_SECONDS} * {total(COST, 'endpoint', WHERE)}"
    return [
        stacked("Dollars a day", "At the pace of each moment.", DOLLARS).with_target(graph_of(a_day, "{{endpoint}}")),
        bars("Spent", "Over the time shown.", DOLLARS).with_target(now_of(f"{spent('endpoint')} > 0", "{{endpoint}}")),
    ]


def _tokens() -> list[Panel]:
    of_answer = total(TOKENS, "endpoint", f'{WHERE}, token_type="output"')
    answers = total(PROBES, "endpoint", ANSWERS)
    return [
        stacked("Tokens by kind", "Per minute. Cached is a part of input, reasoning a part of output.", COUNT)
        .with_target(graph_of(f"60 * {total(TOKENS, 'token_type', WHERE)}", "{{token_type}}")),
        lines("Output tokens of a probe", "Mean; the module's max_output_tokens bounds it.", COUNT)
        .with_target(graph_of(f"{of_answer} / ({answers} > 0)", "{{endpoint}}")),
    ]  # fmt: skip


def _budgets() -> list[Panel]:
    held = total(FAILURES, "endpoint", HELD)
    share = f"{held} / ({total(PROBES, 'endpoint', ANSWERS)} > 0)"
    return [
        stacked("Probes held back", "Probes per minute that were not tried because a budget was used up.", COUNT)
        .with_target(graph_of(f"60 * {held}", "{{endpoint}}")),
        lines("Share held back", "Of the inference probes that were due.", SHARE).max(1)
        .with_target(graph_of(share, "{{endpoint}}")),
    ]  # fmt: skip
