"""Files of the spool: names, durable writes, the bounded folders for what cannot be sent.

<state>/spool/lock            held by the agent that works here
<state>/spool/<uuid7>.act     being written
<state>/spool/<uuid>.seg      sealed: the name is the batch id
<state>/spool/corrupt/        files that cannot be read, newest kept, 1 MiB in all
<state>/spool/rejected/       results that the collector will never take, newest kept, 1 MiB in all
<state>/spool/losses.json     what the present run has lost, by reason
"""

import fcntl
import os
import re
from pathlib import Path
from typing import Final
from uuid import UUID

import msgspec

from agent.clock import Clock
from agent.errors import SpoolError, SpoolLocked
from agent.segment import Segment, encode_frame, encode_header, scan

ACTIVE_SUFFIX: Final = ".act"
SEALED_SUFFIX: Final = ".seg"
UNFINISHED_SUFFIX: Final = ".tmp"
ASIDE_BYTES: Final = 1024 * 1024
"""Most that `corrupt/` and `rejected/` hold, each."""
MAX_SEGMENT_BYTES: Final = 4 * 1024 * 1024
"""No segment of ours is larger: of a larger file no more is read into memory, the rest counts as damaged."""

_NAME: Final = re.compile(r"([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})(\.act|\.seg|\.tmp)")


class Sealed(msgspec.Struct, frozen=True, kw_only=True):
    """A segment that waits for its acknowledgement."""

    batch_id: UUID
    path: Path
    results: int
    size_bytes: int
    born_boottime_seconds: float
    """When its first result was recorded, on this machine's CLOCK_BOOTTIME; negative if before the machine's start."""
    sealed_boottime_seconds: float | None = None
    """When this run sealed it; None: an earlier run did."""


def uuid7(clock: Clock) -> UUID:
    """Return a new UUIDv7 (RFC 9562 5.7): milliseconds of the wall clock, then random bits."""
    milliseconds = max(0, int(clock.utc_now().timestamp() * 1000)) & (2**48 - 1)
    noise = int.from_bytes(os.urandom(10))
    high, low = noise >> 68, noise & (2**62 - 1)
    return UUID(int=milliseconds << 80 | 0x7 << 76 | high << 64 | 0b10 << 62 | low)


def uuid7_unix_seconds(name: UUID) -> float | None:
    """Return the moment in a UUIDv7, or None for another kind."""
    return (name.int >> 80) / 1000 if name.version == 7 else None  # noqa: PLR2004  the version is the name of the kind


def parse_name(name: str) -> tuple[UUID, str] | None:
    """Return batch id and suffix of a file of ours, or None for a foreign one."""
    found = _NAME.fullmatch(name)
    return None if found is None else (UUID(found[1]), found[2])


def make_folder(path: Path) -> None:
    """Create `path` for this user alone; raise SpoolError when that cannot be."""
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as exc:
        why = exc.strerror or "is no folder"
        raise SpoolError(f"{path}: {why}: give the agent a folder it may write (ISOCHRONE_STATE_DIR)") from exc


def lock_folder(folder: Path) -> int:
    """Return the descriptor that holds the spool until it is closed; raise SpoolLocked if another process has it."""
    path = folder / "lock"
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as exc:
        raise SpoolError(f"{path}: {exc.strerror}: give the agent a folder it may write (ISOCHRONE_STATE_DIR)") from exc
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as exc:
        os.close(descriptor)
        raise SpoolLocked(f"{folder}: another agent works on this spool: stop it, or set ISOCHRONE_STATE_DIR") from exc
    return descriptor


def fsync_folder(folder: Path) -> None:
    """Make names in `folder` survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read_segment(path: Path) -> Segment:
    """Return the good frames of a file; raise SegmentError or OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as file:
        segment = scan(file.read(MAX_SEGMENT_BYTES))
        unread = max(0, os.fstat(descriptor).st_size - MAX_SEGMENT_BYTES)
    return msgspec.structs.replace(segment, bad_bytes=segment.bad_bytes + unread)


def write_segment(folder: Path, batch_id: UUID, segment: Segment) -> Path:
    """Write a sealed segment durably, replacing one of the same name; return its path."""
    frames = b"".join(encode_frame(payload) for payload in segment.payloads)
    target = folder / f"{batch_id}{SEALED_SUFFIX}"
    write_durably(target, encode_header(segment.boot_id, segment.machine) + frames)
    return target


def write_durably(target: Path, data: bytes) -> None:
    """Replace `target` by `data`, or leave it as it was: never half of it."""
    unfinished = target.with_suffix(UNFINISHED_SUFFIX)
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK  # a pipe is refused
    descriptor = os.open(unfinished, flags, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    unfinished.replace(target)
    fsync_folder(target.parent)


def put_aside(path: Path, folder: Path) -> None:
    """Move `path` into `folder`, which keeps its newest files within ASIDE_BYTES; a larger file is deleted instead."""
    if path.stat(follow_symlinks=False).st_size > ASIDE_BYTES:
        path.unlink()
        return
    folder.mkdir(mode=0o700, exist_ok=True)
    path.replace(folder / path.name)
    _trim(folder)


def keep_aside(data: bytes, folder: Path, name: str) -> None:
    """Write `data` as a new file into `folder`, which keeps its newest files within ASIDE_BYTES."""
    if len(data) > ASIDE_BYTES:
        return
    folder.mkdir(mode=0o700, exist_ok=True)
    descriptor = os.open(folder / name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
    _trim(folder)


def _trim(folder: Path) -> None:
    files = [(path.stat(follow_symlinks=False), path) for path in folder.iterdir()]
    total = sum(stat.st_size for stat, _ in files)
    for stat, path in sorted(files, key=lambda entry: entry[0].st_mtime_ns):
        if total <= ASIDE_BYTES:
            return
        path.unlink()
        total -= stat.st_size
