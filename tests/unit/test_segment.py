"""A segment gives back every whole frame, whatever was cut off or flipped behind it."""

from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.segment import (
    FRAME_OVERHEAD_BYTES,
    HEADER_BYTES,
    MAX_FRAME_BYTES,
    SegmentError,
    encode_frame,
    encode_header,
    machine_hash,
    scan,
)

BOOT = UUID("0192f0c4-7a1b-7c3d-8e4f-5a6b7c8d9e0f")
MACHINE = machine_hash("4f1c")
HEAD = encode_header(BOOT, MACHINE)
PAYLOADS = st.lists(st.binary(min_size=1, max_size=40), max_size=8)


def segment_of(payloads: list[bytes]) -> bytes:
    return HEAD + b"".join(encode_frame(payload) for payload in payloads)


@given(PAYLOADS)
def test_what_was_framed_is_read_back(payloads: list[bytes]) -> None:
    segment = scan(segment_of(payloads))
    assert (segment.boot_id, segment.machine, list(segment.payloads)) == (BOOT, MACHINE, payloads)
    assert (segment.bad_bytes, segment.bad_frames) == (0, 0)


def test_the_header_is_sixteen_bytes_that_begin_with_the_magic() -> None:
    assert len(HEAD) == HEADER_BYTES + FRAME_OVERHEAD_BYTES + 16
    assert HEAD[:6] == b"ISO1\x01\x00"


def test_a_cut_at_every_offset_gives_every_whole_frame_before_it_and_counts_the_rest() -> None:
    payloads = [b'{"seq":0}', b'{"seq":1,"x":"yz"}', b'{"seq":2}']
    data = segment_of(payloads)
    ends = [len(segment_of(payloads[:count])) for count in range(4)]
    for cut in range(len(HEAD), len(data) + 1):
        whole = sum(1 for end in ends[1:] if end <= cut)
        segment = scan(data[:cut])
        assert list(segment.payloads) == payloads[:whole], cut
        assert segment.bad_bytes == cut - ends[whole], cut


@pytest.mark.parametrize("cut", range(len(HEAD)))
def test_a_cut_inside_the_head_is_refused_and_not_guessed(cut: int) -> None:
    with pytest.raises(SegmentError):
        scan(HEAD[:cut])


def test_a_flipped_byte_in_a_payload_loses_that_frame_alone() -> None:
    data = bytearray(segment_of([b"first", b"second", b"third"]))
    data[len(segment_of([b"first"])) + FRAME_OVERHEAD_BYTES] ^= 1
    segment = scan(bytes(data))
    assert list(segment.payloads) == [b"first", b"third"]
    assert (segment.bad_frames, segment.bad_bytes) == (1, FRAME_OVERHEAD_BYTES + len(b"second"))


@given(PAYLOADS, st.data())
def test_any_flipped_byte_behind_the_head_never_makes_up_a_result(payloads: list[bytes], data: st.DataObject) -> None:
    whole = bytearray(segment_of(payloads))
    if len(whole) == len(HEAD):
        return
    place = data.draw(st.integers(len(HEAD), len(whole) - 1))
    whole[place] ^= data.draw(st.integers(1, 255))
    segment = scan(bytes(whole))
    kept = iter(payloads)
    assert all(any(payload == other for other in kept) for payload in segment.payloads), "an ordered part of what was"
    assert segment.bad_bytes > 0


@pytest.mark.parametrize("length", [0, MAX_FRAME_BYTES + 1, 0xFFFFFFFF])
def test_an_impossible_length_ends_the_reading(length: int) -> None:
    tail = length.to_bytes(4, "little") + bytes(100)
    segment = scan(segment_of([b"good"]) + tail)
    assert list(segment.payloads) == [b"good"]
    assert segment.bad_bytes == len(tail)


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "shorter than a header"),
        (b"SQLite format 3\x00" + bytes(40), "foreign"),
        (b"ISO1\x02" + HEAD[5:], "another release: version 2"),
        (HEAD[:30] + b"\x00" + HEAD[31:], "names the run is damaged"),
    ],
)
def test_what_is_no_segment_of_this_release_says_why(data: bytes, why: str) -> None:
    with pytest.raises(SegmentError, match=why):
        scan(data)


@pytest.mark.parametrize("payload", [b"", bytes(MAX_FRAME_BYTES + 1)])
def test_a_payload_that_could_not_be_read_back_is_not_framed(payload: bytes) -> None:
    with pytest.raises(ValueError, match="a frame holds 1 to"):
        encode_frame(payload)
