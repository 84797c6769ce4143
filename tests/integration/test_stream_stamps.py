"""Arrivals carry the moment at which the kernel had the data, not the one at which Python came to read it."""

import asyncio
import socket
import struct
import sys
import time

import pytest

from agent.transport import Arrival
from agent.transport.kernel import TcpInfo
from isochrone.outcome import ClockSource
from tests.stamps import pair, stamped_pair

pytestmark = [pytest.mark.anyio, pytest.mark.skipif(sys.platform != "linux", reason="other kernels do not stamp")]


async def test_a_late_read_still_tells_when_the_data_came() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        stream, peer = await stamped_pair(listener)
        before = time.monotonic_ns()
        peer.sendall(b"x")
        sent = time.monotonic_ns()
        await asyncio.sleep(0.2)
        assert await stream.read(100) == b"x"
        read = time.monotonic_ns()
        arrival = stream.arrival
        assert arrival is not None
        assert arrival.clock is ClockSource.KERNEL
        assert before - 100_000 <= arrival.at_ns <= sent + 50_000_000
        assert read - arrival.at_ns > 100_000_000
        stream.close()
        peer.close()


async def test_a_stamp_from_before_the_socket_was_last_empty_is_not_believed() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        stream, peer = await pair(listener)
        read_ns = time.monotonic_ns()
        stream._empty_ns = read_ns - 1_000_000  # noqa: SLF001  loss cannot be provoked on loopback
        offset_ns = stream._offset_ns  # noqa: SLF001  as above
        good = stream._judge(offset_ns + read_ns - 500_000, read_ns)  # noqa: SLF001  as above
        old = stream._judge(offset_ns + read_ns - 2_000_000, read_ns)  # noqa: SLF001  as above
        stream._offset_ns += 3_600 * 10**9  # noqa: SLF001  the wall clock stepped since
        stepped = stream._judge(offset_ns + read_ns - 500_000, read_ns)  # noqa: SLF001  as above
        none = stream._judge(None, read_ns)  # noqa: SLF001  as above
        stream.close()
        peer.close()
    assert good.clock is ClockSource.KERNEL
    assert good.at_ns == pytest.approx(read_ns - 500_000, abs=100_000)
    assert [(arrival.clock, arrival.at_ns) for arrival in (old, stepped, none)] == [(ClockSource.USER, read_ns)] * 3


async def test_a_stamp_is_never_before_the_arrival_that_came_before_it() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        stream, peer = await pair(listener)
        read_ns = time.monotonic_ns()
        stream.arrival = Arrival(at_ns=read_ns - 200_000, clock=ClockSource.USER, read=1)
        stream._empty_ns = read_ns - 1_000_000  # noqa: SLF001  a read without a stamp cannot be provoked on loopback
        stamp_ns = stream._offset_ns + read_ns - 500_000  # noqa: SLF001  as above
        found = stream._judge(stamp_ns, read_ns)  # noqa: SLF001  as above
        stream.close()
        peer.close()
    assert (found.at_ns, found.clock) == (read_ns - 200_000, ClockSource.KERNEL)


async def test_a_write_that_failed_was_not_sent() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        stream, peer = await pair(listener)
        await stream.write(b"taken")
        assert stream.departure.sent_ns is not None
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        peer.close()
        with pytest.raises(ConnectionError):
            await stream.write(b"refused")
        stream.close()
    assert stream.departure.sent_ns is None
    assert stream.departure.started_ns is not None


async def test_a_segment_that_waited_for_a_lost_one_is_timed_by_its_read(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        stream, peer = await stamped_pair(listener)
        counts = iter([1, 1])

        def counted() -> TcpInfo:  # loss cannot be provoked on loopback: the kernel's counter is played
            return TcpInfo(rtt_seconds=None, min_rtt_seconds=None, retransmits=0, out_of_order=next(counts))

        monkeypatch.setattr(stream, "tcp_info", counted)
        clocks = []
        for _ in range(2):
            peer.sendall(b"x")
            await asyncio.sleep(0.05)
            await stream.read(100)
            clocks.append(stream.arrival)
        stream.close()
        peer.close()
    assert [arrival and arrival.clock for arrival in clocks] == [ClockSource.USER, ClockSource.KERNEL]


async def test_each_read_has_its_ordinal_and_its_moment() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        stream, peer = await pair(listener)
        arrivals = []
        for _ in range(3):
            peer.sendall(b"x")
            await stream.read(100)
            arrivals.append(stream.arrival)
        stream.close()
        peer.close()
    found = [arrival for arrival in arrivals if arrival is not None]
    assert [arrival.read for arrival in found] == [1, 2, 3]
    assert [arrival.at_ns for arrival in found] == sorted(arrival.at_ns for arrival in found)


async def test_a_large_write_waits_until_the_peer_takes_it() -> None:
    payload = b"x" * 8_000_000
    with socket.create_server(("127.0.0.1", 0)) as listener:
        stream, peer = await pair(listener)

        def take() -> int:
            total = 0
            while total < len(payload):
                total += len(peer.recv(1 << 20))
            return total

        taking = asyncio.get_running_loop().run_in_executor(None, take)
        await stream.write(payload)
        assert await taking == len(payload)
        assert stream.departure.started_ns is not None
        assert stream.departure.sent_ns is not None
        assert stream.departure.started_ns < stream.departure.sent_ns
        stream.close()
        peer.close()


async def test_an_idle_connection_is_alive_until_its_end_comes() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        stream, peer = await pair(listener)
        assert stream.alive()
        peer.close()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await asyncio.Event().wait()
        assert not stream.alive()
        stream.close()
