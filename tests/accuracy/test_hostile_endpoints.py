"""A hostile endpoint over real sockets: bounded in time, bytes and memory, and ended as what it is, in one line."""

import ssl
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.probes.inference import QUESTION
from agent.transport import tls_context
from isochrone.config import Assignment, Provider
from isochrone.outcome import Connection, Outcome, RttMethod
from isochrone.wire import decode_result, encode_result
from tests.accuracy.attacks import (
    ANSWER_BYTES,
    BENT,
    END,
    FLOODS,
    LIES,
    MIB,
    OPEN,
    TOKEN,
    TRICKLES,
    Attack,
    chunk,
    dripping,
    head,
)
from tests.accuracy.dialects import ANTHROPIC, SSE, sse
from tests.accuracy.hostile import (
    LONGEST_GAP_SECONDS,
    MEMORY_BYTES,
    SLACK_SECONDS,
    SOCKET_BYTES,
    Attacker,
    Borne,
    Pieces,
    bear,
)
from tests.simulated import KEY, inference, probes, rtt

pytestmark = pytest.mark.anyio

TLS = Path(__file__).parents[1] / "integration" / "tls"
ATTACKS = FLOODS | TRICKLES | LIES
PROMPTLY_SECONDS = 30.0
"""For what ends by its bytes: most take some hundredths, 16 MiB of them a second or two, counted memory several."""


def assert_borne(borne: Borne, outcome: Outcome, reason: str) -> None:
    result = borne.result
    assert (result.outcome, reason in (result.reason or "")) == (outcome, True), result.reason
    assert result.reason is not None
    assert result.reason.isprintable()
    assert (result.duration_seconds, result.ttft_seconds, result.components) == (None, None, None)
    assert decode_result(encode_result(result)) == result
    text = encode_result(result).decode()
    assert KEY not in text
    assert QUESTION not in text
    assert borne.longest_gap_seconds < LONGEST_GAP_SECONDS
    assert borne.peak_bytes < MEMORY_BYTES


def against(url: str, attack: Attack) -> Assignment:
    return inference(
        url,
        "m",
        provider=attack.provider,
        timeout=attack.timeout,
        first_token=attack.first_token,
        stall=attack.stall,
    )


