"""Watches a network device for ICMP echoes until its input ends; then prints how long each took, in nanoseconds.

The lab's own capture keeps TCP alone. The times are the kernel's stamps of the packets at the device, so it does not
matter when this program got round to reading them.
"""

import json
import select
import socket
import struct
import sys
from typing import Final

_ETH_P_ALL: Final = 3
_SO_TIMESTAMPNS: Final = 35
"""linux/asm-generic/socket.h; the socket module has no name for it."""
_STAMP: Final = (socket.SOL_SOCKET, _SO_TIMESTAMPNS)
_TIMESPEC: Final = struct.Struct("@qq")
_ECHO: Final = struct.Struct("!BxxxHH")
_REQUEST: Final = 8
_REPLY: Final = 0
_RECEIVED_MOST: Final = 4_096
_BUFFER_BYTES: Final = 8 << 20


def main(device: str) -> None:
    """Watch one device."""
    with socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(_ETH_P_ALL)) as watch:
        watch.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
        watch.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER_BYTES)
        watch.bind((device, _ETH_P_ALL))
        print("ready", flush=True)
        print(json.dumps(_watched(watch)), flush=True)


def _watched(watch: socket.socket) -> list[int]:
    """Return the round trips of all echoes that came back."""
    left: dict[tuple[int, int], int] = {}
    took: list[int] = []
    while sys.stdin not in (ready := select.select([watch, sys.stdin], [], [])[0]) or watch in ready:
        data, ancillary, _, _ = watch.recvmsg(_RECEIVED_MOST, 128)
        kind, key = echo(data)
        stamps = [_TIMESPEC.unpack(told) for level, kind, told in ancillary if (level, kind) == _STAMP]
        if key is None or not stamps:
            continue
        at_ns = stamps[0][0] * 1_000_000_000 + stamps[0][1]
        if kind == _REQUEST:
            left[key] = at_ns
        elif kind == _REPLY and key in left:
            took.append(at_ns - left.pop(key))
    return took


def echo(packet: bytes) -> tuple[int, tuple[int, int] | None]:
    """Return an IPv4 packet's ICMP type, and the echo's identifier and sequence; None: it is no ICMP."""
    if len(packet) < 20 or packet[0] >> 4 != 4 or packet[9] != socket.IPPROTO_ICMP:
        return -1, None
    header = (packet[0] & 15) * 4
    if len(packet) < header + _ECHO.size:
        return -1, None
    kind, identifier, sequence = _ECHO.unpack_from(packet, header)
    return kind, (identifier, sequence)


if __name__ == "__main__":
    main(sys.argv[1])
