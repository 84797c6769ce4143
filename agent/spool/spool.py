"""The spool's door: `record` a result, and later send, split, give up or acknowledge the segment that holds it.

A result is in the kernel's hands before `record` returns, so that a killed process loses nothing; a power cut loses at
most a second. Probing never waits: a full spool drops its oldest sealed segment, a failing disk leaves results in a
bounded memory, and every loss is counted with its reason.

`record` and `rotate` belong to one thread (the event loop); `read`, `split`, `reject` and `give_up` may run in others.
"""

import contextlib
import errno
import os
import threading
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Final
from uuid import UUID, uuid5

import msgspec

from agent.clock import Clock
from agent.segment import Segment, encode_frame, encode_header, machine_hash
from agent.spool.active import Active, create, seal
from agent.spool.files import (
    Sealed,
    keep_aside,
    lock_folder,
    make_folder,
    put_aside,
    read_segment,
    uuid7,
    write_segment,
)
from agent.spool.index import SealedIndex
from agent.spool.losses import Losses, RunLosses, earlier_losses, read_losses, write_losses
from agent.spool.recovery import Recovery
from agent.spool.writer import Writer
from agent.telemetry import LOG, Telemetry, Waiting
from isochrone.batch import MAX_RESULT_BYTES, MAX_RESULTS, DropReason
from isochrone.result import Result
from isochrone.wire import encode_result

SEAL_BYTES: Final = 256 * 1024
"""A segment is sealed before it grows beyond this: half of what a batch may weigh, before compression."""
MEMORY_RESULTS: Final = 1_000
"""Results kept in memory while the disk refuses them."""

_NO_ROOM: Final = frozenset({errno.ENOSPC, errno.EDQUOT})


class SpoolLimits(msgspec.Struct, frozen=True, kw_only=True):
    """What the spool may hold."""

    max_bytes: int = 64 * 1024 * 1024
    max_age_seconds: float = 7 * 86_400.0


class Identity(msgspec.Struct, frozen=True, kw_only=True):
    """Whose results these are."""

    boot_id: UUID
    """This run of the agent's process."""
    machine_boot_id: str
    """This start of the machine; "" where the kernel does not tell."""

    @property
    def machine(self) -> bytes:
        """Hash of the machine's start; eight random bytes, equal to no other, where it is not known."""
        return machine_hash(self.machine_boot_id or self.boot_id.hex)


