"""A collector of a hundred lines for benches of the agent: gives out a configuration and acknowledges every batch.

It speaks the contract (`isochrone.wire`) and stores nothing, so that what is measured is the agent alone.
"""

import asyncio
import contextlib
import gzip
import re
from collections import Counter
from collections.abc import Iterable
from datetime import UTC, datetime
from itertools import accumulate
from typing import Final

from isochrone import wire
from isochrone.batch import Ack
from isochrone.config import AgentConfig, encode_config
from isochrone.outcome import Prober

ETAG: Final = '"bench"'
FLUSH_SECONDS: Final = 2.0
_LENGTH: Final = re.compile(rb"(?im)^content-length:\s*(\d+)")
_GZIP: Final = re.compile(rb"(?im)^content-encoding:\s*gzip")


def most_at_once(spans: Iterable[tuple[float, float]]) -> int:
    """Return how many of the spans (begin, end) share one moment; one that begins as another ends does not."""
    steps = sorted(step for begin, end in spans for step in ((begin, 1), (end, -1)))
    return max(accumulate(change for _, change in steps), default=0)


class CollectorStub:
    """Counts what it is sent, by endpoint, module and outcome."""

    def __init__(self, config: AgentConfig) -> None:
        self.counts: Counter[tuple[str, str, str]] = Counter()
        self.reasons: set[str] = set()
        self._streams: list[tuple[float, float]] = []
        self._config = encode_config(config)
        self._server: asyncio.Server | None = None

    async def start(self) -> str:
        """Listen on loopback and return the base URL."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def close(self) -> None:
        """Stop listening."""
        if self._server is not None:
            self._server.close()

    def streams_at_once(self) -> int:
        """Return how many good streams were under way at the busiest moment, as their results tell it."""
        return most_at_once(self._streams)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = _LENGTH.search(head)
                body = await reader.readexactly(int(length[1])) if length is not None else b""
                writer.write(self._answer(head, body))
                await writer.drain()
        writer.close()

    def _answer(self, head: bytes, body: bytes) -> bytes:
        if head.startswith(b"GET /v1/agent/config"):
            if ETAG.encode() in head:
                return b"HTTP/1.1 304 Not Modified\r\nETag: " + ETAG.encode() + b"\r\n\r\n"
            return _ok(self._config)
        if head.startswith(b"POST /v1/batches"):
            return _ok(self._acknowledge(gzip.decompress(body) if _GZIP.search(head) else body))
        return b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"

    def _acknowledge(self, body: bytes) -> bytes:
        decoded = wire.decode_batch(body)
        for result in decoded.batch.results:
            self.counts[result.endpoint, result.module, str(result.outcome)] += 1
            if result.reason is not None:
                self.reasons.add(result.reason)
            if result.prober is Prober.INFERENCE and result.duration_seconds is not None:
                begin = result.started_boottime_seconds
                self._streams.append((begin, begin + result.duration_seconds))
        now = datetime.now(UTC).timestamp()
        return wire.encode_ack(
            Ack(
                batch_id=decoded.batch.batch_id,
                accepted=len(decoded.batch.results),
                duplicate=0,
                late=0,
                rejected=decoded.rejected,
                t1=now,
                t2=now,
                config_etag=ETAG,
                next_flush_seconds=FLUSH_SECONDS,
            )
        )


def _ok(body: bytes) -> bytes:
    lines = (
        "HTTP/1.1 200 OK",
        "Content-Type: application/json",
        f"ETag: {ETAG}",
        f"Content-Length: {len(body)}",
        "",
        "",
    )
    return "\r\n".join(lines).encode() + body
