"""Secrets in files: this agent's own credential, and the keys of endpoints. None is ever named by its value."""

import os
import re
import stat
from pathlib import Path
from typing import Final

import msgspec

from agent.errors import ConfigError

MAX_KEY_BYTES: Final = 16 * 1024
"""Longer than any provider's key, a JSON web token included."""

_ANYBODY: Final = stat.S_IROTH | stat.S_IWOTH
"""A group may read a secret: so containers are handed theirs."""
_TOKEN: Final = re.compile(r"isoa_[A-Za-z0-9-]{1,64}_[A-Za-z0-9_-]{16,128}")


class Private(msgspec.Struct, frozen=True, kw_only=True):
    """What is the agent's own: a configuration that names it as a key must not send it to an endpoint."""

    credential_file: Path
    state_dir: Path

    def holds(self, path: Path, status: os.stat_result) -> bool:
        """Tell whether the file at `path` is the credential, by whatever name, or stands in the state folder."""
        if path.resolve().is_relative_to(self.state_dir.resolve()):
            return True
        return any(_is_file(status, own) for own in (self.credential_file, next_credential(self.credential_file)))


def next_credential(path: Path) -> Path:
    """Return where the credential stands that shall follow the one at `path`."""
    return path.with_name(f"{path.name}.next")


def _is_file(status: os.stat_result, path: Path) -> bool:
    try:
        return os.path.samestat(status, path.stat())
    except OSError:
        return False


def read_credential(path: Path) -> str:
    """Return the agent's token; raise ConfigError if the file is unreadable, open to everybody, or holds none."""
    try:
        mode = path.stat().st_mode
        text = path.read_text(encoding="ascii").strip()
    except OSError as exc:
        raise ConfigError(
            f"{path}: the credential cannot be read: {exc.strerror}: name the file that `isochrone-agent enroll` made"
        ) from exc
    except UnicodeDecodeError as exc:
        raise ConfigError(f"{path}: holds no credential: it is not ASCII text") from exc
    if stat.S_IMODE(mode) & _ANYBODY:
        raise ConfigError(
            f"{path}: everybody may read this credential (mode {stat.S_IMODE(mode):04o}): chmod 600 {path}"
        )
    if _TOKEN.fullmatch(text) is None:
        raise ConfigError(f"{path}: holds no credential: expected one line isoa_<id>_<secret> (value not shown)")
    return text


def read_key(path: Path, private: Private) -> str:
    """Return the key in a file; raise ConfigError that says why there is none. Never waits for a pipe or a device."""
    try:
        data = _ordinary(path, private)
    except (OSError, ValueError) as exc:  # ValueError: a NUL in the path
        why = exc.strerror if isinstance(exc, OSError) else "is no path"
        raise ConfigError(f"no key for this endpoint: the file {path}: {why}") from exc
    text = data.decode("ascii", "replace").strip()
    if len(data) > MAX_KEY_BYTES or not text or not (text.isascii() and text.isprintable()):
        raise ConfigError(f"no key for this endpoint: the file {path}: expected the key alone, on one line")
    return text


def _ordinary(path: Path, private: Private) -> bytes:
    """Return the start of an ordinary file that is not the agent's own. Looked at before it is opened, and after."""
    _check_kind(path, path.stat(), private)
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as file:
        _check_kind(path, os.fstat(descriptor), private)
        return file.read(MAX_KEY_BYTES + 1)


def _check_kind(path: Path, status: os.stat_result, private: Private) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise ConfigError(f"no key for this endpoint: the file {path} is no ordinary file")
    if private.holds(path, status):
        raise ConfigError(f"no key for this endpoint: the file {path} is the agent's own: it never leaves it as a key")
    if (mode := stat.S_IMODE(status.st_mode)) & _ANYBODY:
        raise ConfigError(f"no key for this endpoint: everybody may read its file (mode {mode:04o}): chmod 600 {path}")
