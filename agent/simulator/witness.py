"""What this end's kernel saw of a stream: when the request's last byte came, and when each write of tokens left.

A script's timers are late, and so is a server's loop: only these stamps are the truth that a client can be held to.
asyncio's own transports read without them, so connections that are watched have a transport of their own here.
"""

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Awaitable, Callable
from typing import Final

import msgspec

from agent.clock import Clock, SystemClock
from agent.transport import kernel
from isochrone.outcome import ClockSource

READ_BYTES: Final = 64 * 1024
BACKLOG: Final = 1024
RETRY_SECONDS: Final = 1.0
_MODULUS: Final = 2**32

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """One stream, as its server saw it. All its moments are of one clock: only their differences mean something."""

    model: str | None
    clock: ClockSource
    """`KERNEL` (CLOCK_REALTIME) where each moment has a stamp, else `USER` (CLOCK_MONOTONIC)."""
    received_ns: int
    """The request's last byte."""
    sent_ns: tuple[int, ...]
    """Each write that held tokens, its last byte."""


class _Moment(msgspec.Struct, frozen=True, kw_only=True):
    """By the kernel, None where it gave no stamp, and by our own clock."""

    kernel_ns: int | None
    user_ns: int


class ServerTls:
    """The server's half of TLS, between bytes and bytes."""

    def __init__(self, context: ssl.SSLContext) -> None:
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._object = context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self._agreed = False

    def decrypt(self, data: bytes) -> bytes:
        """Return what `data` brings in plain; raises ssl.SSLError."""
        self._incoming.write(data)
        plain = b""
        with contextlib.suppress(ssl.SSLWantReadError, ssl.SSLZeroReturnError):
            if not self._agreed:
                self._object.do_handshake()
                self._agreed = True
            while True:
                plain += self._object.read(READ_BYTES)
        return plain

    def encrypt(self, data: bytes) -> bytes:
        """Return `data` as records."""
        self._object.write(data)
        return self.take()

    def take(self) -> bytes:
        """Return what the handshake has to say."""
        return self._outgoing.read()


class WitnessTransport(asyncio.Transport):
    """Owns a connected, non-blocking `sock`; hands what comes to `protocol`, and notes when it came and left."""

    def __init__(self, sock: socket.socket, protocol: asyncio.Protocol, *, clock: Clock, tls: ServerTls | None) -> None:
        super().__init__({"socket": sock, "peername": sock.getpeername()})
        self._loop = asyncio.get_running_loop()
        self._sock = sock
        self._protocol = protocol
        self._clock = clock
        self._tls = tls
        self._closing = False
        self._waiting = bytearray()
        self._queued = 0
        """Bytes ever taken for the wire: a write's last byte has the number of those before it."""
        self._departed: dict[int, int] = {}
        self._received = _Moment(kernel_ns=None, user_ns=0)
        kernel.ask_for_departures(sock)
        self._loop.add_reader(sock, self._readable)
        protocol.connection_made(self)

    def is_closing(self) -> bool:
        """Return whether it is closed, or will be when all is sent."""
        return self._closing

    def get_write_buffer_size(self) -> int:
        """Return how many bytes wait for the peer to make room."""
        return len(self._waiting)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Send `data`, now if there is room."""
        if not self._closing:
            self._put(bytes(data) if self._tls is None else self._tls.encrypt(bytes(data)))

    def close(self) -> None:
        """Send what waits, then close."""
        if self._closing:
            return
        self._closing = True
        self._loop.remove_reader(self._sock)
        if not self._waiting:
            self._end(None)

    def abort(self) -> None:
        """Close at once."""
        self._closing = True
        self._loop.remove_reader(self._sock)
        self._end(None)

    def received(self) -> _Moment:
        """Return when the latest read's last byte came."""
        return self._received

    def last_write(self) -> tuple[int, int]:
        """Return the number of the latest write's last byte, and when our own clock says that it left."""
        return (self._queued - 1) % _MODULUS, self._clock.monotonic_ns()

    def departed_ns(self, number: int) -> int | None:
        """Return the kernel's stamp of the byte `number`; it is forgotten then."""
        self._take_departures()
        return self._departed.pop(number, None)

    def _put(self, data: bytes) -> None:
        self._queued += len(data)
        self._waiting += data
        self._flush()

    def _flush(self) -> None:
        try:
            while self._waiting:
                del self._waiting[: self._sock.send(self._waiting)]
        except (BlockingIOError, InterruptedError):
            self._loop.add_writer(self._sock, self._flush)
            return
        except OSError as exc:
            self._end(exc)
            return
        self._loop.remove_writer(self._sock)
        self._take_departures()
        if self._closing:
            self._end(None)

    def _take_departures(self) -> None:
        """Empty the error queue: what waits in it would wake the loop at once, again and again."""
        for departure in kernel.departures(self._sock):
            self._departed.setdefault(departure.number, departure.stamp_ns)

    def _readable(self) -> None:
        try:
            data, stamp_ns = kernel.receive(self._sock, READ_BYTES)
            self._received = _Moment(kernel_ns=stamp_ns, user_ns=self._clock.monotonic_ns())
            plain = data if self._tls is None else self._decrypt(self._tls, data)
        except (BlockingIOError, InterruptedError):
            self._take_departures()
            return
        except ssl.SSLError as exc:
            self._end(ConnectionAbortedError(exc.reason))
            return
        except OSError as exc:
            self._end(exc)
            return
        if plain:
            self._protocol.data_received(plain)
        if not data:
            self._loop.remove_reader(self._sock)
            self._protocol.eof_received()

    def _decrypt(self, tls: ServerTls, data: bytes) -> bytes:
        if not data:
            return b""
        try:
            return tls.decrypt(data)
        finally:
            if said := tls.take():
                self._put(said)

    def _end(self, exc: Exception | None) -> None:
        if self._sock.fileno() < 0:
            return
        self._closing = True
        self._waiting.clear()
        self._loop.remove_reader(self._sock)
        self._loop.remove_writer(self._sock)
        self._sock.close()
        self._loop.call_soon(self._protocol.connection_lost, exc)


