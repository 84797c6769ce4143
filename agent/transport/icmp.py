"""Echo requests to one address and their replies, with the kernel's stamps of both.

A datagram socket needs no privilege where `net.ipv4.ping_group_range` holds the process's group: the kernel gives it an
identifier and sorts the replies. Elsewhere a raw socket does (root or CAP_NET_RAW), which sees every reply that
the host gets from that address: the identifier, the ordinal and a payload that nobody can guess tell ours.
"""

import asyncio
import contextlib
import secrets
import socket
import struct
from collections.abc import Iterable
from typing import Final, Literal

import msgspec

from agent.clock import Clock, realtime_offset_ns
from agent.transport import kernel
from agent.transport.arrival import CLOCK_STEP_NS
from agent.transport.departure import STAMP_SLACK_NS
from agent.transport.dial import Address
from agent.transport.failure import Failure, why
from isochrone.outcome import ClockSource, Outcome

_HEADER: Final = struct.Struct("!BBHHH")
"""RFC 792, RFC 4443: type, code, checksum, identifier, ordinal."""
_REQUESTS: Final = {4: 8, 6: 128}
_REPLIES: Final = {4: 0, 6: 129}
_NONCE_BYTES: Final = 16
_PAYLOAD_BYTES: Final = 56
"""As `ping` sends: some firewalls drop others."""
_PACKET_BYTES: Final = 2_048
_MOST_PACKETS: Final = 64
"""Taken in one turn of the loop: a flood of foreign replies must not hold it."""
_IPV4_BYTES: Final = 20
_SETTLE_SECONDS: Final = 0.01
"""A kernel that stamped for nobody begins a moment after it is asked: the first reply should have its stamp."""
_MODULUS: Final = 2**16

_PRIVILEGE: Final = (
    "this system lets the agent send no echo requests: set the sysctl "
    'net.ipv4.ping_group_range="0 2147483647", or give it CAP_NET_RAW'
)
_REFUSALS: Final = {
    (4, 3, 0): "network unreachable",
    (4, 3, 1): "host unreachable",
    (4, 3, 2): "protocol unreachable",
    (4, 3, 3): "port unreachable",
    (4, 3, 9): "prohibited by an administrator",
    (4, 3, 10): "prohibited by an administrator",
    (4, 3, 13): "prohibited by an administrator",
    (4, 11, 0): "too many hops",
    (6, 1, 0): "no route",
    (6, 1, 1): "prohibited by an administrator",
    (6, 1, 3): "address unreachable",
    (6, 1, 4): "port unreachable",
    (6, 1, 5): "prohibited by an administrator",
    (6, 3, 0): "too many hops",
}
# linux/icmp.h, linux/icmpv6.h: options of raw sockets that keep all but replies away; a set bit blocks its type.
_SOL_RAW: Final = 255
_ALL: Final = (0xFFFFFFFF,) * 8
_FILTERS: Final = {
    4: (_SOL_RAW, 1, struct.pack("@I", _ALL[0] & ~(1 << _REPLIES[4]))),
    6: (socket.IPPROTO_ICMPV6, 1, struct.pack("@8I", *_ALL[:4], _ALL[4] & ~(1 << (_REPLIES[6] & 31)), *_ALL[5:])),
}


class Packet(msgspec.Struct, frozen=True, kw_only=True):
    """An echo request or its reply."""

    kind: int
    identifier: int
    ordinal: int
    payload: bytes


class Echo(msgspec.Struct, frozen=True, kw_only=True):
    """One round trip, on CLOCK_MONOTONIC."""

    sent_ns: int
    came_ns: int
    sent_by: ClockSource
    came_by: ClockSource
    """`KERNEL` or `USER`."""


def checksum(data: bytes) -> int:
    """Return the Internet checksum of `data` (RFC 1071)."""
    padded = data + b"\0" * (len(data) % 2)
    total: int = sum(struct.unpack(f"!{len(padded) // 2}H", padded))
    while total >= _MODULUS:
        total = total % _MODULUS + total // _MODULUS
    return total ^ (_MODULUS - 1)


def encode_request(version: Literal[4, 6], *, identifier: int, ordinal: int, payload: bytes) -> bytes:
    """Return an echo request. Of ICMPv6 the kernel fills in the checksum, which covers the addresses too."""
    head = _HEADER.pack(_REQUESTS[version], 0, 0, identifier, ordinal)
    if version == 6:  # noqa: PLR2004  IPv6
        return head + payload
    return _HEADER.pack(_REQUESTS[version], 0, checksum(head + payload), identifier, ordinal) + payload


