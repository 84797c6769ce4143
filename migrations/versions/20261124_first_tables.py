"""The first tables, the maker of daily partitions, and the view v_result."""

from typing import Final

from alembic import op

revision = "20261124_first_tables"
down_revision = None
branch_labels = None
depends_on = None

TABLES: Final = (
    """
CREATE TABLE agent_region (
    id INTEGER GENERATED ALWAYS AS IDENTITY,
    name TEXT NOT NULL,
    latitude DOUBLE PRECISION,
    longitude DOUBLE PRECISION,
    country TEXT,
    weight DOUBLE PRECISION,
    CONSTRAINT pk_agent_region PRIMARY KEY (id),
    CONSTRAINT uq_agent_region_name UNIQUE (name)
)
""",
    """
CREATE TABLE agent (
    id INTEGER GENERATED ALWAYS AS IDENTITY,
    name TEXT NOT NULL,
    agent_region_id INTEGER NOT NULL,
    labels JSONB DEFAULT '{}'::jsonb NOT NULL,
    created_at timestamptz DEFAULT now() NOT NULL,
    last_report_at timestamptz,
    version TEXT,
    CONSTRAINT pk_agent PRIMARY KEY (id),
    CONSTRAINT uq_agent_name UNIQUE (name),
    CONSTRAINT fk_agent_agent_region_id FOREIGN KEY(agent_region_id) REFERENCES agent_region (id)
)
""",
    """
CREATE TABLE credential (
    key_id TEXT NOT NULL,
    agent_id INTEGER NOT NULL,
    secret_sha256 TEXT NOT NULL,
    created_at timestamptz DEFAULT now() NOT NULL,
    revoked_at timestamptz,
    CONSTRAINT pk_credential PRIMARY KEY (key_id),
    CONSTRAINT fk_credential_agent_id FOREIGN KEY(agent_id) REFERENCES agent (id) ON DELETE CASCADE
)
""",
    """
CREATE INDEX ix_credential_agent_id ON credential (agent_id)
""",
    """
CREATE TABLE endpoint (
    id INTEGER GENERATED ALWAYS AS IDENTITY,
    name TEXT NOT NULL,
    url TEXT NOT NULL,
    provider TEXT,
    model TEXT,
    endpoint_region TEXT,
    latitude DOUBLE PRECISION,
    longitude DOUBLE PRECISION,
    simulated BOOLEAN DEFAULT false NOT NULL,
    CONSTRAINT pk_endpoint PRIMARY KEY (id),
    CONSTRAINT uq_endpoint_name UNIQUE (name)
)
""",
    """
CREATE TABLE module (
    id INTEGER GENERATED ALWAYS AS IDENTITY,
    name TEXT NOT NULL,
    CONSTRAINT pk_module PRIMARY KEY (id),
    CONSTRAINT uq_module_name UNIQUE (name)
)
""",
    """
CREATE TABLE target (
    id INTEGER GENERATED ALWAYS AS IDENTITY,
    endpoint_id INTEGER NOT NULL,
    module_id INTEGER NOT NULL,
    model TEXT DEFAULT '' NOT NULL,
    connection SMALLINT,
    created_at timestamptz DEFAULT now() NOT NULL,
    CONSTRAINT pk_target PRIMARY KEY (id),
    CONSTRAINT uq_target_endpoint_id_module_id_model UNIQUE (endpoint_id, module_id, model),
    CONSTRAINT fk_target_endpoint_id FOREIGN KEY(endpoint_id) REFERENCES endpoint (id),
    CONSTRAINT fk_target_module_id FOREIGN KEY(module_id) REFERENCES module (id)
)
""",
    """
CREATE TABLE config_revision (
    revision INTEGER GENERATED ALWAYS AS IDENTITY,
    etag TEXT NOT NULL,
    document TEXT NOT NULL,
    applied_at timestamptz DEFAULT now() NOT NULL,
    CONSTRAINT pk_config_revision PRIMARY KEY (revision)
)
""",
    """
CREATE TABLE batch (
    agent_id INTEGER NOT NULL,
    batch_id UUID NOT NULL,
    boot_id UUID NOT NULL,
    received_at timestamptz NOT NULL,
    accepted INTEGER NOT NULL,
    late INTEGER NOT NULL,
    rejected JSONB,
    CONSTRAINT pk_batch PRIMARY KEY (agent_id, batch_id),
    CONSTRAINT fk_batch_agent_id FOREIGN KEY(agent_id) REFERENCES agent (id) ON DELETE CASCADE
)
""",
    """
CREATE INDEX ix_batch_received_at ON batch USING brin (received_at)
""",
    """
CREATE TABLE result (
    started_at timestamptz NOT NULL, started_at_agent timestamptz NOT NULL, received_at timestamptz NOT NULL,
    started_boottime_seconds DOUBLE PRECISION NOT NULL, seq BIGINT NOT NULL, boot_id UUID NOT NULL,
    batch_id UUID NOT NULL, agent_id INTEGER NOT NULL, agent_region_id INTEGER NOT NULL,
    target_id INTEGER NOT NULL, prober SMALLINT NOT NULL, outcome SMALLINT NOT NULL,
    clock_source SMALLINT NOT NULL, flags SMALLINT NOT NULL, connection SMALLINT, rtt_source SMALLINT,
    ip_version SMALLINT, http_status SMALLINT, duration_seconds REAL, setup_seconds REAL, rtt_seconds REAL,
    ttft_seconds REAL, answer_ttft_seconds REAL, tpot_seconds REAL, tokens_per_second REAL, stall_seconds REAL,
    start_delay_seconds REAL, marks_dns REAL, marks_tcp REAL, marks_tls REAL, marks_request_started REAL,
    marks_request_sent REAL, marks_headers REAL, marks_first_event REAL, marks_first_token REAL,
    marks_first_answer REAL, marks_last_token REAL, marks_end REAL, network_seconds REAL, model_seconds REAL,
    streaming_seconds REAL, pings_method SMALLINT, pings_sent INTEGER, pings_lost INTEGER,
    pings_min_seconds REAL, pings_median_seconds REAL, pings_mean_seconds REAL, pings_max_seconds REAL,
    pings_jitter_seconds REAL, tokens_source SMALLINT, tokens_output INTEGER, tokens_input INTEGER,
    tokens_cached_input INTEGER, tokens_reasoning INTEGER, tokens_arrivals INTEGER, reason TEXT, address TEXT
) PARTITION BY RANGE (started_at)
""",
    """
CREATE INDEX ix_result_received_at ON result USING brin (received_at)
""",
    """
CREATE INDEX ix_result_started_at ON result USING brin (started_at)
""",
    """
CREATE INDEX ix_result_target_id_started_at ON result (target_id, started_at)
""",
)

