"""Fleet and collector health: whether agents measure, whether results come in, and whether the collector is well."""

from typing import Final

from grafana_foundation_sdk.builders import table

from deploy.grafana.boards.alerts import firing
from deploy.grafana.boards.board import REGION, Board, Panel, Row
from deploy.grafana.boards.panels import (
    AGO,
    BAD_COUNT_STEPS,
    COUNT,
    GOOD_SHARE_STEPS,
    GREEN,
    GREY,
    RED,
    SECONDS,
    SHARE,
    bars,
    cells_of,
    dashes,
    graph_of,
    grid,
    lines,
    merged,
    now_of,
    number,
    renamed,
    shown_as,
    stacked,
    thresholds,
)
from deploy.grafana.boards.promql import RANGE, RATE, coverage

HERE: Final = 'agent_region=~"$agent_region"'
AGENT: Final = "agent, agent_region"
BYTES: Final = "bytes"
PER_SECOND: Final = "cps"
HEALTH: Final = (
    'alertname=~"AgentSilent|RegionDark|CoverageLow|ClockSkew|Backlog|ResultsLost|CollectorAbsent|IngestStalled'
    '|Database.+|JobStale|Watchdog"'
)


def of_agents(metric: str) -> str:
    """Return what agents say, to whichever collector they said it last."""
    return f"max by ({AGENT}) (isochrone_agent_{metric}{{{HERE}}})"


def rate(metric: str, by: str = "") -> str:
    """Return a counter of collectors, per second."""
    return f"sum by ({by}) (rate(isochrone_{metric}[{RATE}]))"


def board() -> Board:
    """Return the dashboard."""
    return Board(
        uid="fleet",
        title="Isochrone / Fleet and collector health",
        description="Whether agents measure and report, results come in, and the collector and its database are well.",
        variables=[REGION],
        rows=[
            Row("Now", _numbers()),
            Row("Agents", [_agents(), *_agent_courses()]),
            Row("Results that come in", _ingest()),
            Row("Database and jobs", _jobs()),
            Row("Collectors", _collectors()),
            Row("What fires", [firing("Alerts of fleet and collector",
                                      "With the watchdog, which always fires: without it, alerting is broken.",
                                      HEALTH)]),
        ],
    )  # fmt: skip


def _numbers() -> list[Panel]:
    agents = 'max by (state) (isochrone_agents{state!~"ok|revoked"})'
    return [
        number("Agents that report", "Agents heard of as often as they should be.", COUNT)
        .with_target(now_of('max(isochrone_agents{state="ok"})')),
        number("Agents in trouble", "Late, silent, or two processes with one credential.", COUNT, steps=BAD_COUNT_STEPS)
        .with_target(now_of(f"sum({agents})")),
        number("Coverage", "Share of the probes that schedules called for whose results came in.", SHARE,
               steps=GOOD_SHARE_STEPS).decimals(1).with_target(now_of(coverage("", over=RANGE))),
        number("Results per second", "Results stored, over the time shown.", PER_SECOND)
        .with_target(now_of(f"sum(increase(isochrone_ingest_results_total[{RANGE}])) / $__range_s")),
        number("Database", "1 where every collector's last use of the database succeeded.", COUNT,
               steps=((None, RED), (1.0, GREEN))).with_target(now_of("min(isochrone_db_up)")),
        number("Configuration", "Revision of the targets that every agent gets.", "none")
        .with_target(now_of("max(isochrone_config_revision)")),
    ]  # fmt: skip


def _agents() -> table.Panel:
    version = f"max by ({AGENT}, version) (isochrone_agent_info{{{HERE}}})"
    covered = f"1 - ({missed()})"
    panel = (
        grid("Every agent", "What each said of itself when it last reported.", COUNT)
        .with_target(cells_of(version, "A"))
        .with_target(cells_of(f"1000 * {of_agents('last_report_timestamp_seconds')}", "B"))
        .with_target(cells_of(of_agents("queued_results"), "C"))
        .with_target(cells_of(of_agents("oldest_queued_seconds"), "D"))
        .with_target(cells_of(covered, "E"))
        .with_target(cells_of(of_agents("clock_offset_seconds"), "F"))
        .with_target(cells_of(of_agents("unexplained_lost_results"), "G"))
        .override_by_name("last report", shown_as(AGO))
        .override_by_name("oldest", shown_as(SECONDS))
        .override_by_name("on time", shown_as(SHARE, GOOD_SHARE_STEPS))
        .override_by_name("clock", shown_as(SECONDS))
        .override_by_name("vanished", shown_as(COUNT, BAD_COUNT_STEPS))
    )
    names = {
        "agent": "agent", "agent_region": "region", "version": "release", "Value #B": "last report",
        "Value #C": "waiting", "Value #D": "oldest", "Value #E": "on time", "Value #F": "clock",
        "Value #G": "vanished",
    }  # fmt: skip
    return renamed(merged(panel), names, hidden=("Time", "Value #A"))


def missed() -> str:
    """Return the share of each agent's probes that did not start when planned, over the time shown."""
    grown = "max by ({}) (increase(isochrone_agent_{}_total{{{}}}[{}]))"
    expected = grown.format(AGENT, "expected_results", HERE, RANGE)
    return f"{grown.format(AGENT, 'missed_probes', HERE, RANGE)} / ({expected} > 0)"


