"""Raw results: every probe as it was stored."""

from typing import Final

from grafana_foundation_sdk.builders import table
from grafana_foundation_sdk.models import common as kinds

from deploy.grafana.boards.board import POSTGRES, Board, Panel, Row, column
from deploy.grafana.boards.panels import (
    COUNT,
    GREEN,
    PER_SECOND,
    SECONDS,
    Value,
    grid,
    lines,
    number,
    rows_of,
    series_of,
    shown_as,
    stacked,
)
from deploy.grafana.boards.sql import PAIRS

ROWS: Final = 500
WHERE: Final = (
    f"$__timeFilter(started_at) AND {PAIRS}"
    " AND prober IN (${prober:sqlstring}) AND outcome IN (${outcome:sqlstring})"
)
RECENT: Final = "FROM v_result WHERE $__timeFilter(started_at)"
SPOILING: Final = "cardinality(flags) > 0"


def board() -> Board:
    """Return the dashboard."""
    return Board(
        uid="results",
        title="Isochrone / Raw results",
        description="Every probe as it was stored: late and flagged ones too, which the live metrics leave out.",
        variables=[
            column("agent_region", "Region", "SELECT DISTINCT agent_region FROM v_agent"),
            column("endpoint", "Endpoint", "SELECT DISTINCT endpoint FROM v_endpoint"),
            column("prober", "Prober", f"SELECT DISTINCT prober {RECENT}"),
            column("outcome", "Outcome", f"SELECT DISTINCT outcome {RECENT}"),
        ],
        needs_postgres=True,
        rows=[
            Row("How many", [*_numbers(), _outcomes(), _spread()]),
            Row("Why", [_reasons(), _flags()]),
            Row("Each one", [_slowest(), _newest()]),
        ],
    )


def table_of(title: str, text: str, sql: str) -> table.Panel:
    """Return a table that Postgres fills."""
    return grid(title, text, SECONDS).datasource(POSTGRES).with_target(rows_of(sql))


def _numbers() -> list[Panel]:
    told = {
        "Results": ("count(*)", "Results that started in the time shown."),
        "Failures": ("count(*) FILTER (WHERE outcome <> 'ok')", "Of them, those that failed."),
        "Flagged": (f"count(*) FILTER (WHERE {SPOILING})", "Of them, those with a flag: spoiled, or to be doubted."),
        "Agents": ("count(DISTINCT agent)", "Agents that measured them."),
    }
    return [
        number(title, text, COUNT)
        .span(6)
        .datasource(POSTGRES)
        .with_target(rows_of(f'SELECT {value} AS "{title.lower()}" FROM v_result WHERE {WHERE}'))
        for title, (value, text) in told.items()
    ]


def _outcomes() -> Panel:
    sql = f"""SELECT $__timeGroupAlias(started_at,$__interval), outcome AS metric, count(*) AS value
FROM v_result WHERE {WHERE} GROUP BY 1, 2 ORDER BY 1"""
    return (
        stacked("Outcomes", "Results by outcome; each column is one step of time.", COUNT)
        .datasource(POSTGRES)
        .draw_style(kinds.GraphDrawStyle.BARS)
        .with_target(series_of(sql))
        .override_by_name("ok", [Value(id_val="color", value={"mode": "fixed", "fixedColor": GREEN})])
    )


def _spread() -> Panel:
    sql = f"""SELECT started_at AS time, agent_region || ' → ' || endpoint AS metric, ttft_seconds AS value
FROM v_result WHERE {WHERE} AND ttft_seconds IS NOT NULL ORDER BY started_at DESC LIMIT 5000"""
    return (
        lines("First tokens", "Each probe's time to first token: a point each, at most 5,000, the newest.", SECONDS)
        .datasource(POSTGRES)
        .draw_style(kinds.GraphDrawStyle.POINTS)
        .show_points(kinds.VisibilityMode.ALWAYS)
        .point_size(4)
        .with_target(series_of(f"SELECT * FROM ({sql}) AS newest ORDER BY time"))
    )


def _reasons() -> Panel:
    sql = f"""SELECT endpoint, outcome, reason, count(*) AS results, max(started_at) AS last
FROM v_result WHERE {WHERE} AND outcome <> 'ok' GROUP BY 1, 2, 3 ORDER BY 4 DESC LIMIT 100"""
    return (
        table_of("Why probes failed", "Failures by what the agent said, the most frequent first.", sql)
        .span(14)
        .override_by_name("results", shown_as(COUNT))
    )


def _flags() -> Panel:
    sql = f"""SELECT flag, agent, count(*) AS results FROM v_result, unnest(flags) AS flag
WHERE {WHERE} GROUP BY 1, 2 ORDER BY 3 DESC LIMIT 100"""
    told = "What could have spoiled results, by agent. One agent with many has a busy host."
    return table_of("Flags", told, sql).span(10).override_by_name("results", shown_as(COUNT))


def _slowest() -> Panel:
    sql = f"""SELECT started_at, agent, endpoint, model, connection, ttft_seconds AS ttft, rtt_seconds AS rtt,
    network_seconds AS network, model_seconds AS "model part", streaming_seconds AS streaming, flags
FROM v_result WHERE {WHERE} AND ttft_seconds IS NOT NULL ORDER BY ttft_seconds DESC LIMIT 20"""
    return table_of("The slowest first tokens", "Twenty, and where their time went.", sql)


def _newest() -> Panel:
    sql = f"""SELECT started_at, agent, agent_region AS region, endpoint, model, module, prober, outcome, reason,
    connection, http_status AS status, address, setup_seconds AS setup, rtt_seconds AS rtt, ttft_seconds AS ttft,
    tokens_per_second AS "tokens/s", duration_seconds AS duration, tokens_output AS tokens, flags,
    boot_id || '/' || seq AS result
FROM v_result WHERE {WHERE} ORDER BY started_at DESC LIMIT {ROWS}"""
    return (
        table_of("Newest results", f"At most {ROWS}. `result` names one for ever: exemplars of metrics carry it.", sql)
        .height(14)
        .override_by_name("tokens/s", shown_as(PER_SECOND))
        .override_by_regexp("status|tokens", shown_as("none"))
    )
