"""What agents say of themselves: the books of each of their runs, and the last report. Expand: two new tables."""

from typing import Final

from alembic import op

revision = "20261127_fleet"
down_revision = "20261127_identity"
branch_labels = None
depends_on = None

TABLES: Final = (
    """
CREATE TABLE agent_run (
    agent_id INTEGER NOT NULL,
    boot_id UUID NOT NULL,
    last_received_at timestamptz NOT NULL,
    recorded BIGINT NOT NULL,
    received BIGINT NOT NULL,
    dropped BIGINT NOT NULL,
    dropped_by_reason JSONB NOT NULL,
    CONSTRAINT pk_agent_run PRIMARY KEY (agent_id, boot_id),
    CONSTRAINT fk_agent_run_agent_id FOREIGN KEY(agent_id) REFERENCES agent (id) ON DELETE CASCADE
) WITH (fillfactor = 70)
""",
    """
CREATE TABLE agent_report (
    agent_id INTEGER NOT NULL,
    received_at timestamptz NOT NULL,
    boot_id UUID NOT NULL,
    version TEXT NOT NULL,
    config_revision INTEGER,
    flush_seconds DOUBLE PRECISION NOT NULL,
    queued_results INTEGER NOT NULL,
    oldest_queued_seconds DOUBLE PRECISION,
    expected_results BIGINT NOT NULL,
    missed_probes BIGINT NOT NULL,
    clock_offset_seconds DOUBLE PRECISION,
    clock_error_seconds DOUBLE PRECISION,
    unaccounted BIGINT,
    unaccounted_since timestamptz,
    CONSTRAINT pk_agent_report PRIMARY KEY (agent_id),
    CONSTRAINT fk_agent_report_agent_id FOREIGN KEY(agent_id) REFERENCES agent (id) ON DELETE CASCADE
) WITH (fillfactor = 70)
""",
)


def upgrade() -> None:
    """Create the tables; a fill factor below 100 keeps the update of each batch on its page."""
    for statement in TABLES:
        op.execute(statement)


def downgrade() -> None:
    """Drop them, with what they hold."""
    op.execute("DROP TABLE agent_report, agent_run")
