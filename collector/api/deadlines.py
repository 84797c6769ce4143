"""Bounds of what comes in, whoever reads it: time and size of headers, time of bodies. Uvicorn has none of them.

connection -> (headers) -> (body) -> complete -> keep-alive, uvicorn's own timeout
                ^  |          |         `-> first byte of the next request -.
                |  |          `-> closed after BODY_SECONDS, answered or not |
                |  `-> closed after HEADER_SECONDS, or beyond HEADER_BYTES   |
                `------------------------------------------------------------'

An answer that refuses a request does not close the connection at once: what the client still sends would turn it into a
reset, and the client would never read why it was refused.
"""

import asyncio
from typing import Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

HEADER_SECONDS = 10.0
"""From the opening of the connection, or the first byte of a later request, to the end of the headers."""
BODY_SECONDS = 30.0
"""From the end of the headers to the end of the body: later than every route's own bound, which is answered."""
HEADER_BYTES: Final = 32 * 1024


class BoundedProtocol(HttpToolsProtocol):
    """HTTP/1.1 that closes a connection whose headers or body come too slowly, or whose headers are too long."""

    _deadline: asyncio.TimerHandle | None = None
    _in_headers = False
    _received = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        """Wait for the first request."""
        super().connection_made(transport)
        self._wait_for_headers()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait for nothing any more."""
        self._stop_waiting()
        super().connection_lost(exc)

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
        if self._deadline is None:
            self._wait_for_headers()

    def on_headers_complete(self) -> None:
        """Wait for the body."""
        self._stop_waiting()
        self._deadline = self.loop.call_later(BODY_SECONDS, self.transport.close)
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """Wait for nothing until the next request begins."""
        self._stop_waiting()
        super().on_message_complete()

    def _wait_for_headers(self) -> None:
        self._received = 0
        self._in_headers = True
        self._deadline = self.loop.call_later(HEADER_SECONDS, self.transport.close)

    def _stop_waiting(self) -> None:
        self._in_headers = False
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
