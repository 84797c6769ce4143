"""HTTP over one connection of ours: httpcore speaks it, the stream below tells when each piece came.

HTTP/1.1, or HTTP/2 where TLS agreed on it: there the answer's first byte is that of its head, since the server may send
frames of its own before anybody asks.

Bounds, of what came over the wire: 128 KiB until the head is complete (interim answers included; one head at most
100 KiB, says h11) and 128 fields; 16 MiB in all. No redirect is followed, no encoding asked for.
"""

import contextlib
from collections.abc import AsyncGenerator, AsyncIterable, Callable, Mapping
from contextlib import aclosing
from typing import Final, cast

import httpcore
import msgspec

from agent.config import Origin
from agent.transport.arrival import Arrival
from agent.transport.departure import Departure
from agent.transport.dial import Stream
from agent.transport.failure import Failure, why
from agent.transport.tls import HTTP2, TlsStream
from isochrone.outcome import ClockSource, Outcome

MAX_HEAD_BYTES: Final = 128 * 1024
MAX_ANSWER_BYTES: Final = 16 * 1024 * 1024
HEAD_READ_BYTES: Final = 8 * 1024
"""Read at once before the head is complete: httpcore takes all interim answers of one read without a pause (20 ms)."""
MAX_HEADERS: Final = 128
USER_AGENT: Final = "isochrone-agent"
FRAMED: Final = frozenset({"transfer-encoding", "content-length"})
"""Header fields of an HTTP/1.1 answer whose end can be told from a cut."""
_CUT: Final = ("peer closed", "without sending a response", "Server disconnected", "StreamReset")
"""What httpcore says of a connection that ended (h11's words and its own), or of a stream of HTTP/2."""