class Spool:
    """The results of this agent that no collector has acknowledged yet."""

    def __init__(
        self, folder: Path, identity: Identity, *, clock: Clock, limits: SpoolLimits, telemetry: Telemetry
    ) -> None:
        self.on_sealed: Callable[[], None] = lambda: None
        """Called on the writer thread when a segment became ready to send."""
        self.on_memory: Callable[[], None] = lambda: None
        """Called on the writer thread, about twice a second, while results stand in memory alone: then `recover`."""
        self.revoked = False
        """The collector refuses this agent: kept in the file that people look at."""
        self.earlier_losses: tuple[RunLosses, ...] = ()
        """What earlier runs lost, until the collector was told: the sender takes away what it has."""
        self.boot_id = identity.boot_id
        self._folder = folder
        self._machine = identity.machine
        self._clock = clock
        self._limits = limits
        self._telemetry = telemetry
        self._index = SealedIndex()
        self._active: Active | None = None
        self._sealing: dict[UUID, Active] = {}
        self._memory: deque[bytes] = deque()
        self._next_seq = 0
        self._disk_failing = False
        self._writer = Writer(lambda: self._active, books=self._tick)
        self._told_losses: Losses | None = None
        self._lock_descriptor = -1

    def open(self) -> None:
        """Lock the folder and take over what earlier runs left; raise SpoolError or SpoolLocked."""
        make_folder(self._folder)
        self._lock_descriptor = lock_folder(self._folder)
        self._index.add(Recovery(self._folder, self._machine, self._clock, self._telemetry).run())
        self._told_losses = read_losses(self._folder)
        self.earlier_losses = earlier_losses(self._told_losses)
        self._writer.start()
        self.keep_limits()

    def close(self) -> None:
        """Seal what is open, wait for the disk, let go of the folder. Results in memory alone are lost, and told."""
        self.flush()
        self._writer.stop()
        if self._memory:  # counted too, but no batch will carry that count
            LOG.error("spool: %d results are lost: the disk refused them to the end", len(self._memory))
        self._telemetry.lost(DropReason.IO, len(self._memory))
        self._memory.clear()
        with contextlib.suppress(OSError):
            self._write_losses()
        os.close(self._lock_descriptor)

    def record(self, result: Result) -> Result | None:
        """Give `result` its number and write it; return it so, or None when it only stands in memory yet."""
        numbered = msgspec.structs.replace(result, seq=self._next_seq)
        self._next_seq += 1
        line = encode_result(numbered)
        if len(line) > MAX_RESULT_BYTES:
            self._telemetry.lost(DropReason.REJECTED)
            LOG.error("spool: a result of %s has %d bytes and is left out", result.endpoint, len(line))
            return None
        self._write_memory()
        if not self._memory and self._write(line):
            return numbered
        self._remember(line)
        return None

    def recover(self) -> None:
        """Write what stands in memory alone, as far as the disk takes it again. For the event loop."""
        self._write_memory()

    def rotate(self) -> None:
        """Hand the segment that is being written to the writer thread, which seals it. Tries memory again first."""
        self._write_memory()
        self._hand_over()

    def flush(self) -> None:
        """Return when everything written so far is sealed. Blocks on the disk: not for the event loop."""
        done = threading.Event()
        self.rotate()
        self._writer.submit(done.set)
        done.wait()

    def keep_limits(self) -> None:
        """Drop the oldest sealed segments that are too many or too old."""
        while self._index.size_bytes + self._open_bytes() > self._limits.max_bytes and self._drop(DropReason.FULL):
            pass
        oldest_allowed = self._clock.boottime_seconds() - self._limits.max_age_seconds
        while (oldest := self._index.oldest()) is not None and oldest.born_boottime_seconds < oldest_allowed:
            self._drop(DropReason.AGE)

    @property
    def queued_results(self) -> int:
        """Results that wait for an acknowledgement, wherever they stand."""
        active = self._active
        being_written = sum(sealing.results for sealing in list(self._sealing.values()))
        being_written += 0 if active is None else active.results
        return self._index.results + being_written + len(self._memory)

    @property
    def in_memory(self) -> int:
        """Results that the disk refused as yet."""
        return len(self._memory)

    def state(self) -> Waiting:
        """Return what waits now and what this run recorded, for the collector's books. For the event loop."""
        born = [sealing.born_boottime_seconds for sealing in list(self._sealing.values())]
        born += [] if self._active is None else [self._active.born_boottime_seconds]
        born += [] if (oldest := self._index.born_first()) is None else [oldest]
        return Waiting(
            boot_id=self.boot_id,
            recorded_results=self._next_seq,
            queued_results=self.queued_results,
            oldest_seconds=self._clock.boottime_seconds() - min(born) if born else None,
        )

    def waiting(self) -> list[Sealed]:
        """Return the sealed segments, the newest first."""
        return self._index.newest_first()

    def is_of_this_machine_start(self, segment: Segment) -> bool:
        """Tell whether the machine has not been started anew since `segment` was recorded."""
        return segment.machine == self._machine

    def lease(self, batch_id: UUID | None) -> None:
        """Keep one segment, and no other, from being dropped while it is on its way."""
        self._index.lease(batch_id)

    def read(self, sealed: Sealed) -> Segment:
        """Return the content of a sealed segment; raise SegmentError or OSError."""
        return read_segment(sealed.path)

    def acknowledge(self, batch_id: UUID) -> None:
        """Forget a segment that the collector has committed."""
        sealed = self._index.remove(batch_id)
        if sealed is not None:
            self._writer.submit(partial(sealed.path.unlink, missing_ok=True))

    def split(self, sealed: Sealed, segment: Segment) -> None:
        """Replace a segment by its halves, whose ids follow from its own: a repeat after a crash makes the same two."""
        middle = len(segment.payloads) // 2
        halves = (segment.payloads[:middle], segment.payloads[middle:])
        self._index.add([self._half(sealed, segment, half) for half in enumerate(halves)])
        self.acknowledge(sealed.batch_id)

    def reject(self, batch_id: UUID, lines: Sequence[bytes]) -> None:
        """Keep aside what the collector will never take, and count it."""
        self._telemetry.lost(DropReason.REJECTED, len(lines))
        with contextlib.suppress(OSError):
            keep_aside(b"".join(line + b"\n" for line in lines), self._folder / "rejected", f"{batch_id}.jsonl")

    def give_up(self, sealed: Sealed) -> None:
        """Move a segment that can never be sent to `corrupt/`, and count its results."""
        if self._index.remove(sealed.batch_id) is None:
            return
        self._telemetry.lost(DropReason.CORRUPT, sealed.results)
        with contextlib.suppress(OSError):
            put_aside(sealed.path, self._folder / "corrupt")

    def _half(self, sealed: Sealed, segment: Segment, half: tuple[int, tuple[bytes, ...]]) -> Sealed:
        index, payloads = half
        batch_id = uuid5(sealed.batch_id, str(index))
        content = msgspec.structs.replace(segment, payloads=payloads, bad_frames=0, bad_bytes=0)
        path = write_segment(self._folder, batch_id, content)
        size_bytes = path.stat().st_size
        return msgspec.structs.replace(
            sealed, batch_id=batch_id, path=path, results=len(payloads), size_bytes=size_bytes
        )

    def _write(self, line: bytes) -> bool:
        """Append `line`; on a full disk drop old segments for room. False: the disk refuses."""
        while True:
            try:
                self._append(encode_frame(line))
            except OSError as exc:
                if exc.errno in _NO_ROOM and self._drop(DropReason.FULL):
                    continue
                self._tell(exc)
                return False
            self._disk_failing = False
            return True

    def _append(self, frame: bytes) -> None:
        active = self._active
        if active is not None and not active.path.exists():
            self._hand_over()  # somebody removed it: what it held is counted when it cannot be sealed
            active = None
        if active is None:
            active = self._active = self._create()
        active.append(frame)
        active.results += 1
        if active.size_bytes > SEAL_BYTES or active.results >= MAX_RESULTS:
            self._hand_over()
            self.keep_limits()

    def _hand_over(self) -> None:
        """Give the open segment to the writer thread. Writes nothing itself: `_append` calls it in mid-write."""
        active, self._active = self._active, None
        if active is not None:
            self._sealing[active.batch_id] = active
            self._writer.submit(partial(self._seal, active))

    def _create(self) -> Active:
        header = encode_header(self.boot_id, self._machine)
        born = self._clock.boottime_seconds()
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)  # somebody may have removed it meanwhile
        return create(self._folder, uuid7(self._clock), header=header, born_boottime_seconds=born)

    def _seal(self, active: Active) -> None:
        """Run on the writer thread."""
        path = seal(active)
        if path.exists():
            sealed = Sealed(
                batch_id=active.batch_id,
                path=path,
                results=active.results,
                size_bytes=active.size_bytes,
                born_boottime_seconds=active.born_boottime_seconds,
                sealed_boottime_seconds=self._clock.boottime_seconds(),
            )
            self._index.add([sealed])
        else:
            self._telemetry.lost(DropReason.IO, active.results)
        del self._sealing[active.batch_id]
        self.on_sealed()

    def _tick(self) -> None:
        """Run on the writer thread when it has nothing else to do."""
        if self._memory:
            self.on_memory()
        self._write_losses()

    def _write_losses(self) -> None:
        """Run on the writer thread."""
        losses = Losses(
            boot_id=self.boot_id,
            dropped_results=self._telemetry.dropped,
            revoked=self.revoked,
            earlier=self.earlier_losses,
        )
        nothing_yet = self._told_losses is None and losses == Losses(boot_id=self.boot_id, dropped_results={})
        if losses != self._told_losses and not nothing_yet:
            write_losses(self._folder, losses)
            self._told_losses = losses

    def _drop(self, reason: DropReason) -> bool:
        oldest = self._index.oldest()
        if oldest is None or self._index.remove(oldest.batch_id) is None:
            return False
        self._telemetry.lost(reason, oldest.results)
        with contextlib.suppress(OSError):
            oldest.path.unlink(missing_ok=True)
        return True

    def _open_bytes(self) -> int:
        active = self._active
        sealing = sum(segment.size_bytes for segment in list(self._sealing.values()))
        return sealing + (0 if active is None else active.size_bytes)

    def _write_memory(self) -> None:
        while self._memory:
            line = self._memory.popleft()
            if not self._write(line):
                self._memory.appendleft(line)
                return

    def _remember(self, line: bytes) -> None:
        if len(self._memory) >= MEMORY_RESULTS:
            self._memory.popleft()
            self._telemetry.lost(DropReason.IO)
        self._memory.append(line)

    def _tell(self, exc: OSError) -> None:
        if not self._disk_failing:
            text = "spool: the disk refuses results, up to %d are kept in memory: %s"
            LOG.warning(text, MEMORY_RESULTS, exc.strerror)
        self._disk_failing = True
