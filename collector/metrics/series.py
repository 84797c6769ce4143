"""A store of series that is cheap to feed and to write: plain lists, bisect, texts made once. Pure.

The client library's children cost 20 times as much to feed, and 50,000 of its series take a second to write. Here all
lines of a histogram are one text with places for its numbers, filled by one operation.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from itertools import accumulate
from typing import Final, Generic, NamedTuple, TypeVar

import msgspec

_ESCAPES: Final = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n"})
_EXACT: Final = 2**53
_PLACE: Final = "\0"
"""Stands for the labels in a family's text; they are filled in last, and may hold anything."""


class Definition(msgspec.Struct, frozen=True):
    """What a family is called and what it says."""

    name: str
    kind: str
    labels: tuple[str, ...]
    help: str
    bounds: tuple[float, ...] = ()
    known: Mapping[str, tuple[str, ...]] = {}
    """The values of labels that have no others."""
    note: str = ""
    """What the reference says beside the help; Markdown."""

    @property
    def lines_each(self) -> int:
        """How many lines one series takes, each of which Prometheus counts as a series."""
        return {"histogram": len(self.bounds) + 3, "summary": 2}.get(self.kind, 1)


class Origin(NamedTuple):
    """The result that a value comes from, for an exemplar."""

    boot_id: str
    seq: int
    at: float
    """When it started by the collector's clock, Unix time."""


class Number:
    """One gauge or counter."""

    __slots__ = ("_prefix", "value")

    def __init__(self, family: "Family[Number]", labels: str) -> None:
        self._prefix = f"{family.name}{{{labels}}} " if labels else f"{family.name} "
        self.value = 0.0

    def add(self, amount: float = 1.0) -> None:
        """Count."""
        self.value += amount

    def set(self, value: float) -> None:
        """Replace the value."""
        self.value = value

    def text(self, *, exemplars: bool = False) -> str:  # noqa: ARG002  a number has none
        """Return the exposition."""
        return f"{self._prefix}{_number(self.value)}\n"


class Summary:
    """A sum and a count, without quantiles."""

    __slots__ = ("_labels", "_name", "count", "sum")

    def __init__(self, family: "Family[Summary]", labels: str) -> None:
        self._name, self._labels = family.name, f"{{{labels}}} " if labels else " "
        self.sum = 0.0
        self.count = 0

    def observe(self, value: float) -> None:
        """Add one value."""
        self.sum += value
        self.count += 1

    def text(self, *, exemplars: bool = False) -> str:  # noqa: ARG002  a summary has none
        """Return the exposition."""
        name, labels = self._name, self._labels
        return f"{name}_sum{labels}{_number(self.sum)}\n{name}_count{labels}{self.count}\n"


class Histogram:
    """Counts between bounds. The count is their sum, so that a reader in another thread sees one that agrees."""

    __slots__ = ("_bounds", "_counts", "_exemplars", "_template", "sum")

    def __init__(self, family: "Family[Histogram]", labels: str) -> None:
        self._bounds = family.definition.bounds
        self._counts = [0] * (len(self._bounds) + 1)
        self._exemplars: dict[int, tuple[float, Origin]] | None = None
        """The newest of each bucket."""
        self.sum = 0.0
        self._template = family.histogram_text(labels.replace("%", "%%"))

    @property
    def count(self) -> int:
        """How many values were observed."""
        return sum(self._counts)

    def observe(self, value: float, origin: Origin | None = None) -> None:
        """Add one value to the first bucket whose bound is not below it."""
        place = bisect_left(self._bounds, value)
        self._counts[place] += 1
        self.sum += value
        if origin is not None:
            if self._exemplars is None:
                self._exemplars = {}
            self._exemplars[place] = (value, origin)

    def text(self, *, exemplars: bool = False) -> str:
        """Return the exposition."""
        # Copied at once, in C: a batch that comes in meanwhile is in all buckets or in none.
        counts = tuple(accumulate(self._counts))
        cells: Sequence[object] = counts
        if exemplars and self._exemplars is not None:
            cells = _with_exemplars(counts, self._exemplars.copy())
        return self._template % (*cells, _number(self.sum), counts[-1])


S = TypeVar("S", Number, Summary, Histogram)


