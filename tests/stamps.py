"""Helpers of tests that rely on the kernel's stamps: connected pairs, stamped from the first byte on."""

import asyncio
import socket

from agent.clock import SystemClock
from agent.transport import Address, connect
from agent.transport.stream import SocketStream
from isochrone.outcome import ClockSource


async def pair(listener: socket.socket) -> tuple[SocketStream, socket.socket]:
    """Return the agent's end of a connection, and the other one."""
    ip, port = listener.getsockname()
    address = Address(ip=ip, port=port, version=4, looked_up=False, sockaddr=(ip, port))
    stream = await connect(address, clock=SystemClock())
    peer, _ = listener.accept()
    return stream, peer


async def stamped_pair(listener: socket.socket) -> tuple[SocketStream, socket.socket]:
    """Return a pair after its first stamp: a kernel that stamped for nobody begins a little after it is asked."""
    stream, peer = await pair(listener)
    async with asyncio.timeout(10):
        while stream.arrival is None or stream.arrival.clock is not ClockSource.KERNEL:
            peer.sendall(b"x")
            await stream.read(100)
    return stream, peer
