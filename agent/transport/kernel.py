"""What the kernel knows of a TCP socket: when its data came, how long its round trip is, what it sent twice.

Linux alone tells it, without any privilege; elsewhere everything here answers None and the caller's own clock stands.
"""

import socket
import struct
import sys
from typing import Final

import msgspec

_LINUX_64: Final = sys.platform == "linux" and sys.maxsize > 2**32
_SO_TIMESTAMPNS: Final = 35
"""asm-generic/socket.h; the ancillary message has the same number. Python 3.11 does not name it."""
_TIMESPEC: Final = struct.Struct("@qq")
_ANCILLARY_BYTES: Final = socket.CMSG_SPACE(_TIMESPEC.size) if hasattr(socket, "CMSG_SPACE") else 0

# struct tcp_info (linux/tcp.h): offsets of u32 fields; only ever appended to.
_TCPI_RTT: Final = 68
_TCPI_TOTAL_RETRANS: Final = 100
_TCPI_MIN_RTT: Final = 148
_TCPI_RCV_OOOPACK: Final = 224
_TCP_INFO_BYTES: Final = 228
_NO_MINIMUM: Final = 2**32 - 1
_U32: Final = struct.Struct("@I")


class TcpInfo(msgspec.Struct, frozen=True, kw_only=True):
    """A connection as the kernel sees it."""

    rtt_seconds: float | None
    """Smoothed (RFC 6298)."""
    min_rtt_seconds: float | None
    """Least of the last five minutes; None where the kernel is too old to keep it."""
    retransmits: int
    """Segments sent again in the connection's whole life, the SYN included."""
    out_of_order: int
    """Segments that came before one that was missing; 0 where the kernel does not count them."""


def ask_for_stamps(sock: socket.socket) -> bool:
    """Ask the kernel to stamp what arrives on `sock`; return whether it will."""
    if not _LINUX_64:
        return False
    try:
        sock.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
    except OSError:
        return False
    return True


def receive(sock: socket.socket, max_bytes: int) -> tuple[bytes, int | None]:
    """Return what has arrived, and the CLOCK_REALTIME nanosecond at which its last segment came (None: not stamped).

    Raises BlockingIOError when nothing has.
    """
    if not _ANCILLARY_BYTES:
        return sock.recv(max_bytes), None
    data, ancillary, _, _ = sock.recvmsg(max_bytes, _ANCILLARY_BYTES)
    for level, kind, value in ancillary:
        if level == socket.SOL_SOCKET and kind == _SO_TIMESTAMPNS and len(value) == _TIMESPEC.size:
            seconds, nanoseconds = _TIMESPEC.unpack(value)
            return data, seconds * 1_000_000_000 + nanoseconds
    return data, None


def tcp_info(sock: socket.socket) -> TcpInfo | None:
    """Return the kernel's view of a connected `sock`, None where it gives none."""
    if not _LINUX_64:
        return None
    try:
        raw = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO_BYTES)
    except OSError:
        return None
    return TcpInfo(
        rtt_seconds=_microseconds(raw, _TCPI_RTT),
        min_rtt_seconds=_microseconds(raw, _TCPI_MIN_RTT),
        retransmits=_count(raw, _TCPI_TOTAL_RETRANS),
        out_of_order=_count(raw, _TCPI_RCV_OOOPACK),
    )


def _count(raw: bytes, offset: int) -> int:
    return int(_U32.unpack_from(raw, offset)[0]) if len(raw) >= offset + _U32.size else 0


def _microseconds(raw: bytes, offset: int) -> float | None:
    value = _count(raw, offset)
    return None if value in {0, _NO_MINIMUM} else value / 1e6
