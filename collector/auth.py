"""Who may do what. Pure: who holds what is asked of a mapping.

Agents hold credentials `isoa_<key id>_<secret>`, those who join `isoe_<id>_<secret>`, readers and administrators
`isot_<id>_<secret>`.

The database keeps SHA-256 of the secret alone: 32 random bytes need no slow hash, and a dump opens nothing.
"""

import hmac
import re
import secrets
from collections.abc import Iterable, Mapping
from enum import StrEnum
from hashlib import sha256
from typing import Final

import msgspec

from collector.config import MAX_READ_TOKEN
from collector.errors import Refused

KEY_ID_BYTES: Final = 8
SECRET_BYTES: Final = 32
MAX_HEADER: Final = len("Bearer ") + MAX_READ_TOKEN
"""Longest header that is looked at, in characters: longer than that of any agent's token."""

_TOKEN: Final = re.compile(r"isoa_([0-9a-f]{16})_([A-Za-z0-9_-]{20,128})")
_JOIN: Final = re.compile(r"isoe_([0-9a-f]{16})_([A-Za-z0-9_-]{20,128})")
_ACCESS: Final = re.compile(r"isot_([0-9a-f]{16})_([A-Za-z0-9_-]{20,128})")
_BEARER: Final = re.compile(r"Bearer +([\x21-\x7e]+)", re.IGNORECASE)
_NOBODY: Final = sha256(b"nobody").hexdigest()
"""Compared with when the key is unknown, so that both answers take the same time."""


class Scope(StrEnum):
    """What an access token is good for. `admin` may read, too."""

    READ = "read"
    ADMIN = "admin"


class Credential(msgspec.Struct, frozen=True, kw_only=True):
    """One credential as it is stored."""

    key_id: str
    agent_id: int
    secret_sha256: str
    revoked: bool
    """It, or its agent as a whole."""
    unconfirmed: bool = False
    """It replaces another one and was not used yet."""
    rotate: bool = False
    """The operator asked for a newer one."""


class AccessToken(msgspec.Struct, frozen=True, kw_only=True):
    """A token of a reader or an administrator, as it is stored."""

    id: str
    scope: str
    secret_sha256: str
    revoked: bool


class NewCredential(msgspec.Struct, frozen=True, kw_only=True):
    """A credential at its birth: `token` is shown once and never stored."""

    token: str
    key_id: str
    secret_sha256: str


def new_credential() -> NewCredential:
    """Return a random credential."""
    return _new("isoa")


def new_join_token() -> NewCredential:
    """Return a random join token."""
    return _new("isoe")


def new_access_token() -> NewCredential:
    """Return a random token for a reader or an administrator."""
    return _new("isot")


def _new(prefix: str) -> NewCredential:
    key_id, secret = secrets.token_hex(KEY_ID_BYTES), secrets.token_urlsafe(SECRET_BYTES)
    return NewCredential(token=f"{prefix}_{key_id}_{secret}", key_id=key_id, secret_sha256=_digest(secret))


def bearer_token(header: str | None) -> str:
    """Return the token of an `Authorization` header; raise Refused without one."""
    found = _BEARER.fullmatch(header.strip()) if header is not None and len(header) <= MAX_HEADER else None
    if found is None:
        raise _unauthorized()
    return found[1]


def key_id_of(token: str) -> str | None:
    """Return the part of an agent's token that names its key; None when the token has another form."""
    found = _TOKEN.fullmatch(token)
    return None if found is None else found[1]


def authenticate(token: str, credentials: Mapping[str, Credential]) -> Credential:
    """Return the credential that `token` is; raise Refused with one answer for every cause but revocation."""
    found = _TOKEN.fullmatch(token)
    credential = None if found is None else credentials.get(found[1])
    stored = _NOBODY if credential is None else credential.secret_sha256
    same = hmac.compare_digest(_digest("" if found is None else found[2]), stored)
    if credential is None or not same:
        raise _unauthorized()
    if credential.revoked:
        raise Refused("revoked", "This agent was revoked. Ask the operator of the collector to let it in again.")
    return credential


def join_token_id(token: str) -> str | None:
    """Return the part of a join token that names it; None when the token has another form."""
    found = _JOIN.fullmatch(token)
    return None if found is None else found[1]


def holds_join_token(token: str, stored_sha256: str | None) -> bool:
    """Tell whether `token` has the secret; None, for an unknown token, takes the same time."""
    found = _JOIN.fullmatch(token)
    same = hmac.compare_digest(_digest("" if found is None else found[2]), stored_sha256 or _NOBODY)
    return same and stored_sha256 is not None


class Keyhole(msgspec.Struct, frozen=True, kw_only=True):
    """What guards reading and administration."""

    file_sha256: str | None
    """Of the read token in a file; None: there is none."""
    tokens: tuple[AccessToken, ...]


def check_scope(header: str | None, scope: Scope, keyhole: Keyhole) -> None:
    """Raise Refused unless the header bears a token for `scope`, or nothing guards it.

    Reading is open until there is a read token; administration asks for the admin scope as soon as there is an admin
    token, until then for the same as reading. A scope that once had a token stays closed when that is revoked.
    """
    wanted = scope if any(token.scope == scope for token in keyhole.tokens) else Scope.READ
    guarded = keyhole.file_sha256 is not None or any(token.scope == wanted for token in keyhole.tokens)
    if not guarded:
        return
    held = _scopes_of(bearer_token(header), keyhole)
    if not held:
        raise _unauthorized()
    if wanted not in held:
        raise Refused("forbidden", "This token may read alone. Use one with the scope admin.")


def _scopes_of(token: str, keyhole: Keyhole) -> frozenset[Scope]:
    if keyhole.file_sha256 is not None and hmac.compare_digest(_digest(token), keyhole.file_sha256):
        return frozenset({Scope.READ})
    known = _access_token(token, keyhole.tokens)
    if known is None:
        return frozenset()
    return frozenset(Scope) if known.scope == Scope.ADMIN else frozenset({Scope.READ})


def _access_token(token: str, known: Iterable[AccessToken]) -> AccessToken | None:
    found = _ACCESS.fullmatch(token)
    entry = None if found is None else next((one for one in known if one.id == found[1]), None)
    stored = _NOBODY if entry is None else entry.secret_sha256
    same = hmac.compare_digest(_digest("" if found is None else found[2]), stored)
    return entry if entry is not None and same and not entry.revoked else None


def _digest(secret: str) -> str:
    return sha256(secret.encode()).hexdigest()


def _unauthorized() -> Refused:
    return Refused("unauthorized", "Send a valid token in the header: Authorization: Bearer <token>.")
