"""One JSON value per line: bytes in, events out. Pure.

Rules:
- a line ends with LF, and a CR before it is dropped; an empty line is no event; any split over reads is the same;
- what is left at the end of the stream without a line end is an event if it is whole JSON, else nothing: it was cut;
- a line of more than 1 MiB is refused.
"""

import json
from typing import Final

from agent.framing import MAX_LINE_BYTES, Event, Framing, FramingError


class NdjsonParser:
    """Collects bytes until they make lines."""

    def __init__(self) -> None:
        self._line = bytearray()

    def feed(self, chunk: bytes) -> list[Event]:
        """Return the lines that `chunk` completes; raise FramingError beyond the bound."""
        events: list[Event] = []
        *ends, rest = chunk.split(b"\n")
        for piece in ends:
            self._grow(piece)
            events += self._take()
        self._grow(rest)
        return events

    def finish(self) -> list[Event]:
        """Return the last line if it came whole without its end."""
        events = self._take()
        try:
            return [event for event in events if json.loads(event.data) is not None]
        except (ValueError, RecursionError):
            return []

    def between(self) -> bool:
        """Return whether the bytes so far end where a line does."""
        return not self._line

    def _grow(self, piece: bytes) -> None:
        self._line += piece
        if len(self._line) > MAX_LINE_BYTES:
            raise FramingError(f"a line of the stream is longer than {MAX_LINE_BYTES} bytes")

    def _take(self) -> list[Event]:
        line = bytes(self._line).strip(b" \t\r")
        self._line.clear()
        return [Event(data=line.decode("utf-8", errors="replace"))] if line else []


NDJSON: Final = Framing(
    media_types=("application/x-ndjson", "application/ndjson", "application/jsonl", "application/jsonlines"),
    parser=NdjsonParser,
)
