"""When one write left: what our own clock says of it, and what the kernel's stamps do. Pure."""

from typing import Final

import msgspec

from isochrone.outcome import ClockSource

MODULUS: Final = 2**32
"""Of the offsets by which the kernel names bytes."""
STAMP_SLACK_NS: Final = 20_000
"""What reading two clocks one after the other can err by."""


class Departure(msgspec.Struct, frozen=True, kw_only=True):
    """When one write left, on CLOCK_MONOTONIC."""

    started_ns: int | None
    """Its first segment; None if nothing was written."""
    sent_ns: int | None
    """Its last byte; None if it did not leave whole."""
    clock: ClockSource
    """`KERNEL` where both are the kernel's stamps, else `USER`: when the bytes were handed to the kernel."""


class Write(msgspec.Struct, kw_only=True):
    """The latest write of a stream."""

    started_ns: int | None = None
    sent_ns: int | None = None
    _first_byte: int | None = None
    _last_byte: int | None = None
    _left_ns: dict[int, int] = msgspec.field(default_factory=dict)
    """When a byte left, by its number: a stamp may come before the write has ended."""

    def expect(self, *, first_byte: int, last_byte: int) -> None:
        """Wait for the stamps of two bytes, the last of the first segment and the last of all, by their offsets."""
        self._first_byte, self._last_byte = first_byte % MODULUS, last_byte % MODULUS

    def awaited(self) -> bool:
        """Return whether the stamp of its last byte is still to come."""
        return self._last_byte is not None and self._last_byte not in self._left_ns

    def note(self, number: int, at_ns: int) -> None:
        """Take in a stamp; a byte that was sent again has two, and the first counts."""
        if self.started_ns is not None and at_ns >= self.started_ns - STAMP_SLACK_NS:
            self._left_ns.setdefault(number, at_ns)

    def departure(self) -> Departure:
        """Return when it left, as far as is known by now."""
        if self._first_byte is not None and self._last_byte is not None:
            started_ns, sent_ns = self._left_ns.get(self._first_byte), self._left_ns.get(self._last_byte)
            if started_ns is not None and sent_ns is not None:
                return Departure(started_ns=started_ns, sent_ns=sent_ns, clock=ClockSource.KERNEL)
        return Departure(started_ns=self.started_ns, sent_ns=self.sent_ns, clock=ClockSource.USER)
