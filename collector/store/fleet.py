"""Reading the fleet: what every agent said of itself last, what its books come to, what came of it lately."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Final
from uuid import UUID

import msgspec
from sqlalchemy import Connection, RowMapping, text

from collector.store.reports import MAX_TOTAL

_LIST: Final = text(
    "SELECT a.id, a.name AS agent, g.name AS agent_region, a.labels, a.created_at,"
    " greatest(a.last_report_at, p.received_at) AS last_report_at, coalesce(p.version, a.version) AS version,"
    " coalesce(c.valid, 0) AS credentials, a.revoked_at IS NOT NULL OR (c.known > 0 AND c.valid = 0) AS revoked,"
    " a.revoked_at, a.revoke_reason, a.clone_seen_at,"
    " p.boot_id, p.config_revision, p.flush_seconds, p.queued_results, p.oldest_queued_seconds, p.expected_results,"
    " p.missed_probes, n.received AS received_revision, n.failed AS failed_revision, n.reason AS failed_reason,"
    " p.clock_offset_seconds, p.clock_error_seconds, p.unaccounted, p.unaccounted_since"
    " FROM agent a JOIN agent_region g ON g.id = a.agent_region_id LEFT JOIN agent_report p ON p.agent_id = a.id"
    " LEFT JOIN agent_config n ON n.agent_id = a.id"
    " LEFT JOIN (SELECT agent_id, count(*) AS known, count(*) FILTER (WHERE revoked_at IS NULL"
    " AND (retires_at IS NULL OR retires_at > now())) AS valid"
    " FROM credential GROUP BY agent_id) c ON c.agent_id = a.id WHERE a.removed_at IS NULL ORDER BY a.name"
)
_LOST: Final = text(
    "SELECT agent_id, reason, least(sum(lost::numeric), :most)::bigint AS lost"
    " FROM agent_run, jsonb_each_text(dropped_by_reason) AS told (reason, lost) GROUP BY agent_id, reason"
)
_RECEIVED: Final = text(
    "SELECT agent_id, count(*) AS received FROM result WHERE started_at >= :since AND started_at < :until"
    " GROUP BY agent_id"
)
# Plain statements, each but the first on one agent: where the tables are distributed, that is one machine.
_LOCK_FOLDING: Final = text("SELECT pg_advisory_xact_lock(hashtext('fold_runs'))")
_FOLDABLE: Final = text(
    "SELECT s.agent_id, array_agg(s.boot_id) AS runs FROM (SELECT agent_id, boot_id, last_received_at, row_number()"
    " OVER (PARTITION BY agent_id ORDER BY last_received_at DESC) AS place FROM agent_run WHERE boot_id <> :folded) s"
    " JOIN agent_report p ON p.agent_id = s.agent_id WHERE p.boot_id <> s.boot_id"
    " AND (s.last_received_at < :before OR s.place > :runs) GROUP BY s.agent_id LIMIT :agents"
)
# What is folded keeps the sums right: a run may tell of losses among the results of one before it.
_TAKE_RUNS: Final = text(
    "DELETE FROM agent_run WHERE agent_id = :agent_id AND boot_id = ANY(:runs)"
    " RETURNING last_received_at, recorded, received, dropped, dropped_by_reason"
)
_PUT_FOLDED: Final = text(
    "INSERT INTO agent_run (agent_id, boot_id, last_received_at, recorded, received, dropped, dropped_by_reason)"
    " VALUES (:agent_id, :boot_id, :last_received_at, :recorded, :received, :dropped,"
    " CAST(:dropped_by_reason AS jsonb))"
)
FOLDED_AT_ONCE: Final = 1_000
"""Agents whose books are folded in one transaction; the others wait for the next."""
KEPT_RUNS: Final = 1_000
"""Runs of one agent that are kept apart: who claims a new one with each batch must not make the others wait."""
FOLDED: Final = UUID(int=0)
"""Stands for all runs that are long over."""


_NOT_READ: Final = frozenset({"lost_results"})


class AgentFacts(msgspec.Struct, frozen=True, kw_only=True):
    """One agent as the database knows it; what it said of itself is None until its first report."""

    id: int
    agent: str
    agent_region: str
    labels: dict[str, str]
    created_at: datetime
    last_report_at: datetime | None
    version: str | None
    credentials: int
    """Those that are good: not revoked, not retired."""
    revoked: bool
    """It was revoked, or it had credentials and none is left."""
    revoked_at: datetime | None
    revoke_reason: str | None
    clone_seen_at: datetime | None
    """When two processes last used its credential at once."""
    config_revision: int | None
    received_revision: int | None
    """The newest configuration that came to it, good or not."""
    failed_revision: int | None
    """That one, when the agent gave it up."""
    failed_reason: str | None
    flush_seconds: float | None
    queued_results: int | None
    oldest_queued_seconds: float | None
    expected_results: int | None
    missed_probes: int | None
    clock_offset_seconds: float | None
    clock_error_seconds: float | None
    unaccounted: int | None
    unaccounted_since: datetime | None
    lost_results: dict[str, int]
    """By reason, over all runs."""


def list_facts(connection: Connection) -> list[AgentFacts]:
    """Return what is known of every agent, by name."""
    lost: dict[int, dict[str, int]] = {}
    for row in connection.execute(_LOST, {"most": MAX_TOTAL}).mappings():
        lost.setdefault(row["agent_id"], {})[row["reason"]] = row["lost"]
    return [_facts(row, lost) for row in connection.execute(_LIST).mappings()]


def count_received(connection: Connection, *, since: datetime, until: datetime) -> dict[int, int]:
    """Return how many results that started in a stretch of time are here, by agent id."""
    rows = connection.execute(_RECEIVED, {"since": since, "until": until})
    return {agent_id: received for agent_id, received in rows}  # noqa: C416  a Row is no pair for the type checker


def fold_runs(connection: Connection, *, before: datetime) -> None:
    """Add up the books of runs that brought nothing since `before`, and of too many, in one row for each agent."""
    connection.execute(_LOCK_FOLDING)
    values = {"before": before, "folded": FOLDED, "runs": KEPT_RUNS, "agents": FOLDED_AT_ONCE}
    for agent in connection.execute(_FOLDABLE, values).all():
        taken = connection.execute(_TAKE_RUNS, {"agent_id": agent.agent_id, "runs": [*agent.runs, FOLDED]}).mappings()
        connection.execute(_PUT_FOLDED, {"agent_id": agent.agent_id, "boot_id": FOLDED, **_added_up(taken.all())})


def _added_up(runs: Sequence[RowMapping]) -> dict[str, object]:
    """Return the books of all the runs as one. Totals that are nonsense stay within what can be stored."""
    sums = {name: min(sum(run[name] for run in runs), MAX_TOTAL) for name in ("recorded", "received", "dropped")}
    reasons = sorted({reason for run in runs for reason in run["dropped_by_reason"]})
    dropped = {
        reason: min(sum(run["dropped_by_reason"].get(reason, 0) for run in runs), MAX_TOTAL) for reason in reasons
    }
    return {
        **sums,
        "last_received_at": max(run["last_received_at"] for run in runs),
        "dropped_by_reason": msgspec.json.encode(dropped).decode(),
    }


def _facts(row: RowMapping, lost: Mapping[int, dict[str, int]]) -> AgentFacts:
    values = {name: row[name] for name in AgentFacts.__struct_fields__ if name not in _NOT_READ}
    return AgentFacts(**values, lost_results=lost.get(row["id"], {}))
