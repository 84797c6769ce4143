"""The catalogue: every metric of the collector with its type, labels and help. Names here are promises."""

from collections.abc import Iterator, Mapping
from typing import Final

import msgspec

from collector.fleet import AgentState
from collector.ingest import RejectReason
from collector.metrics.series import Definition, Family, Histogram, Number, Summary, ratio_bounds
from isochrone.outcome import Outcome, Prober, RttMethod

TIME_BOUNDS: Final = ratio_bounds(0.0001, 120.0)
"""Seconds: worst error of a median 8 %."""
RATE_BOUNDS: Final = ratio_bounds(0.5, 5_000.0)
"""Tokens per second."""
LAG_BOUNDS: Final = (1.0, 2.0, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0, 900.0, 3_600.0, 21_600.0, 86_400.0, 604_800.0)
"""Seconds from a result's start to its commit."""

FAILURES: Final = tuple(outcome for outcome in Outcome if outcome is not Outcome.OK)
PHASES: Final = ("dns", "tcp", "tls")
COMPONENTS: Final = ("network", "model", "streaming")
TOKEN_TYPES: Final = ("input", "cached_input", "output", "reasoning")

_PAIR: Final = ("agent_region", "endpoint")
_MODEL: Final = (*_PAIR, "model")
_STREAM: Final = (*_MODEL, "connection")
_AGENT: Final = ("agent", "agent_region")


_Known = Mapping[str, tuple[str, ...]]


class Bounds(msgspec.Struct, frozen=True, kw_only=True):
    """Upper bounds of the buckets of probes' histograms, ascending."""

    time: tuple[float, ...] = TIME_BOUNDS
    rate: tuple[float, ...] = RATE_BOUNDS


def _histogram(
    name: str, labels: tuple[str, ...], text: str, *, bounds: tuple[float, ...], note: str = ""
) -> Family[Histogram]:
    return Family(Histogram, Definition(name, "histogram", labels, text, bounds, note=note))


def _summary(name: str, labels: tuple[str, ...], text: str, *, known: _Known) -> Family[Summary]:
    return Family(Summary, Definition(name, "summary", labels, text, known=known))


def _counter(
    name: str, labels: tuple[str, ...], text: str, *, known: _Known | None = None, note: str = ""
) -> Family[Number]:
    return Family(Number, Definition(name, "counter", labels, text, known=known or {}, note=note))


def _gauge(
    name: str, labels: tuple[str, ...], text: str, *, known: _Known | None = None, note: str = ""
) -> Family[Number]:
    return Family(Number, Definition(name, "gauge", labels, text, known=known or {}, note=note))


class ProbeFamilies:
    """What probes measured. Fresh results alone: not late, and without a flag."""

    def __init__(self, bounds: Bounds = Bounds()) -> None:  # noqa: B008  it is frozen
        methods = {"method": tuple(method.value for method in RttMethod)}
        probe = {"probe": tuple(prober.value for prober in Prober)}
        self.rtt = _histogram(
            "isochrone_network_rtt_seconds",
            (*_PAIR, "method"),
            "Round trip between agent and endpoint: the median of each rtt probe.",
            bounds=bounds.time,
        )
        self.pings = _counter(
            "isochrone_network_pings_total", (*_PAIR, "method"), "Round trips tried by rtt probes.", known=methods
        )
        self.pings_lost = _counter(
            "isochrone_network_pings_lost_total", (*_PAIR, "method"), "Round trips of rtt probes that were lost."
        )
        self.phase = _summary(
            "isochrone_connection_phase_seconds",
            (*_PAIR, "phase"),
            "Phases of opening a connection; sum and count alone.",
            known={"phase": PHASES},
        )
        self.ttft = _histogram(
            "isochrone_ttft_seconds",
            _STREAM,
            "From the start of the request on an open connection to the first token of any channel.",
            bounds=bounds.time,
        )
        self.answer_ttft = _histogram(
            "isochrone_answer_ttft_seconds",
            _STREAM,
            "As isochrone_ttft_seconds, to the first visible answer token.",
            bounds=bounds.time,
        )
        self.duration = _histogram(
            "isochrone_request_duration_seconds",
            _STREAM,
            "From the start of an inference probe to the end of its stream, opening the connection included.",
            bounds=bounds.time,
        )
        self.tpot = _histogram(
            "isochrone_time_per_output_token_seconds",
            _MODEL,
            "Mean time per output token after the first.",
            bounds=bounds.time,
        )
        self.rate = _histogram(
            "isochrone_output_tokens_per_second",
            _MODEL,
            "Output tokens per second after the first.",
            bounds=bounds.rate,
        )
        self.component = _summary(
            "isochrone_latency_component_seconds",
            (*_STREAM, "component"),
            "Where the duration of successful inference probes went; sum and count alone.",
            known={"component": COMPONENTS},
        )
        self.probes = _counter(
            "isochrone_probes_total", (*_MODEL, "probe"), "Probes that ended, whatever the outcome.", known=probe
        )
        self.failures = _counter(
            "isochrone_probe_failures_total",
            (*_MODEL, "probe", "reason"),
            "Probes that failed, by outcome.",
            note="`reason` is the [outcome](measurement.md#outcomes)",
        )
        self.tokens = _counter(
            "isochrone_probe_tokens_total",
            ("endpoint", "model", "token_type"),
            "Tokens of probes; cached_input is part of input, reasoning part of output.",
            known={"token_type": TOKEN_TYPES},
        )
        self.cost = _counter(
            "isochrone_probe_cost_usd_total",
            ("endpoint", "model"),
            "What probes cost by the prices of the target file.",
        )


