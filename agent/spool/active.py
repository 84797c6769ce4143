"""The segment that is being written: created, appended to, sealed. Every fault of the disk is an OSError."""

import errno
import os
from pathlib import Path
from uuid import UUID

import msgspec

from agent.spool.files import ACTIVE_SUFFIX, SEALED_SUFFIX, fsync_folder
from agent.telemetry import LOG


class Active(msgspec.Struct):
    """An open segment. The event loop writes it; once it is handed over, the writer thread alone touches it."""

    batch_id: UUID
    descriptor: int
    path: Path
    born_boottime_seconds: float
    size_bytes: int = 0
    results: int = 0
    dirty: bool = False
    """Something was written since the last sync."""
    named: bool = False
    """Its name was made durable."""

    def append(self, data: bytes) -> None:
        """Write all of `data`, or nothing and raise OSError."""
        written = os.write(self.descriptor, data)
        if written != len(data):
            os.ftruncate(self.descriptor, self.size_bytes)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self.size_bytes += len(data)
        self.dirty = True


def create(folder: Path, batch_id: UUID, *, header: bytes, born_boottime_seconds: float) -> Active:
    """Return a new open segment that holds its header; raise OSError and leave nothing behind."""
    path = folder / f"{batch_id}{ACTIVE_SUFFIX}"
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o600)
    active = Active(batch_id=batch_id, descriptor=descriptor, path=path, born_boottime_seconds=born_boottime_seconds)
    try:
        active.append(header)
    except OSError:
        os.close(descriptor)
        path.unlink(missing_ok=True)
        raise
    return active


def seal(active: Active) -> Path:
    """Make `active` durable under its final name; return where it stands: under its old name if the disk refuses."""
    target = active.path.with_suffix(SEALED_SUFFIX)
    try:
        os.fsync(active.descriptor)
        active.path.rename(target)
        fsync_folder(target.parent)
    except OSError as exc:
        LOG.warning("spool: %s cannot be sealed: %s", active.path.name, exc)
    finally:
        os.close(active.descriptor)
    return target if target.exists() else active.path
