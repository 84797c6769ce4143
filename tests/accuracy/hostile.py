"""A server in a thread of its own that does whatever a row says, and counts what it could get rid of."""

import asyncio
import contextlib
import os
import socket
import ssl
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from isochrone.config import Assignment
from isochrone.result import Result
from tests.simulated import probes

SOCKET_BYTES = 8 * 1024 * 1024
"""What the agent's socket can hold unread (net.ipv4.tcp_rmem: 6 MiB), and the attacker's unsent."""
SEND_BUFFER_BYTES = 256 * 1024
SLACK_SECONDS = 5.0
"""What a busy machine may add to a timeout."""
LONGEST_GAP_SECONDS = 5.0
"""A loop that is held for good stands still for as long as the attack goes on."""
MEMORY_BYTES = 64 * 1024 * 1024

Pieces = Iterable[bytes | float]
"""What is sent, and for how many seconds nothing is."""


@dataclass
class Attacker:
    """`answers` are played one for each request of the first connection, then again for those of the next."""

    answers: Callable[[], Iterable[Pieces]]
    tls: ssl.SSLContext | None = None
    after: bytes = b""
    """Under TLS: what goes past it, as it is, before the close (which comes without an alert)."""
    corked: bool = False
    """All pieces leave in as few segments as can be: under TLS each is a record of its own."""
    hasty: bool = False
    """It answers before it was asked."""
    pushed: int = 0
    requests: list[bytes] = field(default_factory=list)
    connections: int = 0
    played: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    stop: threading.Event = field(default_factory=threading.Event)

    @contextmanager
    def open(self) -> Iterator[str]:
        """Give the URL."""
        with socket.create_server(("127.0.0.1", 0)) as listener:
            listener.settimeout(0.05)
            thread = threading.Thread(target=self._accept, args=(listener,), daemon=True)
            thread.start()
            scheme, host = ("http", "127.0.0.1") if self.tls is None else ("https", "localhost")
            try:
                yield f"{scheme}://{host}:{listener.getsockname()[1]}/v1"
            finally:
                self.stop.set()
                thread.join()

    def _accept(self, listener: socket.socket) -> None:
        while not self.stop.is_set():
            with contextlib.suppress(TimeoutError):
                peer, _ = listener.accept()
                self.connections += 1
                peer.settimeout(30)
                peer.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
                with contextlib.suppress(OSError), peer:
                    self._serve(peer)

    def _serve(self, peer: socket.socket) -> None:
        if self.tls is not None:
            peer = self.tls.wrap_socket(peer, server_side=True)
        with peer:
            for pieces in self.answers():
                if not self.hasty:
                    self.requests.append(_request(peer))
                self._cork(peer, on=True)
                for piece in pieces:
                    self._play(peer, piece)
                self._cork(peer, on=False)
                os.write(peer.fileno(), self.after)
                self.played.release()

    def _cork(self, peer: socket.socket, *, on: bool) -> None:
        if self.corked:
            peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, int(on))

    def _play(self, peer: socket.socket, piece: bytes | float) -> None:
        if self.stop.is_set():
            raise ConnectionAbortedError
        if isinstance(piece, float):
            time.sleep(piece)
            return
        view = memoryview(piece)
        while view:
            sent = peer.send(view)
            self.pushed += sent
            view = view[sent:]


def _request(peer: socket.socket) -> bytes:
    """Read one request, whose body has a length."""
    data = b""
    while b"\r\n\r\n" not in data or len(data) < _length(data):
        more = peer.recv(65536)
        if not more:
            raise ConnectionResetError
        data += more
    return data


def _length(data: bytes) -> int:
    head, _, _ = data.partition(b"\r\n\r\n")
    lengths = [line.split(b":")[1] for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
    return len(head) + 4 + int(lengths[0]) if lengths else len(head) + 4


@dataclass(frozen=True)
class Borne:
    """How an agent bore an attack."""

    result: Result
    seconds: float
    longest_gap_seconds: float
    peak_bytes: int


async def bear(target: Assignment) -> Borne:
    """Probe once, while something else runs in the same loop, and memory is counted."""
    gaps: list[float] = []
    watching = asyncio.create_task(_watch(gaps))
    tracemalloc.start()
    try:
        async with probes() as running:
            began = time.monotonic()
            result = await running.run(target)
            seconds = time.monotonic() - began
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
        watching.cancel()
    return Borne(result, seconds, max(gaps, default=0.0), peak)


async def _watch(gaps: list[float]) -> None:
    loop = asyncio.get_running_loop()
    while True:
        before = loop.time()
        await asyncio.sleep(0.01)
        gaps.append(loop.time() - before)