def parse(data: bytes) -> Packet | None:
    """Return the echo packet in `data`, whose IPv4 header may stand before it; None if there is none."""
    if data and data[0] >> 4 == 4:  # noqa: PLR2004  no ICMP that matters here begins so, and every IPv4 header does
        data = data[max(_IPV4_BYTES, (data[0] & 15) * 4) :]
    if len(data) < _HEADER.size:
        return None
    kind, code, _, identifier, ordinal = _HEADER.unpack_from(data)
    if code or kind not in {*_REQUESTS.values(), *_REPLIES.values()}:
        return None
    return Packet(kind=kind, identifier=identifier, ordinal=ordinal, payload=data[_HEADER.size :])


def refusal_words(refusal: kernel.Refusal, version: Literal[4, 6]) -> str:
    """Return what an ICMP error says, and who says it."""
    what = _REFUSALS.get((version, refusal.kind, refusal.code), f"ICMP type {refusal.kind} code {refusal.code}")
    return f"{refusal.sender or 'a router'} says: {what}"


class _Awaited:
    """The request whose reply is awaited."""

    def __init__(self, ordinal: int, payload: bytes, loop: asyncio.AbstractEventLoop) -> None:
        self.ordinal = ordinal
        self.payload = payload
        self.done: asyncio.Future[Echo | Failure] = loop.create_future()
        self.handed_ns = 0
        self.left_ns: int | None = None
        self.offset_ns = realtime_offset_ns()


class EchoSocket:
    """Sends echo requests to one address, one after the other."""

    def __init__(self, address: Address, *, clock: Clock) -> None:
        """Open the socket. Raises Failure (other: not allowed here; connect: no way there)."""
        self._address = address
        self._version: Literal[4, 6] = address.version
        self._clock = clock
        self._loop = asyncio.get_running_loop()
        self._sock = _open(address)
        self._hears_refusals = kernel.ask_for_refusals(self._sock)
        self._identifier = _own_identifier(self._sock)
        self._sent = 0
        self._awaited: _Awaited | None = None
        self._loop.add_reader(self._sock, self._take)

    async def settle(self) -> None:
        """Wait until the kernel stamps what it was asked to."""
        await asyncio.sleep(_SETTLE_SECONDS)

    async def echo(self) -> Echo:
        """Return one round trip; waits for ever. Raises Failure (connect)."""
        self._sent += 1
        payload = secrets.token_bytes(_NONCE_BYTES).ljust(_PAYLOAD_BYTES, b"\0")
        self._awaited = awaited = _Awaited(self._sent % _MODULUS, payload, self._loop)
        request = encode_request(
            self._version, identifier=self._identifier, ordinal=awaited.ordinal, payload=awaited.payload
        )
        try:
            self._send(request, awaited)
            found = await awaited.done
        finally:
            self._awaited = None
        if isinstance(found, Failure):
            raise found
        return found

    def close(self) -> None:
        """Close the socket; again is harmless."""
        if self._sock.fileno() >= 0:
            self._loop.remove_reader(self._sock)
            self._sock.close()

    def _send(self, request: bytes, awaited: _Awaited) -> None:
        try:
            try:
                awaited.handed_ns = self._clock.monotonic_ns()
                self._sock.send(request)
            except OSError:  # it may tell of an earlier request, and is silent the second time
                awaited.handed_ns = self._clock.monotonic_ns()
                self._sock.send(request)
        except OSError as exc:
            raise Failure(Outcome.CONNECT, f"no echo request to {self._address.ip} could leave: {why(exc)}") from exc

    def _take(self) -> None:
        """Read all that waits: what is left in the error queue would call again at once for ever."""
        left, refused = kernel.reports(self._sock)
        self._note_departures(left)
        self._note_refusals(refused)
        for _ in range(_MOST_PACKETS):
            try:
                data, stamp_ns = kernel.receive(self._sock, _PACKET_BYTES)
            except (BlockingIOError, InterruptedError):
                return
            except OSError as exc:
                self._note_error(exc)
            else:
                self._note_packet(data, stamp_ns)

    def _note_departures(self, left: Iterable[kernel.Departure]) -> None:
        awaited = self._awaited
        if awaited is None:
            return
        for departure in left:
            at_ns = departure.stamp_ns - awaited.offset_ns
            if awaited.handed_ns - STAMP_SLACK_NS <= at_ns <= self._clock.monotonic_ns() + STAMP_SLACK_NS:
                awaited.left_ns = at_ns

    def _note_refusals(self, refused: Iterable[kernel.Refusal]) -> None:
        for refusal in refused:
            packet = parse(refusal.quoted)
            if packet is not None and packet.kind == _REQUESTS[self._version] and self._is_ours(packet):
                self._fail(refusal_words(refusal, self._version))

    def _note_error(self, exc: OSError) -> None:
        # Where the kernel keeps refusals, the queue has told whose this is: a raw socket hears of others' too.
        if not self._hears_refusals:
            self._fail(why(exc))

    def _note_packet(self, data: bytes, stamp_ns: int | None) -> None:
        read_ns = self._clock.monotonic_ns()
        packet, awaited = parse(data), self._awaited
        if packet is None or awaited is None or packet.kind != _REPLIES[self._version]:
            return
        if not self._is_ours(packet) or packet.payload != awaited.payload or awaited.done.done():
            return
        self._note_departures(kernel.reports(self._sock)[0])
        awaited.done.set_result(_judge(awaited, stamp_ns, read_ns))

    def _is_ours(self, packet: Packet) -> bool:
        awaited = self._awaited
        return awaited is not None and (packet.identifier, packet.ordinal) == (self._identifier, awaited.ordinal)

    def _fail(self, words: str) -> None:
        if self._awaited is not None and not self._awaited.done.done():
            text = f"no echo reply from {self._address.ip}: {words}"
            self._awaited.done.set_result(Failure(Outcome.CONNECT, text))


