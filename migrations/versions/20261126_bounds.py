"""Columns for how wide a measurement may be, and the view v_result with them and with new words. Expand: nullable."""

from typing import Final

from alembic import op

revision = "20261126_bounds"
down_revision = "20261125_server_timing"
branch_labels = None
depends_on = None

COLUMNS: Final = ("ttft_bound_seconds REAL", "rtt_variation_seconds REAL")
NAMES: Final = tuple(column.partition(" ")[0] for column in COLUMNS)

OUTCOMES: Final = (
    "ok", "dns", "connect", "tls", "auth", "rate_limited", "overloaded", "http_4xx", "http_5xx", "timeout_headers",
    "timeout_first_token", "timeout_stall", "timeout_total", "truncated", "stream_error", "protocol", "empty",
    "denied", "budget", "other",
)  # fmt: skip
FLAGS: Final = ("late_start", "loop_lag", "throttled", "clock_unsynchronized", "buffered", "below_floor", "retransmits")


def _word(column: str, *words: str) -> str:
    """Return SQL that gives the word of a code."""
    return "(ARRAY[" + ", ".join(f"'{word}'" for word in words) + f"])[r.{column}]"


def _flags() -> str:
    cases = (f"CASE WHEN r.flags & {1 << bit} <> 0 THEN '{flag}' END" for bit, flag in enumerate(FLAGS))
    return "array_remove(ARRAY[" + ", ".join(cases) + "]::text[], NULL)"


def _select(*, clock_sources: tuple[str, ...], rtt_sources: tuple[str, ...], rtt_methods: tuple[str, ...]) -> str:
    return f"""
    a.name AS agent, g.name AS agent_region, e.name AS endpoint, e.endpoint_region, e.simulated,
    nullif(t.model, '') AS model, m.name AS module, {_word("prober", "rtt", "inference")} AS prober,
    r.boot_id, r.seq, r.batch_id, r.started_at, r.started_at_agent, r.received_at, r.started_boottime_seconds,
    {_word("outcome", *OUTCOMES)} AS outcome,
    r.reason, r.http_status, r.address, r.ip_version,
    {_word("connection", "cold", "warm")} AS connection,
    {_word("clock_source", *clock_sources)} AS clock_source,
    r.marks_dns, r.marks_tcp, r.marks_tls, r.marks_request_started, r.marks_request_sent, r.marks_headers,
    r.marks_first_event, r.marks_first_token, r.marks_first_answer, r.marks_last_token, r.marks_end,
    r.duration_seconds, r.setup_seconds, r.rtt_seconds,
    {_word("rtt_source", *rtt_sources)} AS rtt_source,
    r.ttft_seconds, r.answer_ttft_seconds, r.tpot_seconds, r.tokens_per_second, r.stall_seconds,
    r.network_seconds, r.model_seconds, r.streaming_seconds,
    {_word("pings_method", *rtt_methods)} AS pings_method,
    r.pings_sent, r.pings_lost, r.pings_min_seconds, r.pings_median_seconds, r.pings_mean_seconds,
    r.pings_max_seconds, r.pings_jitter_seconds,
    {_word("tokens_source", "usage", "arrivals")} AS tokens_source,
    r.tokens_output, r.tokens_input, r.tokens_cached_input, r.tokens_reasoning, r.tokens_arrivals,
    {_flags()} AS flags,
    r.start_delay_seconds,
    r.server_timing_source, r.server_timing_first_token_seconds, r.server_timing_total_seconds,
    r.server_timing_queue_seconds, r.server_timing_trusted, r.served_region"""


FROM: Final = """
FROM result r
JOIN agent a ON a.id = r.agent_id
JOIN agent_region g ON g.id = r.agent_region_id
JOIN target t ON t.id = r.target_id
JOIN endpoint e ON e.id = t.endpoint_id
JOIN module m ON m.id = t.module_id
"""
BEFORE: Final = _select(
    clock_sources=("kernel", "user"),
    rtt_sources=("tcp_info_min", "tcp_info", "handshake", "http"),
    rtt_methods=("tcp", "http"),
)
AFTER: Final = _select(
    clock_sources=("kernel", "user", "kernel_receive"),
    rtt_sources=("tcp_info_min", "tcp_info", "handshake", "http", "tls", "icmp"),
    rtt_methods=("tcp", "http", "tls", "icmp"),
)
VIEW_BEFORE: Final = f"CREATE VIEW v_result AS SELECT {BEFORE} {FROM}"
# New columns stand last: so the view is replaced in place, and keeps its grants and whoever depends on it.
VIEW: Final = f"CREATE OR REPLACE VIEW v_result AS SELECT {AFTER}, {', '.join(f'r.{name}' for name in NAMES)} {FROM}"


def upgrade() -> None:
    """Add the columns, on every partition at once, and show them."""
    op.execute("ALTER TABLE result " + ", ".join(f"ADD COLUMN {column}" for column in COLUMNS))
    op.execute(VIEW)


def downgrade() -> None:
    """Hide and drop them, with what they hold."""
    op.execute("DROP VIEW v_result")
    op.execute("ALTER TABLE result " + ", ".join(f"DROP COLUMN {name}" for name in NAMES))
    op.execute(VIEW_BEFORE)