class InfoFamilies:
    """What the registry knows of places and agents."""

    def __init__(self) -> None:
        self.floor = _gauge(
            "isochrone_network_rtt_floor_seconds",
            _PAIR,
            "Shortest possible round trip: light in straight fibre, there and back.",
        )
        self.distance = _gauge(
            "isochrone_great_circle_distance_meters", _PAIR, "Distance between agent region and endpoint on the ground."
        )
        self.endpoint = _gauge(
            "isochrone_endpoint_info",
            ("endpoint", "model", "provider", "endpoint_region", "latitude", "longitude", "simulated"),
            "Endpoints and sites that are probed; always 1.",
        )
        self.region = _gauge(
            "isochrone_agent_region_info",
            ("agent_region", "country", "latitude", "longitude", "weight"),
            "User populations; always 1.",
        )
        self.agent = _gauge("isochrone_agent_info", (*_AGENT, "version"), "Registered agents; always 1.")
        self.config_revision = _gauge(
            "isochrone_config_revision", (), "Revision of the targets that every agent gets; 0 before the first."
        )
        self.config_canary = _gauge(
            "isochrone_config_canary_ratio", (), "Share of the agents that get the newest revision; 1 without a canary."
        )
        self.config_halted = _gauge(
            "isochrone_config_halted", (), "1 if the newest revision was a canary that was taken back, else 0."
        )


class AgentFamilies:
    """What agents say of themselves. Totals start anew with the agent's process."""

    def __init__(self) -> None:
        self.last_report = _gauge(
            "isochrone_agent_last_report_timestamp_seconds",
            _AGENT,
            "When the agent's last batch came to whichever collector, Unix time.",
            note="None for a revoked agent",
        )
        self.queued = _gauge("isochrone_agent_queued_results", _AGENT, "Results that wait in the agent's spool.")
        self.dropped = _counter(
            "isochrone_agent_dropped_results_total", _AGENT, "Results that the agent had recorded and lost."
        )
        self.clock_offset = _gauge(
            "isochrone_agent_clock_offset_seconds",
            _AGENT,
            "Agent's wall clock less the collector's, by the times of earlier exchanges.",
        )
        self.clock_error = _gauge(
            "isochrone_agent_clock_error_seconds",
            _AGENT,
            "By how much the clock offset may be wrong; 30 at the first batch of a run.",
        )
        self.oldest = _gauge(
            "isochrone_agent_oldest_queued_seconds",
            _AGENT,
            "Age of the oldest result that waits in the agent's spool; 0 without.",
        )
        self.expected = _counter(
            "isochrone_agent_expected_results_total", _AGENT, "Probes that the agent's schedule called for."
        )
        self.missed = _counter("isochrone_agent_missed_probes_total", _AGENT, "Probes that did not start when planned.")
        self.duplicate = _gauge(
            "isochrone_agent_duplicate_identity",
            _AGENT,
            "1 if two processes used the agent's credential at once within the last hour, else 0.",
            note="That is: two runs that each measured something over a minute after the other had begun. A restart is"
            " none, whatever its spool still sends",
        )


class FleetFamilies:
    """How the fleet stands, read from the database: what reached any collector."""

    def __init__(self) -> None:
        self.unexplained = _gauge(
            "isochrone_agent_unexplained_lost_results",
            _AGENT,
            "Results that the agent numbered, and that were neither stored, nor told as lost, nor are waiting.",
            note="Only what is so for longer than `ISOCHRONE_LATE_SECONDS`",
        )
        self.states = _gauge(
            "isochrone_agents",
            ("state",),
            "Registered agents by state.",
            known={"state": tuple(state.value for state in AgentState)},
            note="[What they mean](http.md#get-v1agents)",
        )


