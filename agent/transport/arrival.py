"""When the bytes of a read came: the kernel's stamp where it can be believed, else our own clock.

The kernel stamps the last segment of each read. A stamp is believed when it lies between the last moment at which the
socket was known to be empty and the read itself: a step of the wall clock makes nonsense of it. Nor is one believed
that is old while the kernel counts more segments out of order: after loss a segment that waited for a hole carries
the time it came, not the time at which it could be read (measured at 3 % loss: 246 ms wrong). Then our own clock
stands.

What came in earlier segments of the same read came earlier, and nobody knows when: not before the socket was last known
to be empty. That is the arrival's bound; where one segment alone came, there is none.
"""

import socket
from typing import Final

import msgspec

from agent.clock import realtime_offset_ns
from agent.transport import kernel
from agent.transport.departure import MODULUS, STAMP_SLACK_NS
from agent.transport.loop import Watch
from isochrone.outcome import ClockSource

CLOCK_STEP_NS: Final = 1_000_000
"""The offset between the clocks is constant to a few µs: more than this is a step of the wall clock."""
LATE_NS: Final = 1_000_000
"""A stamp older than this at its read is looked at again: was the loop busy, or had a segment to wait for a hole?"""


class Arrival(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """When the bytes of one read came."""

    at_ns: int
    """CLOCK_MONOTONIC, of the last segment."""
    bound_ns: int = 0
    """How much earlier than `at_ns` the first segment of the read may have come; 0: it had one alone."""
    clock: ClockSource
    """`KERNEL` or `USER`."""
    read: int
    """Ordinal of the read on this connection: what came in one read cannot be told apart in time."""


class Stamps:
    """Judges the stamps of one socket, read by read."""

    def __init__(self, sock: socket.socket, *, now_ns: int, waits: Watch | None) -> None:
        self._sock = sock
        self._waits = waits
        self.offset_ns = realtime_offset_ns()
        """CLOCK_REALTIME minus CLOCK_MONOTONIC, as last read."""
        self.empty_ns = now_ns
        """The socket was empty then."""
        self.watched_ns: int | None = None
        """Since when the loop waits for the socket without a break; None: it does not."""
        self._out_of_order = 0
        self._reads = 0
        self._bytes = 0
        self._segments = 0
        """That had come when all that had come was read."""
        self._latest: Arrival | None = None

    def arrival(self, stamp_ns: int | None, *, size: int, read_ns: int) -> Arrival:
        """Return when the `size` bytes came that were read at `read_ns` with the kernel's stamp, if any."""
        self._reads += 1
        self._bytes += size
        alone = self._came_alone()
        at_ns, clock = read_ns, ClockSource.USER
        stamped_ns = self._believed(stamp_ns, read_ns)
        if stamped_ns is not None:
            # Where the latest read was timed by our own clock, a stamp that is right can lie before it.
            earliest_ns = stamped_ns if self._latest is None else self._latest.at_ns
            at_ns, clock = max(earliest_ns, min(stamped_ns, read_ns)), ClockSource.KERNEL
        bound_ns = 0 if alone and clock is ClockSource.KERNEL else max(0, at_ns - self._known_empty_ns())
        self._latest = Arrival(at_ns=at_ns, bound_ns=bound_ns, clock=clock, read=self._reads)
        return self._latest

    def monotonic_ns(self, stamp_ns: int) -> int:
        """Return a stamp of CLOCK_REALTIME on the monotonic clock."""
        offset_ns = realtime_offset_ns()
        if abs(offset_ns - self.offset_ns) > STAMP_SLACK_NS:
            offset_ns = realtime_offset_ns()  # rather than a step, something ran between the readings of the clocks
        self.offset_ns = offset_ns
        return stamp_ns - offset_ns

    def _believed(self, stamp_ns: int | None, read_ns: int) -> int | None:
        """Return a stamp on the monotonic clock, or None if it cannot be the moment at which the data could be read."""
        if stamp_ns is None:
            return None
        before_ns = self.offset_ns
        at_ns = self.monotonic_ns(stamp_ns)
        stepped = abs(self.offset_ns - before_ns) > CLOCK_STEP_NS
        if stepped or not self.empty_ns - STAMP_SLACK_NS <= at_ns <= read_ns + STAMP_SLACK_NS:
            return None
        return None if read_ns - at_ns > LATE_NS and self._had_a_hole() else at_ns

    def _had_a_hole(self) -> bool:
        info = kernel.tcp_info(self._sock)
        before, self._out_of_order = self._out_of_order, 0 if info is None else info.out_of_order
        return self._out_of_order > before

    def _came_alone(self) -> bool:
        """Return whether this read has one segment alone. One that came after it, and waits, leaves that open."""
        received = kernel.received(self._sock)
        if received is None or received.bytes != self._bytes:
            return False
        before, self._segments = self._segments, received.segments
        return (received.segments - before) % MODULUS <= 1

    def _known_empty_ns(self) -> int:
        """Return the latest moment at which the socket was empty for certain.

        If the loop waited for it in the wait before the latest, which did not name it, it was empty when that began.
        """
        if self._waits is None or self.watched_ns is None or self.watched_ns > self._waits.before_ns:
            return self.empty_ns
        return max(self.empty_ns, self._waits.before_ns)
