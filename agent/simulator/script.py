"""What the simulator plays: one scenario, or a file of named ones chosen by the request's model.

    default = "steady"                      # TOML, or the same as JSON
    [scenarios.steady]
    ttft = "300ms"
    [scenarios.limited]
    status = 429
    retry_after = "20"

What a scenario of a file leaves out, it takes from the command line.
"""

import json
import tomllib
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Final

import msgspec

from agent.errors import ConfigError
from isochrone.config import Duration, dec_hook

MAX_SCRIPT_BYTES: Final = 256 * 1024
_Tokens = Annotated[int, msgspec.Meta(ge=0, le=100_000)]
_Positive = Annotated[int, msgspec.Meta(ge=1, le=100_000)]


class Silence(StrEnum):
    """Where an endless silence begins."""

    HEADERS = "headers"
    TOKENS = "tokens"
    STALL = "stall"
    """After half of the tokens."""


class Scenario(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How one request is answered."""

    ttft: Duration = Duration(0.3)
    """From the request (and one `rtt`) to the first token."""
    tpot: Duration = Duration(0.02)
    tokens: _Tokens = 32
    """At most; fewer where the request asks for fewer."""
    rtt: Duration = Duration(0)
    """Delays every answer, as distance would."""
    jitter: Annotated[float, msgspec.Meta(ge=0, le=1)] = 0.0
    """Each of `ttft`, `rtt` and the gaps is spread evenly by this share of itself, up and down."""
    status: Annotated[int, msgspec.Meta(ge=200, le=599)] = 200
    retry_after: str | None = None
    content_type: str | None = None
    body: str | None = None
    """Answered whole, instead of a stream."""
    silence: Silence | None = None
    cut_after: _Tokens | None = None
    """Tokens after which the connection is cut, in the middle of the body."""
    end_after: _Tokens | None = None
    """Tokens after which the body ends well, but without finish_reason, usage and [DONE]."""
    error_after: _Tokens | None = None
    """Tokens after which an error event comes."""
    reasoning: _Tokens = 0
    """How many of the tokens are `reasoning_content`."""
    hidden_reasoning: _Tokens = 0
    """Reasoning tokens that usage counts and nobody sees."""
    tool: bool = False
    """The tokens are those of a tool call."""
    per_event: _Positive = 1
    """Tokens in one event."""
    coalesce: _Positive = 1
    """Events gathered into one write, as a buffering proxy does."""
    crlf: bool = False
    role: bool = True
    """A role-only event comes with the headers, and an event with empty choices before it."""
    comments: bool = False
    """Keep-alive comments stand before each token, in both spellings."""
    usage: bool = True
    finish: bool = True
    done: bool = True


class Script(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Named scenarios; `default` answers every model that none is named for."""

    default: Scenario = Scenario()
    scenarios: dict[str, Scenario] = {}

    def scenario(self, model: str | None) -> Scenario:
        """Return how a request for `model` is answered."""
        return self.scenarios.get(model or "", self.default)


def load_script(path: Path, base: Scenario) -> Script:
    """Return the script in a TOML or JSON file, over `base`; raise ConfigError naming file and key."""
    try:
        raw = path.read_bytes()[:MAX_SCRIPT_BYTES]
        content = json.loads(raw) if path.suffix == ".json" else tomllib.loads(raw.decode("utf-8"))
        return _script(content, base)
    except OSError as exc:
        raise ConfigError(f"{path}: {exc.strerror}") from exc
    except (ValueError, AttributeError) as exc:  # each library's own errors are ValueErrors
        raise ConfigError(f"{path}: {exc}") from exc


def _script(content: object, base: Scenario) -> Script:
    if not isinstance(content, dict) or not isinstance(content.get("scenarios", {}), dict):
        raise ValueError("a script is a table with `scenarios` and, if wanted, `default`")  # noqa: TRY004  one kind of error
    unknown = set(content) - {"default", "scenarios"}
    if unknown:
        raise ValueError(f"{min(unknown)!r} is no key of a script: write `scenarios` or `default`")
    given = {name: field for name, field in _fields(base).items() if field is not None}
    scenarios = {name: _scenario(name, fields, given) for name, fields in content.get("scenarios", {}).items()}
    default = content.get("default")
    if default is None:
        return Script(default=base, scenarios=scenarios)
    if not isinstance(default, str) or default not in scenarios:
        raise ValueError(f"default: {default!r} is none of the scenarios ({', '.join(sorted(scenarios))})")
    return Script(default=scenarios[default], scenarios=scenarios)


def _scenario(name: str, fields: object, base: dict[str, object]) -> Scenario:
    if not isinstance(fields, dict):
        raise ValueError(f"scenarios.{name}: a scenario is a table of keys and values")  # noqa: TRY004  one kind of error
    try:
        return msgspec.convert({**base, **fields}, Scenario, dec_hook=_dec_hook)
    except msgspec.ValidationError as exc:
        raise ValueError(f"scenarios.{name}: {exc}") from exc


def _dec_hook(kind: type, value: object) -> object:
    return value if isinstance(value, Duration) else dec_hook(kind, value)


def _fields(scenario: Scenario) -> dict[str, object]:
    return {name: getattr(scenario, name) for name in scenario.__struct_fields__}
