"""`make bench`: speed and size, each against its limit or a peer, in one table.

A bench is a function here that measures and returns `Expectation`s. Exit code 0 when every expectation is met, 1 when
one is missed or a bench could not be run, 2 on wrong usage. Progress goes to stderr, the table to stdout.
"""

import argparse
import contextlib
import json
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from time import monotonic
from typing import Final

from tests.bench.expectation import Expectation


def measure_ingest() -> list[Expectation]:
    """Return results per second through the collector, beside raw COPY and the path that most would write."""
    from tests.bench import ingest  # noqa: PLC0415  needs the collector's libraries, which the other benches do not

    return ingest.run()


def measure_footprint() -> list[Expectation]:
    """Return the bytes that a result takes, and the collector's memory, beside their limits."""
    from tests.bench import footprint  # noqa: PLC0415  as above

    return footprint.run()


def measure_growth() -> list[Expectation]:
    """Return results per second into a database that has many, beside an empty one."""
    from tests.bench import growth  # noqa: PLC0415  as above

    return growth.run()


def measure_agent() -> list[Expectation]:
    """Return the agent's memory and disk, beside its limit."""
    from tests.bench import agent_memory  # noqa: PLC0415  as above

    return agent_memory.run()


def measure_recording() -> list[Expectation]:
    """Return what recording costs the agent's event loop, beside its limits."""
    from tests.bench import recording  # noqa: PLC0415  as above

    return recording.run()


def measure_reading() -> list[Expectation]:
    """Return how long readers wait, beside the limits and percentile_cont over raw rows."""
    from tests.bench import reading  # noqa: PLC0415  as above

    return reading.run()


def measure_exposition() -> list[Expectation]:
    """Return what a scrape costs, beside the client library and its limits."""
    from tests.bench import exposition  # noqa: PLC0415  as above

    return exposition.run()


BENCHES: Final[Mapping[str, Callable[[], list[Expectation]]]] = {
    "ingest": measure_ingest,
    "footprint": measure_footprint,
    "growth": measure_growth,
    "exposition": measure_exposition,
    "agent_memory": measure_agent,
    "recording": measure_recording,
    "reading": measure_reading,
}
COLUMNS: Final = ("what", "measured", "peer or limit", "ratio", "verdict")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benches that were named, all without a name; print the table."""
    parser = argparse.ArgumentParser(prog="make bench ARGS=...", description="measure speed and size")
    parser.add_argument("names", nargs="*", metavar="BENCH", help=f"of: {', '.join(BENCHES)}; none: all")
    parser.add_argument("--json", action="store_true", help="one object per measurement and line instead of the table")
    given = parser.parse_args(arguments)
    if unknown := sorted(set(given.names) - set(BENCHES)):
        parser.error(f"no bench {unknown[0]!r}; there are: {', '.join(BENCHES)}")
    rows, broken = _measure(given.names or list(BENCHES))
    print_rows(rows, as_json=given.json)
    for name in broken:
        print(f"bench {name} could not be run: see above", file=sys.stderr)
    return 0 if not broken and all(row.met for row in rows) else 1


def print_rows(rows: Sequence[Expectation], *, as_json: bool) -> None:
    """Print one line per measurement."""
    if as_json:
        for row in rows:
            print(json.dumps(row.fields()))
        return
    cells = [COLUMNS, *map(_cells, rows)]
    widths = [max(len(line[column]) for line in cells) for column in range(len(COLUMNS))]
    for line in (cells[0], tuple("-" * width for width in widths), *cells[1:]):
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def _measure(names: Sequence[str]) -> tuple[list[Expectation], list[str]]:
    """Return the rows of all benches that worked, and the names of those that did not."""
    rows: list[Expectation] = []
    broken: list[str] = []
    for name in names:
        started = monotonic()
        print(f"bench {name} ...", file=sys.stderr, flush=True)
        try:
            with contextlib.redirect_stdout(sys.stderr):
                rows += BENCHES[name]()
        except Exception:  # noqa: BLE001  the other benches are run all the same
            traceback.print_exc()
            broken.append(name)
        print(f"bench {name}: {monotonic() - started:.0f} s", file=sys.stderr, flush=True)
    return rows, broken


def _cells(row: Expectation) -> tuple[str, ...]:
    reference = "-" if row.reference is None else f"{_number(row.reference)} {row.unit} ({row.against})"
    ratio = "-" if row.ratio is None else f"{row.ratio:.2f}{_bounds(row)}"
    return row.what, f"{_number(row.measured)} {row.unit}", reference, ratio, row.verdict


def _bounds(row: Expectation) -> str:
    bounds = [f"{sign} {bound:g}" for sign, bound in ((">=", row.at_least), ("<=", row.at_most)) if bound is not None]
    return f" (wanted {' and '.join(bounds)})" if bounds else ""


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 1_000 else f"{value:,.1f}"


if __name__ == "__main__":
    sys.exit(main())
