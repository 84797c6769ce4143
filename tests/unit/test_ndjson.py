"""Lines of JSON come out whole however they were split, and no longer than the bound."""

import pytest

from agent.framing import MAX_LINE_BYTES, Event, FramingError
from agent.ndjson import NdjsonParser


def parse(*chunks: bytes) -> list[str]:
    parser = NdjsonParser()
    found = [event for chunk in chunks for event in parser.feed(chunk)]
    return [event.data for event in (*found, *parser.finish())]


@pytest.mark.parametrize(
    ("chunks", "lines"),
    [
        ([b'{"a":1}\n{"b":2}\n'], ['{"a":1}', '{"b":2}']),
        ([b'{"a":1}\r\n\r\n{"b":2}\r\n'], ['{"a":1}', '{"b":2}']),
        ([b'{"a"', b":1}", b"\n"], ['{"a":1}']),
        (['{"a":"ü'.encode()[:-1], '{"a":"ü"}\n'.encode()[7:]], ['{"a":"ü"}']),
        ([b"\n\n \n"], []),
        ([b'{"a":1}'], ['{"a":1}']),
        ([b'{"a":1}\n{"b":'], ['{"a":1}']),
        ([b'{"a":{"b":1}'], []),
        ([b'{"a":"\xe2\x80\xa8"}\n'], ['{"a":"\u2028"}']),
    ],
)
def test_lines(chunks: list[bytes], lines: list[str]) -> None:
    assert parse(*chunks) == lines


def test_an_endless_line_is_refused() -> None:
    parser = NdjsonParser()
    parser.feed(b"x" * MAX_LINE_BYTES)
    with pytest.raises(FramingError, match="longer than"):
        parser.feed(b"x")


def test_an_event_has_no_name() -> None:
    assert NdjsonParser().feed(b"1\n") == [Event(data="1")]
