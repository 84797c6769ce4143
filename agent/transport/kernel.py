"""What the kernel knows of a socket: when its data came and left, how long its round trip is, what it sent twice.

Linux alone tells it, without any privilege; elsewhere everything here answers None and the caller's own clock stands.

    SO_TIMESTAMPING   receive: each read has the stamp of its last segment, as ancillary data
                      transmit: the stamp of each write's last byte waits in the socket's error queue, named by the
                      byte's offset (OPT_ID), without its data (OPT_TSONLY)
    SO_TIMESTAMPNS    where a kernel refuses the former: receive alone
    TCP_INFO          the connection's round trips and counters
"""

import contextlib
import socket
import struct
import sys
from collections.abc import Iterator
from ipaddress import ip_address
from typing import Final, NamedTuple

import msgspec

_LINUX_64: Final = sys.platform == "linux" and sys.maxsize > 2**32

# asm-generic/socket.h; each ancillary message has its option's number. Python 3.11 names none of them.
_SO_TIMESTAMPNS: Final = 35
_SO_TIMESTAMPING: Final = 37
# linux/net_tstamp.h
_TX_SOFTWARE: Final = 1 << 1
_RX_SOFTWARE: Final = 1 << 3
_SOFTWARE: Final = 1 << 4
_OPT_ID: Final = 1 << 7
_OPT_TSONLY: Final = 1 << 11
_RECEIVE: Final = _RX_SOFTWARE | _SOFTWARE
_BOTH: Final = _RECEIVE | _TX_SOFTWARE | _OPT_ID | _OPT_TSONLY

_TIMESPEC: Final = struct.Struct("@qq")
_THREE_TIMESPECS: Final = 3 * _TIMESPEC.size
"""struct scm_timestamping: the software stamp is its first."""
_EXTENDED_ERROR: Final = struct.Struct("@IBBBBII")
"""struct sock_extended_err (linux/errqueue.h): errno, origin, type, code, pad, info, data."""
_FROM_TIMESTAMPING: Final = 4
"""SO_EE_ORIGIN_TIMESTAMPING."""
_FROM_PACKETS: Final = frozenset({2, 3})
"""SO_EE_ORIGIN_ICMP, SO_EE_ORIGIN_ICMP6."""
_SENT: Final = 0
"""SCM_TSTAMP_SND: handed to the network device."""
_ERROR_LEVELS: Final = frozenset({(0, 11), (41, 25)})
"""(SOL_IP, IP_RECVERR) and (SOL_IPV6, IPV6_RECVERR)."""
_MSG_ERRQUEUE: Final = getattr(socket, "MSG_ERRQUEUE", 0)
_RECEIVE_BYTES: Final = socket.CMSG_SPACE(_THREE_TIMESPECS) if hasattr(socket, "CMSG_SPACE") else 0
_ERROR_BYTES: Final = 256
_QUOTED_BYTES: Final = 64
"""Of a packet that was refused; routers quote 8 bytes at least (RFC 792)."""
_MOST_REPORTS: Final = 64
"""Read at once from the error queue: a bound, far above what one request leaves there."""
_SOCKADDR_IN: Final = struct.Struct("@HH4s")
_SOCKADDR_IN6: Final = struct.Struct("@HHI16s")

# struct tcp_info (linux/tcp.h): offsets of u32 fields; only ever appended to.
_TCPI_RTT: Final = 68
_TCPI_RTTVAR: Final = 72
_TCPI_SND_MSS: Final = 16
_TCPI_TOTAL_RETRANS: Final = 100
_TCPI_BYTES_RECEIVED: Final = 128
"""u64."""
_TCPI_MIN_RTT: Final = 148
_TCPI_DATA_SEGS_IN: Final = 152
_TCPI_RCV_OOOPACK: Final = 224
_TCP_INFO_BYTES: Final = 228
_NO_MINIMUM: Final = 2**32 - 1
_U32: Final = struct.Struct("@I")
_U64: Final = struct.Struct("@Q")


