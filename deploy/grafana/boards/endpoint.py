"""Endpoint and model: how one endpoint serves all regions, and whether it keeps its promise."""

from typing import Final

from grafana_foundation_sdk.builders import table

from deploy.grafana.boards.alerts import regressions
from deploy.grafana.boards.board import CONNECTION, ENDPOINT, MODEL, REGION, Board, Panel, Row
from deploy.grafana.boards.panels import (
    BAD_SHARE_STEPS,
    COUNT,
    PER_SECOND,
    RED,
    SECONDS,
    SHARE,
    TOKEN_STEPS,
    TTFT_STEPS,
    bars,
    cells_of,
    components,
    dashes,
    graph_of,
    grid,
    heat,
    lines,
    now_of,
    number,
    renamed,
    stacked,
    thresholds,
)
from deploy.grafana.boards.promql import PAIR, RANGE, STREAM, failed, floor, mean, quantile, total

TTFT: Final = "isochrone_ttft_seconds"
ANSWER: Final = "isochrone_answer_ttft_seconds"
DURATION: Final = "isochrone_request_duration_seconds"
TOKENS: Final = "isochrone_output_tokens_per_second"
SLOW: Final = "2.296"
"""Seconds: the bound over which the rules call a first token slow."""
MODELS: Final = f'{PAIR}, model=~"$model"'
LEGEND: Final = "{{agent_region}} → {{endpoint}}"


def slow(by: str) -> str:
    """Return the share of first tokens that came late, by the bound of the rules."""
    quick = total(f"{TTFT}_bucket", by, f'{STREAM}, le="{SLOW}"')
    return f"1 - {quick} / ({total(f'{TTFT}_count', by, STREAM)} > 0)"


def board() -> Board:
    """Return the dashboard."""
    return Board(
        uid="endpoint",
        title="Isochrone / Endpoint and model",
        description="How an endpoint serves each region: first tokens, token rates, failures against the budget.",
        variables=[REGION, ENDPOINT, MODEL, CONNECTION],
        since="now-6h",
        rows=[
            Row("Now", [*_numbers(), _what_it_is()]),
            Row("First token", _first_token()),
            Row("Tokens", _tokens()),
            Row("Whole answers", _answers()),
            Row("Failures", _failures()),
        ],
    )


def _numbers() -> list[Panel]:
    numbers = [
        number("Time to first token", "Half came sooner, over the time shown.", SECONDS, steps=TTFT_STEPS)
        .with_target(now_of(quantile(0.5, TTFT, "", where=STREAM, over=RANGE))),
        number("One in twenty later than", "95th percentile of the time to first token.", SECONDS, steps=TTFT_STEPS)
        .with_target(now_of(quantile(0.95, TTFT, "", where=STREAM, over=RANGE))),
        number("Tokens per second", "Half of the answers were written faster.", PER_SECOND, steps=TOKEN_STEPS)
        .decimals(0)
        .with_target(now_of(quantile(0.5, TOKENS, "", where=MODELS, over=RANGE))),
        number("Failures", "Share of probes that failed, of those that were tried.", SHARE, steps=BAD_SHARE_STEPS)
        .decimals(2)
        .with_target(now_of(failed("", MODELS, over=RANGE))),
    ]  # fmt: skip
    return [panel.span(3) for panel in numbers]


def _what_it_is() -> table.Panel:
    about = (
        "max by (endpoint, model, provider, endpoint_region, simulated)"
        ' (isochrone_endpoint_info{endpoint=~"$endpoint", model=~"$model"})'
    )
    panel = (
        grid("What it is", "Endpoints as the target file tells them.", COUNT)
        .span(12)
        .height(4)
        .with_target(cells_of(about))
    )
    names = {
        "endpoint": "endpoint", "model": "model", "provider": "wire format",
        "endpoint_region": "place", "simulated": "simulated",
    }  # fmt: skip
    return renamed(panel, names, hidden=("Time", "Value"))


