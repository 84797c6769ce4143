"""A non-blocking TCP socket of our own as httpcore's stream: every read and write knows when its bytes came and left.

From the first read on the socket is read as soon as the loop finds it ready, whoever else works, and what came waits
here with its stamp: reading costs a few µs, parsing a hundred, and what waits in the kernel is merged into one stamp
(agent.transport.arrival). What waits here is bounded: beyond `WAITING_BYTES` it stays in the kernel, and the sender
slows down.

The kernel stamps the last byte of each write too, when it is handed to the network device. A write longer than a
segment is made in two, so that its first segment has a stamp of its own.

Whoever works through what came lets the loop look at the sockets every `HELD_SECONDS`. Not after every piece: a turn of
the loop costs as much as parsing an event.
"""

import asyncio
import contextlib
import socket
from collections import deque
from typing import Any, Final

import httpcore

from agent.clock import Clock
from agent.transport import kernel
from agent.transport.arrival import Arrival, Stamps
from agent.transport.departure import STAMP_SLACK_NS, Departure, Write
from agent.transport.loop import AgentLoop

READ_BYTES: Final = 64 * 1024
WAITING_BYTES: Final = 128 * 1024
HELD_SECONDS: Final = 0.003
"""A stream of tokens alone never reaches it; a flood, or a hundred streams, give the loop its turns."""
_MOST_TURNS: Final = 50
"""Waited for while others hold the loop: then it is this stream's turn, whoever waits."""
_SEGMENT_BYTES: Final = 1_000
"""Of a write no longer than this nothing is asked: it is one segment on any path that carries IPv6 (RFC 8200 5)."""

_Piece = tuple[bytes, Arrival]


