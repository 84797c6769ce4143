"""`isochrone-collector rollups rebuild`: the rollups made anew from raw results."""

import argparse
import os
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final

import msgspec

from collector import rollup
from collector.config import database_url
from collector.rollup import Rebuilt

TOLD_EVERY: Final = 24
"""Hours of which one line tells the progress."""


def add_actions(actions: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add what can be done with rollups."""
    words = "make the rollups anew from the raw results; the collector may run meanwhile"
    rebuild = actions.add_parser("rebuild", help=words, description=f"{words[0].upper()}{words[1:]}.")
    rebuild.set_defaults(run=_rebuild)
    rebuild.add_argument(
        "--since", type=moment, metavar="T", help="from this hour (ISO 8601, UTC; default: the oldest result)"
    )
    rebuild.add_argument("--until", type=moment, metavar="T", help="up to this hour (ISO 8601, UTC; default: now)")
    rebuild.add_argument("--json", action="store_true", help="print JSON")


def moment(words: str) -> datetime:
    """Return the moment that a date or a time of ISO 8601 names, UTC unless it says otherwise."""
    try:
        found = datetime.fromisoformat(words)
        return found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)
    except (ValueError, OverflowError) as exc:
        raise argparse.ArgumentTypeError(f"{words!r} is no time: write 2026-01-31 or 2026-01-31T12:00") from exc


def _rebuild(options: argparse.Namespace) -> int:
    rebuilt = rollup.rebuild(
        database_url(os.environ), since=options.since, until=options.until, progress=_teller(sys.stderr.write)
    )
    sys.stdout.write((msgspec.json.encode(rebuilt).decode() if options.json else _words(rebuilt)) + "\n")
    return 0


def _teller(write: Callable[[str], object]) -> Callable[[int, int], None]:
    """Return what tells the progress, now and then."""

    def tell(done: int, hours: int) -> None:
        if done % TOLD_EVERY == 0 and done < hours:
            write(f"{done} of {hours} hours\n")

    return tell


def _words(rebuilt: Rebuilt) -> str:
    sealed = f", {rebuilt.sealed_hours} left as they were: retention has taken their results"
    return (
        f"rebuilt {rebuilt.since:%Y-%m-%dT%H:%MZ} to {rebuilt.until:%Y-%m-%dT%H:%MZ}: {rebuilt.hours} hours,"
        f" {rebuilt.minute_rows} rows of minutes, {rebuilt.hour_rows} rows of hours"
        f"{sealed if rebuilt.sealed_hours else ''}"
    )
