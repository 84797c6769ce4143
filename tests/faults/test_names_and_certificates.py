"""A collector whose name does not resolve, or whose certificate does not hold: nothing is sent, nothing is lost."""

import asyncio
import socket
import ssl
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from agent.push import Sender
from agent.spool import Spool
from agent.telemetry import Telemetry
from agent.transport import CollectorClient
from tests.delivery import TOKEN, impatient, record, spool_in, stored
from tests.scripted_http import LittleCollector, serving

pytestmark = pytest.mark.anyio

NAME = "collector.example"
TLS = Path(__file__).parent / "tls"


@asynccontextmanager
async def sending_to(folder: Path, url: str, *, trusted: Path | None = None) -> AsyncIterator[tuple[Spool, Sender]]:
    """Give a spool with five results and the sender that speaks to `url`."""
    timing, _ = impatient()
    telemetry = Telemetry()
    spool = spool_in(folder / "spool", telemetry=telemetry, clock=timing.clock)
    client = CollectorClient(url, verify_file=trusted)
    record(spool, 5)
    spool.flush()
    try:
        yield (
            spool,
            Sender(spool, client, credential=lambda: TOKEN, telemetry=telemetry, timing=timing, flush_seconds=10),
        )
    finally:
        assert telemetry.dropped == {}
        await client.close()
        spool.close()


def names(monkeypatch: pytest.MonkeyPatch, answer: Callable[[], str]) -> None:
    """Let the system resolve NAME as `answer` says: no test may change the machine's name servers."""
    resolve = socket.getaddrinfo

    def resolving(host: object, *arguments: Any, **more: Any) -> Any:  # noqa: ANN401  hands on what it is given
        return resolve(answer() if host in {NAME, NAME.encode()} else host, *arguments, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(socket, "getaddrinfo", resolving)


@pytest.mark.parametrize("code", [socket.EAI_NONAME, socket.EAI_AGAIN])
async def test_f34_a_name_that_does_not_resolve_keeps_everything_until_it_does(
    *, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, code: int
) -> None:
    broken = True

    def answer() -> str:
        if broken:
            raise socket.gaierror(code, "not now")
        return "127.0.0.1"

    names(monkeypatch, answer)
    collector = LittleCollector()
    async with (
        serving(collector) as url,
        sending_to(tmp_path, f"http://{NAME}:{urlsplit(url).port}") as (spool, sender),
    ):
        for _ in range(3):
            await sender.turn()
        assert stored(spool) == list(range(5))
        assert f"{NAME}:" in caplog.text
        assert "no address for this host" in caplog.text
        broken = False
        await sender.turn()
        assert [seq for _, seq in collector.ids] == list(range(5))


@pytest.mark.slow_fault
async def test_f34_a_name_server_that_says_nothing_holds_an_attempt_for_seconds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    enough = threading.Event()

    def answer() -> str:
        enough.wait(60)
        raise socket.gaierror(socket.EAI_AGAIN, "at last")

    names(monkeypatch, answer)
    async with sending_to(tmp_path, f"http://{NAME}:1") as (spool, sender):
        try:
            async with asyncio.timeout(30):
                await sender.turn()
        finally:
            enough.set()
        assert stored(spool) == list(range(5))
        assert "no connection within 5 s" in caplog.text


class Listener:
    """Takes connections with a certificate, and keeps what it was told: by TLS, or in the clear."""

    def __init__(self, certificate: Path) -> None:
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(certificate, certificate.with_suffix(".key"))
        self.heard = b""
        self.first_bytes: list[bytes] = []

    @asynccontextmanager
    async def running(self) -> AsyncIterator[int]:
        # The first bytes are read before TLS, so that a request in the clear would be seen.
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        yield server.sockets[0].getsockname()[1]
        server.close()
        await server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        session = self._context.wrap_bio(incoming, outgoing, server_side=True)
        try:
            while data := await reader.read(65_536):
                self.first_bytes.append(data[:3])
                incoming.write(data)
                self._step(session)
                writer.write(outgoing.read())
                await writer.drain()
        except (OSError, ssl.SSLError):
            pass
        finally:
            writer.close()

    def _step(self, session: ssl.SSLObject) -> None:
        try:
            session.do_handshake()
            self.heard += session.read(65_536)
        except ssl.SSLWantReadError:
            pass


@pytest.mark.parametrize(
    ("certificate", "trusted", "words"),
    [
        ("expired", True, "certificate has expired"),
        ("wronghost", True, "Hostname mismatch|not valid for"),
        ("selfsigned", False, "self-signed certificate"),
    ],
)
async def test_f35_a_certificate_that_does_not_hold_ends_the_attempt_and_nothing_is_sent_in_the_clear(
    *, tmp_path: Path, caplog: pytest.LogCaptureFixture, certificate: str, trusted: bool, words: str
) -> None:
    file = TLS / f"{certificate}.pem"
    listener = Listener(file)
    async with listener.running() as port:
        url = f"https://localhost:{port}"
        async with sending_to(tmp_path, url, trusted=file if trusted else None) as (spool, sender):
            for _ in range(3):
                await sender.turn()
            assert stored(spool) == list(range(5))
    assert any(word in caplog.text for word in words.split("|")), caplog.text
    assert TOKEN not in caplog.text
    assert listener.heard == b""
    assert listener.first_bytes.count(b"\x16\x03\x01") == 3, "three hellos of TLS"
    assert b"POS" not in listener.first_bytes


async def test_f35_a_certificate_that_holds_is_spoken_to(tmp_path: Path) -> None:
    """The listener hears what is sent once it is trusted: its silence above means something."""
    file = TLS / "selfsigned.pem"
    listener = Listener(file)
    async with (
        listener.running() as port,
        sending_to(tmp_path, f"https://localhost:{port}", trusted=file) as (_, sender),
    ):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(2):
                await sender.turn()
    assert listener.heard.startswith(b"POST /v1/batches")
