"""Reading the small tables whole: agents, regions, credentials, endpoints, targets, the last revisions."""

from typing import Final

from sqlalchemy import Connection, RowMapping, text

from collector.auth import Credential
from collector.registry import KNOWN_REVISIONS, AgentRow, EndpointRow, RegionRow, RevisionRow, Rows, TargetRow
from collector.schema import CONNECTIONS
from collector.store.tokens import load_access_tokens

_REGIONS: Final = text("SELECT id, name, latitude, longitude, country, weight FROM agent_region ORDER BY id")
_AGENTS: Final = text(
    "SELECT id, name, agent_region_id, labels, created_at FROM agent WHERE removed_at IS NULL ORDER BY id"
)
_CREDENTIALS: Final = text(
    "SELECT c.key_id, c.agent_id, c.secret_sha256, coalesce(c.revoked_at, a.revoked_at) IS NOT NULL AS revoked,"
    " c.replaces IS NOT NULL AND c.first_used_at IS NULL AS unconfirmed,"
    " coalesce(a.rotate_asked_at > c.created_at, false) AS rotate"
    " FROM credential c JOIN agent a ON a.id = c.agent_id"
    " WHERE c.retires_at IS NULL OR c.retires_at > now() ORDER BY c.key_id"
)
_ENDPOINTS: Final = text(
    "SELECT id, name, url, provider, model, endpoint_region, latitude, longitude, simulated FROM endpoint ORDER BY id"
)
_TARGETS: Final = text(
    "SELECT t.id, e.name AS endpoint, m.name AS module, nullif(t.model, '') AS model, t.connection, t.created_at"
    " FROM target t JOIN endpoint e ON e.id = t.endpoint_id JOIN module m ON m.id = t.module_id ORDER BY t.id"
)
# As many that everybody got as are known, and as many canaries: the one must not push out the other.
_REVISIONS: Final = text(
    "SELECT revision, document, applied_at, share_percent, halted_at IS NOT NULL AS halted FROM ("
    " SELECT *, row_number() OVER (PARTITION BY share_percent >= 100 AND halted_at IS NULL ORDER BY revision DESC)"
    " AS place FROM config_revision) r WHERE place <= :count ORDER BY revision DESC"
)


def load_rows(connection: Connection) -> Rows:
    """Return everything that a registry is made of."""
    regions = {row["id"]: RegionRow(**row) for row in connection.execute(_REGIONS).mappings()}
    return Rows(
        regions=tuple(regions.values()),
        agents=tuple(_agent(row, regions) for row in connection.execute(_AGENTS).mappings()),
        credentials=tuple(Credential(**row) for row in connection.execute(_CREDENTIALS).mappings()),
        access_tokens=load_access_tokens(connection),
        endpoints=tuple(EndpointRow(**row) for row in connection.execute(_ENDPOINTS).mappings()),
        targets=tuple(_target(row) for row in connection.execute(_TARGETS).mappings()),
        revisions=tuple(
            RevisionRow(**row) for row in connection.execute(_REVISIONS, {"count": KNOWN_REVISIONS}).mappings()
        ),
    )


def _agent(row: RowMapping, regions: dict[int, RegionRow]) -> AgentRow:
    fields = {**row}
    return AgentRow(region=regions[fields.pop("agent_region_id")], **fields)


def _target(row: RowMapping) -> TargetRow:
    code = row["connection"]
    return TargetRow(**{**row, "connection": None if code is None else CONNECTIONS[code - 1]})
