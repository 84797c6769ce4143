"""Round trips as the packets at the client's own device took them, from the records of the lab's capture. Pure."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from statistics import median
from typing import Final, NamedTuple

_SYN: Final = 2
_ACK: Final = 16
_SEQUENCE: Final = 1 << 32
_HALF: Final = _SEQUENCE // 2


class Packet(NamedTuple):
    """One TCP segment, in the order in which the lab's capture writes its fields."""

    at_ns: int
    """The kernel's stamp, CLOCK_MONOTONIC."""
    seq: int
    ack: int
    source: int
    destination: int
    payload: int
    flags: int
    outgoing: int

    @property
    def client_port(self) -> int:
        """Return the port at the client's side."""
        return self.source if self.outgoing else self.destination

    @property
    def end(self) -> int:
        """Return the sequence number after it: the one that its acknowledgement names."""
        return (self.seq + self.payload + bool(self.flags & _SYN)) % _SEQUENCE


@dataclass
class _Connection:
    """What was seen so far of one connection."""

    waiting: dict[int, int] = field(default_factory=dict)
    """By the end of a segment, when it left; nothing for one that was sent twice: its answer is ambiguous (Karn)."""
    repeated: set[int] = field(default_factory=set)
    asked_ns: int | None = None
    handshake_ns: int | None = None
    acknowledged_ns: list[int] = field(default_factory=list)
    answered_ns: list[int] = field(default_factory=list)

    def left(self, packet: Packet) -> None:
        """Note a segment that expects an acknowledgement."""
        end = packet.end
        if end in self.waiting or end in self.repeated:
            self.waiting.pop(end, None)
            self.repeated.add(end)
            self.asked_ns = None
            return
        self.waiting[end] = packet.at_ns
        if packet.payload:
            self.asked_ns = packet.at_ns

    def came(self, packet: Packet) -> None:
        """Note a segment of the server's."""
        if packet.flags & _ACK:
            self._acknowledge(packet)
        if packet.payload and self.asked_ns is not None:
            self.answered_ns.append(packet.at_ns - self.asked_ns)
            self.asked_ns = None

    def _acknowledge(self, packet: Packet) -> None:
        done = [end for end in self.waiting if (packet.ack - end) % _SEQUENCE < _HALF]
        if not done:
            return
        took = packet.at_ns - max(self.waiting.pop(end) for end in done)
        self.acknowledged_ns.append(took)
        if packet.flags & _SYN:
            self.handshake_ns = took


def handshakes_ms(packets: Iterable[Packet]) -> float | None:
    """Return the median time from SYN to SYN-ACK, of the handshakes in which nothing was sent twice; None: no such."""
    return _median(one.handshake_ns for one in _connections(packets) if one.handshake_ns is not None)


def answers_ms(packets: Iterable[Packet]) -> float | None:
    """Return the median time from a request of one segment to the first segment of its answer; None: no request."""
    return _median(took for one in _connections(packets) for took in one.answered_ns)


def least_ms(packets: Iterable[Packet]) -> float | None:
    """Return the median over connections of each one's least round trip, as TCP_INFO's `tcpi_min_rtt` defines it."""
    return _median(min(one.acknowledged_ns) for one in _connections(packets) if one.acknowledged_ns)


def _connections(packets: Iterable[Packet]) -> Iterator[_Connection]:
    """Yield each connection; a port that is used again is another one."""
    open_: dict[int, tuple[int, _Connection]] = {}
    for packet in sorted(packets):
        port = packet.client_port
        if packet.outgoing and packet.flags & _SYN and open_.get(port, (None,))[0] != packet.seq:
            if port in open_:
                yield open_.pop(port)[1]
            open_[port] = packet.seq, _Connection()
        if port not in open_:
            continue  # its beginning was before the capture
        connection = open_[port][1]
        if not packet.outgoing:
            connection.came(packet)
        elif packet.payload or packet.flags & _SYN:
            connection.left(packet)
    for _, connection in open_.values():
        yield connection


def _median(values: Iterable[int]) -> float | None:
    found = list(values)
    return median(found) / 1e6 if found else None