class IngestFamilies:
    """What the collector itself does."""

    def __init__(self) -> None:
        self.results = _counter("isochrone_ingest_results_total", (), "Results stored.")
        self.duplicates = _counter(
            "isochrone_ingest_duplicate_results_total", (), "Results that came again in a batch stored before."
        )
        self.rejected = _counter(
            "isochrone_ingest_rejected_results_total",
            ("reason",),
            "Results refused for ever.",
            known={"reason": tuple(reason.value for reason in RejectReason)},
        )
        self.refused = _counter(
            "isochrone_refused_requests_total",
            ("reason",),
            "Requests of any route answered with a problem.",
            note="`reason` is the last word of the [problem](http.md#problems)'s `type`, as in `busy`, `too_fast`, "
            "`full`, `unavailable`",
        )
        self.late = _counter(
            "isochrone_ingest_late_results_total", (), "Results stored too late to count in the live metrics."
        )
        self.lag = _histogram(
            "isochrone_ingest_lag_seconds",
            (),
            "From a result's start to its coming in.",
            bounds=LAG_BOUNDS,
            note="Bounds from 1 s to 7 d",
        )
        self.db_up = _gauge("isochrone_db_up", (), "1 if the last use of the database succeeded, else 0.")
        self.db_size = _gauge("isochrone_db_size_bytes", (), "Size of the database, where a bound is set.")
        self.db_max = _gauge(
            "isochrone_db_max_bytes",
            (),
            "Bound of the database (setting max_db_bytes): batches stop at 90 % of it.",
            note="Alert when the size reaches 0.8 of it",
        )
        self.series = _gauge("isochrone_series", (), "Series of probes that stand here, each bucket for itself.")
        self.max_series = _gauge(
            "isochrone_max_series", (), "How many there may be (setting max_series): targets beyond have none."
        )
        self.refused_series = _counter(
            "isochrone_refused_series_total",
            (),
            "Series that were not made, since there was no room for them.",
            note="Each is counted once: look at `isochrone_series` / `isochrone_max_series` before it grows",
        )
        self.read_db_up = _gauge(
            "isochrone_read_database_up",
            (),
            "1 if readers are served by the reading database, where one is set; else 0.",
        )
        self.read_db_lag = _gauge(
            "isochrone_read_database_lag_seconds",
            (),
            "How far the reading database is behind; absent when it does not say.",
        )
        self.build = _gauge("isochrone_build_info", ("version", "python"), "Release that runs; always 1.")


class JobFamilies:
    """What this process does again and again."""

    def __init__(self) -> None:
        self.last_success = _gauge(
            "isochrone_job_last_success_timestamp_seconds",
            ("job_name",),
            "When this process last did the job, Unix time; absent before the first time.",
        )
        self.failures = _counter("isochrone_job_failures_total", ("job_name",), "Runs of the job that failed.")
        self.missed = _counter(
            "isochrone_job_missed_runs_total",
            ("job_name",),
            "Runs that did not start when due: one went on.",
        )
        self.rollup_backlog = _gauge("isochrone_rollup_backlog", (), "Minutes with results that are not rolled up yet.")
        self.rollup_behind = _gauge(
            "isochrone_rollup_behind_seconds", (), "How long the oldest of the waiting minutes has waited."
        )


EXPORT_LOSSES: Final = ("queue_full", "refused", "unreachable", "unencodable", "stopped")
"""Of `collector.telemetry`, which stands above the metrics."""
EXPORT_SKIPS: Final = ("spoiled", "unknown_target", "too_old", "out_of_order")
"""As `EXPORT_LOSSES`."""


class ExportFamilies:
    """What goes to other backends; no series without an export."""

    def __init__(self) -> None:
        self.results = _counter("isochrone_export_results_total", ("export",), "Results that the receiver took.")
        self.dropped = _counter(
            "isochrone_export_dropped_results_total",
            ("export", "reason"),
            "Results that were to be exported and were not; the database has them.",
            known={"reason": EXPORT_LOSSES},
        )
        self.skipped = _counter(
            "isochrone_export_skipped_results_total",
            ("export", "reason"),
            "Results that are not for this export.",
            known={"reason": EXPORT_SKIPS},
        )
        self.rejected = _counter(
            "isochrone_export_rejected_points_total",
            ("export",),
            "Data points that the receiver refused while it took the rest of their request.",
        )
        self.retries = _counter("isochrone_export_retries_total", ("export",), "Requests that had to be sent again.")
        self.queued = _gauge("isochrone_export_queued_results", ("export",), "Results that wait to be exported.")
        self.last_success = _gauge(
            "isochrone_export_last_success_timestamp_seconds",
            ("export",),
            "When the receiver last took results, Unix time; absent before the first time.",
        )


AnyFamily = Family[Number] | Family[Summary] | Family[Histogram]


def families_of(*groups: object) -> Iterator[AnyFamily]:
    """Yield the families of groups in the order of the catalogue."""
    for group in groups:
        yield from vars(group).values()
