"""What an agent finds in its spool at the start: every whole result is kept, everything else is counted or left alone.

Nothing found on disk stops a start. Files are read one at a time.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final
from uuid import UUID

import msgspec

from agent.clock import Clock
from agent.segment import Segment, SegmentError
from agent.spool.files import (
    SEALED_SUFFIX,
    UNFINISHED_SUFFIX,
    Sealed,
    fsync_folder,
    parse_name,
    put_aside,
    read_segment,
    uuid7_unix_seconds,
    write_segment,
)
from agent.telemetry import LOG, Telemetry
from isochrone.batch import DropReason

EARLIEST_UNIX_SECONDS: Final = 1_767_225_600.0  # 2026-01-01T00:00:00Z
"""No release is older: a name from before was given under a clock that was not set, and tells no age."""

_OURS: Final = frozenset({"lock", "corrupt", "rejected", "losses.json", "losses.tmp"})


class _Started(msgspec.Struct):
    """The one field of a result that tells its age."""

    started_boottime_seconds: float


_started = msgspec.json.Decoder(_Started)


class Recovery(msgspec.Struct, frozen=True):
    """What is needed to judge the files of earlier runs."""

    folder: Path
    machine: bytes
    clock: Clock
    telemetry: Telemetry

    def run(self) -> list[Sealed]:
        """Return the segments that wait; mend what can be mended."""
        found = list(self._files())
        foreign = sum(1 for path in found if path.name not in _OURS and _ours(path) is None)
        if foreign:
            LOG.warning("spool: %d foreign files in %s are left alone", foreign, self.folder)
        sealed = [segment for path in found if (segment := self._one_kept(path)) is not None]
        if sealed:
            LOG.info("spool: %d results of earlier runs wait", sum(segment.results for segment in sealed))
        return sealed

    def _files(self) -> Iterator[Path]:
        with os.scandir(self.folder) as entries:
            for entry in entries:
                yield Path(entry.path)

    def _one_kept(self, path: Path) -> Sealed | None:
        """Never raises: whatever is wrong with one file concerns that file alone."""
        try:
            return self._one(path)
        except OSError as exc:
            LOG.warning("spool: %s cannot be read and is left alone: %s", path, exc.strerror)
            return None

    def _one(self, path: Path) -> Sealed | None:
        if _ours(path) is None or path.is_symlink() or not path.is_file():
            return None
        if path.suffix == UNFINISHED_SUFFIX or path.stat().st_size == 0:
            path.unlink()  # what it was made from still stands
            return None
        try:
            segment = read_segment(path)
        except SegmentError as exc:
            LOG.warning("spool: %s moved to corrupt/: %s", path.name, exc)
            self.telemetry.lost(DropReason.CORRUPT)
            put_aside(path, self.folder / "corrupt")
            return None
        return self._seal(path, segment)

    def _seal(self, path: Path, segment: Segment) -> Sealed | None:
        if segment.bad_bytes:
            self._count_damage(path, segment)
        if not segment.payloads:
            path.unlink()
            return None
        kept = self._mend(path, segment)
        return Sealed(
            batch_id=_batch_id(path),
            path=kept,
            results=len(segment.payloads),
            size_bytes=kept.stat().st_size,
            born_boottime_seconds=self._born(path, segment),
        )

    def _mend(self, path: Path, segment: Segment) -> Path:
        """Give the file the name and the form of a sealed segment; on a full or failing disk it stays as it is."""
        target = path.with_suffix(SEALED_SUFFIX)
        try:
            if segment.bad_bytes:
                # Written anew without the damage: it is counted once, and the batch keeps its content for ever.
                write_segment(self.folder, _batch_id(path), segment)
                if path != target:
                    put_aside(path, self.folder / "corrupt")
            elif path != target:
                path.replace(target)
                fsync_folder(self.folder)
        except OSError as exc:
            LOG.warning("spool: %s is sent as it is: %s", path.name, exc.strerror)
        return target if target.exists() else path

    def _count_damage(self, path: Path, segment: Segment) -> None:
        # Bytes behind the last readable frame were at least one result; how many, only the collector can tell (by seq).
        lost = max(1, segment.bad_frames)
        self.telemetry.lost(DropReason.CORRUPT, lost)
        LOG.warning("spool: %s: %d bytes damaged, at least %d results lost", path.name, segment.bad_bytes, lost)

    def _born(self, path: Path, segment: Segment) -> float:
        """Return the first result's moment on this machine's CLOCK_BOOTTIME, estimated from the name if need be."""
        now = self.clock.boottime_seconds()
        if segment.machine == self.machine:
            try:
                return min(now, _started.decode(segment.payloads[0]).started_boottime_seconds)
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                return now
        named = uuid7_unix_seconds(_batch_id(path))
        if named is None or named < EARLIEST_UNIX_SECONDS:
            return now
        return now - max(0.0, self.clock.utc_now().timestamp() - named)


def _ours(path: Path) -> tuple[UUID, str] | None:
    return parse_name(path.name)


def _batch_id(path: Path) -> UUID:
    return UUID(path.stem)
