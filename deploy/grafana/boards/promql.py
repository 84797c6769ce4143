"""Pieces of queries. Everything is added up over collectors: an agent's results may come to any of them.

`over` is the time that a query looks back: `RATE` of a graph, `RANGE` of a table, which tells the whole time shown.
"""

from typing import Final

RATE: Final = "$__rate_interval"
RANGE: Final = "$__range"
PAIR: Final = 'agent_region=~"$agent_region", endpoint=~"$endpoint"'
STREAM: Final = f'{PAIR}, model=~"$model", connection=~"$connection"'
REGRESSIONS: Final = "Regional.+|RegionNetworkDegraded|EndpointDegraded|ErrorBudgetBurn|TtftSloBurn|RttBelowFloor"
"""Alerts about what users feel, by the rules of deploy/prometheus."""
NOT_TRIED: Final = "budget|denied"
"""Reasons of failures that are no fault of an endpoint: the agent did not try."""


def total(metric: str, by: str, where: str = PAIR, *, over: str = RATE) -> str:
    """Return the increase of a counter: per second in graphs, in all in tables."""
    grown = f"rate({metric}{{{where}}}[{RATE}])" if over == RATE else f"increase({metric}{{{where}}}[{over}])"
    return f"sum by ({by}) ({grown})"


def mean(metric: str, by: str, where: str = PAIR, *, over: str = RATE) -> str:
    """Return the mean of a histogram or summary; no series where nothing was measured."""
    count = total(f"{metric}_count", by, where, over=over)
    return f"{total(f'{metric}_sum', by, where, over=over)} / ({count} > 0)"


def quantile(share: float, metric: str, by: str, *, where: str = PAIR, over: str = RATE) -> str:
    """Return a quantile of a histogram; no series where nothing was measured."""
    buckets = total(f"{metric}_bucket", f"le, {by}" if by else "le", where, over=over)
    return f"histogram_quantile({share:g}, {buckets}) >= 0"


def floor(by: str = "agent_region, endpoint", where: str = PAIR) -> str:
    """Return the shortest possible round trip; of several pairs that of the nearest."""
    return f"min by ({by}) (isochrone_network_rtt_floor_seconds{{{where}}})"


def failed(by: str, where: str = PAIR, *, over: str = RATE) -> str:
    """Return the share of probes that failed, of those that were tried."""
    bad = total("isochrone_probe_failures_total", by, f'{where}, reason!~"{NOT_TRIED}"', over=over)
    tried = total("isochrone_probes_total", by, where, over=over)
    untried = total("isochrone_probe_failures_total", by, f'{where}, reason=~"{NOT_TRIED}"', over=over)
    return f"(({bad}) or 0 * ({tried})) / (({tried}) - (({untried}) or 0 * ({tried})) > 0)"


def coverage(by: str = "agent_region", where: str = 'agent_region=~"$agent_region"', *, over: str = RATE) -> str:
    """Return the share of the probes that schedules called for whose results came in."""
    called = f"max by (agent, agent_region) (increase(isochrone_agent_expected_results_total{{{where}}}[{over}]))"
    came = f"sum by ({by}) (increase(isochrone_probes_total{{{where}}}[{over}]))"
    return f"clamp_max({came} / (sum by ({by}) ({called}) > 0), 1)"
