"""The agent's own settings, read once and frozen: a TOML file, then the environment (`ISOCHRONE_*`), flags last.

Every setting has one name: `state_dir` in the file, `ISOCHRONE_STATE_DIR` outside it. Unknown names are refused. The
table `[keys]` stands in a file alone.

What bounds a collector (`POLICY`) may stand in a file of its own, `policy_file`, which the agent need not be able to
write: what stands there, stands nowhere else.
"""

import difflib
import re
import stat
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import msgspec

from agent.config import limits
from agent.config.origin import parse_origin
from agent.errors import ConfigError
from isochrone.durations import parse_duration
from isochrone.names import printable

ENVIRONMENT_PREFIX: Final = "ISOCHRONE_"
MIN_FLUSH_SECONDS: Final = 1.0
MAX_FLUSH_SECONDS: Final = 300.0
MIN_INTERVAL_SECONDS: Final = 0.1
"""Nothing is probed more often, whoever asks for it."""
MAX_SETTINGS_BYTES: Final = 64 * 1024

_SIZE: Final = re.compile(r"(\d+)(B|KiB|MiB|GiB)?")
_SIZE_UNITS: Final = {None: 1, "B": 1, "KiB": 1024, "MiB": 1024**2, "GiB": 1024**3}
_VARIABLE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)
_LEVELS: Final = ("DEBUG", "INFO", "WARNING", "ERROR")


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """What the operator of this agent decided."""

    collector_url: str
    credential_file: Path
    state_dir: Path
    """Holds the spool, the last known configuration and the day's spending."""
    spool_max_bytes: int = 64 * 1024 * 1024
    spool_max_age: float = 7 * 86_400.0
    """Seconds."""
    max_in_flight: int = 16
    """Inference streams at once."""
    flush_interval: float = 10.0
    """Seconds; the collector's word goes before it."""
    allow: tuple[str, ...] = ()
    """Origins that may be probed (scheme://host:port); empty: all that are public."""
    ca_file: Path | None = None
    """Trusted instead of the system's authorities, for the collector."""
    log_level: str = "INFO"
    rotate_credential_every: float = 30 * 86_400.0
    """Seconds; each agent comes up to a fifth earlier or later."""
    policy_file: Path | None = None
    """A file with settings of `POLICY` alone; with it, a key that `keys` does not name goes nowhere."""
    allow_private: tuple[str, ...] = ()
    """Networks and host names whose addresses may be dialled though they are not public."""
    min_interval: float = MIN_INTERVAL_SECONDS
    """Seconds; a shorter interval is raised to it."""
    max_output_tokens: int | None = None
    """Of one probe; more are lowered to it."""
    max_requests_per_day: int | None = None
    """Inference requests of this agent in one UTC day."""
    max_tokens_per_day: int | None = None
    """Input and output, of this agent in one UTC day."""
    max_usd_per_day: float | None = None
    """Of this agent in one UTC day."""
    min_usd_per_million_tokens: float | None = None
    """What a million tokens cost at least, whatever the configuration gives as their price."""
    keys: dict[str, tuple[str, ...]] | None = None
    """Origins to which each key may go, by the name of its variable or the path of its file; None: no table."""


POLICY: Final = (
    "allow",
    "allow_private",
    "min_interval",
    "max_in_flight",
    "max_output_tokens",
    "max_requests_per_day",
    "max_tokens_per_day",
    "max_usd_per_day",
    "min_usd_per_million_tokens",
    "keys",
)
"""What a policy file may hold: the bounds of what a collector can ask for."""
FILE_SETTINGS: Final = ("keys",)
"""What has neither a variable nor an option."""
SETTINGS: Final = tuple(name for name in Settings.__struct_fields__ if name not in FILE_SETTINGS)


def load_settings(environment: Mapping[str, str], *, file: Path | None, flags: Mapping[str, str]) -> Settings:
    """Return the settings; raise ConfigError naming source, line, key, value and what would be right."""
    values = with_policy(_merged(environment, file=file, flags=flags))
    for key in ("collector_url", "credential_file"):
        if key not in values:
            name = ENVIRONMENT_PREFIX + key.upper()
            raise ConfigError(f"{name} is not set: set it, or write {key} into a file and name it with --settings")
    return Settings(**values)  # type: ignore[arg-type]  # each value was made by its own parser


