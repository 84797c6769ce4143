"""The way from each region to one endpoint: a TCP relay on loopback that lets every answer take its time.

All agents dial the same address. Whose connection one is, the kernel tells: the socket at its other end belongs to one
process, and each agent is one.
"""

import asyncio
import struct
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from socket import AF_INET, AF_NETLINK, IPPROTO_TCP, SOCK_RAW, inet_aton, socket

LOOPBACK = "127.0.0.1"
CHUNK = 65_536


SOCK_DIAG = 4
"""The netlink family (linux/netlink.h)."""
BY_FAMILY, REQUEST, ANY_STATE, NO_COOKIE = 20, 1, 0xFFFFFFFF, 0xFFFFFFFF
INODE_AT = 16 + 4 + 48 + 16
"""In the answer: behind netlink's header, four bytes, the socket's id and four numbers (linux/inet_diag.h)."""


def inode_of(port: int, peer: int) -> int | None:
    """Return the inode of the socket on loopback's `port` that is connected to `peer`; None: there is none.

    One question to the kernel: to read /proc/net/tcp takes seconds where somebody else has ten thousand sockets.
    """
    ends = struct.pack("!HH4s12x4s12x", port, peer, inet_aton(LOOPBACK), inet_aton(LOOPBACK))
    asked = struct.pack("=BBxxI", AF_INET, IPPROTO_TCP, ANY_STATE) + ends + struct.pack("=III", 0, NO_COOKIE, NO_COOKIE)
    with socket(AF_NETLINK, SOCK_RAW, SOCK_DIAG) as door:
        door.sendto(struct.pack("=IHHII", 16 + len(asked), BY_FAMILY, REQUEST, 1, 0) + asked, (0, 0))
        answer = door.recv(CHUNK)
    if struct.unpack_from("=H", answer, 4)[0] != BY_FAMILY:
        return None
    return int(struct.unpack_from("=I", answer, INODE_AT)[0])


def owner(port: int, peer: int, processes: Mapping[int, str]) -> str | None:
    """Return whose process, of those named, connected from loopback's `port` to `peer`; None: nobody's."""
    link = f"socket:[{inode_of(port, peer)}]"
    for pid, name in tuple(processes.items()):
        with suppress(OSError):
            if any(str(place.readlink()) == link for place in Path(f"/proc/{pid}/fd").iterdir()):
                return name
    return None


class Way:
    """Leads to `to`, a port; which one may change: connections made before stay where they are."""

    def __init__(self, to: int, processes: Mapping[int, str], *, seconds: float) -> None:
        self.to = to
        self.port = 0
        self.seconds = seconds
        """What every answer takes."""
        self.longer: dict[str, float] = {}
        """What it takes more for a region, in seconds."""
        self._processes = processes
        self._server: asyncio.Server | None = None
        self._busy: set[asyncio.Task[None]] = set()

    async def open(self) -> None:
        self._server = await asyncio.start_server(self._accept, LOOPBACK, 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._busy:
            task.cancel()
        await asyncio.gather(*self._busy, return_exceptions=True)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._serve(reader, writer))
        self._busy.add(task)
        task.add_done_callback(self._busy.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peer = writer.get_extra_info("peername")[1]
        region = owner(peer, self.port, self._processes)

        def seconds() -> float:
            nonlocal region
            if region is None:  # an agent may dial before its process is named, and keep the connection
                region = owner(peer, self.port, self._processes)
            return self.seconds + self.longer.get(region or "", 0.0)

        try:
            with suppress(OSError):
                back, forth = await asyncio.open_connection(LOOPBACK, self.to)
                pumps = {asyncio.create_task(pump(reader, forth)), asyncio.create_task(pump(back, writer, seconds))}
                await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
                for one in pumps:
                    one.cancel()
                await asyncio.gather(*pumps, return_exceptions=True)
                forth.close()
        finally:
            writer.close()


def at_once() -> float:
    """Return that nothing is held back."""
    return 0.0


async def pump(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, seconds: Callable[[], float] = at_once
) -> None:
    """Hand on what comes, each piece so many seconds after it came: connections live long, and ways change."""
    loop = asyncio.get_running_loop()
    pieces: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()

    async def release() -> None:
        while (piece := await pieces.get())[1]:
            await asyncio.sleep(piece[0] - loop.time())
            writer.write(piece[1])

    releasing = asyncio.create_task(release())
    try:
        while data := await reader.read(CHUNK):
            pieces.put_nowait((loop.time() + seconds(), data))
        pieces.put_nowait((0.0, b""))
        await releasing
    finally:
        releasing.cancel()
