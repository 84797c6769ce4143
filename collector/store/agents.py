"""Statements on agents and their credentials."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Final

import msgspec
from sqlalchemy import Connection, text

_INSERT_REGION: Final = text("INSERT INTO agent_region (name) VALUES (:name) ON CONFLICT (name) DO NOTHING")
_INSERT_AGENT: Final = text(
    "INSERT INTO agent (name, agent_region_id, labels)"
    " SELECT :name, g.id, CAST(:labels AS jsonb) FROM agent_region g WHERE g.name = :region"
    " ON CONFLICT (name) DO NOTHING RETURNING id"
)
_FIND_AGENT: Final = text("SELECT id FROM agent WHERE name = :name")
_INSERT_CREDENTIAL: Final = text(
    "INSERT INTO credential (key_id, agent_id, secret_sha256) VALUES (:key_id, :agent_id, :secret_sha256)"
)
_LIST_AGENTS: Final = text(
    "SELECT a.name AS agent, g.name AS agent_region, a.labels, a.created_at, a.last_report_at, a.version,"
    " (SELECT count(*) FROM credential c WHERE c.agent_id = a.id AND c.revoked_at IS NULL"
    " AND (c.retires_at IS NULL OR c.retires_at > now())) AS credentials,"
    " a.revoked_at, a.revoke_reason, a.clone_seen_at"
    " FROM agent a JOIN agent_region g ON g.id = a.agent_region_id WHERE a.removed_at IS NULL ORDER BY a.name"
)
# Only forward: two collectors may write the same agent in any order.
_REPORTED: Final = text(
    "UPDATE agent SET last_report_at = :last_report_at, version = :version"
    " WHERE id = :id AND (last_report_at IS NULL OR last_report_at < :last_report_at)"
)


class AgentEntry(msgspec.Struct, frozen=True, kw_only=True):
    """One agent in a list."""

    agent: str
    agent_region: str
    labels: dict[str, str]
    created_at: datetime
    last_report_at: datetime | None
    version: str | None
    credentials: int
    """Those that are good: not revoked, not retired."""
    revoked_at: datetime | None
    revoke_reason: str | None
    clone_seen_at: datetime | None
    """When two processes last used its credential at once."""


def ensure_region(connection: Connection, name: str) -> None:
    """Create the region without coordinates unless it exists."""
    connection.execute(_INSERT_REGION, {"name": name})


def insert_agent(connection: Connection, *, name: str, region: str, labels: Mapping[str, str]) -> int | None:
    """Create an agent in an existing region and return its id; None when the name is taken."""
    values = {"name": name, "region": region, "labels": msgspec.json.encode(labels).decode()}
    return connection.execute(_INSERT_AGENT, values).scalar_one_or_none()


def find_agent(connection: Connection, name: str) -> int | None:
    """Return the id of an agent; None when there is none of that name."""
    return connection.execute(_FIND_AGENT, {"name": name}).scalar_one_or_none()


def insert_credential(connection: Connection, *, key_id: str, agent_id: int, secret_sha256: str) -> None:
    """Give the agent one more credential."""
    values = {"key_id": key_id, "agent_id": agent_id, "secret_sha256": secret_sha256}
    connection.execute(_INSERT_CREDENTIAL, values)


def list_agents(connection: Connection) -> list[AgentEntry]:
    """Return all agents by name."""
    return [AgentEntry(**row) for row in connection.execute(_LIST_AGENTS).mappings()]


def record_reports(connection: Connection, reports: Sequence[Mapping[str, object]]) -> None:
    """Note when agents last reported and with which version: `id`, `last_report_at`, `version` each."""
    if reports:
        connection.execute(_REPORTED, sorted(reports, key=lambda report: str(report["id"])))