def _first_token() -> list[Panel]:
    return [
        lines("Time to first token by region", "Median of each region.", SECONDS)
        .with_target(graph_of(quantile(0.5, TTFT, "agent_region, endpoint", where=STREAM), LEGEND)),
        heat("How first tokens spread", "How many first tokens came after which time: two bands are two ways or two "
             "kinds of answers.", total(f"{TTFT}_bucket", "le", STREAM)),
        lines("Cold and warm connections", "Median. On a cold connection DNS, TCP and TLS are not in it.", SECONDS)
        .with_target(graph_of(quantile(0.5, TTFT, "connection", where=STREAM), "{{connection}}")),
        lines("Any token, and the answer's first", "Medians. A model that thinks first shows its answer later.",
              SECONDS)
        .with_target(graph_of(quantile(0.5, TTFT, "endpoint", where=STREAM), "{{endpoint}}: any token"))
        .with_target(graph_of(quantile(0.5, ANSWER, "endpoint", where=STREAM), "{{endpoint}}: answer", "B")),
    ]  # fmt: skip


def _tokens() -> list[Panel]:
    tpot = "isochrone_time_per_output_token_seconds"
    return [
        lines("Tokens per second by region", "Median, after the first token.", PER_SECOND)
        .with_target(graph_of(quantile(0.5, TOKENS, "agent_region, endpoint", where=MODELS), LEGEND)),
        lines("Time per output token", "Median, and what one in twenty exceeds (p95).", SECONDS)
        .with_target(graph_of(quantile(0.5, tpot, "endpoint", where=MODELS), "{{endpoint}} p50"))
        .with_target(graph_of(quantile(0.95, tpot, "endpoint", where=MODELS), "{{endpoint}} p95", "B")),
    ]  # fmt: skip


def _answers() -> list[Panel]:
    parts = mean("isochrone_latency_component_seconds", "component", STREAM)
    return [
        components("Where the time goes", "Mean duration of successful probes, by part; dashed: the floor.")
        .with_target(graph_of(parts, "{{component}}"))
        .with_target(graph_of(f"avg({floor()})", "floor", "B")),
        lines("Whole probe", "Median and 95th percentile of the duration, opening the connection included.", SECONDS)
        .with_target(graph_of(quantile(0.5, DURATION, "endpoint", where=STREAM), "{{endpoint}} p50"))
        .with_target(graph_of(quantile(0.95, DURATION, "endpoint", where=STREAM), "{{endpoint}} p95", "B")),
    ]  # fmt: skip


def _failures() -> list[Panel]:
    reasons = total("isochrone_probe_failures_total", "endpoint, reason", MODELS)
    by_region = failed("agent_region, endpoint", MODELS, over=RANGE)
    return [
        lines("Failures against the budget", "Share of probes that failed; red: the budget of the rules.", SHARE)
        .with_target(graph_of(failed("endpoint", MODELS), "{{endpoint}}"))
        .with_target(graph_of("max(isochrone:error_budget:ratio)", "budget", "B"))
        .override_by_query("B", dashes(RED)),
        stacked("Failures by reason", "Probes that failed, per second, by outcome.", "cps")
        .with_target(graph_of(f"{reasons} > 0", "{{endpoint}}: {{reason}}")),
        bars("Failures by region", "Over the time shown: one region alone has a problem of its own.", SHARE).max(1)
        .thresholds(thresholds(BAD_SHARE_STEPS))
        .with_target(now_of(by_region, LEGEND)),
        lines("Slow first tokens against the budget", "Share of first tokens after more than 2.3 s; red: the budget.",
              SHARE)
        .with_target(graph_of(slow("endpoint"), "{{endpoint}}"))
        .with_target(graph_of("max(isochrone:ttft_budget:ratio)", "budget", "B"))
        .override_by_query("B", dashes(RED)),
        regressions(', endpoint=~"$endpoint|", agent_region=~"$agent_region|"', title="What fires here").height(6),
    ]  # fmt: skip