class SocketStream(httpcore.AsyncNetworkStream):
    """Owns `sock`, which is connected and non-blocking. Timeouts are the caller's: a cancelled wait leaves nothing."""

    def __init__(self, sock: socket.socket, *, clock: Clock) -> None:
        self._sock = sock
        self._fd = sock.fileno()
        self._clock = clock
        self._loop = asyncio.get_running_loop()
        self._turns = self._loop.watch if isinstance(self._loop, AgentLoop) else None
        self._stamps = Stamps(sock, now_ns=clock.monotonic_ns(), waits=self._turns)
        self._held_from = self._loop.time()
        self._stamps_departures = kernel.ask_for_departures(sock)
        self._written = 0
        self._write = Write()
        self._waiting: deque[_Piece] = deque()
        self._waiting_bytes = 0
        self._reader: asyncio.Future[None] | None = None
        self._watched = False
        self._ended = False
        self._fault: OSError | None = None
        self._last_info: kernel.TcpInfo | None = None
        self.arrival: Arrival | None = None
        """Of what the latest read returned."""

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ARG002, ASYNC109  httpcore's signature
        """Return what came, b"" at the end of the stream."""
        await self.breathe()
        while not self._waiting:
            if self._fault is not None:
                raise self._fault
            if self._ended:
                return b""
            self._watch()
            await self._readable()
            await self.breathe()  # of many that are woken at once, the later ones first let the sockets be read
        data, self.arrival = self._waiting.popleft()
        if len(data) > max_bytes:
            self._waiting.appendleft((data[max_bytes:], self.arrival))
            data = data[:max_bytes]
        self._waiting_bytes -= len(data)
        if not self._watched and not self._ended and self._fault is None and self._waiting_bytes < WAITING_BYTES:
            self._watch()
        return data

    async def breathe(self) -> None:
        """Let the loop look at the sockets, and others run, if it has not for `HELD_SECONDS`."""
        for _ in range(_MOST_TURNS):
            if not self._held():
                return
            await asyncio.sleep(0)
            self._held_from = self._loop.time()

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ARG002, ASYNC109  httpcore's signature
        """Hand all of `buffer` to the kernel; `departure` says when that began and ended."""
        self._held_from = self._loop.time()
        self._write = write = Write(started_ns=self._clock.monotonic_ns())
        first = self._first_segment(buffer)
        await self._send(buffer[:first])
        first_byte = self._written - 1
        if first < len(buffer):
            await self._send(buffer[first:])
        write.sent_ns = self._clock.monotonic_ns()
        if self._stamps_departures:
            write.expect(first_byte=first_byte, last_byte=self._written - 1)
            self._take_departures()

    @property
    def departure(self) -> Departure:
        """When the latest write left."""
        if self._write.awaited():
            self._take_departures()
        return self._write.departure()

    async def aclose(self) -> None:
        """Close the socket; again is harmless."""
        self.close()

    def close(self) -> None:
        """Close the socket; again is harmless."""
        if self._sock.fileno() >= 0:
            self._last_info = self.tcp_info()
        self._unwatch()
        self._ended = True
        with contextlib.suppress(OSError):
            self._sock.close()

    def alive(self) -> bool:
        """Return whether an idle connection can take a request: nothing came since, least of all its end."""
        if self._waiting or self._ended or self._fault is not None:
            return False
        try:
            self._sock.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return True
        except OSError:
            return False
        return False

    def poll(self) -> bytes | None:
        """Return what has come, b"" for the end, None for nothing."""
        if not self._waiting and not self._ended and self._fault is None:
            self._take()
        if self._waiting:
            data, self.arrival = self._waiting.popleft()
            self._waiting_bytes -= len(data)
            return data
        return b"" if self._ended or self._fault is not None else None

    def get_extra_info(self, info: str) -> Any:  # noqa: ANN401  httpcore's signature
        """Return what httpcore asks for: whether an idle connection has something to read."""
        return not self.alive() if info == "is_readable" else None

    def tcp_info(self) -> kernel.TcpInfo | None:
        """Return the kernel's view of this connection; once it is closed, the last one."""
        return kernel.tcp_info(self._sock) or self._last_info

    def _held(self) -> bool:
        if self._turns is None:
            return self._loop.time() - self._held_from >= HELD_SECONDS
        return self._loop.time() - self._turns.ended_ns / 1e9 >= HELD_SECONDS

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
                await self._writable()
            else:
                self._written += count
                view = view[count:]

    def _take_departures(self) -> None:
        for departure in kernel.departures(self._sock):
            at_ns = self._stamps.monotonic_ns(departure.stamp_ns)
            if at_ns <= self._clock.monotonic_ns() + STAMP_SLACK_NS:
                self._write.note(departure.number, at_ns)

    def _watch(self) -> None:
        if not self._watched:
            self._watched = True
            self._stamps.watched_ns = self._clock.monotonic_ns()
            self._loop.add_reader(self._fd, self._on_readable)

    def _unwatch(self) -> None:
        if self._watched:
            self._watched = False
            self._stamps.watched_ns = None
            self._loop.remove_reader(self._fd)

    def _on_readable(self) -> None:
        """Take what came, in the callback itself: less can pile up into one stamp."""
        if not self._take():
            # Nothing to read: a stamp waits in the error queue, and would call again at once for ever.
            self._take_departures()
            return
        if self._ended or self._fault is not None or self._waiting_bytes >= WAITING_BYTES:
            self._unwatch()
        if self._reader is not None and not self._reader.done():
            self._reader.set_result(None)

    def _take(self) -> bool:
        """Read once from the socket; return whether there was anything, its end or its fault included."""
        before_ns = self._clock.monotonic_ns()
        try:
            data, stamp_ns = kernel.receive(self._sock, READ_BYTES)
        except (BlockingIOError, InterruptedError):
            self._stamps.empty_ns = before_ns
            return False
        except OSError as exc:
            self._fault = exc
            return True
        self._ended = not data
        arrival = self._stamps.arrival(stamp_ns, size=len(data), read_ns=self._clock.monotonic_ns())
        if len(data) < READ_BYTES:
            self._stamps.empty_ns = before_ns
        elif self._watched:
            self._stamps.watched_ns = self._clock.monotonic_ns()  # more may have waited there for long
        self._waiting.append((data, arrival))
        self._waiting_bytes += len(data)
        return True

    async def _readable(self) -> None:
        self._reader = self._loop.create_future()
        try:
            await self._reader
        finally:
            self._reader = None
            self._held_from = self._loop.time()

    async def _writable(self) -> None:
        ready: asyncio.Future[None] = self._loop.create_future()
        self._loop.add_writer(self._fd, self._on_writable, ready)
        try:
            await ready
        finally:
            self._loop.remove_writer(self._fd)
            self._held_from = self._loop.time()

    def _on_writable(self, ready: asyncio.Future[None]) -> None:
        self._take_departures()
        if not ready.done():
            ready.set_result(None)
