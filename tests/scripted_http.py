"""A real HTTP server whose answers a test writes, and a collector small enough to be believed at sight."""

import asyncio
import gzip
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from uuid import UUID

from isochrone.batch import Ack, Batch
from isochrone.config import AgentConfig, encode_config
from isochrone.wire import decode_batch, encode_ack


@dataclass(frozen=True)
class Request:
    method: str
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def batch(self) -> Batch:
        return decode_batch(gzip.decompress(self.body)).batch


@dataclass(frozen=True)
class Reply:
    """`cut` closes the connection after so many bytes of the answer."""

    status: int = 200
    body: bytes = b""
    content_type: str = "application/json"
    headers: dict[str, str] = field(default_factory=dict)
    cut: int | None = None

    def encoded(self) -> bytes:
        head = [f"HTTP/1.1 {self.status} {HTTPStatus(self.status).phrase}"]
        fields = {"content-type": self.content_type, "content-length": str(len(self.body)), **self.headers}
        head += [f"{name}: {value}" for name, value in fields.items()]
        return ("\r\n".join(head) + "\r\n\r\n").encode("latin-1") + self.body


Answer = Callable[[Request], Reply]


@asynccontextmanager
async def serving(answer: Answer) -> AsyncIterator[str]:
    """Serve `answer` on a free port of loopback; yield the base URL."""
    writers: set[asyncio.StreamWriter] = set()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.add(writer)
        try:
            while await _one(reader, writer, answer):
                pass
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writers.discard(writer)
            writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0, limit=2**20)
    port = server.sockets[0].getsockname()[1]
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.close()
        for writer in list(writers):
            writer.close()
        await server.wait_closed()


async def _one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, answer: Answer) -> bool:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    method, path, _ = head[0].split(" ", 2)
    headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:])}
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    reply = answer(Request(method, path, headers, body))
    data = reply.encoded()
    writer.write(data if reply.cut is None else data[: reply.cut])
    await writer.drain()
    return reply.cut is None


def ack_for(batch: Batch, *, flush_seconds: float = 1.0, config_etag: str | None = None) -> Ack:
    now = time.time_ns() / 1e9
    return Ack(
        batch_id=batch.batch_id,
        accepted=len(batch.results),
        duplicate=0,
        late=0,
        rejected=(),
        t1=now,
        t2=now,
        config_etag=config_etag,
        next_flush_seconds=flush_seconds,
    )


class LittleCollector:
    """Keeps every batch once, by its id, as the real one does; `faults` are answered first, one for one request."""

    def __init__(self, config: AgentConfig | None = None) -> None:
        self.config = config
        self.faults: list[Reply] = []
        self.batches: dict[UUID, Batch] = {}
        self.duplicates = 0
        self.requests: list[Request] = []

    @property
    def etag(self) -> str:
        return f'"{0 if self.config is None else self.config.revision}"'

    @property
    def ids(self) -> list[tuple[UUID, int]]:
        """(boot id, seq) of every stored result."""
        return [(batch.boot_id, result.seq) for batch in self.batches.values() for result in batch.results]

    def __call__(self, request: Request) -> Reply:
        self.requests.append(request)
        if request.method == "GET":
            return self._config(request)
        if self.faults:
            return self.faults.pop(0)
        batch = request.batch
        self.duplicates += batch.batch_id in self.batches
        self.batches.setdefault(batch.batch_id, batch)
        return Reply(body=encode_ack(ack_for(batch, config_etag=self.etag)))

    def _config(self, request: Request) -> Reply:
        if self.config is None:
            return Reply(status=404, body=b"{}")
        if request.headers.get("if-none-match") == self.etag:
            return Reply(status=304)
        return Reply(body=encode_config(self.config), headers={"etag": self.etag})