@pytest.mark.parametrize("name", ATTACKS)
async def test_an_attack_ends_as_what_it_is_within_its_bounds(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agent.transport.http.MAX_ANSWER_BYTES", ANSWER_BYTES)
    attack = ATTACKS[name]
    attacker = Attacker(answers=lambda: [attack.pieces()])
    with attacker.open() as url:
        borne = await bear(against(url, attack))
    assert_borne(borne, attack.outcome, attack.reason)
    assert attacker.pushed <= attack.most_bytes + SOCKET_BYTES
    ends_within = PROMPTLY_SECONDS if attack.ends_within is None else attack.ends_within + SLACK_SECONDS
    assert borne.seconds < ends_within
    assert attacker.connections == 1


@pytest.mark.parametrize(
    ("name", "outcome"),
    [
        ("header fields without end", Outcome.PROTOCOL),
        ("interim answers without end", Outcome.PROTOCOL),
        ("20,000 header fields", Outcome.PROTOCOL),
        ("a head byte by byte", Outcome.TIMEOUT_TOTAL),
    ],
)
async def test_a_round_trip_by_http_has_the_same_bounds(name: str, outcome: Outcome) -> None:
    attacker = Attacker(answers=lambda: [ATTACKS[name].pieces()])
    with attacker.open() as url:
        borne = await bear(rtt(url, RttMethod.HTTP, timeout=1.5))
    assert_borne(borne, outcome, "")
    assert borne.result.pings is not None
    assert (borne.result.pings.sent, borne.result.pings.lost) == (1, 1)
    assert borne.seconds < 1.5 + SLACK_SECONDS
    assert attacker.pushed <= MIB + SOCKET_BYTES


@pytest.mark.parametrize("bent", [b"\xff", b"\xc3", b"\xed\xa0\x80", b"\xf8\x88\x80\x80\x80", b"w\xe2\x82"])
@pytest.mark.parametrize("framing", BENT)
async def test_text_that_is_no_utf8_is_a_token_all_the_same(framing: str, bent: bytes) -> None:
    provider, first, token, ending = BENT[framing]
    answer = first + token.replace(b"w", bent) + ending
    with Attacker(answers=lambda: [[answer]]).open() as url:
        borne = await bear(inference(url, "m", provider=provider))
    assert borne.result.outcome is Outcome.OK
    assert borne.result.tokens is not None
    assert borne.result.tokens.arrivals == 1


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_is_told_and_never_followed(status: int) -> None:
    elsewhere = Attacker(answers=lambda: [[head() + TOKEN + END]])
    with elsewhere.open() as other:
        fields = (f"Location: {other}/{KEY}", f"Refresh: 0; url={other}", f'Alt-Svc: h2="{other[7:-3]}"')
        with Attacker(
            answers=lambda: [[head("text/plain", *fields, "Content-Length: 0", status=status)]]
        ).open() as url:
            borne = await bear(inference(url))
    told = f"HTTP {status}: redirected to {other}/***, not followed"
    assert_borne(borne, Outcome.PROTOCOL, told)
    assert elsewhere.connections == 0


@pytest.mark.parametrize(
    "field", [f"x-ms-region: {'x' * 50}{KEY}", f"x-groq-region: {KEY}", f"server-timing: {KEY};dur=1"]
)
@pytest.mark.parametrize("ending", [END, b"data: {"], ids=["good", "cut"])
async def test_a_key_that_comes_back_as_a_place_or_a_span_is_hidden(field: str, ending: bytes) -> None:
    with Attacker(answers=lambda: [[head(SSE, field) + TOKEN + ending]]).open() as url:
        result = (await bear(inference(url))).result
    assert KEY[:6] not in encode_result(result).decode()
    assert (result.outcome is Outcome.OK) is (ending == END)


async def test_a_key_that_comes_back_in_the_stream_as_a_place_is_hidden() -> None:
    start = {"type": "message_start", "message": {"usage": {"inference_geo": "x" * 50 + KEY}}}
    answer = head() + sse(start) + ANTHROPIC.text("w") + ANTHROPIC.ending(True)  # noqa: FBT003  with usage
    with Attacker(answers=lambda: [[answer]]).open() as url:
        result = (await bear(inference(url, "m", provider=Provider.ANTHROPIC))).result
    assert result.outcome is Outcome.OK
    assert result.served_region is not None
    assert KEY[:6] not in encode_result(result).decode()


GOOD = OPEN + chunk(TOKEN) + chunk(END) + b"0\r\n\r\n"
SMUGGLED = GOOD.replace(b"Content-Type", b"x-ms-region: smuggled\r\nContent-Type")


@pytest.mark.parametrize(
    "left_over",
    [
        SMUGGLED,
        SMUGGLED[:40],
        b"HTTP/1.1 200 OK\r\nx-ms-region: smuggled\r\nX: ",
        b"HTTP/1.1 100 Continue\r\n\r\n",
        b"\r\n",
        b"\0",
    ],
    ids=["a whole answer", "half a head", "a head that swallows the next", "an interim answer", "a line end", "a NUL"],
)
@pytest.mark.parametrize("apart", [False, True], ids=["in one segment", "later"])
async def test_what_is_left_after_an_answer_is_never_the_next_ones(left_over: bytes, *, apart: bool) -> None:
    honest = GOOD.replace(b"Content-Type", b"x-ms-region: honest\r\nContent-Type")
    pieces: Pieces = [GOOD, 0.05, left_over] if apart else [GOOD + left_over]
    answers = iter([[pieces, [honest]], [[honest]], [[honest]]])
    attacker = Attacker(answers=lambda: next(answers))
    with attacker.open() as url:
        async with probes() as running:
            target = inference(url, connection=Connection.WARM, timeout=20)
            first = await running.run(target)
            attacker.played.acquire(timeout=20)
            second = await running.run(target)
    assert (first.outcome, first.served_region) == (Outcome.OK, None)
    assert (second.outcome, second.served_region) == (Outcome.OK, "honest")
    assert attacker.connections == 2


@pytest.mark.skipif(sys.platform != "linux", reason="other kernels have no cork")
async def test_what_is_left_in_a_record_of_its_own_is_never_the_next_answer(trusted: ssl.SSLContext) -> None:
    honest = GOOD.replace(b"Content-Type", b"x-ms-region: honest\r\nContent-Type")
    answers = iter([[[GOOD, SMUGGLED], [honest]], [[honest]]])
    attacker = Attacker(answers=lambda: next(answers), tls=trusted, corked=True)
    with attacker.open() as url:
        async with probes() as running:
            target = inference(url, connection=Connection.WARM, timeout=20)
            first = await running.run(target)
            attacker.played.acquire(timeout=20)
            second = await running.run(target)
    assert (first.outcome, first.served_region) == (Outcome.OK, None), first.reason
    assert (second.outcome, second.served_region) == (Outcome.OK, "honest"), second.reason
    assert attacker.connections == 2


@pytest.fixture
def trusted(monkeypatch: pytest.MonkeyPatch) -> Iterator[ssl.SSLContext]:
    """Give a server's context whose certificate the agent trusts."""
    monkeypatch.setenv("SSL_CERT_FILE", str(TLS / "certificate.pem"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(TLS / "certificate.pem", TLS / "key.pem")
    tls_context.cache_clear()
    yield context
    tls_context.cache_clear()


@pytest.mark.parametrize(
    ("encrypted", "raw", "outcome", "reason"),
    [
        (b"", b"no TLS record at all" * 10, Outcome.CONNECT, "the connection broke before an answer"),
        (b"", b"\x17\x03\x03\x00\x20" + b"\0" * 32, Outcome.CONNECT, "the connection broke before an answer"),
        (b"", b"\x17\x03\x03\xff\xff" + b"\0" * 70_000, Outcome.CONNECT, "the connection broke before an answer"),
        (OPEN + chunk(TOKEN), b"\x17\x03\x03\x00\x20" + b"\0" * 32, Outcome.TRUNCATED, "broke in the middle"),
        (OPEN + chunk(TOKEN), b"", Outcome.TRUNCATED, "closed in the middle of the answer"),
        (head() + TOKEN, b"", Outcome.TRUNCATED, "without finish_reason or [DONE]"),
        (b"", b"", Outcome.PROTOCOL, "the server closed the connection without an answer"),
    ],
    ids=[
        "no record",
        "a forged record",
        "a record too long",
        "a forged record later",
        "no alert",
        "no length",
        "nothing",
    ],
)
async def test_tls_that_breaks_after_the_handshake(  # noqa: PLR0917  a row has so many
    trusted: ssl.SSLContext, encrypted: bytes, raw: bytes, outcome: Outcome, reason: str
) -> None:
    attacker = Attacker(answers=lambda: [[encrypted]], tls=trusted, after=raw)
    with attacker.open() as url:
        borne = await bear(inference(url))
    assert_borne(borne, outcome, reason)


async def test_a_tls_handshake_byte_by_byte_ends_with_the_timeout() -> None:
    record = b"\x16\x03\x03\x3f\xff\x02\x00\x3f\xfb"
    attacker = Attacker(answers=lambda: [dripping(b"\0", start=record)()], hasty=True)
    with attacker.open() as url:
        borne = await bear(inference(url.replace("http:", "https:"), timeout=0.6))
    assert_borne(borne, Outcome.TLS, "no end of the TLS handshake")
    assert borne.seconds < 0.6 + SLACK_SECONDS
