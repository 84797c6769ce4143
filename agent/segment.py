"""Framing of a spool segment: bytes to frames and back. Pure.

    segment = header, boot frame, result frames
    header  = "ISO1", version u8, flags u8, two zero bytes, 8 bytes of SHA-256 over the machine's boot id   (16 bytes)
    frame   = length u32, crc32 of the payload u32, payload                                   (little-endian throughout)

The first frame holds the boot id of the agent's run (16 bytes), each other one result as JSON. A segment that was cut
or damaged gives every whole frame that still stands where its predecessor says; the rest is counted, never guessed.
"""

import hashlib
import struct
import zlib
from typing import Final
from uuid import UUID

import msgspec

MAGIC: Final = b"ISO1"
VERSION: Final = 1
HEADER_BYTES: Final = 16
FRAME_OVERHEAD_BYTES: Final = 8
MAX_FRAME_BYTES: Final = 64 * 1024
"""Longest payload that is believed: a damaged length must not swallow the rest."""

_HEADER: Final = struct.Struct("<4sBBxx8s")
_FRAME: Final = struct.Struct("<II")


class SegmentError(ValueError):
    """Not a segment of this release. The text says why."""


class Segment(msgspec.Struct, frozen=True, kw_only=True):
    """What a segment holds."""

    boot_id: UUID
    """The run of the agent that recorded it."""
    machine: bytes
    """Hash of the machine's boot id, 8 bytes: equal when the machine was not started anew since."""
    payloads: tuple[bytes, ...]
    bad_frames: int = 0
    """Whole frames whose payload is damaged."""
    bad_bytes: int = 0
    """Bytes that belong to no good frame."""


def machine_hash(machine_boot_id: str) -> bytes:
    """Return the 8 bytes that stand for one start of the machine."""
    return hashlib.sha256(machine_boot_id.encode()).digest()[:8]


def encode_header(boot_id: UUID, machine: bytes) -> bytes:
    """Return what stands before the first result."""
    return _HEADER.pack(MAGIC, VERSION, 0, machine) + encode_frame(boot_id.bytes)


def encode_frame(payload: bytes) -> bytes:
    """Return `payload` framed; raise ValueError if it is empty or too long to be read back."""
    if not 0 < len(payload) <= MAX_FRAME_BYTES:
        raise ValueError(f"a frame holds 1 to {MAX_FRAME_BYTES} bytes, not {len(payload)}")
    return _FRAME.pack(len(payload), zlib.crc32(payload)) + payload


def scan(data: bytes) -> Segment:
    """Return the good frames of a segment; raise SegmentError when it is none or its run cannot be told."""
    if len(data) < HEADER_BYTES:
        raise SegmentError(f"shorter than a header: {len(data)} bytes")
    magic, version, _flags, machine = _HEADER.unpack_from(data)
    if magic != MAGIC:
        raise SegmentError("foreign: does not begin with ISO1")
    if version != VERSION:
        raise SegmentError(f"written by another release: version {version}, this one reads {VERSION}")
    good, bad_frames, bad_bytes = _frames(data)
    if not good or good[0][0] != HEADER_BYTES or len(good[0][1]) != len(UUID(int=0).bytes):
        raise SegmentError("the frame that names the run is damaged")
    payloads = tuple(payload for _, payload in good[1:])
    boot_id = UUID(bytes=good[0][1])
    return Segment(boot_id=boot_id, machine=machine, payloads=payloads, bad_frames=bad_frames, bad_bytes=bad_bytes)


def _frames(data: bytes) -> tuple[list[tuple[int, bytes]], int, int]:
    """Return the good frames with their places, the number of damaged ones, and the bytes in no good frame."""
    good: list[tuple[int, bytes]] = []
    position, bad_frames, bad_bytes = HEADER_BYTES, 0, 0
    while position + FRAME_OVERHEAD_BYTES <= len(data):
        length, crc = _FRAME.unpack_from(data, position)
        start = position + FRAME_OVERHEAD_BYTES
        if not 0 < length <= MAX_FRAME_BYTES or start + length > len(data):
            break
        payload = data[start : start + length]
        if zlib.crc32(payload) == crc:
            good.append((position, payload))
        else:
            bad_frames += 1
            bad_bytes += FRAME_OVERHEAD_BYTES + length
        position = start + length
    return good, bad_frames, bad_bytes + len(data) - position
