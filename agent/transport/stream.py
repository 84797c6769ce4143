"""A non-blocking TCP socket of our own as httpcore's stream: every read and write knows when its bytes came and left.

The kernel stamps the last segment of each read. A stamp is believed when it lies between the last moment at which the
socket was known to be empty and the read itself: a step of the wall clock makes nonsense of it. Nor is one believed
that is old while the kernel counts more segments out of order: after loss a segment that waited for a hole carries
the time it came, not the time at which it could be read (measured at 3 % loss: 246 ms wrong). Then our own clock
stands.

What came in earlier segments of the same read came earlier, and nobody knows when: not before the socket was last known
to be empty. That is the arrival's bound; where one segment alone came, there is none.

The kernel stamps the last byte of each write too, when it is handed to the network device. A write longer than a
segment is made in two, so that its first segment has a stamp of its own.

While data is ready nothing here waits, so nothing else would run, no timeout least of all: a stream that has held the
loop for `HELD_SECONDS` lets it turn. Not at every read: what comes meanwhile piles up into one stamp.
"""

import asyncio
import contextlib
import socket
from collections.abc import Callable
from typing import Any, Final, TypeVar

import httpcore
import msgspec

from agent.clock import Clock, realtime_offset_ns
from agent.transport import kernel
from agent.transport.loop import AgentLoop
from isochrone.outcome import ClockSource

READ_BYTES: Final = 64 * 1024
CLOCK_STEP_NS: Final = 1_000_000
"""The offset between the clocks is constant to a few µs: more than this is a step of the wall clock."""
STAMP_SLACK_NS: Final = 20_000
"""What reading two clocks one after the other can err by."""
HELD_SECONDS: Final = 0.005
"""A stream of tokens never reaches it; a flood gives the loop two hundred turns a second."""
LATE_NS: Final = 1_000_000
"""A stamp older than this at its read is looked at again: was the loop busy, or had a segment to wait for a hole?"""

_MODULUS: Final = 2**32
_SEGMENT_BYTES: Final = 1_000
"""Of a write no longer than this nothing is asked: it is one segment on any path that carries IPv6 (RFC 8200 5)."""

T = TypeVar("T")


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