class TcpInfo(msgspec.Struct, frozen=True, kw_only=True):
    """A connection as the kernel sees it."""

    rtt_seconds: float | None
    """Smoothed (RFC 6298)."""
    min_rtt_seconds: float | None
    """Least of the last five minutes; None where the kernel is too old to keep it."""
    rtt_variation_seconds: float | None = None
    """Mean deviation (RFC 6298, RTTVAR); None before the first sample."""
    retransmits: int
    """Segments sent again in the connection's whole life, the SYN included."""
    out_of_order: int
    """Segments that came before one that was missing; 0 where the kernel does not count them."""


class Received(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What came in a connection's life."""

    bytes: int
    segments: int
    """With data in them, modulo 2**32."""


class Departure(msgspec.Struct, frozen=True, kw_only=True):
    """A write's last byte, or a datagram, left."""

    number: int
    """Of a byte: its offset since the stamps were asked for. Of a datagram: its ordinal. Modulo 2**32."""
    stamp_ns: int
    """CLOCK_REALTIME."""


class Refusal(msgspec.Struct, frozen=True, kw_only=True):
    """A packet came that says why a datagram was not delivered."""

    quoted: bytes
    """The beginning of the datagram's own payload."""
    kind: int
    code: int
    """Of ICMP or ICMPv6."""
    sender: str | None
    """Who says so."""


class _Report(NamedTuple):
    """One entry of an error queue."""

    quoted: bytes
    ancillary: list[tuple[int, int, bytes]]


def ask_for_stamps(sock: socket.socket) -> bool:
    """Ask the kernel to stamp what arrives on `sock`, before it is connected; return whether it will.

    Before: the kernel begins to stamp a moment after it is asked, and tells the moment of the read until then.
    """
    if not _LINUX_64:
        return False
    return _set(sock, _SO_TIMESTAMPING, _RECEIVE) or _set(sock, _SO_TIMESTAMPNS, 1)


def ask_for_departures(sock: socket.socket) -> bool:
    """Ask the kernel to stamp what leaves too; return whether it will. A TCP socket must be connected, and idle."""
    return _LINUX_64 and _MSG_ERRQUEUE != 0 and _set(sock, _SO_TIMESTAMPING, _BOTH)


def receive(sock: socket.socket, max_bytes: int) -> tuple[bytes, int | None]:
    """Return what has arrived, and the CLOCK_REALTIME nanosecond at which its last segment came (None: not stamped).

    Raises BlockingIOError when nothing has.
    """
    if not _RECEIVE_BYTES:
        return sock.recv(max_bytes), None
    data, ancillary, _, _ = sock.recvmsg(max_bytes, _RECEIVE_BYTES)
    for level, kind, value in ancillary:
        if level == socket.SOL_SOCKET and kind in {_SO_TIMESTAMPING, _SO_TIMESTAMPNS}:
            return data, _nanoseconds(value)
    return data, None


def ask_for_refusals(sock: socket.socket) -> bool:
    """Ask the kernel to keep what packets say against the datagrams of `sock`; return whether it will."""
    if not _LINUX_64:
        return False
    level, option = (0, 11) if sock.family == socket.AF_INET else (41, 25)
    return _set(sock, option, 1, level=level)


def departures(sock: socket.socket) -> list[Departure]:
    """Return what the error queue of `sock` tells of departures, oldest first, and empty it."""
    found = (_departure(report.ancillary) for report in _reports(sock, max_bytes=0))
    return [departure for departure in found if departure is not None]


def reports(sock: socket.socket) -> tuple[list[Departure], list[Refusal]]:
    """Return what the error queue of a datagram socket tells, each oldest first, and empty it."""
    left, refused = [], []
    for report in _reports(sock, max_bytes=_QUOTED_BYTES):
        departure, refusal = _departure(report.ancillary), _refusal(report)
        left += [] if departure is None else [departure]
        refused += [] if refusal is None else [refusal]
    return left, refused


def _reports(sock: socket.socket, *, max_bytes: int) -> Iterator[_Report]:
    if not _MSG_ERRQUEUE:
        return
    with contextlib.suppress(OSError):  # BlockingIOError: the queue is empty; others: so is the connection
        for _ in range(_MOST_REPORTS):
            quoted, ancillary, _, _ = sock.recvmsg(max_bytes, _ERROR_BYTES, _MSG_ERRQUEUE)
            yield _Report(quoted, ancillary)


def tcp_info(sock: socket.socket) -> TcpInfo | None:
    """Return the kernel's view of a connected `sock`, None where it gives none."""
    raw = _raw_info(sock)
    if raw is None:
        return None
    return TcpInfo(
        rtt_seconds=_microseconds(raw, _TCPI_RTT),
        min_rtt_seconds=_microseconds(raw, _TCPI_MIN_RTT),
        rtt_variation_seconds=_microseconds(raw, _TCPI_RTTVAR),
        retransmits=_count(raw, _TCPI_TOTAL_RETRANS),
        out_of_order=_count(raw, _TCPI_RCV_OOOPACK),
    )


def received(sock: socket.socket) -> Received | None:
    """Return what has come, read or not; None where nobody counts."""
    raw = _raw_info(sock)
    if raw is None or len(raw) < _TCPI_DATA_SEGS_IN + _U32.size:
        return None
    return Received(bytes=_U64.unpack_from(raw, _TCPI_BYTES_RECEIVED)[0], segments=_count(raw, _TCPI_DATA_SEGS_IN))


def segment_bytes(sock: socket.socket) -> int | None:
    """Return how many bytes one segment to the peer holds; None where the kernel does not tell."""
    raw = _raw_info(sock)
    return None if raw is None else _count(raw, _TCPI_SND_MSS) or None


def _set(sock: socket.socket, option: int, value: int, *, level: int = socket.SOL_SOCKET) -> bool:
    try:
        sock.setsockopt(level, option, value)
    except OSError:
        return False
    return True


def _departure(ancillary: list[tuple[int, int, bytes]]) -> Departure | None:
    stamp_ns, number = None, None
    for level, kind, value in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, _SO_TIMESTAMPING):
            stamp_ns = _nanoseconds(value)
        elif (level, kind) in _ERROR_LEVELS and len(value) >= _EXTENDED_ERROR.size:
            _, origin, _, _, _, info, data = _EXTENDED_ERROR.unpack_from(value)
            number = data if (origin, info) == (_FROM_TIMESTAMPING, _SENT) else None
    if stamp_ns is None or number is None:
        return None
    return Departure(number=number, stamp_ns=stamp_ns)


