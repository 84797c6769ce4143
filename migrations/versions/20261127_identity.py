"""Join tokens, access tokens, and the life of credentials: rotation, revocation, clones. Expand: new or nullable."""

from typing import Final

from alembic import op

revision = "20261127_identity"
down_revision = "20261126_bounds"
branch_labels = None
depends_on = None

CREATE_JOIN: Final = """
CREATE TABLE join_token (
    id TEXT NOT NULL,
    secret_sha256 TEXT NOT NULL,
    uses_left INTEGER NOT NULL,
    agent_region TEXT NOT NULL,
    agent_name TEXT,
    labels JSONB DEFAULT '{}'::jsonb NOT NULL,
    cidr TEXT,
    created_at timestamptz DEFAULT now() NOT NULL,
    expires_at timestamptz NOT NULL,
    revoked_at timestamptz,
    CONSTRAINT pk_join_token PRIMARY KEY (id)
)
"""
CREATE_ACCESS: Final = """
CREATE TABLE access_token (
    id TEXT NOT NULL,
    name TEXT NOT NULL,
    scope TEXT NOT NULL,
    secret_sha256 TEXT NOT NULL,
    created_at timestamptz DEFAULT now() NOT NULL,
    revoked_at timestamptz,
    CONSTRAINT pk_access_token PRIMARY KEY (id),
    CONSTRAINT uq_access_token_name UNIQUE (name)
)
"""
AGENT: Final = (
    "revoked_at timestamptz",
    "revoke_reason TEXT",
    "removed_at timestamptz",
    "rotate_asked_at timestamptz",
    "clone_seen_at timestamptz",
)
CREDENTIAL: Final = ("join_token_id TEXT", "replaces TEXT", "first_used_at timestamptz", "retires_at timestamptz")


def _alter(table: str, action: str, columns: tuple[str, ...]) -> None:
    op.execute(f"ALTER TABLE {table} " + ", ".join(f"{action} COLUMN {column}" for column in columns))


def _names(columns: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(column.partition(" ")[0] for column in columns)


def upgrade() -> None:
    """Add tables and columns."""
    op.execute(CREATE_JOIN)
    op.execute(CREATE_ACCESS)
    _alter("agent", "ADD", AGENT)
    _alter("credential", "ADD", CREDENTIAL)


def downgrade() -> None:
    """Drop them, with what they hold: tokens end, and so do revocations of whole agents."""
    # The release before knows revocations of credentials alone: nobody may come back in by a downgrade.
    op.execute(
        "UPDATE credential c SET revoked_at = now() FROM agent a"
        " WHERE a.id = c.agent_id AND a.revoked_at IS NOT NULL AND c.revoked_at IS NULL"
    )
    op.execute("DELETE FROM credential WHERE retires_at <= now()")
    _alter("credential", "DROP", _names(CREDENTIAL))
    _alter("agent", "DROP", _names(AGENT))
    op.execute("DROP TABLE access_token")
    op.execute("DROP TABLE join_token")