def load_spool_settings(
    environment: Mapping[str, str], *, file: Path | None, flags: Mapping[str, str]
) -> tuple[Path, int]:
    """Return the state folder and the most bytes of its spool, without asking for the rest; raise as above."""
    values = _merged(environment, file=file, flags=flags)
    known = {key: values[key] for key in ("state_dir", "spool_max_bytes") if key in values}
    settings = Settings(collector_url="", credential_file=Path(), **known)  # type: ignore[arg-type]  # as above
    return settings.state_dir, settings.spool_max_bytes


def _merged(environment: Mapping[str, str], *, file: Path | None, flags: Mapping[str, str]) -> dict[str, object]:
    values: dict[str, object] = {"state_dir": default_state_dir(environment)}
    values |= {} if file is None else read_settings(file)
    values |= _from_environment(environment)
    return values | {key: _checked(f"--{key.replace('_', '-')}", key, value) for key, value in flags.items()}


def default_state_dir(environment: Mapping[str, str]) -> Path:
    """Return where state stands when nobody says: systemd's folder, else the user's."""
    if given := environment.get("STATE_DIRECTORY"):
        return Path(given.partition(":")[0])
    home = environment.get("XDG_STATE_HOME") or str(Path(environment.get("HOME") or "/") / ".local" / "state")
    return Path(home) / "isochrone"


def read_policy(path: Path) -> dict[str, object]:
    """Return what a policy file says, checked value by value; raise ConfigError as `load_settings` does."""
    try:
        mode = path.stat().st_mode
    except OSError as exc:
        raise ConfigError(f"{path}: cannot be read: {exc.strerror}") from exc
    if mode & stat.S_IWOTH:
        raise ConfigError(f"{path}: everybody may change this policy (mode {stat.S_IMODE(mode):04o}): chmod o-w {path}")
    said = read_settings(path)
    if foreign := [key for key in said if key not in POLICY]:
        raise ConfigError(f"{path}: {foreign[0]}: no part of a policy, it stands in the settings: {', '.join(POLICY)}")
    return said


def with_policy(values: dict[str, object]) -> dict[str, object]:
    """Return `values` with what their policy file says, if they name one; raise ConfigError for what is said twice."""
    path = values.get("policy_file")
    if not isinstance(path, Path):
        return values
    said = read_policy(path)
    for key in said.keys() & values.keys():
        raise ConfigError(f"{path}: {key}: stands among the agent's other settings too: leave one of the two out")
    return {"keys": {}, **values, **said}


def read_settings(path: Path) -> dict[str, object]:
    """Return what a TOML file says, checked value by value; raise ConfigError as `load_settings` does."""
    try:
        data = path.read_bytes()
        if len(data) > MAX_SETTINGS_BYTES:
            raise ConfigError(f"{path}: larger than {MAX_SETTINGS_BYTES} bytes: this is no settings file")
        text = data.decode()
        document = tomllib.loads(text)
    except OSError as exc:
        raise ConfigError(f"{path}: cannot be read: {exc.strerror}") from exc
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as exc:
        raise ConfigError(f"{path}: not TOML: {printable(str(exc))}") from exc
    return {key: _checked(_place(path, text, key), key, value) for key, value in document.items()}


def _place(path: Path, text: str, key: str) -> str:
    for number, line in enumerate(text.splitlines(), start=1):
        if re.match(rf"\s*(\[+\s*)?[\"']?{re.escape(key)}[\"']?\s*[=.\]]", line):
            return f"{path}:{number}: {printable(key)}"
    return f"{path}: {printable(key)}"


def _from_environment(environment: Mapping[str, str]) -> dict[str, object]:
    """Other programs of the family share the prefix: only what nearly names one of our settings is refused."""
    values: dict[str, object] = {}
    for name, value in environment.items():
        key = name.removeprefix(ENVIRONMENT_PREFIX).lower()
        if not name.startswith(ENVIRONMENT_PREFIX):
            continue
        if key in FILE_SETTINGS:
            raise ConfigError(f"environment: {name}: stands in the settings file alone, as the table [{key}]")
        if key in SETTINGS:
            values[key] = _checked(f"environment: {name}", key, value)
        elif near := difflib.get_close_matches(key, SETTINGS, n=1, cutoff=0.85):
            right = ENVIRONMENT_PREFIX + near[0].upper()
            raise ConfigError(f"environment: {printable(name)}: unknown setting (did you mean {right}?)")
    return values


def _checked(place: str, key: str, value: object) -> object:
    parser = _PARSERS.get(key)
    if parser is None:
        near = difflib.get_close_matches(key, _PARSERS, n=1)
        hint = f" (did you mean {near[0]!r}?)" if near else ""
        raise ConfigError(f"{place}: unknown setting{hint}; known: {', '.join(_PARSERS)}")
    try:
        return parser(value)
    except ValueError as exc:
        raise ConfigError(f"{place}: {exc}") from exc


