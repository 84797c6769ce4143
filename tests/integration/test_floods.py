"""An endpoint that sends without end holds up neither its own timeout nor the rest of the agent."""

import asyncio
import contextlib
import socket
import sys
import threading
import time
from collections.abc import AsyncGenerator, Iterator
from contextlib import contextmanager
from typing import cast

import pytest

from agent.clock import SystemClock
from agent.probes.attempt import Attempt, Deadline
from agent.probes.reading import PIECE_BYTES, StreamReader
from agent.providers import PROVIDERS
from agent.transport import Answer, Arrival, Chunk, Failure, HttpConnection, parse_origin
from isochrone.config import InferenceOptions, Provider
from isochrone.outcome import ClockSource, Outcome, Prober
from tests.simulated import inference, probes
from tests.stamps import stamped_pair

pytestmark = pytest.mark.anyio

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
FLOOD_SECONDS = 6.0
TIMEOUT_SECONDS = 1.0
LONGEST_GAP_SECONDS = 1.0
"""Held for good by the flood it is several seconds; well behaved, some hundredths and what the machine adds."""


@contextmanager
def flooding(head: bytes, flood: bytes) -> Iterator[str]:
    """Send `flood` again and again from a thread, which the agent's loop cannot hold up; give the URL."""

    def serve(listener: socket.socket) -> None:
        with contextlib.suppress(OSError):
            peer, _ = listener.accept()
            with peer:
                peer.recv(65536)
                peer.sendall(head)
                until = time.monotonic() + FLOOD_SECONDS
                while time.monotonic() < until:
                    peer.sendall(flood)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, args=(listener,), daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
        thread.join()


async def longest_gap(gaps: list[float]) -> None:
    loop = asyncio.get_running_loop()
    while True:
        before = loop.time()
        await asyncio.sleep(0.01)
        gaps.append(loop.time() - before)


@pytest.mark.parametrize(
    ("head", "flood", "outcome"),
    [
        (b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 4_000, Outcome.PROTOCOL),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\n:\r\n" * 20_000, Outcome.TIMEOUT_TOTAL),
        (
            HEAD + b"Transfer-Encoding: chunked\r\n\r\n",
            b"9\r\ndata: {}\n\r\n1\r\n\n\r\n" * 5_000,
            Outcome.TIMEOUT_TOTAL,
        ),
    ],
    ids=["interim answers", "chunks of one byte", "events of nothing"],
)
async def test_a_flood_ends_in_time_and_lets_others_run(head: bytes, flood: bytes, outcome: Outcome) -> None:
    gaps: list[float] = []
    watching = asyncio.create_task(longest_gap(gaps))
    with flooding(head, flood) as url:
        async with probes() as running:
            began = time.monotonic()
            result = await running.run(inference(url, timeout=TIMEOUT_SECONDS))
            took = time.monotonic() - began
    watching.cancel()
    assert result.outcome is outcome, result.reason
    assert took < TIMEOUT_SECONDS + LONGEST_GAP_SECONDS
    assert max(gaps, default=0) < LONGEST_GAP_SECONDS


async def test_what_frames_a_body_counts_against_its_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agent.transport.http.MAX_ANSWER_BYTES", 60_000)
    body = b"1\r\n:\r\n" * 20_000
    with flooding(HEAD + b"Transfer-Encoding: chunked\r\n\r\n", body) as url:
        async with probes() as running:
            result = await running.run(inference(url))
    assert (result.outcome, result.reason) == (Outcome.PROTOCOL, "the answer is longer than 60000 bytes")


class OneRead:
    """Stands for an `Answer` whose events all came in one read, which a socket does not promise."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.breaths = 0
        self.end = Arrival(at_ns=1, clock=ClockSource.USER, read=1)

    async def chunks(self) -> AsyncGenerator[Chunk, None]:
        yield Chunk(data=self._data, arrival=self.end)

    async def breathe(self) -> None:
        self.breaths += 1


async def test_many_small_events_in_one_read_let_others_run_between_them() -> None:
    answer = OneRead(b'data: {"choices":[{"delta":{"content":"a"}}]}\n\n' * 1_400 + b"data: [DONE]\n\n")
    target = inference("http://127.0.0.1:9/v1")
    attempt = Attempt(target, Prober.INFERENCE, clock=SystemClock())
    async with Deadline(total_seconds=60) as deadline:
        reader = StreamReader(PROVIDERS[Provider.OPENAI], attempt, options=InferenceOptions(), deadline=deadline)
        await reader.read(cast("Answer", answer))
    assert len(reader.arrivals) == 1_400
    assert answer.breaths >= 1_400 * 47 // PIECE_BYTES


@pytest.mark.skipif(sys.platform != "linux", reason="other kernels do not stamp")
@pytest.mark.parametrize("method", ["POST", "HEAD"])
async def test_an_answer_that_came_before_the_request_is_no_answer_to_it(method: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        origin = parse_origin(f"http://127.0.0.1:{listener.getsockname()[1]}/v1")
        stream, peer = await stamped_pair(listener)
        peer.sendall(HEAD + b"Content-Length: 0\r\n\r\n")
        while stream.alive():  # noqa: ASYNC110  the kernel gives no event
            await asyncio.sleep(0.001)
        with pytest.raises(Failure) as failed:
            await HttpConnection(stream, origin).request(method, "/", headers={})
        stream.close()
        peer.close()
    assert (failed.value.outcome, failed.value.reason) == (Outcome.PROTOCOL, "the answer came before the request")
