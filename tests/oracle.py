"""The oracle: what an agent said that it recorded, held against what stands in Postgres.

An agent prints a result after it recorded it, so each printed (boot_id, seq) is an obligation. Kept means: it stands in
Postgres once, with the content that was printed; nothing stands there that no agent recorded; what is missing was
declared lost for want of room, to the very number; and some batch arrived twice, for a run without one proves nothing.
"""

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

Key = tuple[str, int]
"""(boot_id, seq): names a result of one agent for ever."""
Printed = dict[Key, dict[str, Any]]
NEARLY = 1e-5
"""Relative: many columns are float4."""
AS_STORED = {"started_at": "started_at_agent"}
"""The agent's own word stands beside the collector's reckoning."""
EXCUSES = frozenset({"full", "age"})
"""Losses that a limit of the disk explains; every other is a fault of ours, though it was declared."""
SHOWN = 3
"""Keys that a problem names."""


@dataclass(frozen=True, kw_only=True)
class Window:
    """Numbers of one run that the agent took without printing them: its disk was full, they stood in memory."""

    boot_id: str
    first: int
    last: int

    def keys(self) -> set[Key]:
        return {(self.boot_id, seq) for seq in range(self.first, self.last + 1)}


@dataclass(frozen=True, kw_only=True)
class Ledger:
    """Both sides of the account. `stored` are rows of `v_result`."""

    printed: Printed
    stored: list[dict[str, Any]]
    duplicates_told: int
    """Results that acknowledgements called duplicate."""
    declared: Mapping[str, int] = field(default_factory=dict)
    """Results that the agent reported as lost, by reason."""
    windows: tuple[Window, ...] = ()
    in_flight: int = 0
    """Results of one run that may be recorded and not yet printed when a kill comes."""
    counts: Counter[Key] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "counts", Counter((str(row["boot_id"]), row["seq"]) for row in self.stored))

    def recorded(self) -> set[Key]:
        """Return what the agents owe: what they printed, and what they took while they could not print."""
        return self.printed.keys() | {key for window in self.windows for key in window.keys()}  # noqa: SIM118  no dict

    def missing(self) -> set[Key]:
        return self.recorded() - self.counts.keys()

    def doubled(self) -> set[Key]:
        return {key for key, count in self.counts.items() if count > 1}

    def changed(self) -> dict[Key, list[str]]:
        """Return what is stored with another content than was printed, and the fields that differ."""
        rows = {(str(row["boot_id"]), row["seq"]): row for row in self.stored}
        differ = {key: differences(line, rows[key]) for key, line in self.printed.items() if key in rows}
        return {key: names for key, names in differ.items() if names}

    def invented(self) -> set[Key]:
        """Return what is stored and was never recorded. The last of a run may have been, in the instant of a kill."""
        last: dict[str, int] = {}
        for boot, seq in self.recorded():
            last[boot] = max(seq, last.get(boot, -1))
        return {
            (boot, seq)
            for boot, seq in self.counts.keys() - self.recorded()
            if boot not in last or not last[boot] < seq <= last[boot] + self.in_flight
        }

    def problems(self) -> list[str]:
        """Return every breach in words; none: every promise was kept."""
        missing = self.missing()
        found = []
        declared = sum(self.declared.values())
        if len(missing) != declared:
            found.append(f"{len(missing)} results are missing, {declared} were declared lost: {_few(missing)}")
        found += [f"{count} results were lost as {why}" for why, count in self.declared.items() if why not in EXCUSES]
        changed = self.changed()
        fields = ", ".join(sorted({name for names in changed.values() for name in names}))
        named = {"stand twice": self.doubled(), f"differ in {fields}": set(changed), "are invented": self.invented()}
        found += [f"{len(keys)} results {what}: {_few(keys)}" for what, keys in named.items() if keys]
        if not self.duplicates_told:
            found.append("no batch arrived twice: this run proves nothing")
        return found


def read_printed(text: str) -> Printed:
    """Return every whole line that the agents printed; a line that a kill cut short is no promise."""
    found = {}
    for line in text.splitlines():
        with suppress(ValueError):
            content = json.loads(line)
            found[content["boot_id"], content["seq"]] = content
    return found


def differences(line: dict[str, Any], row: dict[str, Any]) -> list[str]:
    """Return the fields that a printed line and its row both have, and not alike."""
    said = dict(_flat(line))
    return sorted(name for name in said.keys() & row.keys() if not _equal(said[name], row[name]))


def _flat(line: dict[str, Any]) -> Iterator[tuple[str, object]]:
    """Yield the fields of a line under the names that `v_result` gives them."""
    for name, value in line.items():
        if isinstance(value, dict):
            yield from ((f"{name}_{part}", content) for part, content in value.items())
        else:
            yield AS_STORED.get(name, name), value


def _equal(said: object, stands: object) -> bool:
    if isinstance(stands, datetime):
        return isinstance(said, str) and datetime.fromisoformat(said) == stands
    if isinstance(said, float | int) and isinstance(stands, float):
        return abs(said - stands) <= NEARLY * max(abs(said), 1e-3)
    if isinstance(said, list) and isinstance(stands, list):
        return sorted(map(str, said)) == sorted(map(str, stands))
    return said == stands or str(said) == str(stands)


def _few(keys: Iterable[Key]) -> str:
    return ", ".join(f"{boot}/{seq}" for boot, seq in sorted(keys)[:SHOWN])
