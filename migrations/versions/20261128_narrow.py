"""Rows of results that say nothing twice: runs in a dictionary, what other columns give left empty, addresses binary.

Expand: new columns and a new table, nothing is rewritten and nothing converted, so it takes a moment on any size. Rows
of before stay as they are, and v_result reads both forms. A collector of the release before works beside the new one:
it writes the old form and reads through v_result. The index by target goes: it took a seventh of the disk and half of
the write-ahead log, and whoever reads long spans reads rollups.

Downgrade rewrites every row of the new form: it takes as long as there is data.
"""

from typing import Final

from alembic import op

revision = "20261128_narrow"
down_revision = "20261128_retention"
branch_labels = None
depends_on = None

RUN: Final = """
CREATE TABLE run (
    id INTEGER GENERATED ALWAYS AS IDENTITY,
    agent_id INTEGER NOT NULL,
    boot_id UUID NOT NULL,
    CONSTRAINT pk_run PRIMARY KEY (id),
    CONSTRAINT uq_run_agent_id_boot_id UNIQUE (agent_id, boot_id)
)
"""
NULLABLE: Final = ("boot_id", "started_at_agent")
COLUMNS: Final = ("run_id INTEGER", "agent_clock_microseconds INTEGER", "same SMALLINT", "ip INET")
INDEX: Final = "CREATE INDEX ix_result_target_id_started_at ON result (target_id, started_at)"

# Bit n of result.same: the column is empty because this gives it.
_TO_FIRST: Final = "(r.setup_seconds::float8 + r.ttft_seconds)::real"
SAME: Final = (
    ("marks_request_started", "r.setup_seconds"),
    ("marks_first_token", _TO_FIRST),
    ("marks_first_answer", "(r.setup_seconds::float8 + r.answer_ttft_seconds)::real"),
    ("marks_end", "r.duration_seconds"),
    ("pings_median_seconds", "r.rtt_seconds"),
    ("marks_first_event", "r.marks_headers"),
    ("marks_first_event", _TO_FIRST),
    ("tokens_arrivals", "r.tokens_output"),
    ("tokens_cached_input", "0"),
    ("tokens_reasoning", "0"),
    ("ttft_bound_seconds", "0::real"),
)
BOOT_ID: Final = "coalesce(r.boot_id, u.boot_id)"
STARTED_AT_AGENT: Final = (
    "coalesce(r.started_at_agent, r.started_at + r.agent_clock_microseconds * interval '1 microsecond')"
)

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


def _select(columns: dict[str, str]) -> str:
    """Return the columns of v_result; `columns` are those that are more than a column of the table."""

    def of(*names: str) -> str:
        return ", ".join(f"{columns[name]} AS {name}" if name in columns else f"r.{name}" for name in names)

    return f"""
    a.name AS agent, g.name AS agent_region, e.name AS endpoint, e.endpoint_region, e.simulated,
    nullif(t.model, '') AS model, m.name AS module, {_word("prober", "rtt", "inference")} AS prober,
    {of("boot_id", "seq", "batch_id", "started_at", "started_at_agent", "received_at", "started_boottime_seconds")},
    {_word("outcome", *OUTCOMES)} AS outcome,
    r.reason, r.http_status, {of("address")}, r.ip_version,
    {_word("connection", "cold", "warm")} AS connection,
    {_word("clock_source", "kernel", "user", "kernel_receive")} AS clock_source,
    {of("marks_dns", "marks_tcp", "marks_tls", "marks_request_started", "marks_request_sent", "marks_headers")},
    {of("marks_first_event", "marks_first_token", "marks_first_answer", "marks_last_token", "marks_end")},
    r.duration_seconds, r.setup_seconds, r.rtt_seconds,
    {_word("rtt_source", "tcp_info_min", "tcp_info", "handshake", "http", "tls", "icmp")} AS rtt_source,
    r.ttft_seconds, r.answer_ttft_seconds, r.tpot_seconds, r.tokens_per_second, r.stall_seconds,
    r.network_seconds, r.model_seconds, r.streaming_seconds,
    {_word("pings_method", "tcp", "http", "tls", "icmp")} AS pings_method,
    r.pings_sent, r.pings_lost, r.pings_min_seconds, {of("pings_median_seconds")}, r.pings_mean_seconds,
    r.pings_max_seconds, r.pings_jitter_seconds,
    {_word("tokens_source", "usage", "arrivals")} AS tokens_source,
    r.tokens_output, r.tokens_input, {of("tokens_cached_input", "tokens_reasoning", "tokens_arrivals")},
    {_flags()} AS flags,
    r.start_delay_seconds,
    r.server_timing_source, r.server_timing_first_token_seconds, r.server_timing_total_seconds,
    r.server_timing_queue_seconds, r.server_timing_trusted, r.served_region,
    {of("ttft_bound_seconds")}, r.rtt_variation_seconds"""


FROM: Final = """
FROM result r
JOIN agent a ON a.id = r.agent_id
JOIN agent_region g ON g.id = r.agent_region_id
JOIN target t ON t.id = r.target_id
JOIN endpoint e ON e.id = t.endpoint_id
JOIN module m ON m.id = t.module_id
"""


def _given(name: str) -> str:
    cases = (f"WHEN r.same & {1 << bit} <> 0 THEN {source}" for bit, (one, source) in enumerate(SAME) if one == name)
    return f"CASE {' '.join(cases)} ELSE r.{name} END"


EXPRESSIONS: Final = {
    "boot_id": BOOT_ID,
    "started_at_agent": STARTED_AT_AGENT,
    "address": "coalesce(r.address, host(r.ip))",
    **{name: _given(name) for name, _ in SAME},
}
# The columns keep names, order and types: the view is replaced in place, and keeps its grants.
VIEW_BEFORE: Final = f"CREATE OR REPLACE VIEW v_result AS SELECT {_select({})} {FROM}"
VIEW: Final = (
    f"CREATE OR REPLACE VIEW v_result AS SELECT {_select(EXPRESSIONS)} {FROM} LEFT JOIN run u ON u.id = r.run_id"
)
FILL: Final = (
    "UPDATE result r SET "  # noqa: S608  literals of this file
    + ", ".join(f"{name} = {source}" for name, source in EXPRESSIONS.items())
    + " FROM run u WHERE u.id = r.run_id"
)


def upgrade() -> None:
    """Add what the new form needs, show both forms, and drop the index."""
    op.execute(RUN)
    op.execute("ALTER TABLE result " + ", ".join(f"ALTER COLUMN {name} DROP NOT NULL" for name in NULLABLE))
    op.execute("ALTER TABLE result " + ", ".join(f"ADD COLUMN {column}" for column in COLUMNS))
    op.execute(VIEW)
    op.execute("DROP INDEX ix_result_target_id_started_at")


def downgrade() -> None:
    """Give every row its old form."""
    op.execute(FILL)
    op.execute(VIEW_BEFORE)
    op.execute("ALTER TABLE result " + ", ".join(f"ALTER COLUMN {name} SET NOT NULL" for name in NULLABLE))
    op.execute("ALTER TABLE result " + ", ".join(f"DROP COLUMN {column.partition(' ')[0]}" for column in COLUMNS))
    op.execute("DROP TABLE run")
    op.execute(INDEX)
