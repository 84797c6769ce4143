"""Whatever a collector answers, reading it is bounded in bytes and in time, and the batch is kept."""

import asyncio
import resource
import time
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from agent.push import Sender
from agent.telemetry import Telemetry
from agent.transport import CollectorClient
from tests.delivery import TOKEN, impatient, record, spool_in

pytestmark = pytest.mark.anyio
GIGABYTE = 10**9
KERNEL_BYTES = 16 * 1024 * 1024
"""What the sockets of both ends may hold without anybody reading it."""
MAX_GROWTH_KIB = 100 * 1024
TOTAL_SECONDS = 1.0
OK = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n"
Flow = Callable[[asyncio.StreamWriter], Awaitable[int]]
"""Writes an answer as far as it is taken; returns how many bytes that were."""


async def flood(writer: asyncio.StreamWriter, head: bytes, piece: bytes) -> int:
    sent = 0
    writer.write(OK + head)
    try:
        while sent < GIGABYTE:
            writer.write(piece)
            await writer.drain()
            sent += len(piece)
    except ConnectionError:
        pass
    return sent


async def huge(writer: asyncio.StreamWriter) -> int:
    return await flood(writer, b"content-length: 1000000000\r\n\r\n", b" " * 65_536)


async def endless(writer: asyncio.StreamWriter) -> int:
    return await flood(writer, b"transfer-encoding: chunked\r\n\r\n", b"10000\r\n" + b" " * 65_536 + b"\r\n")


async def bomb(writer: asyncio.StreamWriter) -> int:
    """200 MB of nothing in 200 kB."""
    packer = zlib.compressobj(9, wbits=31)
    body = b"".join(packer.compress(bytes(10**6)) for _ in range(200)) + packer.flush()
    return await whole(writer, b"content-encoding: gzip\r\ncontent-length: %d\r\n\r\n" % len(body) + body)


async def whole(writer: asyncio.StreamWriter, answer: bytes) -> int:
    writer.write(OK + answer)
    await writer.drain()
    return len(answer)


async def trickle(writer: asyncio.StreamWriter) -> int:
    writer.write(OK + b"content-length: 1000\r\n\r\n")
    for sent in range(1_000):
        try:
            writer.write(b" ")
            await writer.drain()
        except ConnectionError:
            return sent
        await asyncio.sleep(0.05)
    return 1_000


@asynccontextmanager
async def flowing(flow: Flow, sent: list[int]) -> AsyncIterator[str]:
    ended = asyncio.Event()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        sent.append(await flow(writer))
        writer.close()
        ended.set()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with asyncio.timeout(60):
        await ended.wait()
    server.close()
    await server.wait_closed()


@pytest.mark.parametrize("flow", [huge, endless, bomb, trickle], ids=lambda flow: flow.__name__)
async def test_f90_an_answer_without_end_is_left_in_bounded_time_and_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flow: Flow
) -> None:
    monkeypatch.setattr("agent.transport.collector.TOTAL_SECONDS", TOTAL_SECONDS if flow is trickle else 30.0)
    timing, _ = impatient()
    sent: list[int] = []
    spool = spool_in(tmp_path / "spool", clock=timing.clock)
    record(spool, 1)
    spool.flush()
    async with flowing(flow, sent) as url:
        client = CollectorClient(url)
        telemetry = Telemetry()
        sender = Sender(spool, client, credential=lambda: TOKEN, telemetry=telemetry, timing=timing, flush_seconds=10)
        began, most = time.monotonic(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        assert await sender.send(spool.waiting()[0]) is not None
        assert time.monotonic() - began < 20
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - most < MAX_GROWTH_KIB
        await client.close()
    assert sent[0] < KERNEL_BYTES, "a client that reads on would have taken all of it"
    assert (spool.queued_results, telemetry.dropped) == (1, {})
    spool.close()
