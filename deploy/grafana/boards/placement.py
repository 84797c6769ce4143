"""Placement: from which site each region would be served best, by measured round trips."""

from typing import Final

from grafana_foundation_sdk.builders import table, timeseries

from deploy.grafana.boards.board import POSTGRES, Board, Panel, Row, choice, column
from deploy.grafana.boards.panels import (
    EFFICIENCY_STEPS,
    GOOD_SHARE_STEPS,
    RTT_STEPS,
    SECONDS,
    SHARE,
    crossed,
    grid,
    lines,
    rows_of,
    series_of,
    shown_as,
    thresholds,
)
from deploy.grafana.boards.sql import CANDIDATES, PAIRS

BOUNDS: Final = ("100", "30", "50", "80", "150", "200", "300")
"""Milliseconds that a round trip may take."""


def board() -> Board:
    """Return the dashboard."""
    return Board(
        uid="placement",
        title="Isochrone / Placement",
        description="From which site each region would be served best: measured round trips of endpoints and of bare "
        "sites, which need no model.",
        variables=[
            column("agent_region", "Region", "SELECT DISTINCT agent_region FROM v_agent WHERE removed_at IS NULL"),
            column("endpoint", "Candidate", "SELECT DISTINCT endpoint FROM v_endpoint"),
            choice("bound", "Served within (ms)", BOUNDS),
        ],
        since="now-24h",
        refresh="5m",
        needs_postgres=True,
        rows=[
            Row("Where to stand", [_coverage(), _best()]),
            Row("Every candidate", [_ranked(), _matrix(), _course()]),
        ],
    )


def table_of(title: str, text: str, sql: str) -> table.Panel:
    """Return a table that Postgres fills."""
    return grid(title, text, SECONDS).datasource(POSTGRES).with_target(rows_of(sql))


def _coverage() -> Panel:
    sql = f"""{CANDIDATES}SELECT endpoint AS candidate, place,
    sum(weight) FILTER (WHERE rtt * 1000 <= $bound) / nullif(sum(weight), 0) AS "users served",
    sum(weight * rtt) / nullif(sum(weight), 0) AS "users' mean",
    count(*) FILTER (WHERE rtt * 1000 <= $bound) AS "regions served", count(*) AS regions
FROM candidates GROUP BY endpoint, place ORDER BY 3 DESC NULLS LAST, 4"""
    text = (
        "For each candidate alone: the share of users, by the weights of their regions, whose round trip is within the "
        "bound chosen above. Regions without a weight count in the numbers of regions alone."
    )
    return (
        table_of("Users served by one site", text, sql)
        .span(12)
        .override_by_name("users served", shown_as(SHARE, GOOD_SHARE_STEPS))
        .override_by_name("users' mean", shown_as(SECONDS, RTT_STEPS))
        .override_by_regexp("regions.*", shown_as("short"))
    )


def _best() -> Panel:
    sql = f"""{CANDIDATES}SELECT b.agent_region AS region, b.weight AS users, b.endpoint AS best, b.rtt AS "round trip",
    b.floor, b.floor / nullif(b.rtt, 0) AS efficiency, n.endpoint AS next, n.rtt - b.rtt AS "next costs"
FROM candidates b LEFT JOIN candidates n ON n.agent_region = b.agent_region AND n.rank = 2
WHERE b.rank = 1 ORDER BY b.rtt DESC"""
    text = (
        "The candidate with the shortest measured round trip, and what the next costs more. The nearest on the map is "
        "often another one. Efficiency: the floor, light in straight fibre, as a share of it."
    )
    return (
        table_of("Best site of each region", text, sql)
        .span(12)
        .override_by_name("users", shown_as(SHARE))
        .override_by_name("round trip", shown_as(SECONDS, RTT_STEPS))
        .override_by_name("efficiency", shown_as(SHARE, EFFICIENCY_STEPS))
    )


def _ranked() -> Panel:
    sql = f"""{CANDIDATES}SELECT agent_region AS region, rank, endpoint AS candidate, place, rtt AS "round trip",
    slow AS p95, least, floor, rtt - floor AS "over floor", floor / nullif(rtt, 0) AS efficiency, loss, probes
FROM candidates ORDER BY agent_region, rank"""
    text = (
        "All candidates of each region, the shortest round trip first: the mean of rtt probes. p95 is that of each "
        "hour, in the mean; least, the shortest of all. What is over the floor is the way: bends, queues, last miles."
    )
    return (
        table_of("Candidates by measured round trip", text, sql)
        .height(11)
        .override_by_regexp("rank|probes", shown_as("short"))
        .override_by_name("round trip", shown_as(SECONDS, RTT_STEPS))
        .override_by_name("efficiency", shown_as(SHARE, EFFICIENCY_STEPS))
        .override_by_name("loss", shown_as(SHARE))
    )


def _matrix() -> Panel:
    sql = f'{CANDIDATES}SELECT agent_region, endpoint, rtt AS "Value" FROM candidates ORDER BY agent_region, endpoint'
    told = "Measured round trip of each region to each candidate."
    return crossed(table_of("Round trips", told, sql), SECONDS, RTT_STEPS).span(12)


def _course() -> timeseries.Panel:
    sql = f"""SELECT $__timeGroupAlias(bucket,$__interval), agent_region || ' → ' || endpoint AS metric,
    sum(sum) / sum(count) AS value
FROM v_minute WHERE $__timeFilter(bucket) AND prober = 'rtt' AND signal = 'rtt' AND count > 0 AND {PAIRS}
GROUP BY 1, 2 ORDER BY 1"""
    told = "Mean of rtt probes. A candidate whose round trip swings by the hour is no safe choice."
    return (
        lines("Course", told, SECONDS)
        .datasource(POSTGRES)
        .interval("5m")
        .thresholds(thresholds(RTT_STEPS))
        .with_target(series_of(sql))
    )
