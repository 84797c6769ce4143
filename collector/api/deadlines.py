"""Bounds of what comes in, whoever reads it: time and size of headers, time of bodies. Uvicorn has none of them.

connection -> (headers) -> (body) -> complete -> keep-alive, uvicorn's own timeout
                ^  |          |         `-> first byte of the next request -.
                |  |          `-> closed after BODY_SECONDS, answered or not |
                |  `-> closed after HEADER_SECONDS, or beyond HEADER_BYTES   |
                `------------------------------------------------------------'

An answer that refuses a request does not close the connection at once: what the client still sends would turn it into a
reset, and the client would never read why it was refused. A client that leaves an answer unread is cut off after
WRITE_SECONDS.
"""

import asyncio
from collections import Counter
from collections.abc import Iterable
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

HEADER_SECONDS = 5.0
"""From the opening of the connection, or the first byte of a later request, to the end of the headers."""
BODY_SECONDS = 20.0
"""From the end of the headers to the end of the body: later than every route's own bound, which is answered."""
WRITE_SECONDS = 120.0
"""From a full buffer to one that is nearly empty: a client that reads nothing must not hold an answer in memory.

A configuration of the largest size over 64 kbit/s takes 35 s."""
HEADER_BYTES: Final = 16 * 1024
"""Address and headers together."""


class HeadersTooLong(Exception):
    """The address and the headers are longer than `HEADER_BYTES`; uvicorn answers 400 and closes."""


class BoundedProtocol(HttpToolsProtocol):
    """HTTP/1.1 that closes a connection whose headers or body come too slowly, or whose headers are too long."""

    _deadline: asyncio.TimerHandle | None = None
    _in_headers = False
    _received = 0
    _header_bytes = 0
    _limit: int | None = None
    """Connections of one address; None: no bound."""
    _proxies: tuple[IPv4Network | IPv6Network, ...] = ()
    _open: Counter[str] | None = None
    _counted: str | None = None
    _stuck: asyncio.TimerHandle | None = None
    """Ends a connection whose client does not read."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        """Wait for the first request."""
        super().connection_made(transport)
        if not self._admitted():
            transport.close()
            return
        self._wait_for_headers()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait for nothing any more."""
        self._stop_waiting()
        self._writes_again()
        if self._counted is not None and self._open is not None:
            self._open[self._counted] -= 1
            if self._open[self._counted] <= 0:
                del self._open[self._counted]
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        """Wait for the client to read."""
        super().pause_writing()
        self._writes_again()
        self._stuck = self.loop.call_later(WRITE_SECONDS, self.transport.abort)

    def resume_writing(self) -> None:
        """Go on: it has read."""
        super().resume_writing()
        self._writes_again()

    def data_received(self, data: bytes) -> None:
        """Close when the headers are not complete after so many bytes."""
        super().data_received(data)
        if self._in_headers:
            self._received += len(data)
            if self._received > HEADER_BYTES:
                self.transport.close()

    def on_message_begin(self) -> None:
        """Wait for the headers of the next request."""
        super().on_message_begin()
        self._header_bytes = 0
        if self._deadline is None:
            self._wait_for_headers()

    def on_url(self, url: bytes) -> None:
        """Bound the address, however much of it comes in one piece."""
        self._count_header(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Bound the headers, however many come in one piece."""
        self._count_header(len(name) + len(value) + 4)
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Wait for the body."""
        self._stop_waiting()
        self._deadline = self.loop.call_later(BODY_SECONDS, self.transport.close)
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """Wait for nothing until the next request begins."""
        self._stop_waiting()
        super().on_message_complete()

    def _writes_again(self) -> None:
        if self._stuck is not None:
            self._stuck.cancel()
            self._stuck = None

    def _count_header(self, size: int) -> None:
        self._header_bytes += size
        if self._header_bytes > HEADER_BYTES:
            raise HeadersTooLong

    def _admitted(self) -> bool:
        """Count the connection; tell whether its address may have one more."""
        if self._limit is None or self._open is None or self.client is None:
            return True
        address = self.client[0]
        if is_loopback(address) or any(ip_address(address) in network for network in self._proxies):
            return True
        if self._open[address] >= self._limit:
            return False
        self._open[address] += 1
        self._counted = address
        return True

    def _wait_for_headers(self) -> None:
        self._received = 0
        self._in_headers = True
        self._deadline = self.loop.call_later(HEADER_SECONDS, self.transport.close)

    def _stop_waiting(self) -> None:
        self._in_headers = False
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None


def bounded(connections_per_address: int, *, proxies: Iterable[str] = ()) -> type[BoundedProtocol]:
    """Return a protocol whose connections of one address are bounded, but for those networks.

    One server's: the count is the class's.
    """
    networks = tuple(ip_network(network) for network in proxies)
    bounds = {"_limit": connections_per_address, "_proxies": networks, "_open": Counter[str]()}
    return type("CountingProtocol", (BoundedProtocol,), bounds)


def is_loopback(address: str) -> bool:
    """Tell whether the peer is this machine: a proxy here brings the connections of many."""
    try:
        return ip_address(address).is_loopback
    except ValueError:
        return False
