"""Region: what the users of one place feel, endpoint by endpoint, against what is usual."""

from typing import Final

from deploy.grafana.boards.alerts import regressions
from deploy.grafana.boards.board import CONNECTION, ENDPOINT, MODEL, REGION, Board, Panel, Row
from deploy.grafana.boards.panels import (
    GREY,
    PER_SECOND,
    RED,
    SECONDS,
    SHARE,
    Value,
    cells_of,
    components,
    dashes,
    graph_of,
    grid,
    lines,
    merged,
    renamed,
    shown_as,
    stacked,
)
from deploy.grafana.boards.promql import PAIR, RANGE, STREAM, coverage, failed, floor, mean, quantile, total

ENDS: Final = "agent_region, endpoint"
LEGEND: Final = "{{agent_region}} → {{endpoint}}"
RTT: Final = "isochrone_network_rtt_seconds"
TTFT: Final = "isochrone_ttft_seconds"
TOKENS: Final = "isochrone_output_tokens_per_second"


def usual(what: str, where: str) -> str:
    """Return the baseline that the rules record: the median of the day before."""
    return f"avg by ({ENDS}) (isochrone:{what}:baseline1d{{{where}}})"


def board() -> Board:
    """Return the dashboard."""
    return Board(
        uid="region",
        title="Isochrone / Region",
        description="What the users of a region feel, endpoint by endpoint. Dashed: what is usual, and the floor.",
        variables=[REGION, ENDPOINT, MODEL, CONNECTION],
        since="now-6h",
        rows=[
            Row("Endpoints", [_endpoints(), regressions(
                ', agent_region=~"$agent_region|", endpoint=~"$endpoint|"', title="What fires here")]),
            Row("Network", _network()),
            Row("Answers", _answers()),
            Row("Failures and coverage", _failures()),
        ],
    )  # fmt: skip


def _endpoints() -> Panel:
    panel = (
        grid(
            "All endpoints",
            "Over the time shown: mean round trip, its floor, median and p95 of first tokens, median rate.",
            SECONDS,
        )
        .with_target(cells_of(mean(RTT, ENDS, over=RANGE), "A"))
        .with_target(cells_of(floor(), "B"))
        .with_target(cells_of(f"max by ({ENDS}) (isochrone_great_circle_distance_meters{{{PAIR}}})", "C"))
        .with_target(cells_of(quantile(0.5, TTFT, ENDS, where=STREAM, over=RANGE), "D"))
        .with_target(cells_of(quantile(0.95, TTFT, ENDS, where=STREAM, over=RANGE), "E"))
        .with_target(cells_of(quantile(0.5, TOKENS, ENDS, over=RANGE), "F"))
        .with_target(cells_of(failed(ENDS, over=RANGE), "G"))
        .override_by_name("distance", [*shown_as("lengthm"), Value(id_val="decimals", value=0)])
        .override_by_name("tokens/s", shown_as(PER_SECOND))
        .override_by_name("failures", shown_as(SHARE))
    )
    names = {
        "agent_region": "region", "endpoint": "endpoint", "Value #A": "round trip", "Value #B": "floor",
        "Value #C": "distance", "Value #D": "TTFT", "Value #E": "TTFT p95", "Value #F": "tokens/s",
        "Value #G": "failures",
    }  # fmt: skip
    return renamed(merged(panel), names)


def _network() -> list[Panel]:
    lost = total("isochrone_network_pings_lost_total", ENDS)
    sent = total("isochrone_network_pings_total", ENDS)
    return [
        lines("Round trip", "Mean of rtt probes. Grey: the usual, median of the day before. Red: the floor.", SECONDS)
        .with_target(graph_of(mean(RTT, ENDS), LEGEND))
        .with_target(graph_of(usual("network_rtt_seconds", PAIR), f"usual {LEGEND}", "B"))
        .with_target(graph_of(floor(), f"floor {LEGEND}", "C"))
        .override_by_query("B", dashes(GREY))
        .override_by_query("C", dashes(RED)),
        lines("Round trips lost", "Share of the round trips tried by rtt probes that were lost.", SHARE)
        .with_target(graph_of(f"{lost} / ({sent} > 0)", LEGEND)),
        lines("Nearness to light", "The floor as a share of the mean round trip: 100 % is light in straight fibre.",
              SHARE).with_target(graph_of(f"({floor()}) / on ({ENDS}) ({mean(RTT, ENDS)})", LEGEND)),
        stacked("Opening connections", "Mean time of each phase, over the endpoints chosen.", SECONDS)
        .with_target(graph_of(mean("isochrone_connection_phase_seconds", "phase"), "{{phase}}")),
    ]  # fmt: skip


def _answers() -> list[Panel]:
    parts = mean("isochrone_latency_component_seconds", "component", STREAM)
    return [
        lines("Time to first token", "Mean. Grey: the usual, median of the day before.", SECONDS)
        .with_target(graph_of(mean(TTFT, ENDS, STREAM), LEGEND))
        .with_target(graph_of(usual("ttft_seconds", STREAM), f"usual {LEGEND}", "B"))
        .override_by_query("B", dashes(GREY)),
        lines("Time to first token, the slow twentieth", "One in twenty first tokens came later (p95).", SECONDS)
        .with_target(graph_of(quantile(0.95, TTFT, ENDS, where=STREAM), LEGEND)),
        lines("Tokens per second", "Mean. Grey: the usual, median of the day before.", PER_SECOND)
        .with_target(graph_of(mean(TOKENS, ENDS), LEGEND))
        .with_target(graph_of(usual("output_tokens_per_second", PAIR), f"usual {LEGEND}", "B"))
        .override_by_query("B", dashes(GREY)),
        components("Where the time goes", "Mean duration of successful inference probes, by part; dashed: the floor.")
        .with_target(graph_of(parts, "{{component}}"))
        .with_target(graph_of(f"avg({floor()})", "floor", "B")),
    ]  # fmt: skip


def _failures() -> list[Panel]:
    reasons = total("isochrone_probe_failures_total", "endpoint, reason")
    return [
        lines("Failures", "Share of probes that failed, of those that were tried.", SHARE)
        .with_target(graph_of(failed("agent_region, endpoint"), LEGEND)),
        stacked("Failures by reason", "Probes that failed, per second, by outcome.", "cps")
        .with_target(graph_of(f"{reasons} > 0", "{{endpoint}}: {{reason}}")),
        lines("Coverage", "Share of the probes that schedules called for whose results came in.", SHARE).max(1)
        .with_target(graph_of(coverage(), "{{agent_region}}")),
        lines("Results that wait", "Results in the spools of the region's agents, not sent yet.", "short")
        .with_target(graph_of('max by (agent) (isochrone_agent_queued_results{agent_region=~"$agent_region"})',
                              "{{agent}}")),
    ]  # fmt: skip
