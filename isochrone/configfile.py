"""The only door to YAML: text of a target file in, checked `Targets` out, or every problem with its line.

A small subset of YAML 1.2 is read, on purpose: plain values are text, whole numbers, numbers, true/false or null (`NO`
is text: Norway keeps its name); keys stand once; aliases are copied under a bound; tags, merge keys and a second
document are refused. The tree is built from events, without recursion in the parser: no file can take the process down.
"""

import re
from typing import Final

import msgspec
import yaml

from isochrone.config import Targets
from isochrone.configcheck import Path, Problem, check_targets
from isochrone.configcheck.shape import dotted
from isochrone.names import printable

MAX_FILE_BYTES: Final = 1024 * 1024
MAX_NODES: Final = 100_000
"""Values in one file, aliases written out: bounds what a file of nested aliases can grow to."""
MAX_DEPTH: Final = 16
"""Levels of nesting: the model needs six."""

_NULL: Final = frozenset({"", "~", "null", "Null", "NULL"})
_BOOL: Final = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_INT: Final = re.compile(r"[-+]?[0-9]{1,18}")
_FLOAT: Final = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]{1,3})?")
_TEXT_TAGS: Final = frozenset({"tag:yaml.org,2002:str", "!"})


class ConfigFileError(ValueError):
    """A target file that is not taken. Its text holds one line for each problem."""

    def __init__(self, problems: list[Problem]) -> None:
        super().__init__("\n".join(str(problem) for problem in problems))
        self.problems: tuple[Problem, ...] = tuple(problems)


class _Node(msgspec.Struct):
    """One value of the document. `content`: a builtin, a list of nodes, or pairs of keys and nodes."""

    line: int
    content: object
    done: bool = True


class _Pairs(list[tuple[str, int, _Node]]):
    """A mapping as written: key, its line, value."""


class _Refused(Exception):
    def __init__(self, line: int | None, message: str, path: Path = ()) -> None:
        super().__init__(message)
        self.line, self.message, self.path = line, message, path


def load_targets(text: str, name: str) -> Targets:
    """Return the targets in `text`; raise ConfigFileError with every problem. `name` is the file, for the messages."""
    try:
        writer = _Builtins()
        document = writer.builtin(_compose(text), ())
    except _Refused as exc:
        problem = Problem(path=name, line=exc.line, key=dotted(exc.path), value=None, message=exc.message)
        raise ConfigFileError([problem]) from exc
    checked = check_targets(document, writer.lines, name)
    if isinstance(checked, Targets):
        return checked
    raise ConfigFileError(checked)


class _Builtins:
    """Writes a tree of nodes as builtins and notes the line of every path."""

    def __init__(self) -> None:
        self.lines: dict[Path, int] = {}
        self._nodes = 0

    def builtin(self, node: _Node, path: Path) -> object:
        self._nodes += 1
        if self._nodes > MAX_NODES:
            raise _Refused(node.line, f"more than {MAX_NODES} values, aliases written out")
        if len(path) > MAX_DEPTH:
            raise _Refused(node.line, f"nested deeper than {MAX_DEPTH} levels")
        self.lines.setdefault(path, node.line)
        if isinstance(node.content, _Pairs):
            return self._mapping(node.content, path)
        if isinstance(node.content, list):
            return [self.builtin(item, (*path, index)) for index, item in enumerate(node.content)]
        return node.content

    def _mapping(self, pairs: _Pairs, path: Path) -> dict[str, object]:
        made: dict[str, object] = {}
        for key, line, node in pairs:
            here = (*path, key)
            if key in made:
                raise _Refused(line, f"stands here twice (first in line {self.lines[here]})", here)
            self.lines[here] = line
            made[key] = self.builtin(node, here)
        return made


