"""A TCP proxy before the collector that behaves as badly as networks do: it stalls, cuts, lies, keeps answers.

It reads along: which batches were sent, and what their agent declared lost.
"""

import asyncio
import gzip
import re
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from itertools import cycle
from uuid import UUID

from collector.config import Listen
from isochrone.wire import decode_batch

LOOPBACK = "127.0.0.1"
CHUNK = 65_536


class BatchReader:
    """Finds the batches in what one connection asks."""

    def __init__(self, tell: Callable[[bytes], None]) -> None:
        self._tell = tell
        self._seen = b""

    def feed(self, data: bytes) -> None:
        self._seen += data
        while (end := self._seen.find(b"\r\n\r\n")) >= 0:
            head = self._seen[:end]
            length = re.search(rb"content-length: *(\d+)", head, re.IGNORECASE)
            whole = end + 4 + (0 if length is None else int(length[1]))
            if len(self._seen) < whole:
                return
            body, self._seen = self._seen[end + 4 : whole], self._seen[whole:]
            if head.startswith(b"POST /v1/batches"):
                self._tell(body)


class Cable:
    """Leads to one collector, or to several in turn. As it is made it hands everything on."""

    def __init__(self, *to: Listen) -> None:
        self._to = to
        self._turns = cycle(to)
        self._server: asyncio.Server | None = None
        self._busy: set[asyncio.Task[None]] = set()
        self._flowing = asyncio.Event()
        self._flowing.set()
        self.listen = Listen(LOOPBACK, 0)
        self.asked_bytes: int | None = None
        """A connection is cut after so many bytes to the collector; None: never."""
        self.answered_bytes: int | None = None
        """As `asked_bytes`, of what the collector says."""
        self.canned: bytes | None = None
        """What every request is answered with instead of being handed on."""
        self.canned_given = 0
        self.cuts_wanted = 0
        """Acknowledgements of new results to keep: committed, but never told."""
        self.cuts_made = 0
        self.duplicates_told = 0
        """Results that the collector's answers called duplicate."""
        self.unanswered: set[UUID] = set()
        """Batches that were handed on and not acknowledged yet: they may be committed."""
        self.batches: Counter[UUID] = Counter()
        """How often each batch was sent."""
        self._lost: dict[UUID | None, Counter[str]] = {}
        """What each run of an agent declared lost, by reason: a run's word may come from the next one."""

    async def open(self) -> None:
        self._server = await asyncio.start_server(self._accept, LOOPBACK, 0)
        self.listen = Listen(LOOPBACK, self._server.sockets[0].getsockname()[1])

    async def close(self) -> None:
        assert self._server is not None
        self._server.close()
        await self.drop()

    async def drop(self) -> None:
        """End every connection: those to come meet the cable as it is now."""
        busy = list(self._busy)
        for task in busy:
            task.cancel()
        await asyncio.gather(*busy, return_exceptions=True)

    @property
    def lost(self) -> Counter[str]:
        """Return what the agents declared lost, by reason, over all their runs."""
        return sum(self._lost.values(), start=Counter())

    def stall(self) -> None:
        """Take everything, hand on nothing."""
        self._flowing.clear()

    def flow(self) -> None:
        self._flowing.set()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._serve(reader, writer))
        self._busy.add(task)
        task.add_done_callback(self._busy.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            with suppress(OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
                await (self._join(reader, writer) if self.canned is None else self._lie(reader, writer, self.canned))
        finally:
            writer.close()

    async def _lie(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, answer: bytes) -> None:
        await reader.readuntil(b"\r\n\r\n")
        self.canned_given += 1
        writer.write(answer)
        await writer.drain()

    async def _join(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        back, forth = await self._reach()
        batches = BatchReader(self._note_batch)
        pumps = {
            asyncio.create_task(self._pump(reader, forth, limit=self.asked_bytes, sees=self._asked(batches))),
            asyncio.create_task(self._pump(back, writer, limit=self.answered_bytes, sees=self._answered)),
        }
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)
            forth.close()

    async def _reach(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        for _ in self._to[1:]:
            there = next(self._turns)
            with suppress(OSError):
                return await asyncio.open_connection(there.host, there.port)
        there = next(self._turns)
        return await asyncio.open_connection(there.host, there.port)

    async def _pump(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        *,
        limit: int | None,
        sees: Callable[[bytes], bool],
    ) -> None:
        left = limit
        with suppress(OSError):
            while (data := await reader.read(CHUNK)) and left != 0:
                await self._flowing.wait()
                data = data if left is None else data[:left]
                left = None if left is None else left - len(data)
                if not sees(data):
                    return
                writer.write(data)
                await writer.drain()
                if left == 0:
                    return

    def _asked(self, batches: BatchReader) -> Callable[[bytes], bool]:
        def sees(data: bytes) -> bool:
            batches.feed(data)
            return True

        return sees

    def _answered(self, data: bytes) -> bool:
        told = re.search(rb'"batch_id":"([0-9a-f-]+)".*?"accepted":(\d+).*?"duplicate":(\d+)', data)
        if told is None:
            return True
        if self.cuts_made < self.cuts_wanted and int(told[2]):
            self.cuts_made += 1
            return False
        self.unanswered.discard(UUID(told[1].decode()))
        self.duplicates_told += int(told[3])
        return True

    def _note_batch(self, body: bytes) -> None:
        batch = decode_batch(gzip.decompress(body)).batch
        self.batches[batch.batch_id] += 1
        self.unanswered.add(batch.batch_id)
        now = Counter({reason.value: count for reason, count in batch.status.dropped_results.items()})
        self._lost[batch.status.boot_id] = self._lost.get(batch.status.boot_id, Counter()) | now
