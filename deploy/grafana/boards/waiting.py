"""Where the time goes: network, model and streaming of what users wait for."""

from typing import Final

from grafana_foundation_sdk.models import common as kinds

from deploy.grafana.boards.board import CONNECTION, ENDPOINT, MODEL, REGION, Board, Panel, Row
from deploy.grafana.boards.panels import (
    COMPONENTS,
    SECONDS,
    SHARE,
    components,
    fixed,
    graph_of,
    lines,
    now_of,
    number,
    split_bars,
    stacked,
)
from deploy.grafana.boards.promql import PAIR, RANGE, RATE, STREAM, floor, mean, total

COMPONENT: Final = "isochrone_latency_component_seconds"
PHASE: Final = "isochrone_connection_phase_seconds"


def part(name: str) -> str:
    """Return the share that a part has in the wait, over the time shown."""
    of_it = total(f"{COMPONENT}_sum", "", f'{STREAM}, component="{name}"', over=RANGE)
    return f"{of_it} / ({total(f'{COMPONENT}_sum', '', STREAM, over=RANGE)} > 0)"


def board() -> Board:
    """Return the dashboard."""
    return Board(
        uid="time",
        title="Isochrone / Where the time goes",
        description="Network, model and streaming: the parts of the wait add up to the whole of it, always.",
        variables=[REGION, ENDPOINT, MODEL, CONNECTION],
        rows=[
            Row("Parts", [*_shares(), _course()]),
            Row("Side by side", _side_by_side()),
            Row("Opening the connection", _connection()),
        ],
    )


def _shares() -> list[Panel]:
    told = {
        "network": "DNS, TCP, TLS and a round trip: a nearer site, or a connection kept open, makes it smaller.",
        "model": "From the request to the first token, less a round trip: queueing and prefill.",
        "streaming": "From the first token to the end: tokens, and how fast they come.",
    }
    return [
        number(name.capitalize(), f"Its share in the whole wait. {told[name]}", SHARE, steps=((None, color),))
        .span(8)
        .decimals(0)
        .with_target(now_of(part(name)))
        for name, color in COMPONENTS.items()
    ]


def _course() -> Panel:
    return (
        components(
            "Where the time goes",
            "Mean duration of successful inference probes, by part. The dashed line is the floor of one round trip: "
            "light in straight fibre, mean over the pairs chosen. What lies above it in the network part could be had "
            "back by better ways, open connections or nearer sites; what lies below could not.",
        )
        .span(24)
        .height(11)
        .with_target(graph_of(mean(COMPONENT, "component", STREAM), "{{component}}"))
        .with_target(graph_of(f"avg({floor()})", "floor", "B"))
    )


def _side_by_side() -> list[Panel]:
    told = "Mean over the time shown of successful inference probes, by part."
    return [
        split_bars("By region", told, row="agent_region",
                   expr=mean(COMPONENT, "agent_region, component", STREAM, over=RANGE)),
        split_bars("By endpoint", told, row="endpoint",
                   expr=mean(COMPONENT, "endpoint, component", STREAM, over=RANGE)),
        split_bars("Cold and warm", f"{told} Warm connections are kept open: their network part is one round trip.",
                   row="connection", expr=mean(COMPONENT, "connection, component", STREAM, over=RANGE)),
        _course_of_shares(),
    ]  # fmt: skip


def _course_of_shares() -> Panel:
    whole = total(f"{COMPONENT}_sum", "", STREAM)
    panel = (
        stacked("Shares", "What part of the wait is network, model and streaming.", SHARE)
        .height(9)
        .max(1)
        .with_target(
            graph_of(
                f"{total(f'{COMPONENT}_sum', 'component', STREAM)} / on () group_left () ({whole} > 0)", "{{component}}"
            )
        )
    )
    for name, color in COMPONENTS.items():
        panel.override_by_name(name, [fixed(color)])
    return panel


def _connection() -> list[Panel]:
    tcp = mean(PHASE, "agent_region, endpoint", f'{PAIR}, phase="tcp"', over=RATE)
    return [
        stacked("DNS, TCP, TLS", "Mean time of each phase of opening a connection, over the pairs chosen.", SECONDS)
        .with_target(graph_of(mean(PHASE, "phase"), "{{phase}}")),
        lines("TCP handshake", "Mean time of the handshake, one round trip, for each region and endpoint.", SECONDS)
        .line_interpolation(kinds.LineInterpolation.LINEAR)
        .with_target(graph_of(tcp, "{{agent_region}} → {{endpoint}}")),
    ]  # fmt: skip