def _agent_courses() -> list[Panel]:
    silent = f"time() - {of_agents('last_report_timestamp_seconds')}"
    dropped = f"max by ({AGENT}) (increase(isochrone_agent_dropped_results_total{{{HERE}}}[{RATE}]))"
    late = f"max by ({AGENT}) (rate(isochrone_agent_missed_probes_total{{{HERE}}}[{RATE}]))"
    return [
        stacked("Agents by state", "What the states mean stands with `isochrone-collector agents list`.", COUNT)
        .with_target(graph_of("max by (state) (isochrone_agents)", "{{state}}")),
        lines("Silence", "Time since each agent's last batch.", SECONDS)
        .with_target(graph_of(silent, "{{agent}}")),
        lines("Results that wait", "Results in each agent's spool, not sent yet.", COUNT)
        .with_target(graph_of(of_agents("queued_results"), "{{agent}}")),
        lines("Results lost", "Results that agents had recorded and lost, and that vanished without a word.", COUNT)
        .with_target(graph_of(dropped, "{{agent}} lost"))
        .with_target(graph_of(of_agents("unexplained_lost_results"), "{{agent}} vanished", "B")),
        lines("Probes not on time", "Probes per second that did not start when planned: a busy or sleeping host.",
              PER_SECOND).with_target(graph_of(late, "{{agent}}")),
        lines("Clocks", "Each agent's wall clock less the collector's; grey: by how much that may be wrong.", SECONDS)
        .min(-0.1)
        .with_target(graph_of(of_agents("clock_offset_seconds"), "{{agent}}"))
        .with_target(graph_of(of_agents("clock_error_seconds"), "{{agent}} error", "B"))
        .override_by_query("B", dashes(GREY)),
        bars("Doubled credentials", "1: two processes used the agent's credential at once within the hour.", COUNT)
        .thresholds(thresholds(BAD_COUNT_STEPS))
        .with_target(now_of(of_agents("duplicate_identity"), "{{agent}}")),
        lines("Coverage", "Share of the probes that schedules called for whose results came in.", SHARE).max(1)
        .with_target(graph_of(coverage(), "{{agent_region}}")),
    ]  # fmt: skip


def _ingest() -> list[Panel]:
    lag = f"sum by (le) (rate(isochrone_ingest_lag_seconds_bucket[{RATE}]))"
    return [
        stacked("Results", "Results per second: stored in time, too late for live metrics, and come again.", PER_SECOND)
        .with_target(graph_of(f"{rate('ingest_results_total')} - {rate('ingest_late_results_total')}", "in time"))
        .with_target(graph_of(rate("ingest_late_results_total"), "late", "B"))
        .with_target(graph_of(rate("ingest_duplicate_results_total"), "come again", "C")),
        lines("From probe to database", "From a result's start to its coming in: median and 95th percentile.", SECONDS)
        .with_target(graph_of(f"histogram_quantile(0.5, {lag}) >= 0", "p50"))
        .with_target(graph_of(f"histogram_quantile(0.95, {lag}) >= 0", "p95", "B")),
        stacked("Results refused for ever", "Per second, by reason.", PER_SECOND)
        .with_target(graph_of(rate("ingest_rejected_results_total", "reason"), "{{reason}}")),
        stacked("Requests refused", "Requests of any route answered with a problem, per second, by reason.", PER_SECOND)
        .with_target(graph_of(rate("refused_requests_total", "reason"), "{{reason}}")),
    ]  # fmt: skip


def _jobs() -> list[Panel]:
    since = "time() - max by (job_name) (isochrone_job_last_success_timestamp_seconds)"
    return [
        bars("Since each job's last success", "At whichever collector. The slowest job runs hourly.", SECONDS)
        .with_target(now_of(since, "{{job_name}}")),
        lines("Jobs that failed or came late", "Runs that failed, or did not start when due.", COUNT)
        .with_target(graph_of(f"sum by (job_name) (increase(isochrone_job_failures_total[{RATE}]))",
                              "{{job_name}} failed"))
        .with_target(graph_of(f"sum by (job_name) (increase(isochrone_job_missed_runs_total[{RATE}]))",
                              "{{job_name}} late", "B")),
        lines("Rollups that wait", "Minutes with results that are not rolled up yet.", COUNT)
        .with_target(graph_of("max(isochrone_rollup_backlog)", "minutes")),
        lines("Rollups behind", "How long the oldest of the waiting minutes has waited.", SECONDS)
        .with_target(graph_of("max(isochrone_rollup_behind_seconds)", "behind")),
        lines("Size of the database", "Where ISOCHRONE_MAX_DB_BYTES sets a bound: batches stop at 90 % of it.", BYTES)
        .with_target(graph_of("max(isochrone_db_size_bytes)", "size"))
        .with_target(graph_of("max(isochrone_db_max_bytes)", "bound", "B"))
        .override_by_name("bound", dashes(RED)),
        lines("Canary", "Share of the agents that get the newest revision; 1 without a canary.", SHARE).max(1)
        .with_target(graph_of("max(isochrone_config_canary_ratio)", "share"))
        .with_target(graph_of("max(isochrone_config_halted)", "taken back", "B")),
    ]  # fmt: skip


def _collectors() -> list[Panel]:
    ours = "and on (job, instance) isochrone_build_info"
    panel = grid("Releases", "What each collector runs.", COUNT).span(8).height(8)
    releases = panel.with_target(cells_of("max by (instance, version, python) (isochrone_build_info)"))
    return [
        renamed(releases, {"instance": "collector", "version": "release", "python": "Python"},
                hidden=("Time", "Value")),
        lines("Memory", "Resident memory of each collector.", BYTES).span(8)
        .with_target(graph_of(f"process_resident_memory_bytes {ours}", "{{instance}}")),
        lines("Processor", "Share of one processor that each collector uses.", SHARE).span(8)
        .with_target(graph_of(f"rate(process_cpu_seconds_total[{RATE}]) {ours}", "{{instance}}")),
    ]  # fmt: skip
