"""The accuracy bench reads round trips out of a capture, and leaves out what was sent twice."""

import pytest

from tests.bench.accuracy.echoes import echo
from tests.bench.accuracy.packets import Packet, answers_ms, handshakes_ms, least_ms

SYN, ACK = 2, 16
MS = 1_000_000


def out(at_ms: float, seq: int, *, payload: int = 0, flags: int = ACK, port: int = 4000) -> Packet:
    return Packet(round(at_ms * MS), seq, 900, port, 80, payload, flags, 1)


def back(at_ms: float, ack: int, *, payload: int = 0, flags: int = ACK, port: int = 4000) -> Packet:
    return Packet(round(at_ms * MS), 900, ack, 80, port, payload, flags, 0)


def opened(at_ms: float = 0, *, took_ms: float = 20, port: int = 4000) -> list[Packet]:
    return [out(at_ms, 99, flags=SYN, port=port), back(at_ms + took_ms, 100, flags=SYN | ACK, port=port)]


def test_a_handshake_takes_from_syn_to_its_answer() -> None:
    assert handshakes_ms([*opened(took_ms=20), *opened(5, took_ms=22, port=4001)]) == pytest.approx(21)


def test_a_syn_that_was_sent_twice_tells_no_round_trip() -> None:
    first, answer = opened(took_ms=1_020)
    again = first._replace(at_ns=1_000 * MS)
    assert handshakes_ms([first, again, answer]) is None
    assert least_ms([first, again, answer]) is None


def test_the_least_round_trip_of_a_connection_counts() -> None:
    data = [out(30, 100, payload=50), back(49, 150), out(60, 150, payload=50), back(85, 200)]
    assert least_ms([*opened(), *data]) == pytest.approx(19)


def test_an_acknowledgement_of_several_segments_tells_the_round_trip_of_the_last() -> None:
    data = [out(30, 100, payload=50), out(35, 150, payload=50), back(53, 200)]
    assert least_ms([*opened(), *data]) == pytest.approx(18)


def test_the_sequence_may_wrap() -> None:
    top = 2**32 - 10
    wrapped = [out(0, top - 1, flags=SYN), back(20, top, flags=SYN | ACK), out(30, top, payload=50), back(45, 40)]
    assert least_ms(wrapped) == pytest.approx(15)


def test_requests_are_timed_to_the_first_segment_of_their_answers() -> None:
    asked = [out(30, 100, payload=50), back(51, 150, payload=500), back(60, 150, payload=500)]
    assert answers_ms([*opened(), *asked]) == pytest.approx(21)


def test_a_request_that_was_sent_twice_is_left_out() -> None:
    asked = [out(30, 100, payload=50), out(250, 100, payload=50), back(270, 150, payload=500)]
    assert answers_ms([*opened(), *asked]) is None


def test_a_port_that_is_used_again_is_another_connection() -> None:
    again = [out(99, 5_000, flags=SYN), back(123, 5_001, flags=SYN | ACK)]
    assert handshakes_ms([*opened(took_ms=20), *again]) == pytest.approx(22)


def test_what_began_before_the_capture_is_left_out() -> None:
    assert least_ms([out(1, 100, payload=50), back(21, 150)]) is None


def test_an_echo_is_known_by_identifier_and_sequence() -> None:
    header = bytes([0x45]) + bytes(8) + bytes([1]) + bytes(10)
    assert echo(header + bytes([8, 0, 0, 0, 1, 2, 0, 7])) == (8, (258, 7))
    assert echo(header[:9] + bytes([6]) + header[10:] + bytes(8)) == (-1, None)
    assert echo(header) == (-1, None)