class SocketStream(httpcore.AsyncNetworkStream):
    """Owns `sock`, which is connected and non-blocking. Timeouts are the caller's: a cancelled wait leaves nothing."""

    def __init__(self, sock: socket.socket, *, clock: Clock) -> None:
        self._sock = sock
        self._clock = clock
        self._loop = asyncio.get_running_loop()
        self._waits = self._loop.watch if isinstance(self._loop, AgentLoop) else None
        self._offset_ns = realtime_offset_ns()
        self._empty_ns = clock.monotonic_ns()
        self._reads = 0
        self._bytes = 0
        self._segments = 0
        """That had come when all that had come was read."""
        self._out_of_order = 0
        self._held_from = self._loop.time()
        self._stamps_departures = kernel.ask_for_departures(sock)
        self._written = 0
        self._write = _Write()
        self.arrival: Arrival | None = None
        """Of the latest read."""

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ARG002, ASYNC109  httpcore's signature
        """Return what came, b"" at the end of the stream."""
        await self.breathe()
        try:
            return self._receive(max_bytes)
        except BlockingIOError:
            return await self._when_readable(lambda: self._receive(max_bytes))

    async def breathe(self) -> None:
        """Let others run if this stream has held the loop for `HELD_SECONDS` since it last had to wait."""
        if self._loop.time() - self._held_from >= HELD_SECONDS:
            await asyncio.sleep(0)
            self._held_from = self._loop.time()

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ARG002, ASYNC109  httpcore's signature
        """Hand all of `buffer` to the kernel; `departure` says when that began and ended."""
        self._held_from = self._loop.time()
        self._write = write = _Write(started_ns=self._clock.monotonic_ns())
        first = self._first_segment(buffer)
        await self._send(buffer[:first])
        write.first_byte, write.last_byte = self._written - 1, self._written - 1
        if first < len(buffer):
            await self._send(buffer[first:])
            write.last_byte = self._written - 1
        write.sent_ns = self._clock.monotonic_ns()
        if not self._stamps_departures:
            write.first_byte = write.last_byte = None
        self._take_departures()

    @property
    def departure(self) -> "Departure":
        """When the latest write left."""
        if self._write.awaited():
            self._take_departures()
        return self._write.departure()

    async def aclose(self) -> None:
        """Close the socket; again is harmless."""
        self.close()

    def close(self) -> None:
        """Close the socket; again is harmless."""
        with contextlib.suppress(OSError):
            self._sock.close()

    def alive(self) -> bool:
        """Return whether an idle connection can take a request: nothing came since, least of all its end."""
        try:
            self._sock.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return True
        except OSError:
            return False
        return False

    def poll(self) -> bytes | None:
        """Return what has come, b"" for the end, None for nothing."""
        try:
            return self._receive(READ_BYTES)
        except BlockingIOError:
            return None
        except OSError:
            return b""

    def get_extra_info(self, info: str) -> Any:  # noqa: ANN401  httpcore's signature
        """Return what httpcore asks for: whether an idle connection has something to read."""
        return not self.alive() if info == "is_readable" else None

    def tcp_info(self) -> kernel.TcpInfo | None:
        """Return the kernel's view of this connection."""
        return kernel.tcp_info(self._sock)

    def _first_segment(self, buffer: bytes) -> int:
        """Return how many bytes of `buffer` go first, so that their stamp is that of its beginning."""
        if not self._stamps_departures or len(buffer) <= _SEGMENT_BYTES:
            return len(buffer)
        return min(len(buffer), kernel.segment_bytes(self._sock) or len(buffer))

    async def _send(self, buffer: bytes) -> None:
        view = memoryview(buffer)
        while view:
            try:
                count = self._sock.send(view)
            except BlockingIOError:
                await self._when_writable()
            else:
                self._written += count
                view = view[count:]

    def _take_departures(self) -> None:
        for departure in kernel.departures(self._sock):
            at_ns = departure.stamp_ns - self._wall_offset_ns()
            if at_ns <= self._clock.monotonic_ns() + STAMP_SLACK_NS:
                self._write.note(departure.number, at_ns)

    def _receive(self, max_bytes: int) -> bytes:
        before_ns = self._clock.monotonic_ns()
        try:
            data, stamp_ns = kernel.receive(self._sock, max_bytes)
        except BlockingIOError:
            self._empty_ns = before_ns
            raise
        self._reads += 1
        self._bytes += len(data)
        self.arrival = self._judge(stamp_ns, self._clock.monotonic_ns())
        if len(data) < max_bytes:
            self._empty_ns = before_ns
        return data

    def _judge(self, stamp_ns: int | None, read_ns: int) -> Arrival:
        alone = self._came_alone()
        at_ns, clock = read_ns, ClockSource.USER
        stamped_ns = self._believed(stamp_ns, read_ns)
        if stamped_ns is not None:
            # Where the latest read was timed by our own clock, a stamp that is right can lie before it.
            earliest_ns = stamped_ns if self.arrival is None else self.arrival.at_ns
            at_ns, clock = max(earliest_ns, min(stamped_ns, read_ns)), ClockSource.KERNEL
        exact = alone and clock is ClockSource.KERNEL
        return Arrival(at_ns=at_ns, bound_ns=0 if exact else self._bound_ns(at_ns), clock=clock, read=self._reads)

    def _believed(self, stamp_ns: int | None, read_ns: int) -> int | None:
        """Return a stamp on the monotonic clock, or None if it cannot be the moment at which the data could be read."""
        if stamp_ns is None:
            return None
        before_ns = self._offset_ns
        at_ns = stamp_ns - self._wall_offset_ns()
        stepped = abs(self._offset_ns - before_ns) > CLOCK_STEP_NS
        if stepped or not self._empty_ns - STAMP_SLACK_NS <= at_ns <= read_ns + STAMP_SLACK_NS:
            return None
        return None if read_ns - at_ns > LATE_NS and self._had_a_hole() else at_ns

    def _wall_offset_ns(self) -> int:
        offset_ns = realtime_offset_ns()
        if abs(offset_ns - self._offset_ns) > STAMP_SLACK_NS:
            offset_ns = realtime_offset_ns()  # rather than a step, something ran between the readings of the clocks
        self._offset_ns = offset_ns
        return offset_ns

    def _came_alone(self) -> bool:
        """Return whether this read has one segment alone. One that came after it, and waits, leaves that open."""
        received = kernel.received(self._sock)
        if received is None or received.bytes != self._bytes:
            return False
        before, self._segments = self._segments, received.segments
        return (received.segments - before) % _MODULUS <= 1

    def _bound_ns(self, at_ns: int) -> int:
        began_ns = 0 if self._waits is None else self._waits.began_ns
        return max(0, at_ns - max(self._empty_ns, began_ns))

    def _had_a_hole(self) -> bool:
        info = self.tcp_info()
        before, self._out_of_order = self._out_of_order, 0 if info is None else info.out_of_order
        return self._out_of_order > before

    async def _when_readable(self, attempt: Callable[[], T]) -> T:
        ready: asyncio.Future[T] = self._loop.create_future()
        self._loop.add_reader(self._sock, _attempt_once, ready, attempt, self._take_departures)
        try:
            return await ready
        finally:
            self._loop.remove_reader(self._sock)
            self._held_from = self._loop.time()

    async def _when_writable(self) -> None:
        ready: asyncio.Future[None] = self._loop.create_future()
        self._loop.add_writer(self._sock, _attempt_once, ready, lambda: None, self._take_departures)
        try:
            await ready
        finally:
            self._loop.remove_writer(self._sock)
            self._held_from = self._loop.time()


