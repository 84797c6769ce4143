"""What a run has lost, in a file for people: the collector learns it with each batch, but it may be out of reach."""

from pathlib import Path
from typing import Annotated, Final
from uuid import UUID

import msgspec

from agent.spool.files import write_durably
from isochrone.batch import DropReason

FILE: Final = "losses.json"
MAX_BYTES: Final = 4_096


class Losses(msgspec.Struct, frozen=True, kw_only=True):
    """Results that one run of the agent had recorded, or found, and lost."""

    boot_id: UUID
    """The run."""
    dropped_results: dict[DropReason, Annotated[int, msgspec.Meta(ge=0)]]
    revoked: bool = False
    """The collector refuses this agent for good: it does not probe."""


_decoder: Final = msgspec.json.Decoder(Losses)


def read_losses(folder: Path) -> Losses | None:
    """Return what the file says; None where there is none, or none that can be read."""
    try:
        with (folder / FILE).open("rb") as file:
            return _decoder.decode(file.read(MAX_BYTES))
    except (OSError, ValueError, msgspec.DecodeError, RecursionError):
        return None


def write_losses(folder: Path, losses: Losses) -> None:
    """Replace the file; raise OSError. Waits for the disk."""
    write_durably(folder / FILE, msgspec.json.encode(losses))
