"""Rollups by minute and by hour, what is to be rolled up, and the views of both. Expand: new tables alone."""

from typing import Final

from alembic import op

revision = "20261128_rollups"
down_revision = "20261127_config_canary"
branch_labels = None
depends_on = None

SIGNALS: Final = (
    "rtt", "ttft", "answer_ttft", "tpot", "tokens_per_second", "duration", "setup", "network", "model", "streaming",
    "stall",
)  # fmt: skip
LEVELS: Final = ("minute", "hour")

LISTS: Final = (
    """
CREATE TABLE dirty_minute (
    agent_id INTEGER NOT NULL,
    agent_region_id INTEGER NOT NULL,
    minute timestamptz NOT NULL,
    marked_at timestamptz DEFAULT now() NOT NULL
)
""",
    """
CREATE TABLE dirty_hour (
    hour timestamptz NOT NULL,
    agent_region_id INTEGER NOT NULL,
    marked_at timestamptz NOT NULL,
    CONSTRAINT pk_dirty_hour PRIMARY KEY (hour, agent_region_id)
)
""",
    """
CREATE TABLE rollup_horizon (
    level TEXT NOT NULL,
    since timestamptz,
    CONSTRAINT pk_rollup_horizon PRIMARY KEY (level)
)
""",
    "INSERT INTO rollup_horizon (level) VALUES ('raw'), ('minute'), ('hour')",
)
# One value alone stands in _min, and its other columns are NULL: at one result a minute a row is as short as can be.
SIGNAL: Final = "{0}_count INTEGER, {0}_sum DOUBLE PRECISION, {0}_min REAL, {0}_max REAL, {0}_buckets SMALLINT[], {0}_counts INTEGER[]"  # noqa: E501  one line each
TABLE: Final = """
CREATE TABLE rollup_{level} (
    bucket timestamptz NOT NULL,
    agent_region_id INTEGER NOT NULL,
    target_id INTEGER NOT NULL,
    connection SMALLINT NOT NULL,
    prober SMALLINT NOT NULL,
    probes INTEGER NOT NULL,
    failures INTEGER NOT NULL,
    spoiled INTEGER NOT NULL,
    pings_sent BIGINT,
    pings_lost BIGINT,
    {signals},
    CONSTRAINT pk_rollup_{level} PRIMARY KEY (bucket, agent_region_id, target_id, connection)
) PARTITION BY RANGE (bucket)
"""
# As create_result_partition: a day of minutes, a month of hours.
CREATE_PARTITION: Final = """
CREATE FUNCTION create_rollup_partition(level text, moment timestamptz) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    parent text := 'rollup_' || level;
    span interval := CASE level WHEN 'minute' THEN interval '1 day' ELSE interval '1 month' END;
    start timestamp := date_trunc(CASE level WHEN 'minute' THEN 'day' ELSE 'month' END, moment AT TIME ZONE 'UTC');
    name text := parent || to_char(start, CASE level WHEN 'minute' THEN '_YYYYMMDD' ELSE '_YYYYMM' END);
BEGIN
    PERFORM pg_advisory_xact_lock(hashtext('create_rollup_partition'));
    IF to_regclass(quote_ident(name)) IS NOT NULL THEN
        RETURN;
    END IF;
    EXECUTE format('CREATE TABLE %I (LIKE %I INCLUDING ALL)', name, parent);
    EXECUTE format('ALTER TABLE %I ATTACH PARTITION %I FOR VALUES FROM (%L) TO (%L)', parent, name,
                   start AT TIME ZONE 'UTC', (start + span) AT TIME ZONE 'UTC');
END $$
"""
# The value in the middle (on a logarithmic scale) of the bucket in which the quantile lies: collector.stats.sketch.
QUANTILE: Final = """
CREATE FUNCTION sketch_quantile(q double precision, buckets smallint[], counts integer[], lowest real, highest real)
RETURNS double precision LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$
DECLARE
    total bigint := 0;
    seen bigint := 0;
    n integer;
    place integer := 0;
BEGIN
    IF buckets IS NULL THEN
        RETURN lowest;
    END IF;
    FOREACH n IN ARRAY counts LOOP
        total := total + n;
    END LOOP;
    FOREACH n IN ARRAY counts LOOP
        place := place + 1;
        seen := seen + n;
        EXIT WHEN seen >= q * total;
    END LOOP;
    IF buckets[place] = -32768 THEN
        RETURN 0;
    END IF;
    RETURN least(greatest(power(2, (buckets[place] - 0.5) / 8), lowest), highest);
END $$
"""
# Every probe has a duration and a round trip; the other signals are an inference probe's, or were measured.
VIEW: Final = """
CREATE VIEW v_{level} AS
SELECT
    r.bucket, g.name AS agent_region, e.name AS endpoint, e.endpoint_region, nullif(t.model, '') AS model,
    m.name AS module, (ARRAY['rtt', 'inference'])[r.prober] AS prober,
    (ARRAY['cold', 'warm'])[coalesce(nullif(r.connection, 0), t.connection)] AS connection,
    s.signal, r.probes, r.failures, r.spoiled,
    CASE WHEN s.lowest IS NULL THEN 0 ELSE coalesce(s.count, 1) END AS count,
    coalesce(s.sum, s.lowest) AS sum, s.lowest AS min, coalesce(s.highest, s.lowest) AS max,
    sketch_quantile(0.5, s.buckets, s.counts, s.lowest, s.highest) AS p50,
    sketch_quantile(0.95, s.buckets, s.counts, s.lowest, s.highest) AS p95,
    sketch_quantile(0.99, s.buckets, s.counts, s.lowest, s.highest) AS p99,
    r.pings_sent AS sent, r.pings_lost AS lost, e.simulated
FROM rollup_{level} r
JOIN agent_region g ON g.id = r.agent_region_id
JOIN target t ON t.id = r.target_id
JOIN endpoint e ON e.id = t.endpoint_id
JOIN module m ON m.id = t.module_id
CROSS JOIN LATERAL (VALUES
    {signals}
) AS s (signal, count, sum, lowest, highest, buckets, counts)
WHERE s.lowest IS NOT NULL OR r.prober = 2 OR s.signal IN ('rtt', 'duration')
"""
VALUES: Final = "('{0}', r.{0}_count, r.{0}_sum, r.{0}_min, r.{0}_max, r.{0}_buckets, r.{0}_counts)"


def upgrade() -> None:
    """Create the tables, the makers of their partitions, and the views."""
    for statement in LISTS:
        op.execute(statement)
    op.execute(CREATE_PARTITION)
    op.execute(QUANTILE)
    for level in LEVELS:
        op.execute(TABLE.format(level=level, signals=",\n    ".join(SIGNAL.format(name) for name in SIGNALS)))
        op.execute(VIEW.format(level=level, signals=",\n    ".join(VALUES.format(name) for name in SIGNALS)))


def downgrade() -> None:
    """Drop them, with what they hold."""
    op.execute("DROP VIEW v_hour, v_minute")
    op.execute("DROP TABLE rollup_hour, rollup_minute, rollup_horizon, dirty_hour, dirty_minute")
    op.execute("DROP FUNCTION sketch_quantile(double precision, smallint[], integer[], real, real)")
    op.execute("DROP FUNCTION create_rollup_partition(text, timestamptz)")
