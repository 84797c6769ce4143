"""A small HTTP/2 server over TLS for tests: h2 on asyncio, which plays one chat stream by request and keeps a log."""

import asyncio
import contextlib
import ssl
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple

import h2.config
import h2.connection
import h2.events

TLS = Path(__file__).parent / "integration" / "tls"
TOKENS = 8
GAP_SECONDS = 0.02


class Http2Server:
    """What it is to do, and what it saw."""

    def __init__(self) -> None:
        self.connections = 0
        self.requests: list[dict[str, str]] = []
        self.requested_ns: list[int] = []
        self.token_ns: list[int] = []
        """When each token of the latest stream was written."""
        self.reset_after: int | None = None
        """Reset the stream after so many tokens."""
        self.silent_after: int | None = None
        """Say nothing more in the stream after so many tokens."""
        self.status = "200"
        self.goaway_before_answers = False
        self.goaway_in_answers = False
        self.ping_when_idle = False
        self.goaway_when_idle = False
        self.idle = asyncio.Event()
        """Set when an answer is over, and what was to be said afterwards is said."""


@asynccontextmanager
async def http2_server(*, alpn: str = "h2") -> AsyncIterator[tuple[str, Http2Server]]:
    """Serve on loopback; give the base URL and the server."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(TLS / "certificate.pem", TLS / "key.pem")
    context.set_alpn_protocols([alpn])
    state = Http2Server()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        state.connections += 1
        with contextlib.suppress(ConnectionError, asyncio.CancelledError):
            await _converse(state, reader, writer)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    try:
        yield f"https://localhost:{server.sockets[0].getsockname()[1]}/v1", state
    finally:
        server.close()


async def _converse(state: Http2Server, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    connection = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False))
    connection.initiate_connection()
    writer.write(connection.data_to_send())  # before anybody asks
    while data := await reader.read(65_536):
        for event in connection.receive_data(data):
            if isinstance(event, h2.events.RequestReceived):
                headers = {name.decode(): value.decode() for name, value in event.headers or []}
                state.requests.append(headers)
            elif isinstance(event, h2.events.StreamEnded):
                state.requested_ns.append(time.monotonic_ns())
                if state.requests[-1][":method"] == "HEAD":
                    connection.send_headers(event.stream_id, [(":status", "200")], end_stream=True)
                    continue
                if state.goaway_before_answers and len(state.requests) > 1:
                    connection.close_connection(last_stream_id=1)
                    break
                await _play(state, Out(connection, writer), event.stream_id)
                if state.goaway_when_idle:
                    return
        writer.write(connection.data_to_send())
        await writer.drain()


class Out(NamedTuple):
    """Where frames go."""

    connection: h2.connection.H2Connection
    writer: asyncio.StreamWriter


async def _play(state: Http2Server, out: Out, stream_id: int) -> None:
    connection, writer = out
    head = [(":status", state.status), ("content-type", "text/event-stream")]
    connection.send_headers(stream_id, head)
    if state.goaway_in_answers:  # without an error, and this stream is the last: h2 would not send on after its own
        writer.write(connection.data_to_send() + b"\0\0\x08\x07" + bytes(5) + stream_id.to_bytes(4, "big") + bytes(4))
    state.token_ns = []
    for index in range(TOKENS):
        if index == state.reset_after:
            connection.reset_stream(stream_id, error_code=2)
            writer.write(connection.data_to_send())
            return
        if index == state.silent_after:
            return
        await asyncio.sleep(GAP_SECONDS)
        connection.send_data(stream_id, b'data: {"choices":[{"index":0,"delta":{"content":"a "}}]}\n\n')
        state.token_ns.append(time.monotonic_ns())
        writer.write(connection.data_to_send())
    end = b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n'
    connection.send_data(stream_id, end, end_stream=True)
    writer.write(connection.data_to_send())
    await writer.drain()
    await asyncio.sleep(0.05)
    if state.ping_when_idle:
        connection.ping(b"12345678")
    if state.goaway_when_idle:
        connection.close_connection()
    writer.write(connection.data_to_send())
    await writer.drain()
    state.idle.set()
