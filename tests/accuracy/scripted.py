"""A server that plays shapes byte for byte at their moments, and notes when each write really left."""

import asyncio
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

Writes = Sequence[tuple[float, bytes]]
"""Seconds after the request, and what leaves then."""


@dataclass(frozen=True, kw_only=True)
class Play:
    """One answer. `close`: whole ends the body as HTTP wants, cut resets the connection, never leaves it open."""

    writes: Writes
    media: str
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    close: str = "whole"


@dataclass(kw_only=True)
class Record:
    """What happened: monotonic nanoseconds of the request's last byte, and around each write and the close."""

    path: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    asked_ns: int = 0
    left_ns: list[tuple[int, int]] = field(default_factory=list)


class Stage:
    """Plays by the first part of the path."""

    def __init__(self, plays: Mapping[str, Play]) -> None:
        self._plays = plays
        self._tasks: set[asyncio.Task[None]] = set()
        self.records: dict[str, Record] = {}

    @asynccontextmanager
    async def open(self) -> AsyncIterator[str]:
        """Give the base URL."""
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        try:
            yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        finally:
            server.close()
            for task in tuple(self._tasks):
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is not None:
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        try:
            await self._play(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            writer.close()

    async def _play(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        record = await _request(reader)
        name = record.path.split("/")[1]
        play = self._plays[name]
        self.records[name] = record
        head: bytes | None = _head(play)
        for at, data in play.writes:
            await _sleep_until(record.asked_ns, at)
            record.left_ns.append(_write(writer, (head or b"") + (b"%x\r\n%b\r\n" % (len(data), data))))
            head = None
            await writer.drain()
        if play.close == "never":
            await reader.read()
        elif play.close == "cut":
            writer.write(b"40\r\n" + play.writes[-1][1][:20])
            await writer.drain()
            writer.transport.abort()
        else:
            record.left_ns.append(_write(writer, (head or b"") + b"0\r\n\r\n"))
            await writer.drain()
            await reader.read()


def _write(writer: asyncio.StreamWriter, data: bytes) -> tuple[int, int]:
    """Write at once; asyncio does, while nothing waits, and with TCP_NODELAY."""
    before_ns = time.monotonic_ns()
    writer.write(data)
    return before_ns, time.monotonic_ns()


async def _request(reader: asyncio.StreamReader) -> Record:
    lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (text.partition(":") for text in lines[1:]) if name}
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    return Record(path=lines[0].split(" ")[1], headers=headers, body=body, asked_ns=time.monotonic_ns())


def _head(play: Play) -> bytes:
    fields = {"Content-Type": play.media, "Transfer-Encoding": "chunked", **play.headers}
    lines = [f"HTTP/1.1 {play.status} Scripted", *(f"{name}: {value}" for name, value in fields.items())]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


async def _sleep_until(start_ns: int, after: float) -> None:
    wait = after - (time.monotonic_ns() - start_ns) / 1e9
    if wait > 0:
        await asyncio.sleep(wait)