class Family(Generic[S]):
    """All series of one name, by the values of its labels."""

    def __init__(self, make: Callable[["Family[S]", str], S], definition: Definition) -> None:
        self._make: Callable[[Family[S], str], S] = make
        self.definition = definition
        self.name = definition.name
        self.kind = definition.kind
        self.labels = definition.labels
        self._series: dict[tuple[str, ...], S] = {}
        self._touched: set[tuple[str, ...]] = set()
        self._takers: dict[tuple[str, ...], int] = {}
        """How many hold a series that they took."""
        self._histogram_texts = _histogram_texts(definition) if definition.kind == "histogram" else ("", "")

    def series(self, *values: str) -> S:
        """Return the series with these label values; it starts at 0."""
        self._touched.add(values)
        found = self._series.get(values)
        if found is None:
            found = self._series[values] = self._make(self, label_text(self.labels, values))
        return found

    def take(self, values: tuple[str, ...]) -> S:
        """Return the series as `series` does; it lives until all who took it have given it back."""
        self._takers[values] = self._takers.get(values, 0) + 1
        found = self._series.get(values)
        if found is None:
            found = self._series[values] = self._make(self, label_text(self.labels, values))
        return found

    def give_back(self, values: tuple[str, ...]) -> None:
        """Let go of a series that was taken."""
        left = self._takers[values] - 1
        if left:
            self._takers[values] = left
        else:
            del self._takers[values], self._series[values]

    def discard(self, *values: str) -> None:
        """Remove the series if it exists."""
        self._series.pop(values, None)

    def keys(self) -> AbstractSet[tuple[str, ...]]:
        """Return the label values of all series."""
        return self._series.keys()

    def retain(self, wanted: Iterable[tuple[str, ...]]) -> None:
        """Remove all other series."""
        for values in self._series.keys() - set(wanted):
            del self._series[values]

    def begin(self) -> None:
        """Start to ask anew which series are wanted."""
        self._touched = set()

    def sweep(self) -> None:
        """Remove the series that nobody asked for since `begin`."""
        for values in [values for values in self._series if values not in self._touched]:
            del self._series[values]

    def __len__(self) -> int:
        return len(self._series)

    @property
    def lines_count(self) -> int:
        """How many lines all series take."""
        return len(self._series) * self.definition.lines_each

    def histogram_text(self, labels: str) -> str:
        """Return the lines of one histogram with a place for each of its numbers."""
        with_labels, without = self._histogram_texts
        return with_labels.replace(_PLACE, labels) if labels else without

    def text(self, *, openmetrics: bool = False) -> str:
        """Return the exposition; nothing at all without series."""
        series = list(self._series.values())
        if not series:
            return ""
        # OpenMetrics names a counter's family without the suffix that its samples have.
        name = self.name.removesuffix("_total") if openmetrics and self.kind == "counter" else self.name
        head = f"# HELP {name} {self.definition.help}\n# TYPE {name} {self.kind}\n"
        return head + "".join([one.text(exemplars=openmetrics) for one in series])


def label_text(names: Sequence[str], values: Sequence[str]) -> str:
    """Return `name="value",…` with the values escaped as the text format wants."""
    return ",".join(f'{name}="{value.translate(_ESCAPES)}"' for name, value in zip(names, values, strict=True))


def ratio_bounds(first: float, last: float, *, ratio: float = 1.25) -> tuple[float, ...]:
    """Return bounds from `first`, each `ratio` times the one before, to the first that is not below `last`."""
    bounds = [first]
    while bounds[-1] < last:
        bounds.append(float(f"{first * ratio ** len(bounds):.4g}"))
    return tuple(bounds)


def _histogram_texts(definition: Definition) -> tuple[str, str]:
    """Return the text of a histogram with a place for labels, and the one of a histogram without labels.

    Bounds are written as OpenMetrics wants them (`1.0`) in both formats: a series keeps its name in both.
    """
    name = definition.name
    bounds = (*(repr(float(bound)) for bound in definition.bounds), "+Inf")
    texts = []
    for before, alone in ((f"{_PLACE},", f"{{{_PLACE}}}"), ("", "")):
        buckets = [f'{name}_bucket{{{before}le="{bound}"}} %s\n' for bound in bounds]
        texts.append("".join([*buckets, f"{name}_sum{alone} %s\n", f"{name}_count{alone} %s\n"]))
    return texts[0], texts[1]


def _with_exemplars(counts: Sequence[int], exemplars: Mapping[int, tuple[float, Origin]]) -> Sequence[object]:
    cells: list[object] = list(counts)
    for place, (value, origin) in exemplars.items():
        labels = f'boot_id="{origin.boot_id}",seq="{origin.seq}"'
        cells[place] = f"{counts[place]} # {{{labels}}} {_number(value)} {origin.at:.3f}"
    return cells


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) and abs(value) < _EXACT else repr(value)
