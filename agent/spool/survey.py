"""What a spool holds, for a person to look at: read from the disk alone, without its lock, while an agent may work.

A segment may vanish between its name and its reading: it was sent. Nothing here writes.
"""

import fcntl
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Final
from uuid import UUID

import msgspec

from agent.segment import SegmentError
from agent.spool.files import ACTIVE_SUFFIX, UNFINISHED_SUFFIX, parse_name, read_segment, uuid7_unix_seconds
from agent.spool.losses import Losses, read_losses

_OURS: Final = frozenset({"lock", "corrupt", "rejected", "losses.json", "losses.tmp"})


class Waiting(msgspec.Struct, frozen=True, kw_only=True):
    """One segment."""

    batch_id: UUID
    state: str
    """`open` (being written), `sealed`, or `unreadable`: the next start moves that to `corrupt/`."""
    results: int
    bytes: int
    bad_bytes: int
    """Bytes in no whole result. An open segment may have some while it is written to."""
    begun_at_unix_seconds: float | None
    """When it was begun, by the wall clock; None for a half of one that was too large."""


class Aside(msgspec.Struct, frozen=True, kw_only=True):
    """A folder of what cannot be sent."""

    files: int
    bytes: int


class Survey(msgspec.Struct, frozen=True, kw_only=True):
    """What stands in a spool now."""

    folder: str
    in_use: bool
    """An agent works on it."""
    max_bytes: int
    """The limit of the settings that this was asked with: the agent may have others."""
    segments: tuple[Waiting, ...]
    """The newest first."""
    foreign_files: int
    corrupt: Aside
    rejected: Aside
    losses: Losses | None
    """What the present run has lost, or the last one had; None: nothing was ever lost here, or it cannot be read."""

    @property
    def results(self) -> int:
        """Return how many results wait."""
        return sum(segment.results for segment in self.segments)

    @property
    def bytes(self) -> int:
        """Return how much the segments weigh."""
        return sum(segment.bytes for segment in self.segments)


def survey(folder: Path, *, max_bytes: int) -> Survey:
    """Look into a spool; raise OSError when the folder itself cannot be read."""
    paths = sorted(folder.iterdir())
    found = [one for path in paths if (one := _segment(path)) is not None]
    return Survey(
        folder=str(folder),
        in_use=_in_use(folder / "lock"),
        max_bytes=max_bytes,
        segments=tuple(sorted(found, key=lambda one: one.begun_at_unix_seconds or 0.0, reverse=True)),
        foreign_files=sum(parse_name(path.name) is None and path.name not in _OURS for path in paths),
        corrupt=_aside(folder / "corrupt"),
        rejected=_aside(folder / "rejected"),
        losses=read_losses(folder),
    )


def _segment(path: Path) -> Waiting | None:
    """Return what a file holds; None for one that is no segment, or is gone."""
    named = parse_name(path.name)
    if named is None or named[1] == UNFINISHED_SUFFIX:
        return None
    batch_id, suffix = named
    try:
        status = path.stat(follow_symlinks=False)
    except OSError:
        return None
    if not stat.S_ISREG(status.st_mode):
        return None
    results, bad_bytes, state = 0, status.st_size, "unreadable"
    try:
        segment = read_segment(path)
    except FileNotFoundError:
        return None
    except (SegmentError, OSError):
        pass
    else:
        results, bad_bytes = len(segment.payloads), segment.bad_bytes
        state = "open" if suffix == ACTIVE_SUFFIX else "sealed"
    return Waiting(
        batch_id=batch_id,
        state=state,
        results=results,
        bytes=status.st_size,
        bad_bytes=bad_bytes,
        begun_at_unix_seconds=uuid7_unix_seconds(batch_id),
    )


def _aside(folder: Path) -> Aside:
    sizes = list(_sizes(folder))
    return Aside(files=len(sizes), bytes=sum(sizes))


def _sizes(folder: Path) -> Iterator[int]:
    try:
        entries = list(os.scandir(folder))
    except OSError:
        return
    for entry in entries:
        try:
            yield entry.stat(follow_symlinks=False).st_size
        except OSError:
            continue  # trimmed meanwhile


def _in_use(lock: Path) -> bool:
    """Return whether a process holds the lock; tries to take it, and lets it go at once."""
    try:
        descriptor = os.open(lock, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(descriptor)
    return False
