"""AWS event-stream (`application/vnd.amazon.eventstream`): bytes in, events out. Pure.

    u32 length of all | u32 length of headers | u32 CRC of these 8 bytes | headers | payload | u32 CRC of all before

Rules (https://smithy.io/2.0/aws/amazon-eventstream.html):
- both CRC-32 are checked, the first before a length is believed; a frame that fails either is refused;
- a header is u8 length and name, u8 type, value; only strings (type 7) are read, the others are stepped over;
- `:message-type` `event` names its event in `:event-type`, `exception` in `:exception-type`; `error` has a code and
  words in its headers. The last two are faults;
- a frame of more than 1 MiB, or headers of more than 128 KiB, are refused.
"""

import struct
import zlib
from typing import Final

from agent.framing import MAX_EVENT_BYTES, Event, Framing, FramingError

MAX_HEADERS_BYTES: Final = 128 * 1024
_PRELUDE: Final = struct.Struct(">II")
_U16: Final = struct.Struct(">H")
_U32: Final = struct.Struct(">I")
_HEAD_BYTES: Final = 12
_LEAST_BYTES: Final = 16
_STRING: Final = 7
_BYTES: Final = 6
_FIXED_BYTES: Final = {0: 0, 1: 0, 2: 1, 3: 2, 4: 4, 5: 8, 8: 8, 9: 16}
"""Length of a header's value by its type; types 6 and 7 tell theirs."""


class EventStreamParser:
    """Collects bytes until they make frames."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._length: int | None = None

    def feed(self, chunk: bytes) -> list[Event]:
        """Return the events whose frames `chunk` completes; raise FramingError for a damaged or too long one."""
        self._buffer += chunk
        events: list[Event] = []
        at = 0
        while (length := self._frame_length(at)) is not None and len(self._buffer) - at >= length:
            events.append(_event(bytes(self._buffer[at : at + length])))
            at += length
            self._length = None
        del self._buffer[:at]
        return events

    def finish(self) -> list[Event]:
        """Return nothing: half a frame is none."""
        self._buffer.clear()
        return []

    def between(self) -> bool:
        """Return whether the bytes so far end where a frame does."""
        return not self._buffer

    def _frame_length(self, at: int) -> int | None:
        """Return the length of the frame that begins at `at`, checked once; None until its head is here."""
        if self._length is None and len(self._buffer) - at >= _HEAD_BYTES:
            self._length = _checked_length(bytes(self._buffer[at : at + _HEAD_BYTES]))
        return self._length


def _checked_length(head: bytes) -> int:
    length, headers_length = _PRELUDE.unpack_from(head)
    if zlib.crc32(head[:8]) != _U32.unpack_from(head, 8)[0]:
        raise FramingError("a frame of the stream begins with a wrong checksum")
    if length > MAX_EVENT_BYTES or headers_length > MAX_HEADERS_BYTES:
        raise FramingError(f"a frame of the stream is longer than {MAX_EVENT_BYTES} bytes")
    if length < _LEAST_BYTES + headers_length:
        raise FramingError("a frame of the stream is shorter than its own headers")
    return int(length)


def _event(frame: bytes) -> Event:
    if zlib.crc32(frame[:-4]) != _U32.unpack_from(frame, len(frame) - 4)[0]:
        raise FramingError("a frame of the stream has a wrong checksum")
    (headers_length,) = _U32.unpack_from(frame, 4)
    body_at = _HEAD_BYTES + headers_length
    fields = _headers(frame[_HEAD_BYTES:body_at])
    data = frame[body_at:-4].decode("utf-8", errors="replace")
    match fields.get(":message-type", "event"):
        case "event":
            return Event(name=fields.get(":event-type", ""), data=data)
        case "exception":
            return Event(name=fields.get(":exception-type", "exception"), data=data, fault=True)
        case _:
            return Event(name=fields.get(":error-code", "error"), data=fields.get(":error-message", data), fault=True)


def _headers(data: bytes) -> dict[str, str]:
    """Return the string headers."""
    fields: dict[str, str] = {}
    at = 0
    try:
        while at < len(data):
            name_end = at + 1 + data[at]
            name, kind = data[at + 1 : name_end].decode("utf-8", errors="replace"), data[name_end]
            start, end = _value_bounds(data, kind, name_end + 1)
            if kind == _STRING:
                fields[name] = data[start:end].decode("utf-8", errors="replace")
            at = end
    except (IndexError, KeyError, struct.error) as exc:
        raise FramingError("a frame of the stream has headers that cannot be read") from exc
    if at != len(data):
        raise FramingError("a frame of the stream has a header that is longer than all")
    return fields


def _value_bounds(data: bytes, kind: int, at: int) -> tuple[int, int]:
    if kind in {_STRING, _BYTES}:
        return at + 2, at + 2 + int(_U16.unpack_from(data, at)[0])
    return at, at + _FIXED_BYTES[kind]


EVENT_STREAM: Final = Framing(media_types=("application/vnd.amazon.eventstream",), parser=EventStreamParser)
