"""Echo requests over the real loopback; what other systems would send is played to the socket."""

import asyncio
import socket
import struct
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from agent.clock import SystemClock
from agent.probes.rtt import series
from agent.transport import EchoSocket, Failure, kernel, parse_origin, resolve
from agent.transport.icmp import encode_request
from isochrone.outcome import ClockSource, Outcome, RttMethod, RttSource
from isochrone.wire import decode_result, encode_result
from tests.simulated import probes, rtt

Play = Callable[[bytes], list[bytes]]


def refused(host: str, *kinds: socket.SocketKind) -> str | None:
    """Return why no socket of these kinds can send an echo request to `host` here, None if one can."""
    family, protocol = (socket.AF_INET6, 58) if ":" in host else (socket.AF_INET, 1)
    reason = "no kind was tried"
    for kind in kinds:
        try:
            with socket.socket(family, kind, protocol) as sock:
                sock.connect((host, 0))
                return None
        except OSError as exc:
            reason = str(exc)
    return f"no echo requests to {host} here: {reason}"


WHY_NOT = refused("127.0.0.1", socket.SOCK_DGRAM, socket.SOCK_RAW)
WHY_NO_RAW = refused("127.0.0.1", socket.SOCK_RAW)
pytestmark = [pytest.mark.anyio, pytest.mark.skipif(WHY_NOT is not None, reason=str(WHY_NOT))]


@asynccontextmanager
async def echoes() -> AsyncIterator[EchoSocket]:
    sock = EchoSocket(await resolve(parse_origin("http://127.0.0.1/")), clock=SystemClock())
    try:
        yield sock
    finally:
        sock.close()


def play(monkeypatch: pytest.MonkeyPatch, script: Play) -> None:
    """Let `script` say what is received in the place of each reply."""
    true_receive = kernel.receive
    waiting: list[tuple[bytes, int | None]] = []

    def receive(sock: socket.socket, max_bytes: int) -> tuple[bytes, int | None]:
        while not waiting:
            data, stamp_ns = true_receive(sock, max_bytes)
            start = (data[0] & 15) * 4 if data[0] >> 4 == 4 else 0
            waiting.extend((packet, stamp_ns) for packet in script(data[start:]))
        return waiting.pop(0)

    monkeypatch.setattr(kernel, "receive", receive)


def foreign(reply: bytes) -> list[bytes]:
    """Return what looks like `reply` and is not: another payload, ordinal, identifier, type; a piece of it."""
    kind, code, check, identifier, ordinal = struct.unpack_from("!BBHHH", reply)

    def packet(kind: int, identifier: int, ordinal: int) -> bytes:
        return struct.pack("!BBHHH", kind, code, check, identifier, ordinal) + reply[8:]

    return [
        reply[:8] + bytes(len(reply) - 8),
        reply[:-1],
        packet(kind, identifier, ordinal ^ 1),
        packet(kind, identifier ^ 1, ordinal),
        packet(8, identifier, ordinal),
        reply[:5],
    ]


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
async def test_echoes_are_counted_and_stamped(host: str) -> None:
    reason = refused(host, socket.SOCK_DGRAM, socket.SOCK_RAW)
    if reason is not None:
        pytest.skip(reason)
    url = f"https://[{host}]/" if ":" in host else f"http://{host}:9/"
    async with probes() as running:
        result = await running.run(rtt(url, RttMethod.ICMP, count=4))
    assert (result.outcome, result.rtt_source, result.connection) == (Outcome.OK, RttSource.ICMP, None)
    assert result.pings is not None
    assert (result.pings.method, result.pings.sent, result.pings.lost) == (RttMethod.ICMP, 4, 0)
    assert result.pings.min_seconds is not None
    assert 0 < result.pings.min_seconds < 0.1
    assert result.rtt_seconds == result.pings.median_seconds
    assert result.clock_source is (ClockSource.KERNEL if sys.platform == "linux" else ClockSource.USER)
    assert decode_result(encode_result(result)) == result


async def test_replies_to_others_are_never_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    play(monkeypatch, foreign)
    async with echoes() as sock:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(sock.echo(), timeout=0.3)


async def test_the_own_reply_is_found_among_others_and_counts_once(monkeypatch: pytest.MonkeyPatch) -> None:
    play(monkeypatch, lambda reply: [*foreign(reply), reply, reply])
    async with echoes() as sock, asyncio.timeout(10):
        for _ in range(3):
            echo = await sock.echo()
            assert echo.came_ns >= echo.sent_ns


