"""To which origins each endpoint's key may go: the operator's word, which no configuration from outside can widen.

    with the table [keys] in the settings      it is the whole list: a key that is not in it goes nowhere
    without it                                 a key is bound to all the origins with which the first configuration
                                               that names it does, until the agent is started again

A key is known by the name of its variable or the path of its file, never by its value.
"""

import os
from collections.abc import Iterable, Mapping
from typing import Final

from agent.config import parse_origin
from agent.telemetry import LOG
from isochrone.config import ApiKey, Assignment
from isochrone.names import printable

MAX_KEYS: Final = 1_000
"""Bound without a table: a configuration that names ever new ones must not fill the memory."""
_MOVED: Final = "write the origin under [keys] in the agent's settings, or start the agent again"


class Bindings:
    """Says whether a key may go to an origin (scheme://host:port)."""

    def __init__(self, table: Mapping[str, tuple[str, ...]] | None) -> None:
        """Take the table of the settings; None where there is none."""
        self._has_table = table is not None
        self._origins: dict[str, frozenset[str]] = {name: frozenset(bound) for name, bound in (table or {}).items()}

    def agree(self, targets: Iterable[Assignment]) -> None:
        """Bind the keys that are new in a configuration; tell the log which of the others it would send elsewhere."""
        named: dict[str, set[str]] = {}
        for target in targets:
            origin = _origin(target)
            if target.api_key is not None and origin is not None:
                named.setdefault(key_name(target.api_key), set()).add(origin)
        if not self._has_table:
            self._bind_new(named)
        for name, origins in named.items():
            self._warn(name, origins)

    def refusal(self, key: ApiKey, origin: str) -> str | None:
        """Return why `key` may not go to `origin`, in one line that says what to do; None if it may."""
        name = key_name(key)
        bound = self._origins.get(name)
        if bound is not None and origin in bound:
            return None
        if self._has_table:
            said = "is not in the table [keys]" if bound is None else f"is bound to {_listed(bound)}, not to {origin}"
            return f"the key {printable(name)} {said}: {origin} may get it once the agent's settings say so there"
        if bound is None:
            return f"the key {printable(name)} is bound to no origin: {_MOVED}"
        return f"the key {printable(name)} is bound to {_listed(bound)}, not to {origin}: {_MOVED}"

    def _bind_new(self, named: Mapping[str, set[str]]) -> None:
        """One file by two names is one key: the second name brings no origins of its own."""
        places = {os.path.realpath(name): name for name in self._origins if _is_path(name)}
        for name, origins in named.items():
            if name in self._origins or len(self._origins) >= MAX_KEYS:
                continue
            known = places.get(os.path.realpath(name)) if _is_path(name) else None
            self._origins[name] = frozenset(origins) if known is None else self._origins[known]

    def _warn(self, name: str, origins: set[str]) -> None:
        bound = self._origins.get(name, frozenset())
        if elsewhere := origins - bound:
            where = f"to {_listed(bound)}" if bound else "to no origin"
            LOG.warning(
                "config: sends the key %s to %s, but it is bound %s: refused, the probes end as denied",
                *(printable(name), _listed(elsewhere), where),
            )


def key_name(key: ApiKey) -> str:
    """Return how the table names a key: a variable by its name, a file by its path, which always has a slash."""
    if key.env is not None:
        return key.env
    path = key.file or ""
    return path if "/" in path else f"./{path}"


def _is_path(name: str) -> bool:
    return "/" in name


def _origin(target: Assignment) -> str | None:
    try:
        return str(parse_origin(target.url))
    except ValueError:  # never dialled
        return None


def _listed(origins: Iterable[str]) -> str:
    first, *others = sorted(origins)
    return f"{first} and {len(others)} more" if others else first
