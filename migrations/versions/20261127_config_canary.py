"""How far a revision of the targets goes, and what each agent says of its own. Expand: defaults, a new table."""

from typing import Final

from alembic import op

revision = "20261127_config_canary"
down_revision = "20261127_fleet"
branch_labels = None
depends_on = None

TABLE: Final = """
CREATE TABLE agent_config (
    agent_id INTEGER NOT NULL CONSTRAINT pk_agent_config PRIMARY KEY,
    given INTEGER NOT NULL,
    running INTEGER,
    probation BOOLEAN NOT NULL,
    received INTEGER,
    failed INTEGER,
    reason TEXT,
    reported_at TIMESTAMP WITH TIME ZONE NOT NULL,
    CONSTRAINT fk_agent_config_agent_id FOREIGN KEY (agent_id) REFERENCES agent (id) ON DELETE CASCADE
)
"""


def upgrade() -> None:
    """Add them: every revision so far went to everybody."""
    op.execute(
        "ALTER TABLE config_revision ADD COLUMN share_percent SMALLINT NOT NULL DEFAULT 100,"
        " ADD COLUMN halted_at TIMESTAMP WITH TIME ZONE, ADD COLUMN halt_reason TEXT"
    )
    op.execute(TABLE)


def downgrade() -> None:
    """Drop them; canaries that were not given to everybody go, for nothing would tell them apart."""
    op.execute("DELETE FROM config_revision WHERE share_percent < 100")
    op.execute("DROP TABLE agent_config")
    op.execute("ALTER TABLE config_revision DROP COLUMN halt_reason, DROP COLUMN halted_at, DROP COLUMN share_percent")
