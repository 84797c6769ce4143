"""HTTP/2 for an endpoint that asks for it: httpcore and h2 speak it. Agents without one need no h2 (2 MiB)."""

import struct
from collections.abc import Callable
from typing import Any, Final

import httpcore
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import Event
from h2.exceptions import H2Error

FAULTS: Final[tuple[type[Exception], ...]] = (
    httpcore.RemoteProtocolError,
    httpcore.ConnectionNotAvailable,
    H2Error,
    ValueError,
)
"""What says that the server breaks HTTP/2, or leaves (GOAWAY) before it takes the request.

h2's own where httpcore lets it through, and ValueError: a status that is no number.
"""
_HEAD: Final = struct.Struct(">HBBBI")
"""RFC 9113 4.1: length (the first two of its three bytes), its third byte, type, flags, stream."""
_HARMLESS: Final = frozenset({4, 6, 8})
"""SETTINGS, PING, WINDOW_UPDATE: a server may send them while nothing is asked of it."""


def connection(origin: httpcore.Origin, stream: httpcore.AsyncNetworkStream) -> httpcore.AsyncHTTP2Connection:
    """Return a connection over TLS that agreed on `h2`."""
    http = httpcore.AsyncHTTP2Connection(origin=origin, stream=stream)

    def leave() -> None:
        http._used_all_stream_ids = True  # noqa: SLF001  then httpcore closes after this answer

    http._h2_state = _Patient(http.CONFIG, leave)  # noqa: SLF001  httpcore takes none
    return http


class _Patient(H2Connection):
    """Reads an answer on that a polite goodbye (GOAWAY without an error) promises to finish: RFC 9113 6.8."""

    def __init__(self, config: H2Configuration, leave: Callable[[], None]) -> None:
        super().__init__(config)
        self._leave = leave

    def _receive_goaway_frame(self, frame: Any) -> tuple[list[Any], list[Event]]:  # noqa: ANN401  hyperframe's, not ours to import
        if frame.error_code or frame.last_stream_id < self.highest_outbound_stream_id:
            return super()._receive_goaway_frame(frame)
        self._leave()
        return [], []


def harmless(data: bytes) -> bool:
    """Return whether what came on an idle connection is whole frames that ask for no end of it. Pure."""
    at = 0
    while len(data) - at >= _HEAD.size:
        high, low, kind, _, stream = _HEAD.unpack_from(data, at)
        if kind not in _HARMLESS or stream:
            return False
        at += _HEAD.size + (high << 8 | low)
    return at == len(data)
