"""Round trips by TLS: the hello alone is timed, and what is not TLS loses or fails."""

import asyncio
import socket
import ssl
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from agent.probes.rtt import handshakes
from agent.transport import tls_context
from agent.transport.kernel import TcpInfo
from agent.transport.stream import SocketStream
from isochrone.outcome import ClockSource, Connection, Flag, Outcome, RttMethod, RttSource
from isochrone.wire import decode_result, encode_result
from tests.simulated import probes, rtt

pytestmark = pytest.mark.anyio

CERTIFICATE = Path(__file__).parent / "tls" / "certificate.pem"
PRIVATE_KEY = Path(__file__).parent / "tls" / "key.pem"


@pytest.fixture
def _trusted(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("SSL_CERT_FILE", str(CERTIFICATE))
    tls_context.cache_clear()
    yield
    tls_context.cache_clear()


class Server:
    """Speaks TLS on `count` connections, one after the other, each time after `delay` seconds."""

    def __init__(
        self, *, delay: float = 0, count: int = 3, newest: ssl.TLSVersion = ssl.TLSVersion.MAXIMUM_SUPPORTED
    ) -> None:
        self.delay = delay
        self.newest = newest
        self.count = count
        self.ends: list[str] = []
        """How each connection ended: an empty text is a proper goodbye."""

    @asynccontextmanager
    async def running(self) -> AsyncIterator[str]:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            listener.settimeout(20)
            served = asyncio.create_task(asyncio.to_thread(self._serve, listener))
            yield f"https://localhost:{listener.getsockname()[1]}/v1"
            await served

    def _serve(self, listener: socket.socket) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.maximum_version = self.newest
        context.load_cert_chain(CERTIFICATE, PRIVATE_KEY)
        for _ in range(self.count):
            sock, _peer = listener.accept()
            sock.settimeout(20)
            time.sleep(self.delay)
            try:
                with context.wrap_socket(sock, server_side=True, suppress_ragged_eofs=False) as upper:
                    self.ends.append(upper.recv(100).decode())
            except OSError as exc:
                self.ends.append(str(exc))


@pytest.mark.usefixtures("_trusted")
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_3, ssl.TLSVersion.TLSv1_2])
async def test_the_hello_is_timed_on_connections_of_their_own(version: ssl.TLSVersion) -> None:
    server = Server(delay=0.1, newest=version)
    async with server.running() as url, probes() as running:
        result = await running.run(rtt(url, RttMethod.TLS))
    assert (result.outcome, result.rtt_source, result.connection) == (Outcome.OK, RttSource.TLS, Connection.COLD)
    assert server.ends == [""] * 3
    assert result.pings is not None
    assert (result.pings.sent, result.pings.lost) == (3, 0)
    assert result.pings.min_seconds is not None
    assert result.pings.min_seconds >= 0.099
    assert result.clock_source is (ClockSource.KERNEL if sys.platform == "linux" else ClockSource.USER)
    assert result.marks.tcp is not None
    assert result.marks.tls is not None
    assert result.marks.tls - result.marks.tcp >= result.pings.min_seconds
    assert decode_result(encode_result(result)) == result


async def test_a_refused_certificate_is_no_sample_and_no_loss() -> None:
    server = Server(count=1)
    tls_context.cache_clear()
    async with server.running() as url, probes() as running:
        result = await running.run(rtt(url, RttMethod.TLS))
    assert result.outcome is Outcome.TLS
    assert "certificate refused" in str(result.reason)
    assert (result.pings, len(server.ends)) == (None, 1)


async def test_a_server_that_never_answers_the_hello_loses_every_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handshakes, "TLS_SECONDS", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as listener:  # the kernel accepts, and nobody reads
        port = listener.getsockname()[1]
        async with probes() as running:
            result = await running.run(rtt(f"https://127.0.0.1:{port}/", RttMethod.TLS, count=2))
    reason = f"no end of the TLS handshake with 127.0.0.1:{port} within 0.2 s"
    assert (result.outcome, result.reason) == (Outcome.TLS, reason)
    assert result.pings is not None
    assert (result.pings.sent, result.pings.lost) == (2, 2)


@pytest.mark.usefixtures("_trusted")
@pytest.mark.parametrize("info", [{"retransmits": 1, "out_of_order": 0}, {"retransmits": 0, "out_of_order": 1}])
async def test_a_handshake_of_which_a_piece_was_sent_twice_is_a_loss(
    info: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    def counted(_: SocketStream) -> TcpInfo:  # loss cannot be provoked on loopback: the kernel's counters are played
        return TcpInfo(rtt_seconds=None, min_rtt_seconds=None, **info)

    monkeypatch.setattr(SocketStream, "tcp_info", counted)
    async with Server().running() as url, probes() as running:
        result = await running.run(rtt(url, RttMethod.TLS))
    assert (result.outcome, result.rtt_seconds, result.flags) == (Outcome.CONNECT, None, (Flag.RETRANSMITS,))
    assert "were lost" in str(result.reason)
    assert result.pings is not None
    assert (result.pings.sent, result.pings.lost) == (3, 3)


async def test_plain_http_has_no_hello() -> None:
    async with probes() as running:
        result = await running.run(rtt("http://127.0.0.1:9/", RttMethod.TLS))
    assert (result.outcome, result.reason) == (Outcome.OTHER, "the method tls needs an https:// url")
