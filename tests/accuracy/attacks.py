"""The rows of hostile endpoints: what is sent, and how it must end."""

import gzip
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from itertools import chain, repeat
from typing import Final

from isochrone.config import Provider
from isochrone.outcome import Outcome
from tests.accuracy.dialects import BEDROCK, FRAMES, NDJSON, OLLAMA, OPENAI, SSE, chat, frame, sse
from tests.accuracy.hostile import Pieces

MIB: Final = 1024 * 1024
GIB: Final = 1024 * MIB
KIB_64: Final = b"x" * 65536
BOMB: Final = gzip.compress(bytes(MIB)) * 1024
"""A gigabyte in one: members of a gzip file follow each other."""
DRIP_SECONDS: Final = 0.05
P = Provider


@dataclass(frozen=True, kw_only=True)
class Attack:
    """`most_bytes` is what the agent may read of it; the timeouts stand for ones of minutes."""

    pieces: Callable[[], Pieces]
    outcome: Outcome
    reason: str
    provider: Provider = Provider.OPENAI
    timeout: float = 60.0
    first_token: float = 60.0
    stall: float = 60.0
    most_bytes: int = MIB
    ends_within: float | None = None
    """Seconds; None where bytes end it, not time."""


def head(media: str = SSE, *fields: str, status: int = 200) -> bytes:
    lines = (f"HTTP/1.1 {status} Hostile", f"Content-Type: {media}", *fields)
    return "\r\n".join((*lines, "", "")).encode("latin-1")


CHUNKED: Final = "Transfer-Encoding: chunked"


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def once(*pieces: bytes | float) -> Callable[[], Pieces]:
    return lambda: pieces


