"""The files of `up`: the data folder, its lock, the agent's credential."""

import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import IO, Final

from collector.embedded import hold_folder
from collector.errors import SettingsError

_READ_VARIABLE: Final = "ISOCHRONE_READ_TOKEN_FILE"


def default_data(environment: Mapping[str, str]) -> Path:
    """Return where data stand when nobody says (XDG Base Directory: relative paths do not count)."""
    base = environment.get("XDG_DATA_HOME", "")
    return (Path(base) if base.startswith("/") else Path.home() / ".local" / "share") / "isochrone"


def open_data(data: Path) -> IO[str]:
    """Make the folder and hold it against another `up`; raise SettingsError when it cannot be used."""
    try:
        # As root, Postgres' own user must pass through, and may see nothing else.
        data.mkdir(mode=0o711 if os.geteuid() == 0 else 0o700, parents=True, exist_ok=True)
        (data / "log").mkdir(mode=0o700, exist_ok=True)
    except OSError as exc:
        raise SettingsError(f"--data {data}: {exc.strerror}: choose a folder that you may write") from exc
    return hold_folder(data)


def forget_agent_config(data: Path) -> None:
    """Let the agent begin with what the collector says: what it kept may ask for endpoints that are gone by now."""
    for kept in (data / "agent").glob("config*.json"):
        kept.unlink(missing_ok=True)


def reading_is_closed(environment: Mapping[str, str]) -> bool:
    """Return whether the operator asked for a token before anything is read."""
    return _READ_VARIABLE in environment


def read_token(environment: Mapping[str, str]) -> str | None:
    """Return the token that reading asks for, when the operator set one; None: reading is open."""
    name = environment.get(_READ_VARIABLE)
    if name is None:
        return None
    with suppress(OSError, UnicodeDecodeError):  # the collector refuses such a file and says why
        return Path(name).read_text(encoding="utf-8").strip()
    return None


def write_secret(path: Path, token: str) -> None:
    """Put `token` into a file that only we may read, whole or not at all."""
    fresh = path.with_name(f"{path.name}.new")
    fresh.unlink(missing_ok=True)
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="ascii") as file:
        file.write(f"{token}\n")
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)
