"""What a run has lost, in a file: for people, and for the next run, which tells the collector if this one could not."""

from pathlib import Path
from typing import Final
from uuid import UUID

import msgspec

from agent.config.reading import read_bounded
from agent.spool.files import write_durably
from isochrone.batch import DropReason, Total

FILE: Final = "losses.json"
MAX_BYTES: Final = 8_192
MAX_EARLIER: Final = 16
"""Runs whose losses are kept until the collector has them."""


class RunLosses(msgspec.Struct, frozen=True, kw_only=True):
    """Totals of one run, as its batches told them or would have."""

    boot_id: UUID
    dropped_results: dict[DropReason, Total]


class Losses(msgspec.Struct, frozen=True, kw_only=True):
    """Results that one run of the agent had recorded, or found, and lost."""

    boot_id: UUID
    """The run."""
    dropped_results: dict[DropReason, Total]
    revoked: bool = False
    """The collector refuses this agent for good: it does not probe."""
    earlier: tuple[RunLosses, ...] = ()
    """Of earlier runs, the newest first, as long as the collector was not told again by this one."""


_decoder: Final = msgspec.json.Decoder(Losses)


def read_losses(folder: Path) -> Losses | None:
    """Return what the file says; None where there is none, or none that can be read."""
    try:
        return _decoder.decode(read_bounded(folder / FILE, MAX_BYTES))
    except (OSError, ValueError, msgspec.DecodeError, RecursionError):
        return None


def earlier_losses(found: Losses | None) -> tuple[RunLosses, ...]:
    """Return what a new run has to tell for those before it. What they told already, the collector counts once."""
    if found is None:
        return ()
    last = RunLosses(boot_id=found.boot_id, dropped_results=found.dropped_results)
    return ((last,) if last.dropped_results else ()) + found.earlier[: MAX_EARLIER - 1]


def write_losses(folder: Path, losses: Losses) -> None:
    """Replace the file; raise OSError. Waits for the disk."""
    write_durably(folder / FILE, msgspec.json.encode(losses))