class Chunk(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A piece of a body."""

    data: bytes
    arrival: Arrival


class _Held(httpcore.AsyncNetworkStream):
    """Holds what is written until something is to be read, so that a request leaves in one piece."""

    def __init__(self, lower: Stream) -> None:
        self.lower = lower
        self._held = b""
        self._request: Departure | None = None
        self._requested = self._written_since = False
        self.first: Arrival | None = None
        """The first bytes of the answer."""
        self._received = 0
        self._in_head = True
        self.whole = False
        """The latest answer was read to its end."""

    @property
    def departure(self) -> Departure | None:
        """When the latest request left; None if it did not."""
        if self._request is not None and self._request.clock is ClockSource.USER and not self._written_since:
            self._request = self.lower.departure  # the kernel's stamp may have come late
        return self._request

    def expect_request(self) -> None:
        self._request, self._requested, self._written_since = None, False, False
        self.first = None
        self._received, self._in_head, self.whole = 0, True, False

    def expect_body(self) -> None:
        self._in_head = False

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ASYNC109  httpcore's signature
        await self._release()
        data = await self.lower.read(min(max_bytes, HEAD_READ_BYTES) if self._in_head else max_bytes, timeout)
        if self.first is None:
            self.first = self.lower.arrival
        self._received += len(data)
        if self._in_head and self._received > MAX_HEAD_BYTES:
            raise Failure(Outcome.PROTOCOL, f"{MAX_HEAD_BYTES} bytes came without a response head")
        if self._received > MAX_ANSWER_BYTES:
            raise Failure(Outcome.PROTOCOL, f"the answer is longer than {MAX_ANSWER_BYTES} bytes")
        return data

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ARG002, ASYNC109  httpcore's signature
        self._held += buffer

    async def _release(self) -> None:
        whole, self._held = self._held, b""
        if not whole:
            return
        self._request = self.departure  # the last chance to learn it: HTTP/2 acknowledges while it reads
        try:
            # A server may answer and close before it has read the request: then that answer is read.
            with contextlib.suppress(OSError):
                await self.lower.write(whole)
        finally:
            if self._requested:
                self._written_since = True
            else:
                self._requested, self._request = True, self.lower.departure

    async def aclose(self) -> None:
        self.lower.close()


class Answer(msgspec.Struct, kw_only=True):
    """The head of a response, and the way to its body."""

    status: int
    headers: Mapping[str, str]
    """Names in lower case; of a repeated field the last."""
    first: Arrival
    """Its first byte."""
    complete: Arrival
    """The end of its head."""
    framed: bool
    """Its end can be told from a cut."""
    _response: httpcore.Response
    _held: _Held
    _faults: tuple[type[Exception], ...]

    async def chunks(self) -> AsyncGenerator[Chunk, None]:
        """Yield the body's pieces as they come; raises Failure (truncated, protocol) when it does not come whole."""
        try:
            async with aclosing(_iterate(self._response)) as pieces:
                async for data in pieces:
                    yield Chunk(data=data, arrival=self._held.lower.arrival or self.complete)
                    await self.breathe()
            self._held.whole = True
        except self._faults as exc:
            if any(words in str(exc) for words in _CUT):
                raise Failure(Outcome.TRUNCATED, "the connection was closed in the middle of the answer") from exc
            raise Failure(Outcome.PROTOCOL, f"the answer breaks HTTP: {why(exc)}") from exc
        except OSError as exc:
            raise Failure(Outcome.TRUNCATED, f"the connection broke in the middle of the answer: {why(exc)}") from exc

    async def body(self, *, limit: int) -> bytes:
        """Return at most `limit` bytes of the body."""
        whole = bytearray()
        async with aclosing(self.chunks()) as chunks:
            async for chunk in chunks:
                whole += chunk.data
                if len(whole) >= limit:
                    break
        return bytes(whole[:limit])

    async def breathe(self) -> None:
        """Let others run if the answer, which comes faster than it is read, has held the loop for long."""
        await self._held.lower.breathe()

    async def close(self) -> None:
        """Let go of the response: the connection stays usable only if the body was read to its end."""
        await self._response.aclose()

    @property
    def end(self) -> Arrival:
        """The latest read: after the last chunk, the end of the body."""
        return self._held.lower.arrival or self.complete


async def prepare() -> None:
    """Make one exchange with nobody: what the libraries load at their first use (35 ms) falls in no measurement."""
    origin = httpcore.Origin(b"http", b"localhost", 80)
    nobody = httpcore.AsyncMockStream([b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"])
    http = httpcore.AsyncHTTP11Connection(origin=origin, stream=nobody)
    response = await http.handle_async_request(httpcore.Request("GET", "http://localhost/", headers={"Host": "none"}))
    await response.aread()
    await http.aclose()


class HttpConnection:
    """One connection, one request at a time."""

    def __init__(self, stream: Stream, origin: Origin) -> None:
        self.stream = stream
        self._held = _Held(stream)
        self._origin = httpcore.Origin(origin.scheme.encode(), origin.host.encode(), origin.port)
        self._authority = origin.authority
        self._http2 = isinstance(stream, TlsStream) and stream.protocol == HTTP2
        self._http: httpcore.AsyncHTTP11Connection | httpcore.AsyncHTTP2Connection
        self._faults: tuple[type[Exception], ...] = (httpcore.RemoteProtocolError,)
        if self._http2:
            self._http, self._faults, self._harmless = _speak_http2(self._origin, self._held)
        else:
            self._http = httpcore.AsyncHTTP11Connection(origin=self._origin, stream=self._held)

    @property
    def departure(self) -> Departure | None:
        """When the latest request left; None if none of it did."""
        return self._held.departure

    def usable(self) -> bool:
        """Return whether another request can be made: the last answer was read whole and the server still listens.

        Bytes that came after the answer, in the same read, would be taken as the next one.
        """
        if isinstance(self._http, httpcore.AsyncHTTP11Connection):
            left_over, _ = self._http._h11_state.trailing_data  # noqa: SLF001  httpcore tells of it nowhere else
            return self._http.is_idle() and not left_over and self.stream.alive()
        # What is left of an answer is a stream of its own here: the server would go on with it, beside the next one.
        is_open = self._held.whole and self._http.is_idle() and self._http.is_available()
        return is_open and isinstance(self.stream, TlsStream) and self.stream.alive(self._harmless)

    async def request(self, method: str, target: str, *, headers: Mapping[str, str], body: bytes = b"") -> Answer:
        """Send one request and return the head of its answer. Raises Failure (protocol, connect)."""
        self._held.expect_request()
        url = httpcore.URL(
            scheme=self._origin.scheme, host=self._origin.host, port=self._origin.port, target=target.encode("ascii")
        )
        fields = {"Host": self._authority, "User-Agent": USER_AGENT, "Accept-Encoding": "identity", **headers}
        if body or method not in {"GET", "HEAD", "OPTIONS"}:
            fields["Content-Length"] = str(len(body))
        try:
            request = httpcore.Request(method, url, headers=list(fields.items()), content=body)
            response = await self._http.handle_async_request(request)
        except httpcore.LocalProtocolError as exc:
            if self._http2:
                raise Failure(Outcome.PROTOCOL, f"the answer breaks HTTP/2: {why(exc)}") from exc
            # Its text quotes the header that it refuses, which may be the key.
            raise Failure(Outcome.OTHER, "the request cannot be written: a header holds control characters") from None
        except self._faults as exc:
            raise Failure(Outcome.PROTOCOL, _protocol_words(exc)) from exc
        except (OSError, httpcore.NetworkError) as exc:
            raise Failure(Outcome.CONNECT, f"the connection broke before an answer: {why(exc)}") from exc
        return await self._answer(response)

    def close(self) -> None:
        """Close the connection; again is harmless."""
        self.stream.close()

    async def _answer(self, response: httpcore.Response) -> Answer:
        complete = self.stream.arrival
        first = complete if self._http2 else self._held.first
        self._held.expect_body()
        if complete is None or first is None or len(response.headers) > MAX_HEADERS:
            await response.aclose()
            raise Failure(Outcome.PROTOCOL, f"the answer has more than {MAX_HEADERS} header fields")
        departure = self.departure
        if departure is not None and departure.started_ns is not None and first.at_ns < departure.started_ns:
            await response.aclose()
            raise Failure(Outcome.PROTOCOL, "the answer came before the request")
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in response.headers}
        return Answer(
            status=response.status,
            headers=headers,
            first=first,
            complete=complete,
            framed=self._http2 or not FRAMED.isdisjoint(headers),
            _response=response,
            _held=self._held,
            _faults=self._faults,
        )


def _speak_http2(
    origin: httpcore.Origin, stream: httpcore.AsyncNetworkStream
) -> tuple[httpcore.AsyncHTTP2Connection, tuple[type[Exception], ...], Callable[[bytes], bool]]:
    try:
        from agent.transport import http2  # noqa: PLC0415  agents without such an endpoint do without the package
    except ImportError as exc:
        raise Failure(Outcome.OTHER, "HTTP/2 needs the package h2: pip install 'isochrone[agent,http2]'") from exc
    return http2.connection(origin, stream), http2.FAULTS, http2.harmless


def _protocol_words(exc: Exception) -> str:
    if isinstance(exc, httpcore.ConnectionNotAvailable):
        return "the server said goodbye (GOAWAY) before it took the request"
    if any(words in str(exc) for words in _CUT):
        return "the server closed the connection without an answer"
    return f"the answer is not HTTP: {why(exc)}"


async def _iterate(response: httpcore.Response) -> AsyncGenerator[bytes, None]:
    stream = cast("AsyncIterable[bytes]", response.stream)  # synchronous connections have another kind
    pieces = cast("AsyncGenerator[bytes, None]", aiter(stream))
    async with aclosing(pieces) as closing:
        async for piece in closing:
            yield piece
