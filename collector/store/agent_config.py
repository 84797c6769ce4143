"""Statements on what agents say of their configuration."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Final

import msgspec
from sqlalchemy import Connection, text

# Only forward: two collectors may write the same agent in any order.
_PUT: Final = text(
    "INSERT INTO agent_config (agent_id, given, running, probation, received, failed, reason, reported_at)"
    " SELECT a.id, :given, :running, :probation, :received, :failed, :reason, :reported_at"
    " FROM agent a WHERE a.id = :agent_id"
    " ON CONFLICT (agent_id) DO UPDATE SET given = excluded.given, running = excluded.running,"
    " probation = excluded.probation, received = excluded.received, failed = excluded.failed,"
    " reason = excluded.reason, reported_at = excluded.reported_at"
    " WHERE agent_config.reported_at < excluded.reported_at"
)
_LIST: Final = text(
    "SELECT c.agent_id, a.name AS agent, c.given, c.running, c.probation, c.received, c.failed, c.reason, c.reported_at"
    " FROM agent_config c JOIN agent a ON a.id = c.agent_id ORDER BY a.name"
)


class ConfigReport(msgspec.Struct, frozen=True, kw_only=True):
    """What an agent said when it last asked for its configuration, and the revision that it was answered with."""

    agent_id: int
    agent: str
    given: int
    running: int | None
    probation: bool
    received: int | None
    failed: int | None
    reason: str | None
    reported_at: datetime


def put_reports(connection: Connection, reports: Sequence[Mapping[str, object]]) -> None:
    """Note the newest word of each agent; that of an agent that is no more is left out."""
    if reports:
        connection.execute(_PUT, sorted(reports, key=lambda report: str(report["agent_id"])))


def list_reports(connection: Connection) -> list[ConfigReport]:
    """Return the newest word of every agent, by name."""
    return [ConfigReport(**row) for row in connection.execute(_LIST).mappings()]
