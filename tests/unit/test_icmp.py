"""Echo packets: written as the RFCs say, and read whatever comes."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.transport.icmp import checksum, encode_request, parse, refusal_words
from agent.transport.kernel import Refusal


def test_the_checksum_is_that_of_the_rfc() -> None:
    assert checksum(bytes.fromhex("0001f203f4f5f6f7")) == 0xFFFF - 0xDDF2  # RFC 1071, 3
    assert checksum(b"") == 0xFFFF
    assert checksum(b"\x01") == checksum(b"\x01\x00")


@given(st.binary(max_size=200), st.integers(0, 65_535), st.integers(0, 65_535))
def test_a_request_checks_out_and_is_read_again(payload: bytes, identifier: int, ordinal: int) -> None:
    four = encode_request(4, identifier=identifier, ordinal=ordinal, payload=payload)
    six = encode_request(6, identifier=identifier, ordinal=ordinal, payload=payload)
    assert checksum(four) == 0
    for data, kind in ((four, 8), (six, 128)):
        packet = parse(data)
        assert packet is not None
        assert (packet.kind, packet.identifier, packet.ordinal, packet.payload) == (kind, identifier, ordinal, payload)


@given(st.integers(5, 15))
def test_an_ipv4_header_of_any_length_is_passed_over(words: int) -> None:
    request = encode_request(4, identifier=1, ordinal=2, payload=b"x")
    packet = parse(bytes([0x40 | words]).ljust(words * 4, b"\0") + request)
    assert packet is not None
    assert (packet.identifier, packet.ordinal, packet.payload) == (1, 2, b"x")


@given(st.one_of(st.binary(max_size=100), st.binary(max_size=40).map(lambda rest: b"\x4f" + rest)))
def test_no_packet_is_more_than_nothing_or_an_echo(data: bytes) -> None:
    packet = parse(data)
    assert packet is None or packet.kind in {0, 8, 128, 129}


@pytest.mark.parametrize(
    "data", [b"", b"\0" * 7, b"\x45" * 20, struct.pack("!BBHHH", 0, 1, 0, 1, 1), b"\x03" + b"\0" * 60]
)
def test_what_is_no_echo_is_nothing(data: bytes) -> None:
    assert parse(data) is None


def test_a_refusal_is_told_in_words_or_by_its_numbers() -> None:
    unreachable = Refusal(quoted=b"", kind=3, code=1, sender="192.0.2.1")
    assert refusal_words(unreachable, 4) == "192.0.2.1 says: host unreachable"
    assert refusal_words(unreachable, 6) == "192.0.2.1 says: ICMP type 3 code 1"
    assert refusal_words(Refusal(quoted=b"", kind=1, code=0, sender=None), 6) == "a router says: no route"
