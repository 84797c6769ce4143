"""The tables of docs/reference/metrics.md, made from the catalogue.

`python -m collector.metrics.reference PAGE` writes them into the page anew: under each heading whose marker names a
group. What stands between the tables is written by hand.
"""

import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from collector.metrics.families import (
    AgentFamilies,
    ExportFamilies,
    FleetFamilies,
    InfoFamilies,
    IngestFamilies,
    JobFamilies,
    ProbeFamilies,
    families_of,
)
from collector.metrics.series import Definition

GROUPS: Final[Mapping[str, type[object]]] = {
    "probes": ProbeFamilies,
    "places": InfoFamilies,
    "agents": AgentFamilies,
    "fleet": FleetFamilies,
    "collector": IngestFamilies,
    "jobs": JobFamilies,
    "exports": ExportFamilies,
}
"""In the order of the exposition."""
COMMAND: Final = "python -m collector.metrics.reference docs/reference/metrics.md"
_TABLE: Final = re.compile(r"(?P<marker><!-- (?P<group>\w+): made by .* -->\n)(?:\|.*\n)*")


def definitions() -> Iterator[Definition]:
    """Yield every metric in the order of the exposition."""
    for group in GROUPS.values():
        yield from (family.definition for family in families_of(group()))


def render_page(page: str) -> str:
    """Return the page with its tables as the catalogue has them; raise KeyError for a group that does not exist."""

    def table(found: re.Match[str]) -> str:
        rows = [family.definition for family in families_of(GROUPS[found["group"]]())]
        return marker(found["group"]) + "".join(_lines(rows))

    return _TABLE.sub(table, page)


def marker(group: str) -> str:
    """Return the line above the table of a group."""
    return f"<!-- {group}: made by {COMMAND} -->\n"


def _lines(rows: Sequence[Definition]) -> Iterator[str]:
    yield "| metric | type | labels | meaning |\n|---|---|---|---|\n"
    for one in rows:
        labels = ", ".join(f"`{label}`" for label in one.labels)
        yield f"| `{one.name}` | {one.kind} | {labels}{' ' if labels else ''}| {_meaning(one)} |\n"


def _meaning(one: Definition) -> str:
    known = (f"`{label}` is {_either([f'`{value}`' for value in values])}" for label, values in one.known.items())
    return ". ".join([one.help.removesuffix("."), *known, *([one.note] if one.note else [])])


def _either(words: Sequence[str]) -> str:
    return " or ".join([", ".join(words[:-1]), words[-1]]) if len(words) > 1 else words[0]


def main(arguments: Sequence[str]) -> int:
    """Write the tables of the page that was named."""
    if len(arguments) != 1:
        sys.stderr.write(f"usage: {COMMAND}\n")
        return 2
    path = Path(arguments[0])
    path.write_text(render_page(path.read_text(encoding="utf-8")), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