CREATE_PARTITION: Final = """
CREATE FUNCTION create_result_partition(day date) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    name text := 'result_' || to_char(day, 'YYYYMMDD');
BEGIN
    -- Alone: two collectors may meet the first result of a day at once.
    PERFORM pg_advisory_xact_lock(hashtext('create_result_partition'));
    IF to_regclass(quote_ident(name)) IS NOT NULL THEN
        RETURN;
    END IF;
    -- ATTACH lets readers and writers of the other days go on; CREATE ... PARTITION OF would stop them.
    EXECUTE format('CREATE TABLE %I (LIKE result INCLUDING ALL)', name);
    EXECUTE format('ALTER TABLE result ATTACH PARTITION %I FOR VALUES FROM (%L) TO (%L)', name,
                   day::timestamp AT TIME ZONE 'UTC', (day + 1)::timestamp AT TIME ZONE 'UTC');
END $$
"""

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


# Wire field names; what is nested on the wire has its parent's name in front (marks.dns: marks_dns).
VIEW: Final = f"""
CREATE VIEW v_result AS
SELECT
    a.name AS agent, g.name AS agent_region, e.name AS endpoint, e.endpoint_region, e.simulated,
    nullif(t.model, '') AS model, m.name AS module, {_word("prober", "rtt", "inference")} AS prober,
    r.boot_id, r.seq, r.batch_id, r.started_at, r.started_at_agent, r.received_at, r.started_boottime_seconds,
    {_word("outcome", *OUTCOMES)} AS outcome,
    r.reason, r.http_status, r.address, r.ip_version,
    {_word("connection", "cold", "warm")} AS connection,
    {_word("clock_source", "kernel", "user")} AS clock_source,
    r.marks_dns, r.marks_tcp, r.marks_tls, r.marks_request_started, r.marks_request_sent, r.marks_headers,
    r.marks_first_event, r.marks_first_token, r.marks_first_answer, r.marks_last_token, r.marks_end,
    r.duration_seconds, r.setup_seconds, r.rtt_seconds,
    {_word("rtt_source", "tcp_info_min", "tcp_info", "handshake", "http")} AS rtt_source,
    r.ttft_seconds, r.answer_ttft_seconds, r.tpot_seconds, r.tokens_per_second, r.stall_seconds,
    r.network_seconds, r.model_seconds, r.streaming_seconds,
    {_word("pings_method", "tcp", "http")} AS pings_method,
    r.pings_sent, r.pings_lost, r.pings_min_seconds, r.pings_median_seconds, r.pings_mean_seconds,
    r.pings_max_seconds, r.pings_jitter_seconds,
    {_word("tokens_source", "usage", "arrivals")} AS tokens_source,
    r.tokens_output, r.tokens_input, r.tokens_cached_input, r.tokens_reasoning, r.tokens_arrivals,
    {_flags()} AS flags,
    r.start_delay_seconds
FROM result r
JOIN agent a ON a.id = r.agent_id
JOIN agent_region g ON g.id = r.agent_region_id
JOIN target t ON t.id = r.target_id
JOIN endpoint e ON e.id = t.endpoint_id
JOIN module m ON m.id = t.module_id
"""  # noqa: S608  made of the literals above

DROPS: Final = (
    "DROP VIEW v_result",
    "DROP FUNCTION create_result_partition(date)",
    "DROP TABLE result, batch, config_revision, target, module, endpoint, credential, agent, agent_region",
)


def upgrade() -> None:
    """Build everything."""
    for statement in (*TABLES, CREATE_PARTITION, VIEW):
        op.execute(statement)


def downgrade() -> None:
    """Drop everything, data included."""
    for statement in DROPS:
        op.execute(statement)