def _text(value: object) -> str:
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"{limits.shown(value)} where text belongs")
    return value.strip()


def _path(value: object) -> Path:
    return Path(_text(value)).expanduser()


def _url(value: object) -> str:
    text = _text(value)
    parts = urlsplit(text)
    if parts.username is not None or parts.password is not None:
        raise ValueError("carries a user name or password (not shown): the credential file holds what is needed")
    if parts.query or parts.fragment:
        raise ValueError(f"{limits.shown(text)} has a query or a fragment: write the collector's address alone")
    parse_origin(text)
    return text.rstrip("/")


def _size(value: object) -> int:
    found = _SIZE.fullmatch(str(value)) if isinstance(value, str | int) else None
    size = 0 if found is None else int(found[1]) * _SIZE_UNITS[found[2]]
    if not 1024 * 1024 <= size <= 1024**4:
        raise ValueError(
            f"{limits.shown(value)} is no size between 1MiB and 1024GiB: write a number and a unit, as in 64MiB"
        )
    return size


def _seconds(low: float, high: float) -> Callable[[object], float]:
    def parse(value: object) -> float:
        seconds = parse_duration(value) if isinstance(value, str) else None
        if seconds is None or not low <= seconds <= high:
            raise ValueError(
                f"{limits.shown(value)} is no duration between {low:g}s and {high:g}s: write it as in 30s, 5m, 7d"
            )
        return seconds

    return parse


def _origins(value: object) -> tuple[str, ...]:
    items = value.split(",") if isinstance(value, str) else value
    if not isinstance(items, list) or not all(isinstance(item, str) for item in items):
        raise ValueError(
            f"{limits.shown(value)} is no list of origins, as in https://api.openai.com,https://example.org:8443"
        )
    return tuple(str(parse_origin(item.strip())) for item in items if item.strip())


def _keys(value: object) -> dict[str, tuple[str, ...]]:
    if not isinstance(value, dict):
        raise ValueError(f'{limits.shown(value)} is no table: write [keys] and, below it, OPENAI_API_KEY = "https://…"')  # noqa: TRY004  all parsers of settings say ValueError
    return {name: _bound(name, origins) for name, origins in value.items()}


def _bound(name: str, value: object) -> tuple[str, ...]:
    shown = printable(name, limit=80)
    if name in _PARSERS:
        raise ValueError(f"{shown} is a setting: it stands before [keys], for all that follows belongs to that table")
    if "/" not in name and not _VARIABLE.fullmatch(name):
        raise ValueError(f"{shown} is neither a variable nor a path: write a file in this folder as ./{shown}")
    items = [value] if isinstance(value, str) else value
    if not isinstance(items, list) or not items or not all(isinstance(item, str) for item in items):
        raise ValueError(
            f"{shown}: {limits.shown(value)} is no origin, as in https://api.openai.com, and no list of them"
        )
    try:
        return tuple(str(parse_origin(item.strip())) for item in items)
    except ValueError as exc:
        raise ValueError(f"{shown}: {exc}") from exc


def _level(value: object) -> str:
    if str(value).upper() not in _LEVELS:
        raise ValueError(f"{limits.shown(value)} is no log level; there are: {', '.join(_LEVELS)}")
    return str(value).upper()


_PARSERS: Final[dict[str, Callable[[object], object]]] = {
    "collector_url": _url,
    "credential_file": _path,
    "state_dir": _path,
    "spool_max_bytes": _size,
    "spool_max_age": _seconds(60, 365 * 86_400),
    "max_in_flight": limits.whole_number(1_000),  # more streams than one core reads
    "flush_interval": _seconds(MIN_FLUSH_SECONDS, MAX_FLUSH_SECONDS),
    "allow": _origins,
    "ca_file": _path,
    "log_level": _level,
    "rotate_credential_every": _seconds(3_600, 3_650 * 86_400),
    "policy_file": _path,
    "allow_private": limits.private_places,
    "min_interval": _seconds(MIN_INTERVAL_SECONDS, 86_400),
    "max_output_tokens": limits.whole_number(limits.MAX_OUTPUT_TOKENS),
    "max_requests_per_day": limits.whole_number(limits.MAX_DAY_COUNT),
    "max_tokens_per_day": limits.whole_number(limits.MAX_DAY_COUNT),
    "max_usd_per_day": limits.us_dollars,
    "min_usd_per_million_tokens": limits.us_dollars,
    "keys": _keys,
}
