"""TLS over our own socket stream: the stamp of a read is that of the ciphertext that completed the record."""

import contextlib
import ssl
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, Final

import httpcore
import msgspec

from agent.transport.arrival import Arrival
from agent.transport.departure import Departure
from agent.transport.kernel import TcpInfo
from agent.transport.stream import READ_BYTES, SocketStream

HTTP2: Final = "h2"
"""Its name in ALPN (RFC 9113 3.1)."""


@cache
def tls_context(ca_file: Path | None = None, *, http2: bool = False) -> ssl.SSLContext:
    """Return the one context for `ca_file`, or for the system's certificates (certifi's where the system has none).

    With `http2` it offers HTTP/2 alone, else HTTP/1.1 alone: what is spoken is never left to the server.

    Building one takes 20 to 50 ms and 2 MiB: it is built once, before any clock starts, and only for an https target.
    """
    if ca_file is not None:
        context = ssl.create_default_context(cafile=str(ca_file))
    else:
        paths = ssl.get_default_verify_paths()
        has_own = bool(paths.cafile or paths.capath)
        context = ssl.create_default_context() if has_own else httpcore.default_ssl_context()
    context.set_alpn_protocols([HTTP2 if http2 else "http/1.1"])
    return context


class Hello(msgspec.Struct, frozen=True, kw_only=True):
    """The first round trip of a handshake."""

    departure: Departure
    """Of the ClientHello."""
    arrival: Arrival
    """Of the first bytes that answered it."""


class TlsStream(httpcore.AsyncNetworkStream):
    """An SSLObject between httpcore and the socket."""

    def __init__(self, lower: SocketStream, *, context: ssl.SSLContext, server_hostname: str) -> None:
        self._lower = lower
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._object = context.wrap_bio(self._incoming, self._outgoing, server_hostname=server_hostname)
        self._kept = b""
        """Came while the connection was idle, and did no harm."""
        self.hello: Hello | None = None
        """None until the server said anything."""

    @property
    def arrival(self) -> Arrival | None:
        """Of the ciphertext that completed the latest record."""
        return self._lower.arrival

    @property
    def departure(self) -> Departure:
        """Of the ciphertext of the latest write."""
        return self._lower.departure

    @property
    def protocol(self) -> str | None:
        """What was agreed on by ALPN; None where the server takes no part in it."""
        return self._object.selected_alpn_protocol()

    async def handshake(self) -> None:
        """Agree on keys and check the certificate; raises ssl.SSLError or OSError."""
        while True:
            try:
                self._object.do_handshake()
            except ssl.SSLWantReadError:
                await self._flush()
                await self._feed()
                self._note_hello()
            except ssl.SSLError:
                with contextlib.suppress(OSError):
                    await self._flush()  # the alert, so that the server knows why
                raise
            else:
                return await self._flush()

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ARG002, ASYNC109  httpcore's signature
        """Return what came, b"" at the end of the stream (with or without a closing alert: HTTP frames itself)."""
        await self.breathe()
        if self._kept:
            data, self._kept = self._kept[:max_bytes], self._kept[max_bytes:]
            return data
        while True:
            try:
                return self._object.read(max_bytes)
            except ssl.SSLWantReadError:
                await self._flush()
                await self._feed()
            except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
                return b""

    async def breathe(self) -> None:
        """Let others run if this stream has held the loop for long."""
        await self._lower.breathe()

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ARG002, ASYNC109  httpcore's signature
        """Encrypt all of `buffer` and hand it to the kernel in one piece."""
        if buffer:
            self._object.write(buffer)
        await self._flush()

    async def aclose(self) -> None:
        """Close the socket; again is harmless."""
        self.close()

    def close(self) -> None:
        """Close the socket; again is harmless."""
        self._lower.close()

    async def part(self) -> None:
        """Say that nothing more will come, so that the server logs no broken connection, and close the socket."""
        with contextlib.suppress(OSError):
            try:
                self._object.unwrap()
            finally:
                await self._flush()
        self.close()

    def alive(self, harmless: Callable[[bytes], bool] = lambda _: False) -> bool:
        """Return whether an idle connection can take a request; what came must be session tickets alone (TLS 1.3).

        Or what `harmless` says does no harm: the next read returns it first.
        """
        while True:
            try:
                data = self._object.read(READ_BYTES)  # first what came with the latest answer and was not read
            except ssl.SSLWantReadError:
                came = self._lower.poll()
                if not came:
                    return came is None
                self._incoming.write(came)
            except ssl.SSLError:
                return False
            else:
                if not data or not harmless(data) or len(self._kept) > READ_BYTES:
                    return False
                self._kept += data

    def get_extra_info(self, info: str) -> Any:  # noqa: ANN401  httpcore's signature
        """Return what httpcore asks for: whether an idle connection has come to its end."""
        if info == "ssl_object":
            return self._object
        return not self.alive() if info == "is_readable" else None

    def tcp_info(self) -> TcpInfo | None:
        """Return the kernel's view of this connection."""
        return self._lower.tcp_info()

    def _note_hello(self) -> None:
        if self.hello is None and self.arrival is not None:
            self.hello = Hello(departure=self.departure, arrival=self.arrival)

    async def _flush(self) -> None:
        data = self._outgoing.read()
        if data:
            await self._lower.write(data)

    async def _feed(self) -> None:
        data = await self._lower.read(READ_BYTES)
        if data:
            self._incoming.write(data)
        else:
            self._incoming.write_eof()