def for_ever(*pieces: bytes | float, start: bytes = b"") -> Callable[[], Pieces]:
    """Send a gigabyte at most: whoever reads it all has failed long before."""
    size = sum(len(piece) for piece in pieces if isinstance(piece, bytes))
    return lambda: chain([start], chain.from_iterable(repeat(pieces, GIB // size + 1)))


def dripping(data: bytes, *, start: bytes = b"") -> Callable[[], Pieces]:
    """Send one byte after another, slowly, and never come to an end."""
    return lambda: chain([start], *(((data[n % len(data)]).to_bytes(1), DRIP_SECONDS) for n in range(4_000)))


PADDED: Final = sse({"choices": [], "pad": "x" * 4_000})
TOKENS: Final = sse({"choices": [{"delta": {"content": "w " * 2_000}}]})
OPEN: Final = head(SSE, CHUNKED)
TOKEN: Final = OPENAI.text("w")
END: Final = chat({}, "stop") + sse("[DONE]")
ANSWER_BYTES: Final = 4 * MIB
"""Stands for the bound of an answer, to be reached sooner."""
TOO_LONG: Final = f"the answer is longer than {ANSWER_BYTES} bytes"
LONG_LINE: Final = f"a line of the stream is longer than {MIB} bytes"
LONG_EVENT: Final = f"an event of the stream is longer than {MIB} bytes"
LONG_FRAME: Final = f"a frame of the stream is longer than {MIB} bytes"


def _flood(
    pieces: Callable[[], Pieces], reason: str, *, most: int = ANSWER_BYTES, provider: Provider = P.OPENAI
) -> Attack:
    return Attack(pieces=pieces, outcome=Outcome.PROTOCOL, reason=reason, most_bytes=most, provider=provider)


def _prelude(length: int) -> bytes:
    told = struct.pack(">II", length, 0)
    return told + struct.pack(">I", zlib.crc32(told))


def _sealed(payload: bytes) -> bytes:
    """Return a frame without headers whose checksums are right."""
    whole = _prelude(16 + len(payload)) + payload
    return whole + struct.pack(">I", zlib.crc32(whole))


FLOODS: Final[dict[str, Attack]] = {
    "events without end": _flood(for_ever(chunk(PADDED * 16), start=OPEN), TOO_LONG),
    "tokens without end": _flood(for_ever(chunk(TOKENS * 16), start=OPEN), TOO_LONG),
    "comments without end": _flood(for_ever(chunk(b": %b\n\n" % (b"x" * 4_000) * 16), start=OPEN), TOO_LONG),
    "lines of whitespace": _flood(for_ever(chunk((b" " * 4_000 + b"\r\n") * 16), start=OPEN), TOO_LONG),
    "whitespace without a line end": _flood(for_ever(chunk(b" " * 65_536), start=OPEN), LONG_LINE, most=2 * MIB),
    "a body that never ends a chunk": _flood(for_ever(KIB_64, start=OPEN + b"7fffffff\r\n"), LONG_LINE, most=2 * MIB),
    "an event of 1 GB in one line": _flood(
        for_ever(chunk(KIB_64), start=OPEN + chunk(b"data: ")), LONG_LINE, most=2 * MIB
    ),
    "an event of 1 GB in many lines": _flood(
        for_ever(chunk(b"data: " + b"x" * 65_000 + b"\n"), start=OPEN), LONG_EVENT, most=2 * MIB
    ),
    "a line of 1 GB of JSON": _flood(
        for_ever(chunk(KIB_64), start=head(NDJSON, CHUNKED) + chunk(b'{"message":{"content":"')),
        LONG_LINE,
        most=2 * MIB,
        provider=P.OLLAMA,
    ),
    "empty lines of JSON without end": _flood(
        for_ever(chunk(b" " * 4_000 + b"\n"), start=head(NDJSON, CHUNKED)), TOO_LONG, provider=P.OLLAMA
    ),
    "a frame of 1 GB": _flood(
        for_ever(chunk(KIB_64), start=head(FRAMES, CHUNKED) + chunk(_prelude(GIB))), LONG_FRAME, provider=P.BEDROCK
    ),
    "frames without end": _flood(
        for_ever(chunk(frame("ping", {"p": "x" * 4_000}) * 16), start=head(FRAMES, CHUNKED)),
        TOO_LONG,
        provider=P.BEDROCK,
    ),
    "interim answers without end": _flood(
        for_ever(b"HTTP/1.1 102 Processing\r\n\r\n" * 1_000), "131072 bytes came without a response head"
    ),
    "header fields without end": _flood(
        for_ever(b"X-Y: z\r\n" * 1_000, start=b"HTTP/1.1 200 OK\r\n"), "not HTTP: Receive buffer too long"
    ),
    "20,000 header fields": _flood(
        once(head(SSE, *("A: b" for _ in range(20_000))), TOKENS), "not HTTP: Receive buffer too long"
    ),
    "129 header fields": _flood(once(head(SSE, *("A: b" for _ in range(128)))), "more than 128 header fields"),
    "a header field that is long to read": Attack(
        pieces=once(head(SSE, "Server-Timing: a," + " " * 90_000 + ",b", status=500)),
        outcome=Outcome.HTTP_5XX,
        reason="HTTP 500 without a reason",
    ),
    "events that are much when they are read": Attack(
        pieces=once(OPEN, chunk(b'data: {"choices":[%b0]}\n\n' % (b"{}," * 330_000)) * 2, chunk(END)),
        outcome=Outcome.EMPTY,
        reason="without a token",
    ),
    "frames that are much when they are read": Attack(
        pieces=once(head(FRAMES), frame("contentBlockDelta", [{}] * 300_000) * 2),
        outcome=Outcome.EMPTY,
        reason="without a token",
        provider=P.BEDROCK,
    ),
    "a header field of 1 MB": _flood(
        once(head(SSE, "A: " + "b" * 1_000_000), TOKENS), "not HTTP: Receive buffer too long"
    ),
    "a status line without end": _flood(for_ever(KIB_64, start=b"HTTP/1.1 200 "), "not HTTP: Receive buffer too long"),
    "a chunk's extension without end": _flood(
        for_ever(KIB_64, start=OPEN + b"5;"), "breaks HTTP: Receive buffer too long"
    ),
    "trailers without end": _flood(
        for_ever(b"X-Y: z\r\n" * 1_000, start=OPEN + chunk(OPENAI.text("w")) + b"0\r\n"),
        "breaks HTTP: Receive buffer too long",
    ),
    "an error's body without end": Attack(
        pieces=for_ever(chunk(KIB_64), start=head("application/json", CHUNKED, status=500)),
        outcome=Outcome.HTTP_5XX,
        reason="HTTP 500 without a reason",
    ),
    "a JSON body without end": _flood(
        for_ever(chunk(KIB_64), start=head("application/json", CHUNKED)), "one JSON body although a stream"
    ),
    "a gzip bomb": _flood(
        once(head(SSE, CHUNKED, "Content-Encoding: gzip"), chunk(BOMB)),
        "encoded (gzip) although identity",
    ),
    "a gzip bomb by another name": _flood(
        once(head(SSE, CHUNKED, "Content-Encoding: x-GZIP, identity"), chunk(gzip.compress(b" " * MIB))),
        "encoded (x-GZIP, identity)",
    ),
    "a gzip bomb in the transfer": _flood(once(head(SSE, "Transfer-Encoding: gzip, chunked"), chunk(BOMB)), "not HTTP"),
    "a gzip bomb as an error's body": Attack(
        pieces=once(
            head("application/json", CHUNKED, "Content-Encoding: gzip", status=503), chunk(gzip.compress(KIB_64))
        ),
        outcome=Outcome.OVERLOADED,
        reason="HTTP 503 without a reason",
    ),
}
"""They end by the bytes that came, long before the timeouts."""


def _slow(pieces: Callable[[], Pieces], outcome: Outcome, reason: str, **limits: float) -> Attack:
    end = min(limits.values())
    return Attack(pieces=pieces, outcome=outcome, reason=reason, ends_within=end, **limits)


TRICKLES: Final[dict[str, Attack]] = {
    "a head byte by byte": _slow(
        dripping(b"X-Y: z\r\n", start=b"HTTP/1.1 200 OK\r\n"),
        Outcome.TIMEOUT_HEADERS,
        "no response headers within 0.5 s",
        first_token=0.5,
    ),
    "interim answers, slowly": _slow(
        dripping(b"HTTP/1.1 100 Continue\r\n\r\n"), Outcome.TIMEOUT_HEADERS, "no response headers", first_token=0.5
    ),
    "comments byte by byte": _slow(
        dripping(b": ping\n\n", start=head()), Outcome.TIMEOUT_FIRST_TOKEN, "no token within 0.5 s", first_token=0.5
    ),
    "events of nothing byte by byte": _slow(
        dripping(b"data: {}\n\n", start=head()), Outcome.TIMEOUT_FIRST_TOKEN, "no token within 1 s", first_token=1.0
    ),
    "a second token byte by byte": _slow(
        dripping(b"data: xxxxxxxxxxxx", start=head() + OPENAI.text("w")),
        Outcome.TIMEOUT_STALL,
        "no further token within 0.5 s",
        stall=0.5,
    ),
    "a token for ever and ever": _slow(
        for_ever(OPENAI.text("w"), DRIP_SECONDS, start=head()), Outcome.TIMEOUT_TOTAL, "within 1 s", timeout=1.0
    ),
    "lines of JSON byte by byte": Attack(
        pieces=dripping(b'{"message":{"content":"xxxxxxxxxx', start=head(NDJSON)),
        outcome=Outcome.TIMEOUT_FIRST_TOKEN,
        reason="no token within 0.5 s",
        provider=P.OLLAMA,
        first_token=0.5,
        ends_within=0.5,
    ),
    "a frame byte by byte": Attack(
        pieces=dripping(b"x", start=head(FRAMES) + BEDROCK.text("w") + _prelude(MIB)),
        outcome=Outcome.TIMEOUT_STALL,
        reason="no further token within 0.5 s",
        provider=P.BEDROCK,
        stall=0.5,
        ends_within=0.5,
    ),
    "an error's body byte by byte": Attack(
        pieces=dripping(b" ", start=head("application/json", status=429) + b'{"error":{"message":"slow down"}}'),
        outcome=Outcome.RATE_LIMITED,
        reason="HTTP 429: slow down",
        ends_within=1.0,
    ),
}


def _broken(data: bytes, outcome: Outcome, reason: str, *, provider: Provider = P.OPENAI) -> Attack:
    return Attack(pieces=once(data), outcome=outcome, reason=reason, provider=provider)


def _protocol(data: bytes, reason: str, provider: Provider = P.OPENAI) -> Attack:
    return _broken(data, Outcome.PROTOCOL, reason, provider=provider)


LIES: Final[dict[str, Attack]] = {
    "HTTP/0.9": _protocol(TOKEN + END, "not HTTP"),
    "another protocol": _protocol(b"* OK IMAP4rev1 ready\r\n" * 2 + b"\r\n", "not HTTP"),
    "HTTP/2 unasked": _protocol(b"\0\0\x12\4\0\0\0\0\0" + b"\0" * 18 + b"\r\n\r\n", "not HTTP"),
    "switching protocols unasked": _protocol(
        b"HTTP/1.1 101 Switching\r\nUpgrade: h2c\r\n\r\n" + TOKEN + END, "not HTTP"
    ),
    "a NUL in a header field": _protocol(head(SSE, "A: b\0c"), "not HTTP"),
    "invalid UTF-8 in the header": _broken(head(SSE, "A: \xff\xfe", status=500), Outcome.HTTP_5XX, "HTTP 500"),
    "two lengths": _protocol(head(SSE, "Content-Length: 5", "Content-Length: 6"), "not HTTP"),
    "a negative length": _protocol(head(SSE, "Content-Length: -5"), "not HTTP"),
    "a length that wraps": _protocol(head(SSE, f"Content-Length: {2**80}"), "not HTTP"),
    "a length that is too long": _broken(
        head(SSE, "Content-Length: 100000") + TOKEN, Outcome.TRUNCATED, "closed in the middle of the answer"
    ),
    "a length that is too short": _broken(
        head(SSE, f"Content-Length: {len(TOKEN)}") + TOKEN + END, Outcome.TRUNCATED, "without finish_reason or [DONE]"
    ),
    "a negative chunk": _protocol(OPEN + b"-5\r\n" + TOKEN, "breaks HTTP"),
    "a chunk that wraps": _protocol(OPEN + b"1" + b"0" * 32 + b"\r\n" + TOKEN, "breaks HTTP"),
    "a chunk's size with a sign": _protocol(OPEN + b"0x5\r\n" + TOKEN, "breaks HTTP"),
    "a chunk longer than told": _protocol(OPEN + b"5\r\n" + TOKEN, "breaks HTTP"),
    "a chunk shorter than told": _broken(OPEN + b"fffff\r\n" + TOKEN, Outcome.TRUNCATED, "closed in the middle"),
    "invalid UTF-8 in JSON of an event": _protocol(head() + b"data: \xff\xfe{}\n\n", "is not JSON"),
    "a NUL in JSON of an event": _protocol(head() + b'data: {"a":"\0"}\n\n', "is not JSON"),
    "a NUL in a line of JSON": _protocol(head(NDJSON) + b'{"a":"\0"}\n', "is not JSON", P.OLLAMA),
    "invalid UTF-8 in a line of JSON": _protocol(head(NDJSON) + b"\xff\xfe\n", "is not JSON", P.OLLAMA),
    "UTF-16": _broken(
        head() + (TOKEN + END).decode().encode("utf-16"), Outcome.EMPTY, "the stream ended without a token"
    ),
    "invalid UTF-8 in a frame": _protocol(head(FRAMES) + _sealed(b"\xff\xfe{}"), "is not JSON", P.BEDROCK),
    "NULs for a frame": _protocol(head(FRAMES) + bytes(64), "wrong checksum", P.BEDROCK),
    "NULs for events": _broken(head() + bytes(4096), Outcome.EMPTY, "the stream ended without a token"),
    "an error of control characters": _broken(
        head() + sse('{"error": {"message": "a\\u001b[31m\\u0000\\r\\nb\\u202e\\ud800c"}}'),
        Outcome.STREAM_ERROR,
        "a [31m b c",
    ),
    "JSON without bottom": _protocol(head() + b"data: " + b"[" * 500_000 + b"\n\n", "is not JSON"),
    "a number of half a megabyte": _protocol(head() + b"data: " + b"9" * 500_000 + b"\n\n", "is not JSON"),
}
"""The server says it once and closes."""

BENT: Final[dict[str, tuple[Provider, bytes, bytes, bytes]]] = {
    "SSE": (P.OPENAI, head(), TOKEN, END),
    "NDJSON": (P.OLLAMA, head(NDJSON), OLLAMA.text("w"), OLLAMA.ending(True)),  # noqa: FBT003  with usage
}
"""Text that is invalid UTF-8 is text all the same: provider, head, a token `w` and the ending."""
