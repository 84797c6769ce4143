"""Statements on join tokens and on the access tokens of readers and administrators."""

from collections.abc import Mapping
from datetime import datetime
from typing import Final

import msgspec
from sqlalchemy import Connection, text

from collector.auth import AccessToken

_INSERT_JOIN: Final = text(
    "INSERT INTO join_token (id, secret_sha256, uses_left, agent_region, agent_name, labels, cidr, expires_at)"
    " VALUES (:id, :secret_sha256, :uses, :region, :name, CAST(:labels AS jsonb), :cidr,"
    " now() + make_interval(secs => :ttl_seconds))"
)
_FIND_JOIN: Final = text(
    "SELECT id, secret_sha256, agent_region, agent_name, labels, cidr FROM join_token WHERE id = :id"
)
_CONSUME_JOIN: Final = text(
    "UPDATE join_token SET uses_left = uses_left - 1"
    " WHERE id = :id AND uses_left > 0 AND expires_at > now() AND revoked_at IS NULL RETURNING id"
)
_LIST_JOIN: Final = text(
    "SELECT id, agent_region, agent_name, labels, cidr, uses_left, created_at, expires_at, revoked_at,"
    " CASE WHEN revoked_at IS NOT NULL THEN 'revoked' WHEN uses_left = 0 THEN 'used'"
    " WHEN expires_at <= now() THEN 'expired' ELSE 'open' END AS state FROM join_token ORDER BY created_at, id"
)
_REVOKE_JOIN: Final = text("UPDATE join_token SET revoked_at = coalesce(revoked_at, now()) WHERE id = :id RETURNING id")
_INSERT_ACCESS: Final = text(
    "INSERT INTO access_token (id, name, scope, secret_sha256) VALUES (:id, :name, :scope, :secret_sha256)"
    " ON CONFLICT (name) DO NOTHING RETURNING id"
)
_LIST_ACCESS: Final = text("SELECT name, scope, created_at, revoked_at FROM access_token ORDER BY name")
_REVOKE_ACCESS: Final = text(
    "UPDATE access_token SET revoked_at = coalesce(revoked_at, now()) WHERE name = :name RETURNING id"
)
_LOAD_ACCESS: Final = text(
    "SELECT id, scope, secret_sha256, revoked_at IS NOT NULL AS revoked FROM access_token ORDER BY id"
)


class JoinToken(msgspec.Struct, frozen=True, kw_only=True):
    """What a join token allows; its secret as a digest."""

    id: str
    secret_sha256: str
    agent_region: str
    agent_name: str | None
    """None: the agent chooses."""
    labels: dict[str, str]
    cidr: str | None
    """Networks that it may be used from, separated by commas; None: any."""


class JoinTokenEntry(msgspec.Struct, frozen=True, kw_only=True):
    """One join token in a list. `state`: open, used, expired, revoked."""

    id: str
    state: str
    agent_region: str
    agent_name: str | None
    labels: dict[str, str]
    cidr: str | None
    uses_left: int
    created_at: datetime
    expires_at: datetime
    revoked_at: datetime | None


class AccessTokenEntry(msgspec.Struct, frozen=True, kw_only=True):
    """One access token in a list."""

    name: str
    scope: str
    created_at: datetime
    revoked_at: datetime | None


def insert_join_token(connection: Connection, token: JoinToken, *, uses: int, ttl_seconds: float) -> None:
    """Create a join token that lives so long."""
    values = {
        "id": token.id,
        "secret_sha256": token.secret_sha256,
        "uses": uses,
        "region": token.agent_region,
        "name": token.agent_name,
        "labels": msgspec.json.encode(token.labels).decode(),
        "cidr": token.cidr,
        "ttl_seconds": ttl_seconds,
    }
    connection.execute(_INSERT_JOIN, values)


def find_join_token(connection: Connection, token_id: str) -> JoinToken | None:
    """Return a join token, whatever became of it; None when there never was one."""
    row = connection.execute(_FIND_JOIN, {"id": token_id}).mappings().one_or_none()
    return None if row is None else JoinToken(**row)


def consume_join_token(connection: Connection, token_id: str) -> bool:
    """Take one use; False when none is left, it expired or was revoked. Two at once never take the same use."""
    return connection.execute(_CONSUME_JOIN, {"id": token_id}).scalar_one_or_none() is not None


def list_join_tokens(connection: Connection) -> list[JoinTokenEntry]:
    """Return all join tokens, the oldest first."""
    return [JoinTokenEntry(**row) for row in connection.execute(_LIST_JOIN).mappings()]


def revoke_join_token(connection: Connection, token_id: str) -> bool:
    """End a join token; False when there is none of that id."""
    return connection.execute(_REVOKE_JOIN, {"id": token_id}).scalar_one_or_none() is not None


def insert_access_token(connection: Connection, values: Mapping[str, str]) -> bool:
    """Create an access token of `id`, `name`, `scope`, `secret_sha256`; False when the name is taken."""
    return connection.execute(_INSERT_ACCESS, dict(values)).scalar_one_or_none() is not None


def list_access_tokens(connection: Connection) -> list[AccessTokenEntry]:
    """Return all access tokens by name."""
    return [AccessTokenEntry(**row) for row in connection.execute(_LIST_ACCESS).mappings()]


def revoke_access_token(connection: Connection, name: str) -> bool:
    """End an access token; False when there is none of that name."""
    return connection.execute(_REVOKE_ACCESS, {"name": name}).scalar_one_or_none() is not None


def load_access_tokens(connection: Connection) -> tuple[AccessToken, ...]:
    """Return the access tokens for the registry, revoked ones too: a scope that once had one stays closed."""
    return tuple(AccessToken(**row) for row in connection.execute(_LOAD_ACCESS).mappings())