def _compose(text: str) -> _Node:
    """Return the document as a tree of nodes."""
    if len(text) > MAX_FILE_BYTES or len(text.encode("utf-8", "replace")) > MAX_FILE_BYTES:
        raise _Refused(None, f"the file is larger than {MAX_FILE_BYTES} bytes")
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # the C parser reads 1 MiB in 0.1 s, the other in 4 s
    composer = _Composer()
    try:
        for event in yaml.parse(text, Loader=loader):
            composer.take(event)
    except yaml.MarkedYAMLError as exc:
        mark = exc.problem_mark or exc.context_mark
        line = None if mark is None else mark.line + 1
        raise _Refused(line, f"not YAML: {printable(exc.problem or exc.context or 'cannot be read')}") from exc
    except (yaml.YAMLError, UnicodeError) as exc:
        raise _Refused(None, f"not YAML: {printable(str(exc))}") from exc
    if composer.root is None:
        raise _Refused(None, "the file is empty: it needs at least modules and endpoints")
    return composer.root


class _Composer:
    """Builds nodes from parser events with a stack of its own."""

    def __init__(self) -> None:
        self.root: _Node | None = None
        self._anchors: dict[str, _Node] = {}
        self._open: list[_Node] = []
        self._keys: list[tuple[str, int] | None] = []

    def take(self, event: yaml.Event) -> None:
        line = 1 if event.start_mark is None else event.start_mark.line + 1
        if isinstance(event, yaml.DocumentStartEvent) and self.root is not None:
            raise _Refused(line, "a second document: one file holds one")
        if isinstance(event, yaml.AliasEvent):
            self._add(self._anchored(event.anchor, line))
        elif isinstance(event, yaml.ScalarEvent):
            self._scalar(event, line)
        elif isinstance(event, yaml.CollectionStartEvent):
            self._start(event, line)
        elif isinstance(event, yaml.CollectionEndEvent):
            self._open.pop().done = True
            self._keys.pop()

    def _start(self, event: yaml.CollectionStartEvent, line: int) -> None:
        _refuse_tag(event, line)
        if len(self._open) >= MAX_DEPTH:
            raise _Refused(line, f"nested deeper than {MAX_DEPTH} levels")
        is_mapping = isinstance(event, yaml.MappingStartEvent)
        node = _Node(line, _Pairs() if is_mapping else [], done=False)
        self._add(node, event.anchor)
        self._open.append(node)
        self._keys.append(None)

    def _scalar(self, event: yaml.ScalarEvent, line: int) -> None:
        _refuse_tag(event, line)
        if self._awaits_key():
            if event.value == "<<" and not event.style:
                raise _Refused(line, "merge keys (<<) are not read: write the keys out")
            self._keys[-1] = (event.value, line)
            return
        plain = not event.style and event.tag is None
        self._add(_Node(line, _plain(event.value) if plain else event.value), event.anchor)

    def _awaits_key(self) -> bool:
        return bool(self._open) and isinstance(self._open[-1].content, _Pairs) and self._keys[-1] is None

    def _anchored(self, anchor: str | None, line: int) -> _Node:
        node = self._anchors.get(anchor or "")
        if node is None or not node.done:
            raise _Refused(line, f"the alias *{printable(anchor or '', limit=40)} has no finished anchor before it")
        return node

    def _add(self, node: _Node, anchor: str | None = None) -> None:
        if self._awaits_key():
            raise _Refused(node.line, "a key must be plain text")
        if anchor is not None:
            self._anchors[anchor] = node
        if not self._open:
            self.root = node
            return
        content = self._open[-1].content
        key = self._keys[-1]
        if isinstance(content, _Pairs) and key is not None:
            content.append((*key, node))
            self._keys[-1] = None
        elif isinstance(content, list):
            content.append(node)


def _refuse_tag(event: yaml.ScalarEvent | yaml.CollectionStartEvent, line: int) -> None:
    if event.tag is not None and event.tag not in _TEXT_TAGS:
        raise _Refused(line, f"the tag {printable(event.tag, limit=60)} is not read: write a plain value")


def _plain(text: str) -> object:
    """Return the value of an unquoted scalar (YAML 1.2 core schema, without infinities and other bases)."""
    if text in _NULL:
        return None
    if text in _BOOL:
        return _BOOL[text]
    if _INT.fullmatch(text):
        return int(text)
    return float(text) if _FLOAT.fullmatch(text) else text
