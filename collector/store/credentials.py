"""Statements on the life of credentials: enrolled, rotated, retired; and on the agents that hold them."""

from datetime import datetime
from typing import Final

import msgspec
from sqlalchemy import Connection, text

RETIRING_HOURS: Final = 24
"""How long the old credential goes on after the first use of the new one."""

_LOCK: Final = text("SELECT pg_advisory_xact_lock(hashtext('credential'), hashtext(:key_id))")
_FIND: Final = text(
    "SELECT c.key_id, c.agent_id, c.secret_sha256, c.join_token_id, a.name AS agent, g.name AS agent_region"
    " FROM credential c JOIN agent a ON a.id = c.agent_id JOIN agent_region g ON g.id = a.agent_region_id"
    " WHERE c.key_id = :key_id"
)
_INSERT: Final = text(
    "INSERT INTO credential (key_id, agent_id, secret_sha256, join_token_id, replaces)"
    " VALUES (:key_id, :agent_id, :secret_sha256, :join_token_id, :replaces)"
)
_COUNT: Final = text(
    "SELECT count(*) FROM credential WHERE agent_id = :agent_id AND revoked_at IS NULL"
    " AND (retires_at IS NULL OR retires_at > now())"
)
_CONFIRM: Final = text(
    "UPDATE credential SET first_used_at = now() WHERE key_id = :key_id AND first_used_at IS NULL RETURNING replaces"
)
_RETIRE: Final = text(
    "UPDATE credential SET retires_at = now() + make_interval(hours => :hours)"
    " WHERE key_id = :key_id AND retires_at IS NULL"
)
_ROTATE: Final = text(
    "UPDATE agent SET rotate_asked_at = now() WHERE name = :name AND revoked_at IS NULL AND removed_at IS NULL"
    " RETURNING id"
)
_REVOKE: Final = text(
    "UPDATE agent SET revoked_at = coalesce(revoked_at, now()), revoke_reason = coalesce(:reason, revoke_reason)"
    " WHERE name = :name RETURNING id"
)
# '~' stands in no name: nobody can take the one that is left.
_REMOVE: Final = text(
    "UPDATE agent SET removed_at = now(), name = name || '~' || id"
    " WHERE name = :name AND revoked_at IS NOT NULL AND removed_at IS NULL RETURNING name"
)
_CLONE_SEEN: Final = text(
    "UPDATE agent SET clone_seen_at = :seen_at WHERE id = :id AND (clone_seen_at IS NULL OR clone_seen_at < :seen_at)"
)
_CLONES: Final = text("SELECT id, clone_seen_at FROM agent WHERE clone_seen_at > :since")


class Held(msgspec.Struct, frozen=True, kw_only=True):
    """A credential and whose it is."""

    key_id: str
    agent_id: int
    secret_sha256: str
    join_token_id: str | None
    agent: str
    agent_region: str


class Fresh(msgspec.Struct, frozen=True, kw_only=True):
    """A credential to be stored; whence it comes."""

    key_id: str
    agent_id: int
    secret_sha256: str
    join_token_id: str | None = None
    replaces: str | None = None


def lock_key(connection: Connection, key_id: str) -> None:
    """Let nobody else work on this key id until the transaction ends: a request and its own repeat may meet."""
    connection.execute(_LOCK, {"key_id": key_id})


def find_credential(connection: Connection, key_id: str) -> Held | None:
    """Return the credential, whatever became of it; None when there is none."""
    row = connection.execute(_FIND, {"key_id": key_id}).mappings().one_or_none()
    return None if row is None else Held(**row)


def insert_fresh(connection: Connection, fresh: Fresh) -> None:
    """Store a new credential."""
    connection.execute(_INSERT, msgspec.structs.asdict(fresh))


def count_live(connection: Connection, agent_id: int) -> int:
    """Return how many credentials of the agent are good now."""
    return int(connection.execute(_COUNT, {"agent_id": agent_id}).scalar_one())


def confirm_credential(connection: Connection, key_id: str) -> None:
    """Note that a rotated credential is in use: from its first use, the one that it replaces has a day left."""
    replaces = connection.execute(_CONFIRM, {"key_id": key_id}).scalar_one_or_none()
    if replaces is not None:
        connection.execute(_RETIRE, {"key_id": replaces, "hours": RETIRING_HOURS})


def ask_rotation(connection: Connection, name: str) -> bool:
    """Ask the agent for a new credential; False when there is none of that name, or it is revoked."""
    return connection.execute(_ROTATE, {"name": name}).scalar_one_or_none() is not None


def revoke_agent(connection: Connection, name: str, reason: str | None) -> bool:
    """End all that the agent may do; False when there is none of that name."""
    return connection.execute(_REVOKE, {"name": name, "reason": reason}).scalar_one_or_none() is not None


def remove_agent(connection: Connection, name: str) -> str | None:
    """Free the name of a revoked agent; return the name that its results keep. None: there is no such agent."""
    return connection.execute(_REMOVE, {"name": name}).scalar_one_or_none()


def record_clone(connection: Connection, agent_id: int, seen_at: datetime) -> None:
    """Note that two processes used one credential at once."""
    connection.execute(_CLONE_SEEN, {"id": agent_id, "seen_at": seen_at})


def clones_since(connection: Connection, since: datetime) -> dict[int, datetime]:
    """Return the agents of which a clone was seen since then, and when last."""
    return {row.id: row.clone_seen_at for row in connection.execute(_CLONES, {"since": since})}
