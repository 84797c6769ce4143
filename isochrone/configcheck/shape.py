"""The shape of a target file: known keys, types and bounds, walked beside the types of `isochrone.config`. Pure."""

import difflib
import types
import typing
from collections.abc import Mapping
from enum import StrEnum
from typing import Any, Final

import msgspec

from isochrone.config import ApiKey, Duration, dec_hook
from isochrone.names import NAME_PATTERN, printable

Path = tuple[str | int, ...]
"""Where a value stands: keys and places in lists, from the root."""

_PLAIN: Final = {
    "str": "text (in quotes if it looks like a number)",
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "array": "a list",
    "object": "keys with values",
}


class Problem(msgspec.Struct, frozen=True, kw_only=True):
    """One mistake in a target file. `str()` of it is the line for the operator."""

    path: str
    """Name of the file."""
    line: int | None
    """From 1; None where it cannot be told."""
    key: str
    """Dotted, from the root of the document; empty for the document itself."""
    value: str | None
    """As written, shortened; None where it is missing or could be a secret."""
    message: str
    """What is wrong and what would be right; names the value."""

    def __str__(self) -> str:
        place = self.path if self.line is None else f"{self.path}:{self.line}"
        return f"{place}: {self.key}: {self.message}" if self.key else f"{place}: {self.message}"


