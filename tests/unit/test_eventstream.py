"""AWS event-stream frames: what botocore decodes is decoded alike; a damaged frame is refused before it is believed."""

import struct
import zlib
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.eventstream import EventStreamParser
from agent.framing import MAX_EVENT_BYTES, Event, FramingError
from tests.accuracy.dialects import frame

DELTA = (
    b"\x00\x00\x00\x9f\x00\x00\x00W\xc3{\xab\xff\x0b:event-type\x07\x00\x11contentBlockDelta"
    b"\r:content-type\x07\x00\x10application/json\r:message-type\x07\x00\x05event"
    b'{"contentBlockIndex":0,"delta":{"text":"Hi"},"p":"abcd"}\xf2\xac\xe5\xff'
)
"""Decoded by botocore 1.43 to the event that the test expects."""
THROTTLED = bytes.fromhex(
    "00000090000000618e91a9b70f3a657863657074696f6e2d747970650700137468726f74746c696e67457863657074696f6e"
    "0d3a636f6e74656e742d747970650700106170706c69636174696f6e2f6a736f6e0d3a6d6573736167652d74797065070009"
    "657863657074696f6e7b226d657373616765223a22546f6f206d616e79207265717565737473227de67f8005"
)


def parse(*chunks: bytes) -> list[Event]:
    parser = EventStreamParser()
    found = [event for chunk in chunks for event in parser.feed(chunk)]
    return found + parser.finish()


def raw_frame(headers: bytes, payload: bytes = b"", *, headers_length: int | None = None) -> bytes:
    told = len(headers) if headers_length is None else headers_length
    prelude = struct.pack(">II", 16 + len(headers) + len(payload), told)
    whole = prelude + struct.pack(">I", zlib.crc32(prelude)) + headers + payload
    return whole + struct.pack(">I", zlib.crc32(whole))


def header(name: str, kind: int, value: bytes) -> bytes:
    return bytes([len(name)]) + name.encode() + bytes([kind]) + value


def test_an_event_has_its_type_as_name() -> None:
    data = '{"contentBlockIndex":0,"delta":{"text":"Hi"},"p":"abcd"}'
    assert parse(DELTA) == [Event(name="contentBlockDelta", data=data)]


def test_an_exception_is_a_fault_by_its_name() -> None:
    assert parse(DELTA, THROTTLED)[1:] == [
        Event(name="throttlingException", data='{"message":"Too many requests"}', fault=True)
    ]


def test_an_error_has_its_words_in_its_headers() -> None:
    fields = {":message-type": "error", ":error-code": "InternalFailure", ":error-message": "it broke"}
    headers = b"".join(
        header(name, 7, struct.pack(">H", len(value)) + value.encode()) for name, value in fields.items()
    )
    assert parse(raw_frame(headers)) == [Event(name="InternalFailure", data="it broke", fault=True)]


def test_headers_of_every_type_are_stepped_over() -> None:
    values = {
        0: b"",
        1: b"",
        2: b"\1",
        3: b"\0\1",
        4: b"\0" * 4,
        5: b"\0" * 8,
        6: b"\0\2ab",
        8: b"\0" * 8,
        9: b"\0" * 16,
    }
    headers = b"".join(header(f"h{kind}", kind, value) for kind, value in values.items())
    headers += header(":event-type", 7, b"\0\4last")
    assert parse(raw_frame(headers, b"{}")) == [Event(name="last", data="{}")]


@given(st.integers(0, len(DELTA) - 1), st.integers(1, 255))
def test_one_wrong_byte_anywhere_is_refused_or_awaits_more(place: int, change: int) -> None:
    """A CRC-32 finds every error of one byte; in the length, too, before anything waits for it."""
    damaged = bytearray(DELTA)
    damaged[place] ^= change
    with pytest.raises(FramingError):
        parse(bytes(damaged))


@given(st.lists(st.integers(0, 2 * len(DELTA)), max_size=6))
def test_every_split_gives_the_same_events(cuts: list[int]) -> None:
    stream = DELTA + THROTTLED + DELTA
    bounds = sorted({0, len(stream), *(min(cut, len(stream)) for cut in cuts)})
    assert parse(*(stream[a:b] for a, b in pairwise(bounds))) == parse(stream)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (struct.pack(">II", MAX_EVENT_BYTES + 1, 0), "longer than"),
        (struct.pack(">II", 200_000, 150_000), "longer than"),
        (struct.pack(">II", 15, 0), "shorter than"),
        (struct.pack(">II", 30, 20), "shorter than"),
        (b"HTTP/1.1", "wrong checksum"),
    ],
)
def test_lengths_beyond_the_bounds_are_refused_by_the_head_alone(data: bytes, words: str) -> None:
    crc = b" 200" if data.startswith(b"HTTP") else struct.pack(">I", zlib.crc32(data))
    with pytest.raises(FramingError, match=words):
        parse(data + crc)


@pytest.mark.parametrize(
    "headers",
    [b"\x05ab", header("a", 42, b""), header("a", 7, b"\0"), header("a", 7, b"\0\x09ab"), header("a", 5, b"\0")],
)
def test_headers_that_cannot_be_read_are_refused(headers: bytes) -> None:
    with pytest.raises(FramingError, match="header"):
        parse(raw_frame(headers))


def test_half_a_frame_at_the_end_is_no_event() -> None:
    assert len(parse(DELTA + DELTA[:-1])) == 1


def test_the_frames_of_the_table_are_those_of_botocore() -> None:
    delta = {"contentBlockIndex": 0, "delta": {"text": "Hi"}, "p": "abcd"}
    assert frame("contentBlockDelta", delta) == DELTA
    assert frame("throttlingException", {"message": "Too many requests"}, "exception") == THROTTLED
