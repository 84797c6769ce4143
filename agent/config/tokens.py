"""Tokens: the agent's own, which it makes itself, and the join token that lets it in. Neither is shown by its value."""

import os
import re
import secrets
import stat
import sys
from hashlib import sha256
from pathlib import Path
from typing import Final

import msgspec

from agent.errors import ConfigError

KEY_ID_BYTES: Final = 8
SECRET_BYTES: Final = 32
MAX_JOIN_TOKEN_BYTES: Final = 1024

_OWN: Final = re.compile(r"isoa_([0-9a-f]{16})_([A-Za-z0-9_-]{20,128})")
_JOIN: Final = re.compile(r"isoe_[0-9a-f]{16}_[A-Za-z0-9_-]{20,128}")


class OwnToken(msgspec.Struct, frozen=True, kw_only=True):
    """A credential, and what a collector may know of it: its key id, and the digest of its secret."""

    token: str
    key_id: str
    secret_sha256: str

    def __repr__(self) -> str:
        return f"OwnToken(key_id={self.key_id!r})"


def new_token() -> OwnToken:
    """Return a random credential."""
    return own_token(f"isoa_{secrets.token_hex(KEY_ID_BYTES)}_{secrets.token_urlsafe(SECRET_BYTES)}")


def own_token(token: str) -> OwnToken:
    """Return a credential taken apart; raise ValueError, without the value, for another form."""
    found = _OWN.fullmatch(token)
    if found is None:
        raise ValueError("holds no credential: expected one line isoa_<id>_<secret> (value not shown)")
    return OwnToken(token=token, key_id=found[1], secret_sha256=sha256(found[2].encode()).hexdigest())


def read_join_token(path: Path | None) -> str:
    """Return the join token in a file, or on standard input (None); raise ConfigError that says what is wrong."""
    place = "standard input" if path is None else str(path)
    try:
        data = sys.stdin.buffer.read(MAX_JOIN_TOKEN_BYTES + 1) if path is None else _private(path)
    except OSError as exc:
        raise ConfigError(f"{place}: the join token cannot be read: {exc.strerror}") from exc
    text = data.decode("ascii", "replace").strip()
    if _JOIN.fullmatch(text) is None:
        raise ConfigError(f"{place}: holds no join token: expected one line isoe_<id>_<secret> (value not shown)")
    return text


def _private(path: Path) -> bytes:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOCTTY)
    with os.fdopen(descriptor, "rb") as file:
        mode = os.fstat(descriptor).st_mode
        if stat.S_ISREG(mode) and stat.S_IMODE(mode) & (stat.S_IROTH | stat.S_IWOTH):
            shown = f"{stat.S_IMODE(mode):04o}"
            raise ConfigError(f"{path}: everybody may read this join token (mode {shown}): chmod 600 {path}")
        return file.read(MAX_JOIN_TOKEN_BYTES + 1)