async def test_a_late_reply_is_no_reply_to_the_next_request(monkeypatch: pytest.MonkeyPatch) -> None:
    kept: list[bytes] = []

    def answer_each_with_the_first(reply: bytes) -> list[bytes]:
        kept.append(reply)
        return kept[:1] if len(kept) > 1 else []

    play(monkeypatch, answer_each_with_the_first)
    async with echoes() as sock:
        for _ in range(2):
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(sock.echo(), timeout=0.3)
    assert len(kept) == 2


async def test_a_reply_that_never_comes_is_a_lost_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[bytes] = []

    def lose_the_second(reply: bytes) -> list[bytes]:
        seen.append(reply)
        return [] if len(seen) == 2 else [reply]

    monkeypatch.setattr(series, "SAMPLE_SECONDS", 0.3)
    play(monkeypatch, lose_the_second)
    async with probes() as running:
        some = await running.run(rtt("http://127.0.0.1/", RttMethod.ICMP, count=3))
        play(monkeypatch, lambda _: [])
        none = await running.run(rtt("http://127.0.0.1/", RttMethod.ICMP, count=2))
    assert some.outcome is Outcome.OK
    assert some.pings is not None
    assert (some.pings.sent, some.pings.lost) == (3, 1)
    assert (none.outcome, none.reason) == (Outcome.CONNECT, "no echo reply from 127.0.0.1 within 0.3 s")
    assert none.pings is not None
    assert (none.pings.sent, none.pings.lost) == (2, 2)


async def test_what_a_router_says_of_the_own_request_alone_is_believed(monkeypatch: pytest.MonkeyPatch) -> None:
    play(monkeypatch, lambda _: [])
    true_reports = kernel.reports
    async with echoes() as sock:

        def reports(lower: socket.socket) -> tuple[list[kernel.Departure], list[kernel.Refusal]]:
            return true_reports(lower)[0], [refusal(sock, ordinal=7, kind=3), refusal(sock, ordinal=1, kind=11)]

        monkeypatch.setattr(kernel, "reports", reports)
        with pytest.raises(Failure) as caught:
            await asyncio.wait_for(sock.echo(), timeout=10)
    assert caught.value.outcome is Outcome.CONNECT
    assert caught.value.reason == "no echo reply from 127.0.0.1: 192.0.2.1 says: too many hops"


def refusal(sock: EchoSocket, *, ordinal: int, kind: int) -> kernel.Refusal:
    identifier = sock._identifier  # noqa: SLF001  no router stands on loopback
    quoted = encode_request(4, identifier=identifier, ordinal=ordinal, payload=b"")
    return kernel.Refusal(quoted=quoted, kind=kind, code=0, sender="192.0.2.1")


async def test_stamps_that_nobody_awaits_do_not_keep_the_loop_awake(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []
    true_reports = kernel.reports

    def counted(sock: socket.socket) -> tuple[list[kernel.Departure], list[kernel.Refusal]]:
        calls.append(1)
        return true_reports(sock)

    async with echoes() as sock:
        monkeypatch.setattr(kernel, "reports", counted)
        await sock.echo()
        await asyncio.sleep(0.2)
    assert 1 <= len(calls) < 20


async def test_where_no_socket_is_allowed_the_reason_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "socket", denying(socket.SOCK_DGRAM, socket.SOCK_RAW))
    async with probes() as running:
        result = await running.run(rtt("http://127.0.0.1/", RttMethod.ICMP))
    assert result.outcome is Outcome.OTHER
    assert 'net.ipv4.ping_group_range="0 2147483647", or give it CAP_NET_RAW' in str(result.reason)


@pytest.mark.skipif(WHY_NO_RAW is not None, reason=str(WHY_NO_RAW))
async def test_where_datagram_sockets_are_denied_a_raw_one_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "socket", denying(socket.SOCK_DGRAM))
    async with probes() as running:
        result = await running.run(rtt("http://127.0.0.1/", RttMethod.ICMP))
    assert result.outcome is Outcome.OK
    assert result.pings is not None
    assert (result.pings.sent, result.pings.lost) == (3, 0)


def denying(*kinds: socket.SocketKind) -> type[socket.socket]:
    """Return a class that this system denies for echo requests by sockets of these kinds."""

    class Denied(socket.socket):
        def __init__(self, *args: int, **fileno: int | None) -> None:
            if len(args) == 3 and args[1] in kinds and args[2] in {socket.IPPROTO_ICMP, socket.IPPROTO_ICMPV6}:
                raise PermissionError
            super().__init__(*args, **fileno)

    return Denied
