"""The event parser gives the same events however the bytes were split, and none for what is no event."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.framing import MAX_EVENT_BYTES, MAX_LINE_BYTES, Event, FramingError
from agent.sse import SseParser

LINES = st.sampled_from(
    [
        b"data: a",
        b"data:b",
        b"data",
        b"data: : keepalive",
        b"data:  two spaces",
        b"data: [DONE]",
        "data: grüße 😀\u2028 \x85 end".encode(),
        b": comment",
        b"event: error",
        b"id: 1",
        b"retry: 5",
        b"nonsense",
        b"",
        b"",
    ]
)
ENDS = st.sampled_from([b"\n", b"\r\n", b"\r"])


def parse(*chunks: bytes) -> list[Event]:
    parser = SseParser()
    events = [event for chunk in chunks for event in parser.feed(chunk)]
    return events + parser.finish()


@given(st.lists(st.tuples(LINES, ENDS)), st.lists(st.integers(min_value=0, max_value=400)))
def test_every_split_gives_the_same_events(lines: list[tuple[bytes, bytes]], cuts: list[int]) -> None:
    stream = b"".join(line + end for line, end in lines)
    bounds = sorted({0, len(stream), *(cut for cut in cuts if cut < len(stream))})
    pieces = [stream[start:end] for start, end in pairwise(bounds)]
    assert parse(*pieces) == parse(stream)


@given(st.lists(LINES), ENDS)
def test_the_kind_of_line_end_makes_no_difference(lines: list[bytes], end: bytes) -> None:
    assert parse(b"".join(line + end for line in lines)) == parse(b"".join(line + b"\n" for line in lines))


def test_byte_by_byte_is_the_same() -> None:
    stream = "data: grüße\r\ndata: 😀\r\n\r\n: x\r\n\r\ndata: [DONE]\r\n\r\n".encode()
    assert parse(*(stream[i : i + 1] for i in range(len(stream)))) == [
        Event(data="grüße\n😀"),
        Event(data="[DONE]"),
    ]


@pytest.mark.parametrize(
    "stream",
    [
        b": keep-alive\n\n",
        b"data: : keepalive\n\n",
        b"id: 7\n\n: ping\n\n",
        b"event: ping\n\n",
        b"data:\n\n",
        b"data\n\n",
        b"\n\n\r\n\r\r",
        b"retry: 10\n\n",
    ],
)
def test_comments_pings_and_empty_data_are_no_events(stream: bytes) -> None:
    assert parse(stream) == []


@pytest.mark.parametrize(
    ("stream", "events"),
    [
        (b"event: error\ndata: {}\n\n", [Event(name="error", data="{}")]),
        (b"event: a\n\ndata: x\n\n", [Event(data="x")]),
        (b"data:x\ndata: y\n\n", [Event(data="x\ny")]),
        (b"\xef\xbb\xbfdata: x\n\n", [Event(data="x")]),
        (b"data: : keepalive\ndata: x\n\n", [Event(data="x")]),
        (b"data: [1,\ndata: :2]\n\n", [Event(data="[1,\n:2]")]),
        (b"data: x\n", [Event(data="x")]),
        (b"data: x", []),
        (b"data: \xff\n\n", [Event(data="\ufffd")]),
    ],
)
def test_fields_and_the_end_of_the_stream(stream: bytes, events: list[Event]) -> None:
    assert parse(stream) == events


def test_an_endless_line_is_refused() -> None:
    parser = SseParser()
    parser.feed(b"x" * MAX_LINE_BYTES)
    with pytest.raises(FramingError, match="longer than"):
        parser.feed(b"x")


def test_an_endless_event_is_refused() -> None:
    parser = SseParser()
    line = b"data: " + b"x" * (MAX_EVENT_BYTES // 4 - 1) + b"\n"
    for _ in range(4):
        parser.feed(line)
    with pytest.raises(FramingError, match="an event"):
        parser.feed(b"data:\n")
