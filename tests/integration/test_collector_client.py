"""The client for the collector: connections kept, answers bounded, every fault one line."""

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from agent.errors import ConfigError, DeliveryError
from agent.transport import CollectorClient
from tests.scripted_http import Reply, serving

pytestmark = pytest.mark.anyio
TLS = Path(__file__).parent / "tls"


class Collector:
    """Answers every request with what it was sent; counts connections."""

    def __init__(self) -> None:
        self.connections = 0
        self.requests: list[bytes] = []

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                lengths = [line for line in head.split(b"\r\n") if line.lower().startswith(b"content-length")]
                body = await reader.readexactly(int(lengths[0].split(b":")[1])) if lengths else b""
                self.requests.append(head)
                writer.write(b"HTTP/1.1 200 OK\r\nETag: x\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()


@asynccontextmanager
async def collector(*, tls: bool = False) -> AsyncIterator[tuple[str, Collector]]:
    context = None
    if tls:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(TLS / "certificate.pem", TLS / "key.pem")
    served = Collector()
    async with await asyncio.start_server(served.handle, "127.0.0.1", 0, ssl=context) as server:
        yield f"http{'s' if tls else ''}://127.0.0.1:{server.sockets[0].getsockname()[1]}", served


@pytest.mark.parametrize("tls", [False, True])
async def test_one_connection_serves_one_request_after_the_other(*, tls: bool) -> None:
    async with collector(tls=tls) as (url, served):
        client = CollectorClient(f"{url}/base/", verify_file=TLS / "certificate.pem" if tls else None)
        for body in (b"one", b"two" * 100_000, b""):
            answer = await client.request(
                "POST", "/v1/batches", headers={"X-Test": "1"}, body=body, max_response_bytes=1_000_000
            )
            assert (answer.status, answer.body, answer.headers["etag"]) == (200, body, "x")
        await client.close()
    assert served.connections == 1
    assert served.requests[0].startswith(b"POST /base/v1/batches HTTP/1.1\r\n")
    assert b"X-Test: 1\r\n" in served.requests[0]


async def test_requests_at_once_take_connections_of_their_own() -> None:
    async with collector() as (url, served):
        client = CollectorClient(url)
        asked = [client.request("GET", "/", headers={}, max_response_bytes=10) for _ in range(3)]
        assert [answer.status for answer in await asyncio.gather(*asked)] == [200] * 3
        await client.close()
    assert served.connections == 3


async def test_an_answer_beyond_its_bound_is_no_answer() -> None:
    async with collector() as (url, _):
        client = CollectorClient(url)
        with pytest.raises(DeliveryError, match="longer than 10 bytes"):
            await client.request("POST", "/", headers={}, body=b"x" * 11, max_response_bytes=10)
        await client.close()


@pytest.mark.parametrize(
    ("host", "words"),
    [("127.0.0.1", "connection refused"), ("nowhere.invalid", "nowhere.invalid:.*no address for this host")],
)
async def test_a_collector_that_is_not_there_is_a_delivery_error_of_one_line(host: str, words: str) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))  # taken, and yet nobody listens
        client = CollectorClient(f"http://{host}:{silent.getsockname()[1]}")
        with pytest.raises(DeliveryError, match=words) as caught:
            await client.request("GET", "/", headers={}, max_response_bytes=10)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "location",
    ["mailto:x", "http://xn--zzzzzz99999/", "http://[", "//", "http://a:99999999/", "\xff", "http://127.0.0.1:9/"],
)
async def test_a_redirect_is_answered_as_such_wherever_it_points(location: str) -> None:
    headers = {"location": location}
    async with serving(lambda _: Reply(302, headers=headers)) as url:
        client = CollectorClient(url)
        answer = await client.request("GET", "/", headers={}, max_response_bytes=10)
        assert answer.status == 302
        await client.close()


@pytest.mark.parametrize(("url", "header"), [("http://xn--zzzzzz99999", "x"), ("http://127.0.0.1:9", "\u20ac")])
async def test_what_cannot_be_encoded_is_a_delivery_error(*, url: str, header: str) -> None:
    client = CollectorClient(url)
    with pytest.raises(DeliveryError):
        await client.request("GET", "/", headers={"x-test": header}, max_response_bytes=10)
    await client.close()


async def test_a_certificate_that_nobody_vouches_for_is_a_delivery_error() -> None:
    async with collector(tls=True) as (url, _):
        client = CollectorClient(url)
        with pytest.raises(DeliveryError, match="certificate refused"):
            await client.request("GET", "/", headers={}, max_response_bytes=10)


@pytest.mark.parametrize("url", ["localhost:8420", "http://user:word@host", "http://"])
def test_a_collector_url_that_is_none_is_a_config_error(url: str) -> None:
    with pytest.raises(ConfigError, match="collector URL"):
        CollectorClient(url)


def test_a_missing_ca_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"absent\.pem"):
        CollectorClient("https://x", verify_file=tmp_path / "absent.pem")