class Departure(msgspec.Struct, frozen=True, kw_only=True):
    """When one write left, on CLOCK_MONOTONIC."""

    started_ns: int | None
    """Its first segment; None if nothing was written."""
    sent_ns: int | None
    """Its last byte; None if it did not leave whole."""
    clock: ClockSource
    """`KERNEL` where both are the kernel's stamps, else `USER`: when the bytes were handed to the kernel."""


class _Write(msgspec.Struct, kw_only=True):
    """The latest write: what our own clock says of it, and what the kernel does."""

    started_ns: int | None = None
    sent_ns: int | None = None
    first_byte: int | None = None
    """Offset of the last byte of its first segment; None: no stamp will come."""
    last_byte: int | None = None
    first_left_ns: int | None = None
    last_left_ns: int | None = None

    def awaited(self) -> bool:
        return self.last_byte is not None and self.last_left_ns is None

    def note(self, number: int, at_ns: int) -> None:
        """Take in a stamp; a byte that was sent again has two, and the first counts."""
        if self.started_ns is None or at_ns < self.started_ns - STAMP_SLACK_NS:
            return
        if self.first_byte is not None and number == self.first_byte % _MODULUS:
            self.first_left_ns = self.first_left_ns or at_ns
        if self.last_byte is not None and number == self.last_byte % _MODULUS:
            self.last_left_ns = self.last_left_ns or at_ns

    def departure(self) -> Departure:
        if self.first_left_ns is not None and self.last_left_ns is not None:
            return Departure(started_ns=self.first_left_ns, sent_ns=self.last_left_ns, clock=ClockSource.KERNEL)
        return Departure(started_ns=self.started_ns, sent_ns=self.sent_ns, clock=ClockSource.USER)


def _attempt_once(ready: asyncio.Future[T], attempt: Callable[[], T], when_idle: Callable[[], None]) -> None:
    """Read in the callback itself, not a turn of the loop later: less can pile up into one stamp.

    Where there is nothing to read, a stamp waits in the error queue, and would call again at once for ever.
    """
    if ready.done():
        return
    try:
        value = attempt()
    except (BlockingIOError, InterruptedError):
        when_idle()
        return
    except OSError as exc:
        ready.set_exception(exc)
    else:
        ready.set_result(value)