class Witness:
    """Follows one stream over a watched connection."""

    def __init__(self, transport: WitnessTransport) -> None:
        self._transport = transport
        self._received = transport.received()
        self._writes: list[tuple[int, int]] = []

    def note_write(self) -> None:
        """Take in that tokens were written just now."""
        self._writes.append(self._transport.last_write())

    def seen(self, model: str | None) -> Seen:
        """Return what was seen."""
        stamps = [self._transport.departed_ns(number) for number, _ in self._writes]
        stamped = tuple(stamp_ns for stamp_ns in stamps if stamp_ns is not None)
        received_ns = self._received.kernel_ns
        if received_ns is not None and len(stamped) == len(stamps):
            return Seen(model=model, clock=ClockSource.KERNEL, received_ns=received_ns, sent_ns=stamped)
        own = tuple(user_ns for _, user_ns in self._writes)
        return Seen(model=model, clock=ClockSource.USER, received_ns=self._received.user_ns, sent_ns=own)


class WitnessServer:
    """Listens as `asyncio.start_server` does, on one address, over watched connections."""

    def __init__(self, serve: Serve, *, limit: int, context: ssl.SSLContext | None) -> None:
        self._serve = serve
        self._limit = limit
        self._context = context
        self.sockets: tuple[socket.socket, ...] = ()

    def start(self, host: str, port: int) -> None:
        """Listen; raises OSError when the address is taken."""
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listener = socket.create_server((host, port), family=family, backlog=BACKLOG)
        listener.setblocking(False)  # noqa: FBT003  the library's signature
        kernel.ask_for_stamps(listener)  # what it accepts inherits it: so the first request has its stamp
        self.sockets = (listener,)
        self._listen(listener)

    def close(self) -> None:
        """Listen no more; what is open stays."""
        for listener in self.sockets:
            asyncio.get_running_loop().remove_reader(listener)
            listener.close()

    def _listen(self, listener: socket.socket) -> None:
        if listener.fileno() >= 0:
            asyncio.get_running_loop().add_reader(listener, self._accept, listener)

    def _accept(self, listener: socket.socket) -> None:
        try:
            sock, _ = listener.accept()
        except (BlockingIOError, InterruptedError, ConnectionAbortedError):
            return
        except OSError:  # no descriptor is left: as asyncio does, wait for one
            loop = asyncio.get_running_loop()
            loop.remove_reader(listener)
            loop.call_later(RETRY_SECONDS, self._listen, listener)
            return
        sock.setblocking(False)  # noqa: FBT003  the library's signature
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        reader = asyncio.StreamReader(limit=self._limit)
        protocol = asyncio.StreamReaderProtocol(reader, self._serve)
        tls = None if self._context is None else ServerTls(self._context)
        WitnessTransport(sock, protocol, clock=SystemClock(), tls=tls)
