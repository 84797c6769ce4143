"""Server-sent events: bytes in, events out. Pure.

Rules (WHATWG HTML 9.2.6, and what providers do to it):
- a line ends with LF, CRLF or CR, and nothing else (U+2028 and U+0085 are text); any split over reads is the same;
- a line that begins with a colon is a comment; one space after a field's colon is dropped; unknown fields are ignored;
- an empty line ends an event; several `data` lines join with LF; an event without data is none;
- data that begins with a colon is a comment that a proxy wrapped (`data: : keepalive`): no data;
- what is left at the end of the stream without an empty line is an event if its last line was complete;
- a line, or an event, of more than 1 MiB is refused.
"""

import re
from typing import Final

from agent.framing import MAX_EVENT_BYTES, MAX_LINE_BYTES, Event, Framing, FramingError

_LINE_END: Final = re.compile(rb"[\r\n]")
_BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"


class SseParser:
    """Collects bytes until they make events."""

    def __init__(self) -> None:
        self._line = bytearray()
        self._data: list[bytes] = []
        self._size = 0
        self._name = ""
        self._after_cr = False
        self._begun = False

    def feed(self, chunk: bytes) -> list[Event]:
        """Return the events that `chunk` completes; raise FramingError beyond the bounds."""
        events: list[Event] = []
        start = 0
        if self._after_cr and chunk:
            start = 1 if chunk[0:1] == b"\n" else 0
            self._after_cr = False
        while (found := _LINE_END.search(chunk, start)) is not None:
            self._grow(chunk[start : found.start()])
            start = found.end()
            if found[0] == b"\r":
                self._after_cr = start == len(chunk)
                start += chunk[start : start + 1] == b"\n"
            self._end_line(events)
        self._grow(chunk[start:])
        return events

    def finish(self) -> list[Event]:
        """Return the event that the end of the stream completes, if any."""
        events: list[Event] = []
        if not self._line:
            self._dispatch(events)
        return events

    def between(self) -> bool:
        """Return whether the bytes so far end where an event does."""
        return not self._line and not self._data

    def _grow(self, piece: bytes) -> None:
        self._line += piece
        if len(self._line) > MAX_LINE_BYTES:
            raise FramingError(f"a line of the stream is longer than {MAX_LINE_BYTES} bytes")

    def _end_line(self, events: list[Event]) -> None:
        line = bytes(self._line)
        self._line.clear()
        if not self._begun:
            self._begun, line = True, line.removeprefix(_BYTE_ORDER_MARK)
        if not line:
            self._dispatch(events)
            return
        field, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if field == b"data":
            self._add_data(value)
        elif field == b"event":
            self._name = value.decode("utf-8", errors="replace")

    def _add_data(self, value: bytes) -> None:
        if value.startswith(b":") and not self._data:
            return
        self._size += len(value) + 1
        if self._size > MAX_EVENT_BYTES:
            raise FramingError(f"an event of the stream is longer than {MAX_EVENT_BYTES} bytes")
        self._data.append(value)

    def _dispatch(self, events: list[Event]) -> None:
        data, name = b"\n".join(self._data), self._name
        self._data, self._size, self._name = [], 0, ""
        if data.strip():
            events.append(Event(name=name, data=data.decode("utf-8", errors="replace")))


SSE: Final = Framing(media_types=("text/event-stream",), parser=SseParser)