def dotted(path: Path) -> str:
    """Return `path` as people write it: `endpoints[0].url`."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{printable(part)}"
    return text.removeprefix(".")


def closest(word: str, known: typing.Iterable[str]) -> str:
    """Return ` (did you mean 'x'?)` when one of `known` is near `word`, else an empty text."""
    return _hint(difflib.get_close_matches(word, list(known), n=1))


def _hint(near: list[str]) -> str:
    return f" (did you mean {near[0]!r}?)" if near else ""


class ShapeChecker:
    """Walks a document beside the types of the model; keeps what was well formed, by path, and every problem."""

    def __init__(self, lines: Mapping[Path, int], name: str) -> None:
        self.problems: list[Problem] = []
        self.built: dict[Path, object] = {}
        self._lines = lines
        self._name = name

    def add(self, path: Path, message: str, *, value: str | None = None) -> None:
        """Note a problem at `path`."""
        problem = Problem(path=self._name, line=self._line(path), key=dotted(path), value=value, message=message)
        self.problems.append(problem)

    def value(self, path: Path, value: object, kind: Any) -> object | None:  # noqa: ANN401  a type expression
        """Return `value` as `kind`, or None when it, or something in it, is wrong."""
        made = self._value(path, value, kind)
        if made is not None:
            self.built[path] = made
        return made

    def _value(self, path: Path, value: object, kind: Any) -> object | None:  # noqa: ANN401  a type expression
        kind, optional = _without_none(kind)
        if value is None and optional:
            return None
        if kind is ApiKey:
            return self._api_key(path, value)
        origin = typing.get_origin(kind)
        if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
            return self._struct(path, value, kind)
        if origin is dict:
            return self._mapping(path, value, kind)
        if origin is tuple:
            return self._list(path, value, typing.get_args(kind)[0])
        return self._leaf(path, value, kind)

    def _line(self, path: Path) -> int | None:
        while path and path not in self._lines:
            path = path[:-1]
        return self._lines.get(path)

    def _struct(self, path: Path, value: object, kind: type[msgspec.Struct]) -> object | None:
        if not isinstance(value, dict):
            self.add(path, f"{shown(value)} where keys with values belong", value=shown(value))
            return None
        before = len(self.problems)
        fields = {field.name: field for field in msgspec.structs.fields(kind)}
        self._keys(path, value, {name: field.required for name, field in fields.items()})
        present = {name: self.value((*path, name), value[name], fields[name].type) for name in fields if name in value}
        if len(self.problems) > before:
            return None
        return kind(**present)

    def _keys(self, path: Path, value: dict[str, object], known: dict[str, bool]) -> None:
        """Tell unknown keys, and missing ones that no unknown key misspells. `known` tells which are required."""
        meant: set[str] = set()
        for key in (key for key in value if key not in known):
            absent = [name for name in known if name not in value]
            near = difflib.get_close_matches(key, absent, n=1) or difflib.get_close_matches(key, known, n=1)
            meant.update(near)
            self.add((*path, key), f"unknown key{_hint(near)}; known here: {', '.join(known)}")
        for name in (name for name, required in known.items() if required and name not in value and name not in meant):
            self.add((*path, name), "missing: it has no default")

    def _mapping(self, path: Path, value: object, kind: Any) -> object | None:  # noqa: ANN401  a type expression
        if not isinstance(value, dict):
            self.add(path, f"{shown(value)} where names with values belong", value=shown(value))
            return None
        before = len(self.problems)
        key_kind, value_kind = typing.get_args(kind)
        made = {
            self._leaf((*path, key), key, key_kind): self.value((*path, key), item, value_kind)
            for key, item in value.items()
        }
        return made if len(self.problems) == before else None

    def _list(self, path: Path, value: object, kind: Any) -> object | None:  # noqa: ANN401  a type expression
        if not isinstance(value, list):
            self.add(path, f"{shown(value)} where a list belongs, as in [{shown_item(value)}]", value=shown(value))
            return None
        before = len(self.problems)
        made = tuple(self.value((*path, index), item, kind) for index, item in enumerate(value))
        return made if len(self.problems) == before else None

    def _leaf(self, path: Path, value: object, kind: Any) -> object | None:  # noqa: ANN401  a type expression
        try:
            converted: object = msgspec.convert(value, kind, dec_hook=dec_hook)
        except msgspec.ValidationError as exc:
            self.add(path, _leaf_message(value, kind, str(exc)), value=shown(value))
            return None
        return converted

    def _api_key(self, path: Path, value: object) -> object | None:
        """Return the place of a key. A literal key may stand anywhere in here: no value is ever shown."""
        form = "write {env: NAME} or {file: PATH}"
        if not isinstance(value, dict):
            self.add(path, f"a key itself never stands in a target file: {form} (value not shown)")
        elif len(value) != 1 or next(iter(value)) not in {"env", "file"}:
            self.add(path, f"names exactly one place where the agent finds the key: {form} (value not shown)")
        else:
            try:
                return msgspec.convert(value, ApiKey)
            except msgspec.ValidationError:
                place = next(iter(value))
                right = {"env": "the name of an environment variable", "file": "the path of a file"}[place]
                self.add((*path, place), f"is not {right} (value not shown)")
        return None


def shown(value: object) -> str:
    """Return `value` for a message: short, on one line."""
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list):
        return "a list"
    return "nothing" if value is None else printable(repr(value), limit=80)


def shown_item(value: object) -> str:
    """Return `value` as it would stand in a list of the file."""
    return printable(str(value), limit=60) if isinstance(value, str | int | float) else "…"


def _leaf_message(value: object, kind: Any, text: str) -> str:  # noqa: ANN401  a type expression
    if isinstance(kind, type) and issubclass(kind, StrEnum):
        known = [member.value for member in kind]
        return f"{shown(value)} is not available{closest(str(value), known)}; available: {', '.join(known)}"
    if typing.get_origin(kind) is typing.Literal:
        known = [str(choice) for choice in typing.get_args(kind)]
        return f"{shown(value)} is not available; available: {', '.join(known)}"
    if kind is Duration:
        return text.partition(" - at ")[0]
    if any(getattr(meta, "pattern", None) == NAME_PATTERN for meta in typing.get_args(kind)):
        return f"{shown(value)} is no name: a-z, 0-9 and . _ / - (first a letter or digit, at most 64 characters)"
    expected = text.partition(", got")[0].replace("Expected ", "").replace("`", "")
    word, _, bound = expected.partition(" ")
    return f"{shown(value)} where {' '.join([_PLAIN.get(word, word), bound]).strip()} belongs"


def _without_none(kind: Any) -> tuple[Any, bool]:  # noqa: ANN401  a type expression
    if typing.get_origin(kind) in {typing.Union, types.UnionType}:
        parts = [part for part in typing.get_args(kind) if part is not type(None)]
        return parts[0], True
    return kind, False
