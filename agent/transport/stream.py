"""A non-blocking TCP socket of our own as httpcore's stream: every read knows when its bytes came.

The kernel stamps the last segment of each read. A stamp is believed when it lies between the last moment at which the
socket was known to be empty and the read itself: a step of the wall clock makes nonsense of it. Nor is one believed
that is old while the kernel counts more segments out of order: after loss a segment that waited for a hole carries
the time it came, not the time at which it could be read (measured at 3 % loss: 246 ms wrong). Then our own clock
stands.

One request leaves in one piece: httpcore writes head and body apart, so the head is held until the body follows.

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

T = TypeVar("T")


class Arrival(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """When the bytes of one read came."""

    at_ns: int
    """CLOCK_MONOTONIC."""
    clock: ClockSource
    read: int
    """Ordinal of the read on this connection: what came in one read cannot be told apart in time."""


class SocketStream(httpcore.AsyncNetworkStream):
    """Owns `sock`, which is connected and non-blocking. Timeouts are the caller's: a cancelled wait leaves nothing."""

    def __init__(self, sock: socket.socket, *, clock: Clock) -> None:
        self._sock = sock
        self._clock = clock
        self._loop = asyncio.get_running_loop()
        self._offset_ns = realtime_offset_ns()
        self._empty_ns = clock.monotonic_ns()
        self._reads = 0
        self._out_of_order = 0
        self._held_from = self._loop.time()
        self.arrival: Arrival | None = None
        """Of the latest read."""
        self.sent_ns: int | None = None
        """None as long as the latest write has not ended, or if it failed."""
        self.started_ns: int | None = None

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
        """Hand all of `buffer` to the kernel; `started_ns` and `sent_ns` say when that began and ended."""
        self.sent_ns, self._held_from = None, self._loop.time()
        self.started_ns = self._clock.monotonic_ns()
        view = memoryview(buffer)
        while view:
            try:
                count = self._sock.send(view)
            except BlockingIOError:
                await self._when_writable()
            else:
                view = view[count:]
        self.sent_ns = self._clock.monotonic_ns()

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

    def _receive(self, max_bytes: int) -> bytes:
        before_ns = self._clock.monotonic_ns()
        try:
            data, stamp_ns = kernel.receive(self._sock, max_bytes)
        except BlockingIOError:
            self._empty_ns = before_ns
            raise
        self._reads += 1
        self.arrival = self._judge(stamp_ns, self._clock.monotonic_ns())
        if len(data) < max_bytes:
            self._empty_ns = before_ns
        return data

    def _judge(self, stamp_ns: int | None, read_ns: int) -> Arrival:
        user = Arrival(at_ns=read_ns, clock=ClockSource.USER, read=self._reads)
        if stamp_ns is None:
            return user
        offset_ns = realtime_offset_ns()
        if abs(offset_ns - self._offset_ns) > STAMP_SLACK_NS:
            offset_ns = realtime_offset_ns()  # rather than a step, something ran between the readings of the clocks
        stepped = abs(offset_ns - self._offset_ns) > CLOCK_STEP_NS
        self._offset_ns = offset_ns
        at_ns = stamp_ns - offset_ns
        if stepped or not self._empty_ns - STAMP_SLACK_NS <= at_ns <= read_ns + STAMP_SLACK_NS:
            return user
        if read_ns - at_ns > LATE_NS and self._had_a_hole():
            return user
        # Where the latest read was timed by our own clock, a stamp that is right can lie before it.
        earliest_ns = at_ns if self.arrival is None else self.arrival.at_ns
        return Arrival(at_ns=max(earliest_ns, min(at_ns, read_ns)), clock=ClockSource.KERNEL, read=self._reads)

    def _had_a_hole(self) -> bool:
        info = self.tcp_info()
        before, self._out_of_order = self._out_of_order, 0 if info is None else info.out_of_order
        return self._out_of_order > before

    async def _when_readable(self, attempt: Callable[[], T]) -> T:
        ready: asyncio.Future[T] = self._loop.create_future()
        self._loop.add_reader(self._sock, _attempt_once, ready, attempt)
        try:
            return await ready
        finally:
            self._loop.remove_reader(self._sock)
            self._held_from = self._loop.time()

    async def _when_writable(self) -> None:
        ready: asyncio.Future[None] = self._loop.create_future()
        self._loop.add_writer(self._sock, _attempt_once, ready, lambda: None)
        try:
            await ready
        finally:
            self._loop.remove_writer(self._sock)
            self._held_from = self._loop.time()


def _attempt_once(ready: asyncio.Future[T], attempt: Callable[[], T]) -> None:
    """Read in the callback itself, not a turn of the loop later: less can pile up into one stamp."""
    if ready.done():
        return
    try:
        value = attempt()
    except (BlockingIOError, InterruptedError):
        return
    except OSError as exc:
        ready.set_exception(exc)
    else:
        ready.set_result(value)
