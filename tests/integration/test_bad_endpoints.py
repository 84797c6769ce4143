"""Whatever an endpoint does ends as its outcome, with one line that says why, without key, prompt or answer."""

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest

from agent.clock import SystemClock
from agent.errors import ConfigError
from agent.probes import Probes
from agent.probes.inference import QUESTION
from agent.simulator import Scenario, Silence
from agent.simulator.server import read_request
from agent.transport import tls_context
from isochrone.outcome import Connection, Outcome
from isochrone.result import Result
from isochrone.wire import decode_result, encode_result
from tests.simulated import FAST, KEY, inference, probes, simulator

pytestmark = pytest.mark.anyio

CERTIFICATE = Path(__file__).parent / "tls" / "certificate.pem"
PRIVATE_KEY = Path(__file__).parent / "tls" / "key.pem"


@asynccontextmanager
async def serving(answer: bytes, *, tls: bool = False) -> AsyncIterator[str]:
    """Answer every request with these bytes, then close."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(answer)
        await writer.drain()
        writer.close()

    context = None
    if tls:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(CERTIFICATE, PRIVATE_KEY)
    server = await asyncio.start_server(handle, "127.0.0.1", 0, ssl=context)
    async with server:
        yield f"http{'s' if tls else ''}://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"


def stream(*events: str, head: str = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n") -> bytes:
    return (head + "".join(f"data: {event}\n\n" for event in events)).encode()


async def probed(url: str, model: str = "any", **options: float) -> Result:
    async with probes() as running:
        result = await running.run(inference(url, model, **options))
    assert decode_result(encode_result(result)) == result
    return result


def assert_failed(result: Result, outcome: Outcome, reason: str) -> None:
    assert (result.outcome, result.reason is not None) == (outcome, True)
    assert reason in str(result.reason)
    assert "\n" not in str(result.reason)
    latencies = (result.duration_seconds, result.ttft_seconds, result.tokens_per_second, result.components)
    assert latencies == (None, None, None, None)
    text = encode_result(result).decode()
    assert KEY not in text
    assert QUESTION not in text


@pytest.mark.parametrize(
    ("scenario", "outcome", "reason"),
    [
        (Scenario(status=401), Outcome.AUTH, "HTTP 401: scripted status 401: is the key right?"),
        (Scenario(status=403), Outcome.AUTH, "HTTP 403"),
        (Scenario(status=404), Outcome.HTTP_4XX, "are the URL and the model's name right?"),
        (Scenario(status=422), Outcome.HTTP_4XX, "HTTP 422"),
        (Scenario(status=429, retry_after="20"), Outcome.RATE_LIMITED, "HTTP 429: retry after 20 s"),
        (Scenario(status=500), Outcome.HTTP_5XX, "HTTP 500"),
        (Scenario(status=503), Outcome.OVERLOADED, "HTTP 503"),
        (Scenario(status=529), Outcome.OVERLOADED, "HTTP 529"),
        (Scenario(status=307), Outcome.PROTOCOL, "HTTP 307"),
        (Scenario(status=502, content_type="text/html", body="<h1>Bad</h1>"), Outcome.HTTP_5XX, "HTTP 502"),
        (Scenario(content_type="text/html", body="<html>Sign in</html>"), Outcome.PROTOCOL, "HTML, not a stream"),
        (Scenario(body='{"choices":[{"message":{"content":"Hi"}}]}'), Outcome.PROTOCOL, "one JSON body"),
        (Scenario(body='{"error":{"message":"out of memory"}}'), Outcome.STREAM_ERROR, "out of memory"),
        (Scenario(cut_after=4), Outcome.TRUNCATED, "closed in the middle"),
        (Scenario(cut_after=0), Outcome.TRUNCATED, "closed in the middle"),
        (Scenario(end_after=4), Outcome.TRUNCATED, "without finish_reason or [DONE]"),
        (Scenario(end_after=0), Outcome.EMPTY, "without a token"),
        (Scenario(tokens=0), Outcome.EMPTY, "without a token"),
        (Scenario(error_after=4), Outcome.STREAM_ERROR, "the engine broke"),
        (Scenario(error_after=0), Outcome.STREAM_ERROR, "the engine broke"),
    ],
)
async def test_each_fault_ends_as_its_outcome(scenario: Scenario, outcome: Outcome, reason: str) -> None:
    quick = msgspec.structs.replace(scenario, ttft=FAST.ttft, tpot=FAST.tpot)
    async with simulator(quick) as url:
        assert_failed(await probed(url), outcome, reason)


@pytest.mark.parametrize(
    ("silence", "outcome", "reason"),
    [
        (Silence.HEADERS, Outcome.TIMEOUT_HEADERS, "no response headers within 0.3 s"),
        (Silence.TOKENS, Outcome.TIMEOUT_FIRST_TOKEN, "no token within 0.3 s"),
        (Silence.STALL, Outcome.TIMEOUT_STALL, "no further token within 0.3 s"),
    ],
)
async def test_endless_silence_ends_as_the_timeout_of_what_was_awaited(
    silence: Silence, outcome: Outcome, reason: str
) -> None:
    async with simulator(msgspec.structs.replace(FAST, silence=silence)) as url:
        assert_failed(await probed(url, first_token=0.3, stall=0.3), outcome, reason)


async def test_the_whole_probe_has_its_own_timeout() -> None:
    async with simulator(msgspec.structs.replace(FAST, silence=Silence.STALL)) as url:
        assert_failed(await probed(url, timeout=0.5), Outcome.TIMEOUT_TOTAL, "within 0.5 s")


async def test_a_model_that_ended_is_good_though_the_server_never_closes() -> None:
    finish = '{"choices":[{"delta":{"content":"Hi"},"finish_reason":"stop"}]}'

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(stream(finish))
        await reader.read()
        writer.close()

    async with await asyncio.start_server(handle, "127.0.0.1", 0) as server:
        result = await probed(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1", stall=0.2)
    assert result.outcome is Outcome.OK
    assert result.marks.end == result.marks.last_token


async def test_a_name_without_an_address_is_dns() -> None:
    assert_failed(await probed("http://nowhere.invalid/v1"), Outcome.DNS, "no address for nowhere.invalid")


async def test_a_wrong_port_is_refused() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        result = await probed(f"http://127.0.0.1:{port}/v1")
    assert_failed(result, Outcome.CONNECT, f"connection refused by 127.0.0.1:{port}")
    assert result.address == "127.0.0.1"


async def test_a_dead_host_that_answers_nothing_is_no_connection() -> None:
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        address = full.getsockname()
        holders = [socket.socket() for _ in range(4)]
        for holder in holders:
            holder.settimeout(0)
            holder.connect_ex(address)
        result = await probed(f"http://127.0.0.1:{address[1]}/v1", timeout=0.5)
        for holder in holders:
            holder.close()
    assert_failed(result, Outcome.CONNECT, f"no connection to 127.0.0.1:{address[1]} within 0.5 s")


async def test_plain_http_behind_an_https_url_is_tls() -> None:
    async with serving(b"HTTP/1.1 400 Bad Request\r\n\r\n") as url:
        result = await probed(url.replace("http:", "https:"), timeout=1)
    assert_failed(result, Outcome.TLS, "TLS")
    assert result.marks.tcp is not None


async def test_a_certificate_that_nobody_vouches_for_is_refused() -> None:
    async with serving(b"", tls=True) as url:
        assert_failed(await probed(url), Outcome.TLS, "certificate refused: self-signed certificate")


@pytest.mark.parametrize(
    ("answer", "outcome", "reason"),
    [
        (b"", Outcome.PROTOCOL, "closed the connection without an answer"),
        (b"SSH-2.0-OpenSSH_9.2\r\n\r\n", Outcome.PROTOCOL, "the answer is not HTTP: "),
        (b"HTTP/1.1 200 OK\r\nX: " + b"x" * 200_000, Outcome.PROTOCOL, "the answer is not HTTP: "),
        (b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 500 + b"\r\n", Outcome.PROTOCOL, "header fields"),
        (
            b"HTTP/1.1 302 Found\r\nLocation: http://x/\r\n\r\n",
            Outcome.PROTOCOL,
            "redirected to http://x/, not followed",
        ),
        (b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\nxx", Outcome.PROTOCOL, "encoded (gzip)"),
        (b"HTTP/1.1 200 OK\r\n\r\n", Outcome.EMPTY, "without a token"),
        (stream("{"), Outcome.PROTOCOL, "not JSON"),
        (stream('{"error":{"message":"a\\u0000b\\nc"}}'), Outcome.STREAM_ERROR, "a b c"),
        (b"HTTP/1.1 200 OK\r\n\r\ndata: " + b"x" * 1_100_000, Outcome.PROTOCOL, "longer than"),
        (b"HTTP/1.1 200 OK\r\n\r\n" + b": padding\n" * 1_700_000, Outcome.PROTOCOL, "longer than 16777216 bytes"),
    ],
    ids=lambda value: None if isinstance(value, bytes) else str(value)[:30],
)
async def test_bytes_that_are_no_stream_are_told_apart(answer: bytes, outcome: Outcome, reason: str) -> None:
    async with serving(answer) as url:
        assert_failed(await probed(url), outcome, reason)


async def test_a_provider_that_echoes_the_key_and_the_prompt_does_not_spread_them() -> None:
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        length = next(line for line in head.split("\r\n") if line.startswith("Content-Length")).split()[1]
        prompt = msgspec.json.decode(await reader.readexactly(int(length)))["messages"][0]["content"]
        body = msgspec.json.encode({"error": {"message": "x" * 170 + f" bad key {KEY} for {prompt}"}})
        writer.write(b"HTTP/1.1 401 No\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(echo, "127.0.0.1", 0) as server:
        result = await probed(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1")
    assert_failed(result, Outcome.AUTH, "bad key *")
    assert KEY[:4] not in str(result.reason)


async def test_a_key_that_cannot_be_read_is_an_outcome_too() -> None:
    def missing(_: object) -> str:
        raise ConfigError("the key's variable KEY is not set")

    running = Probes(SystemClock(), missing)
    assert_failed(await running.run(inference("http://127.0.0.1:9/v1")), Outcome.AUTH, "KEY is not set")


async def test_a_key_that_must_not_go_there_is_not_even_read() -> None:
    def unread(_: object) -> str:
        raise AssertionError("read")

    running = Probes(SystemClock(), unread, key_refusal=lambda _, origin: f"not to {origin}")
    result = await running.run(inference("http://127.0.0.1:9/v1"))
    assert_failed(result, Outcome.DENIED, "not to http://127.0.0.1:9")
    assert result.address is None


@pytest.mark.parametrize("url", ["ftp://x/v1", "no url", "http://", "http://[::1/v1"])
async def test_a_url_that_leads_nowhere_is_an_outcome_too(url: str) -> None:
    result = await probed(url)
    assert result.outcome is Outcome.OTHER


async def test_tls_is_measured_when_the_certificate_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(CERTIFICATE))
    tls_context.cache_clear()
    good = stream(
        '{"choices":[{"delta":{"content":"Hi"}}]}', '{"choices":[{"delta":{},"finish_reason":"stop"}]}', "[DONE]"
    )
    try:
        async with serving(good, tls=True) as url:
            result = await probed(url.replace("127.0.0.1", "localhost"))
    finally:
        tls_context.cache_clear()
    assert result.outcome is Outcome.OK
    marks = result.marks
    assert marks.dns is not None
    assert marks.tcp is not None
    assert marks.tls is not None
    assert marks.request_started is not None
    assert marks.dns <= marks.tcp <= marks.tls <= marks.request_started
    assert result.ttft_seconds is not None


async def test_a_warm_connection_that_the_server_closed_is_opened_anew_before_the_clock_starts() -> None:
    good = stream('{"choices":[{"delta":{"content":"Hi"},"finish_reason":"stop"}]}', "[DONE]")
    async with serving(good) as url, probes() as running:
        results = [await running.run(inference(url, connection=Connection.WARM)) for _ in range(3)]
    assert [(result.outcome, result.connection) for result in results] == [(Outcome.OK, Connection.WARM)] * 3


async def test_cancelling_a_probe_closes_its_socket() -> None:
    arrived, closed = asyncio.Event(), asyncio.Event()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        arrived.set()
        while await reader.read(65536):
            pass
        closed.set()
        writer.close()

    async with await asyncio.start_server(handle, "127.0.0.1", 0) as server, probes() as running:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
        task = asyncio.create_task(running.run(inference(url)))
        await arrived.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        async with asyncio.timeout(10):
            await closed.wait()