def _judge(awaited: _Awaited, stamp_ns: int | None, read_ns: int) -> Echo:
    """Return the round trip by the kernel's stamps as far as they can be true, else by our own clock."""
    stepped = abs(realtime_offset_ns() - awaited.offset_ns) > CLOCK_STEP_NS
    left_ns = None if stepped else awaited.left_ns
    sent_ns = awaited.handed_ns if left_ns is None else left_ns
    came_ns = None if stamp_ns is None or stepped else stamp_ns - awaited.offset_ns
    if came_ns is not None and not sent_ns - STAMP_SLACK_NS <= came_ns <= read_ns + STAMP_SLACK_NS:
        came_ns = None
    return Echo(
        sent_ns=sent_ns,
        came_ns=read_ns if came_ns is None else max(sent_ns, came_ns),
        sent_by=ClockSource.USER if left_ns is None else ClockSource.KERNEL,
        came_by=ClockSource.USER if came_ns is None else ClockSource.KERNEL,
    )


def _open(address: Address) -> socket.socket:
    sock = _allowed(address)
    try:
        sock.setblocking(False)  # noqa: FBT003  the library's signature
        if sock.type == socket.SOCK_RAW:
            with contextlib.suppress(OSError):  # it saves work, no more
                sock.setsockopt(*_FILTERS[address.version])
        if not kernel.ask_for_departures(sock):
            kernel.ask_for_stamps(sock)
        sock.connect((address.sockaddr[0], 0, *address.sockaddr[2:]))
    except OSError as exc:
        sock.close()
        raise Failure(Outcome.CONNECT, f"no way to {address.ip}: {why(exc)}") from exc
    except BaseException:
        sock.close()
        raise
    return sock


def _allowed(address: Address) -> socket.socket:
    """Return the least privileged socket that this system allows."""
    four = address.version == 4  # noqa: PLR2004  IPv4
    family = socket.AF_INET if four else socket.AF_INET6
    protocol = socket.IPPROTO_ICMP if four else socket.IPPROTO_ICMPV6
    for kind in (socket.SOCK_DGRAM, socket.SOCK_RAW):
        try:
            return socket.socket(family, kind, protocol)
        except PermissionError:
            continue
        except OSError as exc:
            raise Failure(Outcome.OTHER, f"no socket for echo requests: {why(exc)}") from exc
    raise Failure(Outcome.OTHER, _PRIVILEGE)


def _own_identifier(sock: socket.socket) -> int:
    """Return what the kernel writes over the identifier of a datagram socket's requests, else one of our own."""
    given = sock.getsockname()[1] if sock.type == socket.SOCK_DGRAM else 0
    return int(given) or secrets.randbelow(_MODULUS)
