"""A real DNS server on loopback, UDP and TCP, whose answers a test writes; and the /etc that points at it."""

import asyncio
import socket
import struct
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from ipaddress import ip_address
from pathlib import Path

import pytest

from agent.transport.resolvconf import SystemFiles
from agent.transport.resolver import Resolver

A, CNAME, AAAA = 1, 5, 28
SERVFAIL, NXDOMAIN = 2, 3


@dataclass(frozen=True)
class Record:
    name: str
    kind: int
    value: str
    ttl: int = 60

    def encoded(self) -> bytes:
        data = encoded_name(self.value) if self.kind == CNAME else ip_address(self.value).packed
        return encoded_name(self.name) + struct.pack(">HHIH", self.kind, 1, self.ttl, len(data)) + data


@dataclass(frozen=True)
class Reply:
    """`before` goes out first, for whatever was asked; `truncated` holds over UDP alone; `delay` in seconds."""

    records: tuple[Record, ...] = ()
    rcode: int = 0
    truncated: bool = False
    delay: float = 0
    before: tuple[Callable[[bytes], bytes], ...] = ()


def encoded_name(name: str) -> bytes:
    return b"".join(bytes([len(label)]) + label.encode() for label in name.split(".")) + b"\0"


def message(query: bytes, records: tuple[Record, ...] = (), *, rcode: int = 0, truncated: bool = False) -> bytes:
    """Return the answer to `query`, whose id and question are taken over as they stand."""
    name, _ = question_of(query)
    question = query[12 : 12 + len(encoded_name(name)) + 4]
    flags = 0x8180 | (0x0200 if truncated else 0) | rcode
    header = query[:2] + struct.pack(">HHHHH", flags, 1, len(records), 0, 0)
    return header + question + b"".join(record.encoded() for record in records)


def question_of(query: bytes) -> tuple[str, int]:
    """Return name and type of what is asked."""
    labels, position = [], 12
    while length := query[position]:
        labels.append(query[position + 1 : position + 1 + length].decode())
        position += 1 + length
    return ".".join(labels), struct.unpack_from(">H", query, position + 1)[0]


@dataclass
class NameServer(asyncio.DatagramProtocol):
    """`replies` by name and type; what is not there has no address (no error). None: silence."""

    replies: dict[tuple[str, int], Reply | None] = field(default_factory=dict)
    asked: list[tuple[str, int, str]] = field(default_factory=list)
    """Name, type, udp or tcp."""
    times_ns: list[tuple[int, int]] = field(default_factory=list)
    """Of each answer: when the question came, when the answer went."""

    def connection_made(self, transport: asyncio.DatagramTransport) -> None:  # type: ignore[override]  of a datagram
        self.transport = transport

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        came_ns = time.monotonic_ns()
        reply = self.reply(data, "udp")
        if reply is not None:
            asyncio.get_running_loop().call_later(
                reply.delay, partial(self.send, data, addr, reply=reply, came_ns=came_ns)
            )

    def send(self, query: bytes, addr: tuple[str, int], *, reply: Reply, came_ns: int) -> None:
        for before in reply.before:
            self.transport.sendto(before(query), addr)
        self.times_ns.append((came_ns, time.monotonic_ns()))
        records = () if reply.truncated else reply.records
        self.transport.sendto(message(query, records, rcode=reply.rcode, truncated=reply.truncated), addr)

    def reply(self, query: bytes, way: str) -> Reply | None:
        name, kind = question_of(query)
        self.asked.append((name, kind, way))
        return self.replies.get((name, kind), Reply())

    async def over_tcp(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        query = await reader.readexactly(int.from_bytes(await reader.readexactly(2), "big"))
        reply = self.reply(query, "tcp")
        if reply is not None:
            data = message(query, reply.records, rcode=reply.rcode)
            whole = len(data).to_bytes(2, "big") + data
            writer.write(whole[:9])
            await writer.drain()
            writer.write(whole[9:])
        writer.close()


@asynccontextmanager
async def serving(*servers: NameServer) -> AsyncIterator[int]:
    """Let the servers listen on 127.0.0.2, 127.0.0.3 and so on, all on one port, which is yielded."""
    loop = asyncio.get_running_loop()
    port = _free_port(len(servers))
    transports, listeners = [], []
    for index, server in enumerate(servers):
        host = f"127.0.0.{index + 2}"
        transport, _ = await loop.create_datagram_endpoint(lambda server=server: server, (host, port))  # type: ignore[misc]
        transports.append(transport)
        listeners.append(await asyncio.start_server(server.over_tcp, host, port))
    try:
        yield port
    finally:
        for transport in transports:
            transport.close()
        for listener in listeners:
            listener.close()
            await listener.wait_closed()


def _free_port(count: int) -> int:
    """Return a port that nobody has on the first addresses, neither for UDP nor for TCP."""
    for _ in range(50):
        with socket.socket() as first:
            first.bind(("127.0.0.2", 0))
            port: int = first.getsockname()[1]
        if all(_free(f"127.0.0.{index + 2}", port) for index in range(count)):
            return port
    raise AssertionError("no free port")


def _free(host: str, port: int) -> bool:
    try:
        with socket.socket() as tcp, socket.socket(type=socket.SOCK_DGRAM) as udp:
            tcp.bind((host, port))
            udp.bind((host, port))
    except OSError:
        return False
    return True


def etc(
    folder: Path, *, servers: int = 1, more: str = "", hosts: str = "", nsswitch: str = "hosts: files dns\n"
) -> Path:
    """Write the three files of a system that asks `servers`."""
    lines = "".join(f"nameserver 127.0.0.{index + 2}\n" for index in range(servers))
    (folder / "resolv.conf").write_text(lines + more)
    (folder / "hosts").write_text(hosts)
    (folder / "nsswitch.conf").write_text(nsswitch)
    return folder


def resolver(folder: Path, port: int) -> Resolver:
    return Resolver(SystemFiles(folder, environment={}), port=port)


class SystemAnswer:
    """Stands for getaddrinfo where the machine's own DNS would be asked for `host`: a test must not rely on that."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, host: str, addresses: dict[int, str] | None = None) -> None:
        self.host = host
        self.addresses = addresses or {}
        self.asked: list[int] = []
        self._real = socket.getaddrinfo
        monkeypatch.setattr(socket, "getaddrinfo", self)

    def __call__(  # noqa: PLR0917  as the library has it
        self,
        host: str,
        port: int,
        family: int = 0,
        type: int = 0,  # noqa: A002  as the library has it
        **more: int,
    ) -> list[object]:
        if host != self.host:
            return list(self._real(host, port, family, type, **more))
        self.asked.append(family)
        found = {one: ip for one, ip in self.addresses.items() if family in {0, one}}
        if not found:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return [(one, socket.SOCK_STREAM, 6, "", (ip, port)) for one, ip in found.items()]
