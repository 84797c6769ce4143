"""What retention remembers of the clock, the view v_agent, and a maker of partitions that heals. Expand: all new."""

from typing import Final

from alembic import op

revision = "20261128_retention"
down_revision = "20261128_rollups"
branch_labels = None
depends_on = None

MARK: Final = """
CREATE TABLE clock_mark (
    job TEXT NOT NULL,
    believed_at timestamptz NOT NULL,
    looked_at timestamptz NOT NULL,
    doubted_seconds DOUBLE PRECISION NOT NULL,
    CONSTRAINT pk_clock_mark PRIMARY KEY (job)
)
"""
_MAKE: Final = """
CREATE OR REPLACE FUNCTION create_result_partition(day date) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    name text := 'result_' || to_char(day, 'YYYYMMDD');
BEGIN
    -- Alone: two collectors may meet the first result of a day at once.
    PERFORM pg_advisory_xact_lock(hashtext('create_result_partition'));
    {test}
    -- ATTACH lets readers and writers of the other days go on; CREATE ... PARTITION OF would stop them.
    {create}
    EXECUTE format('ALTER TABLE result ATTACH PARTITION %I FOR VALUES FROM (%L) TO (%L)', name,
                   day::timestamp AT TIME ZONE 'UTC', (day + 1)::timestamp AT TIME ZONE 'UTC');
END $$
"""
CREATE: Final = "EXECUTE format('CREATE TABLE %I (LIKE result INCLUDING ALL)', name);"
# A table of that name that is no partition (somebody detached it) is attached again, with what it holds.
HEALING: Final = _MAKE.format(
    test="IF EXISTS (SELECT FROM pg_inherits WHERE inhparent = 'result'::regclass"
    " AND inhrelid = to_regclass(quote_ident(name))) THEN RETURN; END IF;",
    create=f"IF to_regclass(quote_ident(name)) IS NULL THEN {CREATE} END IF;",
)
BEFORE: Final = _MAKE.format(
    test="IF to_regclass(quote_ident(name)) IS NOT NULL THEN RETURN; END IF;",
    create=CREATE,
)
# The names of GET /v1/agents. No secret stands in it.
VIEW: Final = """
CREATE VIEW v_agent AS
SELECT
    a.name AS agent, g.name AS agent_region, a.labels, a.created_at,
    greatest(a.last_report_at, p.received_at) AS last_report_at, coalesce(p.version, a.version) AS version,
    p.config_revision, p.queued_results, p.oldest_queued_seconds, p.expected_results, p.missed_probes,
    p.clock_offset_seconds, p.clock_error_seconds, p.unaccounted, p.unaccounted_since,
    a.clone_seen_at, a.revoked_at, a.removed_at, g.country, g.latitude, g.longitude, g.weight
FROM agent a
JOIN agent_region g ON g.id = a.agent_region_id
LEFT JOIN agent_report p ON p.agent_id = a.id
"""


def upgrade() -> None:
    """Add them."""
    for statement in (MARK, HEALING, VIEW):
        op.execute(statement)


def downgrade() -> None:
    """Take them away; the clock is believed as the release before believes it."""
    op.execute("DROP VIEW v_agent")
    op.execute(BEFORE)
    op.execute("DROP TABLE clock_mark")
