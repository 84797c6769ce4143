"""Bounds before a request exists: how long and how large its headers may be. Uvicorn has neither.

connection -> (waiting) -> headers complete -> request -> answer -> keep-alive, uvicorn's own timeout
                 |  ^------------------------------------- first byte of the next request
                 `-> closed after HEADER_SECONDS, or beyond HEADER_BYTES
"""

import asyncio
from typing import Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

HEADER_SECONDS = 10.0
"""From the opening of the connection, or the first byte of a later request, to the end of the headers."""
HEADER_BYTES: Final = 32 * 1024


class BoundedProtocol(HttpToolsProtocol):
    """HTTP/1.1 that closes a connection whose headers come too slowly or are too long."""

    _deadline: asyncio.TimerHandle | None = None
    _received = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        """Wait for the first request."""
        super().connection_made(transport)
        self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait for nothing any more."""
        self._stop_waiting()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Close when the headers are not complete after so many bytes."""
        super().data_received(data)
        if self._deadline is not None:
            self._received += len(data)
            if self._received > HEADER_BYTES:
                self.transport.close()

    def on_message_begin(self) -> None:
        """Wait for the headers of the next request."""
        super().on_message_begin()
        if self._deadline is None:
            self._wait()

    def on_headers_complete(self) -> None:
        """Let the route's own bounds take over."""
        self._stop_waiting()
        super().on_headers_complete()

    def _wait(self) -> None:
        self._received = 0
        self._deadline = self.loop.call_later(HEADER_SECONDS, self.transport.close)

    def _stop_waiting(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
