"""The way to one endpoint: look up its name, dial one literal address, agree on TLS.

No happy eyeballs, no second address, no retry, no proxy from the environment: each would hide what is measured.
"""

import asyncio
import contextlib
import socket
import ssl
import threading
from collections.abc import Callable
from functools import partial
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Literal, TypeVar, cast

import msgspec

from agent.clock import Clock
from agent.config import Origin
from agent.transport import kernel
from agent.transport.failure import Failure, why
from agent.transport.resolver import Resolver, system_resolver
from agent.transport.stream import SocketStream
from agent.transport.tls import HTTP2, TlsStream, tls_context
from isochrone.outcome import Outcome

Stream = SocketStream | TlsStream
T = TypeVar("T")


class Address(msgspec.Struct, frozen=True, kw_only=True):
    """One literal address and port."""

    ip: str
    port: int
    version: Literal[4, 6]
    looked_up: bool
    """False when the URL held the address itself."""
    sockaddr: tuple[object, ...]
    ttl_seconds: float | None = None
    """How long the answer may be relied on. None: literal, or the system gave it, which tells no TTL."""
    answer: tuple[str, ...] = ()
    """All addresses of that version in the answer, this one included; empty when literal."""

    def __str__(self) -> str:
        return f"[{self.ip}]:{self.port}" if self.version == 6 else f"{self.ip}:{self.port}"  # noqa: PLR2004  IPv6


async def resolve(
    origin: Origin, *, ip_version: Literal[4, 6] | None = None, resolver: Resolver | None = None
) -> Address:
    """Return the address to dial; a literal one costs no look-up. Raises Failure (dns).

    Only `ip_version` is asked for. None: where a name has both, IPv4 is taken, for one series must not mix the two.
    What the `resolver` (None: the system's files say) does not find, the system is asked for, and its word stands.
    """
    with contextlib.suppress(ValueError):
        return _literal(origin, ip_address(origin.host), ip_version)
    found = await (resolver or system_resolver()).look_up(origin.host, (4, 6) if ip_version is None else (ip_version,))
    if found is None:
        return await _ask_system(origin, ip_version)
    ip = found.addresses[0]
    return Address(
        ip=ip,
        port=origin.port,
        version=found.version,
        looked_up=True,
        sockaddr=(ip, origin.port) if found.version == 4 else (ip, origin.port, 0, 0),  # noqa: PLR2004  IPv4
        ttl_seconds=found.ttl_seconds,
        answer=found.addresses,
    )


def _literal(origin: Origin, literal: IPv4Address | IPv6Address, ip_version: Literal[4, 6] | None) -> Address:
    if ip_version not in {None, literal.version}:
        raise Failure(Outcome.DNS, f"{literal} is no IPv{ip_version} address: leave ip_version out, or give a name")
    rest = (0, 0) if literal.version == 6 else ()  # noqa: PLR2004  IPv6
    sockaddr = (str(literal), origin.port, *rest)
    return Address(ip=str(literal), port=origin.port, version=literal.version, looked_up=False, sockaddr=sockaddr)


async def _ask_system(origin: Origin, ip_version: Literal[4, 6] | None) -> Address:
    family = {None: socket.AF_UNSPEC, 4: socket.AF_INET, 6: socket.AF_INET6}[ip_version]
    try:
        found = await _in_thread(lambda: socket.getaddrinfo(origin.host, origin.port, family, socket.SOCK_STREAM))
    except (OSError, UnicodeError) as exc:
        wanted = "address" if ip_version is None else f"IPv{ip_version} address"
        raise Failure(Outcome.DNS, f"no {wanted} for {origin.host}: {why(exc)}") from exc
    chosen = next((entry for entry in found if entry[0] == socket.AF_INET), found[0])
    version: Literal[4, 6] = 4 if chosen[0] == socket.AF_INET else 6
    answer = tuple(_bare(entry[4]) for entry in found if entry[0] == chosen[0])
    ip, sockaddr = _bare(chosen[4]), tuple(chosen[4])
    return Address(ip=ip, port=origin.port, version=version, looked_up=True, sockaddr=sockaddr, answer=answer)


def _bare(sockaddr: tuple[object, ...]) -> str:
    return str(sockaddr[0]).partition("%")[0]


async def connect(address: Address, *, clock: Clock) -> SocketStream:
    """Return a connection to the one address. Raises Failure (connect)."""
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6  # noqa: PLR2004  IPv4
    try:
        sock = socket.socket(family, socket.SOCK_STREAM)
    except OSError as exc:
        raise Failure(Outcome.OTHER, f"no socket: {why(exc)}") from exc
    try:
        sock.setblocking(False)  # noqa: FBT003  the library's signature
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        kernel.ask_for_stamps(sock)
        await asyncio.get_running_loop().sock_connect(sock, address.sockaddr)
        return SocketStream(sock, clock=clock)
    except OSError as exc:
        sock.close()
        raise Failure(Outcome.CONNECT, _refusal(address, exc)) from exc
    except BaseException:
        sock.close()
        raise


async def secure(
    stream: SocketStream, origin: Origin, *, context: ssl.SSLContext | None = None, http2: bool = False
) -> TlsStream:
    """Return TLS over `stream`, which is closed when that fails. Raises Failure (tls)."""
    try:
        upper = TlsStream(stream, context=context or tls_context(http2=http2), server_hostname=origin.host)
        await upper.handshake()
    except (OSError, ValueError) as exc:
        stream.close()
        raise Failure(Outcome.TLS, f"TLS with {origin.authority} failed: {_tls_words(exc)}") from exc
    except BaseException:
        stream.close()
        raise
    if http2 and upper.protocol != HTTP2:
        stream.close()
        raise Failure(Outcome.TLS, f"{origin.authority} does not agree on HTTP/2 (ALPN): leave http2 out")
    return upper


def _refusal(address: Address, exc: OSError) -> str:
    if isinstance(exc, ConnectionRefusedError):
        return f"connection refused by {address}: nothing listens on that port"
    return f"no connection to {address}: {why(exc)}"


def _tls_words(exc: Exception) -> str:
    message = getattr(exc, "verify_message", None)
    if message:
        return f"certificate refused: {message}"
    if isinstance(exc, ConnectionError):
        return "the server closed the connection"
    reason = getattr(exc, "reason", None)
    return str(reason).replace("_", " ").lower() if reason else why(exc)


async def _in_thread(work: Callable[[], T]) -> T:
    """Run `work` in a thread that nobody waits for: a look-up that hangs must not hold up the agent's exit."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[T] = loop.create_future()

    def run() -> None:
        try:
            settle = partial(_settle, done, result=work())
        except Exception as exc:  # noqa: BLE001  carried over to the loop and raised there
            settle = partial(_settle, done, error=exc)
        with contextlib.suppress(RuntimeError):  # the loop is gone: so is the one who asked
            loop.call_soon_threadsafe(settle)

    threading.Thread(target=run, name="resolver", daemon=True).start()
    return await done


def _settle(done: asyncio.Future[T], *, result: T | None = None, error: Exception | None = None) -> None:
    if done.done():
        return
    if error is not None:
        done.set_exception(error)
    else:
        done.set_result(cast("T", result))