def _refusal(report: _Report) -> Refusal | None:
    for level, kind, value in report.ancillary:
        if (level, kind) in _ERROR_LEVELS and len(value) >= _EXTENDED_ERROR.size:
            _, origin, packet, code, _, _, _ = _EXTENDED_ERROR.unpack_from(value)
            if origin in _FROM_PACKETS:
                sender = _bare_address(value[_EXTENDED_ERROR.size :])
                return Refusal(quoted=report.quoted, kind=packet, code=code, sender=sender)
    return None


def _bare_address(sockaddr: bytes) -> str | None:
    for family, form in ((socket.AF_INET, _SOCKADDR_IN), (socket.AF_INET6, _SOCKADDR_IN6)):
        if len(sockaddr) >= form.size:
            found, *_, packed = form.unpack_from(sockaddr)
            if found == family:
                return str(ip_address(packed))
    return None


def _nanoseconds(value: bytes) -> int | None:
    if len(value) < _TIMESPEC.size:
        return None
    seconds, nanoseconds = _TIMESPEC.unpack_from(value)
    return seconds * 1_000_000_000 + nanoseconds if seconds else None


def _raw_info(sock: socket.socket) -> bytes | None:
    if not _LINUX_64:
        return None
    try:
        return sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO_BYTES)
    except OSError:
        return None


def _count(raw: bytes, offset: int) -> int:
    return int(_U32.unpack_from(raw, offset)[0]) if len(raw) >= offset + _U32.size else 0


def _microseconds(raw: bytes, offset: int) -> float | None:
    value = _count(raw, offset)
    return None if value in {0, _NO_MINIMUM} else value / 1e6
