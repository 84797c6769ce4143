"""Credentials: `isoa_<keyid>_<secret>`. Pure: who holds what is asked of a mapping.

The database keeps SHA-256 of the secret alone: 32 random bytes need no slow hash, and a dump opens nothing.
"""

import hmac
import re
import secrets
from collections.abc import Mapping
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
_BEARER: Final = re.compile(r"Bearer +([\x21-\x7e]+)", re.IGNORECASE)
_NOBODY: Final = sha256(b"nobody").hexdigest()
"""Compared with when the key is unknown, so that both answers take the same time."""


class Credential(msgspec.Struct, frozen=True, kw_only=True):
    """One credential as it is stored."""

    key_id: str
    agent_id: int
    secret_sha256: str
    revoked: bool


class NewCredential(msgspec.Struct, frozen=True, kw_only=True):
    """A credential at its birth: `token` is shown once and never stored."""

    token: str
    key_id: str
    secret_sha256: str


def new_credential() -> NewCredential:
    """Return a random credential."""
    key_id, secret = secrets.token_hex(KEY_ID_BYTES), secrets.token_urlsafe(SECRET_BYTES)
    return NewCredential(token=f"isoa_{key_id}_{secret}", key_id=key_id, secret_sha256=_digest(secret))


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


def authenticate(token: str, credentials: Mapping[str, Credential]) -> int:
    """Return the id of the agent that holds `token`; raise Refused with one answer for every cause but revocation."""
    found = _TOKEN.fullmatch(token)
    credential = None if found is None else credentials.get(found[1])
    stored = _NOBODY if credential is None else credential.secret_sha256
    same = hmac.compare_digest(_digest("" if found is None else found[2]), stored)
    if credential is None or not same:
        raise _unauthorized()
    if credential.revoked:
        raise Refused("revoked", "This credential was revoked. Ask the operator of the collector for a new one.")
    return credential.agent_id


def check_read_token(header: str | None, *, expected_sha256: str | None) -> None:
    """Raise Refused unless reading is open (`expected_sha256` is None) or `header` bears the token."""
    if expected_sha256 is not None and not hmac.compare_digest(_digest(bearer_token(header)), expected_sha256):
        raise _unauthorized()


def _digest(secret: str) -> str:
    return sha256(secret.encode()).hexdigest()


def _unauthorized() -> Refused:
    return Refused("unauthorized", "Send a valid token in the header: Authorization: Bearer <token>.")
