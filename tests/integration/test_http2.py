"""An endpoint over HTTP/2: the same marks, outcomes and warm connections as over HTTP/1.1."""

import asyncio

import msgspec
import pytest

from agent.clock import SystemClock
from agent.probes import Probes
from agent.transport import tls_context
from agent.transport.http2 import harmless
from isochrone.config import Assignment
from isochrone.outcome import Connection, Outcome, RttMethod
from tests.http2_server import TLS, TOKENS, Http2Server, http2_server
from tests.simulated import KEY, inference, rtt

pytestmark = pytest.mark.anyio


@pytest.fixture(autouse=True)
def known_certificate(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(TLS / "certificate.pem"))
    tls_context.cache_clear()


def over_http2(target: Assignment) -> Assignment:
    return msgspec.structs.replace(target, http2=True)


def probes() -> Probes:
    return Probes(SystemClock(), lambda _: KEY)


async def settled(server: Http2Server) -> None:
    async with asyncio.timeout(10):
        await server.idle.wait()
    server.idle.clear()
    await asyncio.sleep(0.05)  # what the server said afterwards crosses the loopback


async def test_a_stream_over_http2_has_its_marks_and_tokens() -> None:
    runner = probes()
    async with http2_server() as (url, server):
        result = await runner.run(over_http2(inference(url)))
        await runner.close()
    assert (result.outcome, result.reason) == (Outcome.OK, None)
    assert result.tokens is not None
    assert result.tokens.output == TOKENS
    told = (server.token_ns[0] - server.requested_ns[0]) / 1e9
    assert result.ttft_seconds == pytest.approx(told, abs=0.015)
    marks = result.marks
    moments = [
        marks.tcp,
        marks.tls,
        marks.request_started,
        marks.headers,
        marks.first_token,
        marks.last_token,
        marks.end,
    ]
    found = [moment for moment in moments if moment is not None]
    assert len(found) == len(moments)
    assert found == sorted(found)
    assert marks.last_token is not None
    assert marks.first_token is not None
    streamed = (server.token_ns[-1] - server.token_ns[0]) / 1e9
    assert marks.last_token - marks.first_token == pytest.approx(streamed, abs=0.015)
    assert server.requests[0][":path"] == "/v1/chat/completions"
    assert server.requests[0]["authorization"] == f"Bearer {KEY}"


async def test_a_warm_connection_over_http2_outlives_a_ping_between_two_probes() -> None:
    runner = probes()
    async with http2_server() as (url, server):
        server.ping_when_idle = True
        target = over_http2(inference(url, connection=Connection.WARM))
        outcomes = []
        for _ in range(3):
            result = await runner.run(target)
            outcomes.append((result.outcome, result.connection, result.setup_seconds))
            await settled(server)
        await runner.close()
    assert outcomes == [(Outcome.OK, Connection.WARM, 0.0)] * 3
    assert server.connections == 1


async def test_a_server_that_says_goodbye_between_two_probes_is_dialled_anew() -> None:
    runner = probes()
    async with http2_server() as (url, server):
        server.goaway_when_idle = True
        target = over_http2(inference(url, connection=Connection.WARM))
        outcomes = []
        for _ in range(2):
            outcomes.append((await runner.run(target)).outcome)
            await settled(server)
        await runner.close()
    assert outcomes == [Outcome.OK] * 2
    assert server.connections == 2


async def test_a_server_that_says_goodbye_instead_of_an_answer_ends_as_protocol() -> None:
    runner = probes()
    async with http2_server() as (url, server):
        server.goaway_before_answers = True
        target = over_http2(inference(url, connection=Connection.WARM))
        assert (await runner.run(target)).outcome is Outcome.OK
        await settled(server)
        result = await runner.run(target)
        await runner.close()
    assert server.connections == 1
    assert result.outcome is Outcome.PROTOCOL
    assert result.reason is not None
    assert "GOAWAY" in result.reason


async def test_an_answer_goes_on_after_a_polite_goodbye_and_is_the_connections_last() -> None:
    runner = probes()
    async with http2_server() as (url, server):
        server.goaway_in_answers = True
        target = over_http2(inference(url, connection=Connection.WARM))
        outcomes = [(await runner.run(target)).outcome for _ in range(2)]
        await runner.close()
    assert outcomes == [Outcome.OK] * 2
    assert server.connections == 2


async def test_a_status_that_is_no_number_ends_as_protocol() -> None:
    runner = probes()
    async with http2_server() as (url, server):
        server.status = "fine"
        result = await runner.run(over_http2(inference(url)))
        await runner.close()
    assert result.outcome is Outcome.PROTOCOL


async def test_a_stream_that_was_not_read_to_its_end_leaves_no_warm_connection() -> None:
    runner = probes()
    async with http2_server() as (url, server):
        server.silent_after = 3
        stalled = await runner.run(over_http2(inference(url, connection=Connection.WARM, stall=0.3)))
        server.silent_after = None
        result = await runner.run(over_http2(inference(url, connection=Connection.WARM)))
        await runner.close()
    assert (stalled.outcome, result.outcome) == (Outcome.TIMEOUT_STALL, Outcome.OK)
    assert server.connections == 2


async def test_a_reset_stream_is_truncated_and_has_no_latency() -> None:
    runner = probes()
    async with http2_server() as (url, server):
        server.reset_after = 3
        result = await runner.run(over_http2(inference(url)))
        await runner.close()
    assert (result.outcome, result.ttft_seconds) == (Outcome.TRUNCATED, None)
    assert result.tokens is not None
    assert result.tokens.arrivals == 3


async def test_a_server_that_does_not_agree_on_http2_ends_as_tls() -> None:
    runner = probes()
    async with http2_server(alpn="http/1.1") as (url, server):
        result = await runner.run(over_http2(inference(url)))
        await runner.close()
    assert result.outcome is Outcome.TLS
    assert result.reason is not None
    assert server.requests == []


async def test_round_trips_by_http_go_over_http2_too() -> None:
    runner = probes()
    async with http2_server() as (url, server):
        result = await runner.run(over_http2(rtt(url, RttMethod.HTTP, count=2)))
        await runner.close()
    assert result.outcome is Outcome.OK
    assert result.pings is not None
    assert (result.pings.sent, result.pings.lost) == (2, 0)
    assert [request[":method"] for request in server.requests] == ["HEAD", "HEAD"]
    assert server.connections == 1


@pytest.mark.parametrize(
    ("frames", "expected"),
    [
        (b"", True),
        (bytes.fromhex("000008 06 00 00000000") + b"12345678", True),
        (bytes.fromhex("000000 04 01 00000000") + bytes.fromhex("000004 08 00 00000000 00010000"), True),
        (bytes.fromhex("000008 07 00 00000000") + b"12345678", False),
        (bytes.fromhex("000008 06 00 00000000") + b"1234567", False),
        (bytes.fromhex("000001 00 00 00000001") + b"x", False),
        (bytes.fromhex("000004 08 00 00000001 00010000"), False),
        (b"HTTP/1.1 200 OK\r\n\r\n", False),
    ],
    ids=["nothing", "ping", "settings and window", "goaway", "half a ping", "data", "a stream's window", "HTTP/1.1"],
)
def test_only_whole_control_frames_do_no_harm_to_an_idle_connection(frames: bytes, expected: bool) -> None:  # noqa: FBT001  a table
    assert harmless(frames) is expected
