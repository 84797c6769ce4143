"""What every framing of a stream gives: bytes in, events out, whatever the reads cut the bytes into."""

from collections.abc import Callable
from typing import Final, Protocol

import msgspec

MAX_LINE_BYTES: Final = 1024 * 1024
MAX_EVENT_BYTES: Final = 1024 * 1024
"""Of JSON that is all small objects, so much takes 50 MiB and a tenth of a second to read."""


class FramingError(ValueError):
    """The stream is beyond the bounds, or not of this framing."""


class Event(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One event with its data; `name` is "" where the stream gave none."""

    name: str = ""
    data: str
    fault: bool = False
    """The framing itself says that the provider failed (`:message-type` exception or error)."""


class Parser(Protocol):
    """Collects bytes until they make events."""

    def feed(self, chunk: bytes) -> list[Event]:
        """Return the events that `chunk` completes; raise FramingError."""
        ...

    def finish(self) -> list[Event]:
        """Return the event that the end of the stream completes, if any."""
        ...

    def between(self) -> bool:
        """Return whether the bytes so far end where an event does: nothing of another one came."""
        ...


class Framing(msgspec.Struct, frozen=True, kw_only=True):
    """One way to put events into bytes."""

    media_types: tuple[str, ...]
    """The first is asked for; all are its names."""
    parser: Callable[[], Parser]
