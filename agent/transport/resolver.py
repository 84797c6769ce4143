"""The look-up of a name over sockets of our own: UDP to the system's servers, TCP where an answer was cut short.

The system's own function tells no TTL, asks for both families at once, and needs a thread. No answer is kept here: the
servers' caches respect TTLs, and what they take is what a user waits for.
"""

import asyncio
import secrets
import socket
import struct
from collections.abc import Iterable
from functools import cache
from typing import Final, Literal

import msgspec

from agent.dnswire import NO_ERROR, NO_SUCH_NAME, Answer, DnsError, Foreign, Kind, Query, decode_answer, encode_query
from agent.transport.failure import why
from agent.transport.resolvconf import Plan, SystemFiles

Version = Literal[4, 6]
PORT: Final = 53
MAX_FOREIGN: Final = 64
"""Datagrams that answer something else: after so many another server is asked."""
MAX_BYTES: Final = 65_535
_KINDS: Final[dict[Version, Kind]] = {4: Kind.A, 6: Kind.AAAA}
_LENGTH: Final = struct.Struct(">H")


class Unanswered(Exception):
    """No server gave a clear answer. Never leaves the door: the system is asked then."""


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """Addresses of one family, at least one, in the server's order."""

    version: Version
    addresses: tuple[str, ...]
    ttl_seconds: int


class Resolver:
    """Asks the servers that the system's files name, on `port`."""

    def __init__(self, files: SystemFiles, *, port: int = PORT) -> None:
        self._files = files
        self._port = port

    async def look_up(self, host: str, versions: Iterable[Version]) -> Found | None:
        """Return the addresses of the first family that has some; None: ask the system, whose word stands then."""
        plan = self._files.plan(host)
        if plan is None:
            return None
        try:
            return await self._by_plan(plan, tuple(versions))
        except (Unanswered, DnsError):
            return None

    async def _by_plan(self, plan: Plan, versions: tuple[Version, ...]) -> Found | None:
        for name in plan.names:
            for version in versions:
                answer = await self._ask(plan, name, _KINDS[version])
                if answer.ttl_seconds is not None:
                    return Found(version=version, addresses=answer.addresses, ttl_seconds=answer.ttl_seconds)
                if answer.rcode == NO_SUCH_NAME:
                    break
        return None

    async def _ask(self, plan: Plan, name: str, kind: Kind) -> Answer:
        last = "no server"
        for _ in range(plan.attempts):
            for server in plan.servers:
                query = Query(id=secrets.randbelow(1 << 16), name=name, kind=kind)
                try:
                    async with asyncio.timeout(plan.timeout_seconds):
                        answer = await self._ask_server(server, query)
                except (OSError, DnsError) as exc:  # TimeoutError is an OSError
                    last = why(exc)
                    continue
                if answer.rcode in {NO_ERROR, NO_SUCH_NAME}:
                    return answer
                last = f"code {answer.rcode}"
        raise Unanswered(f"{name}: {last}")

    async def _ask_server(self, server: str, query: Query) -> Answer:
        answer = await self._over_udp(server, query)
        return await self._over_tcp(server, query) if answer.truncated else answer

    async def _over_udp(self, server: str, query: Query) -> Answer:
        loop = asyncio.get_running_loop()
        with _socket(server, socket.SOCK_DGRAM) as sock:
            # Connected: the kernel lets nobody else's datagrams in, and tells when nobody listens there.
            sock.connect(_sockaddr(server, self._port))
            await loop.sock_sendall(sock, encode_query(query))
            for _ in range(MAX_FOREIGN):
                try:
                    return decode_answer(await loop.sock_recv(sock, MAX_BYTES), query)
                except Foreign:
                    continue
        raise DnsError("nothing but answers to other questions")

    async def _over_tcp(self, server: str, query: Query) -> Answer:
        loop = asyncio.get_running_loop()
        message = encode_query(query)
        with _socket(server, socket.SOCK_STREAM) as sock:
            await loop.sock_connect(sock, _sockaddr(server, self._port))
            await loop.sock_sendall(sock, _LENGTH.pack(len(message)) + message)
            (length,) = _LENGTH.unpack(await _exactly(sock, _LENGTH.size))
            answer = decode_answer(await _exactly(sock, length), query)
        if answer.truncated:
            raise DnsError("cut short over TCP")
        return answer


@cache
def system_resolver() -> Resolver:
    """Return the one resolver that goes by /etc."""
    return Resolver(SystemFiles())


def _socket(server: str, kind: socket.SocketKind) -> socket.socket:
    sock = socket.socket(socket.AF_INET6 if ":" in server else socket.AF_INET, kind)
    sock.setblocking(False)  # noqa: FBT003  the library's signature
    return sock


def _sockaddr(server: str, port: int) -> tuple[object, ...]:
    """Return a literal address (`fe80::1%eth0` too) as the socket takes it; nothing is looked up."""
    flags = socket.AI_NUMERICHOST | socket.AI_NUMERICSERV
    return tuple(socket.getaddrinfo(server, port, type=socket.SOCK_DGRAM, flags=flags)[0][4])


async def _exactly(sock: socket.socket, count: int) -> bytes:
    loop = asyncio.get_running_loop()
    data = bytearray()
    while len(data) < count:
        piece = await loop.sock_recv(sock, count - len(data))
        if not piece:
            raise DnsError("the server closed the connection in the middle of an answer")
        data += piece
    return bytes(data)
