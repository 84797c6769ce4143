"""Arrivals carry the moment at which the kernel had the data, not the one at which Python came to read it."""

import asyncio
import socket
import struct
import sys
import time

import pytest

from agent.clock import SystemClock
from agent.transport.arrival import Arrival, Stamps
from agent.transport.kernel import TcpInfo
from agent.transport.loop import AgentLoop, Watch
from agent.transport.stream import HELD_SECONDS, SocketStream
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


def stamps_of(sock: socket.socket, *, empty_ns: int) -> Stamps:
    """Return a judge of stamps that was made when the socket was last known to be empty."""
    return Stamps(sock, now_ns=empty_ns, waits=None)


async def test_a_stamp_from_before_the_socket_was_last_empty_is_not_believed() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.create_connection(listener.getsockname()) as sock:
        read_ns = time.monotonic_ns()
        stamps = stamps_of(sock, empty_ns=read_ns - 1_000_000)
        offset_ns = stamps.offset_ns
        good = stamps.arrival(offset_ns + read_ns - 500_000, size=1, read_ns=read_ns)
        old = stamps.arrival(offset_ns + read_ns - 2_000_000, size=1, read_ns=read_ns)
        stamps.offset_ns += 3_600 * 10**9  # the wall clock stepped since
        stepped = stamps.arrival(offset_ns + read_ns - 500_000, size=1, read_ns=read_ns)
        none = stamps.arrival(None, size=1, read_ns=read_ns)
    assert good.clock is ClockSource.KERNEL
    assert good.at_ns == pytest.approx(read_ns - 500_000, abs=100_000)
    assert [(arrival.clock, arrival.at_ns) for arrival in (old, stepped, none)] == [(ClockSource.USER, read_ns)] * 3


async def test_a_stamp_is_never_before_the_arrival_that_came_before_it() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.create_connection(listener.getsockname()) as sock:
        read_ns = time.monotonic_ns()
        stamps = stamps_of(sock, empty_ns=read_ns - 1_000_000)
        first = stamps.arrival(None, size=1, read_ns=read_ns - 200_000)
        second = stamps.arrival(stamps.offset_ns + read_ns - 500_000, size=1, read_ns=read_ns)
    assert (first.at_ns, first.clock) == (read_ns - 200_000, ClockSource.USER)
    assert (second.at_ns, second.clock) == (read_ns - 200_000, ClockSource.KERNEL)


async def test_what_comes_in_one_segment_is_exact_and_what_comes_in_several_has_a_bound() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        stream, peer = await stamped_pair(listener)
        peer.sendall(b"alone")
        assert await stream.read(100) == b"alone"
        alone = stream.arrival
        await asyncio.sleep(0.01)  # the loop waits for the socket, which is empty
        before_ns = time.monotonic_ns()
        peer.sendall(b"first")
        time.sleep(0.05)  # noqa: ASYNC251  the loop is held: both segments wait in the kernel
        peer.sendall(b"second")
        assert await stream.read(100) == b"firstsecond"
        together = stream.arrival
        stream.close()
        peer.close()
    assert alone is not None
    assert together is not None
    assert alone.bound_ns == 0
    assert together.at_ns - together.bound_ns <= before_ns + 1_000_000
    assert together.bound_ns >= 45_000_000


async def test_a_request_leaves_when_the_kernel_hands_it_to_the_device() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        stream, peer = await stamped_pair(listener)
        for size in (1, 600, 200_000):
            before_ns = time.monotonic_ns()
            await stream.write(b"x" * size)
            after_ns = time.monotonic_ns()
            taken = 0
            while taken < size:
                taken += len(peer.recv(1 << 20))
            departure = stream.departure
            assert departure.clock is ClockSource.KERNEL
            assert departure.started_ns is not None
            assert departure.sent_ns is not None
            assert before_ns - 50_000 <= departure.started_ns <= departure.sent_ns
            assert departure.started_ns <= after_ns
            assert (departure.started_ns == departure.sent_ns) is (size < 1_000)
        stream.close()
        peer.close()


async def test_without_stamps_of_departures_our_own_clock_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agent.transport.kernel.ask_for_departures", lambda _sock: False)  # no kernel here lacks them
    with socket.create_server(("127.0.0.1", 0)) as listener:
        stream, peer = await stamped_pair(listener)
        before_ns = time.monotonic_ns()
        await stream.write(b"x")
        after_ns = time.monotonic_ns()
        departure = stream.departure
        stream.close()
        peer.close()
    assert departure.clock is ClockSource.USER
    assert departure.started_ns is not None
    assert departure.sent_ns is not None
    assert before_ns <= departure.started_ns <= departure.sent_ns <= after_ns


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
    counts = iter([1, 1])

    def counted(_sock: socket.socket) -> TcpInfo:  # loss cannot be provoked on loopback: the kernel's counter is played
        return TcpInfo(rtt_seconds=None, min_rtt_seconds=None, retransmits=0, out_of_order=next(counts))

    monkeypatch.setattr("agent.transport.kernel.tcp_info", counted)
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.create_connection(listener.getsockname()) as sock:
        read_ns = time.monotonic_ns()
        stamps = stamps_of(sock, empty_ns=read_ns - 90_000_000)
        stamp_ns = stamps.offset_ns + read_ns - 50_000_000
        clocks = [stamps.arrival(stamp_ns, size=1, read_ns=read_ns).clock for _ in range(2)]
    assert clocks == [ClockSource.USER, ClockSource.KERNEL]


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


async def test_a_socket_that_the_wait_before_the_latest_did_not_name_was_empty_when_that_wait_began() -> None:
    read_ns = time.monotonic_ns()
    waits = Watch(SystemClock())
    waits.before_ns = read_ns - 3_000_000
    bounds = []
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.create_connection(listener.getsockname()) as sock:
        for watched_ns in (read_ns - 9_000_000, read_ns - 2_000_000, None):
            stamps = Stamps(sock, now_ns=read_ns - 9_000_000, waits=waits)
            stamps.watched_ns = watched_ns
            # More bytes than the kernel counts on this connection: several segments, for all that is known.
            arrival = stamps.arrival(stamps.offset_ns + read_ns, size=10, read_ns=read_ns)
            bounds.append(round(arrival.bound_ns / 1e6, 1))
        waits.close()
    assert bounds == [3.0, 9.0, 9.0]


def test_what_waited_while_nobody_read_has_a_bound_from_before_it_came(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agent.transport.stream.READ_BYTES", 100)
    with asyncio.Runner(loop_factory=AgentLoop) as runner:
        before_ns, arrivals = runner.run(read_a_backlog(pieces=4, size=100))
    assert [arrival.at_ns - arrival.bound_ns <= before_ns + 100_000 for arrival in arrivals] == [True] * 4


async def read_a_backlog(*, pieces: int, size: int) -> tuple[int, list[Arrival]]:
    """Return when the first of the pieces was written, and their arrivals: they came while the loop was held."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        stream, peer = await stamped_pair(listener)
        await asyncio.sleep(0.01)  # turns of the loop that find the socket empty
        before_ns = time.monotonic_ns()
        for _ in range(pieces):
            time.sleep(0.002)  # noqa: ASYNC251  holds the loop
            peer.sendall(b"x" * size)
        arrivals = []
        for _ in range(pieces):
            await stream.read(size)
            assert stream.arrival is not None
            arrivals.append(stream.arrival)
        stream.close()
        peer.close()
    return before_ns, arrivals


def test_of_many_that_are_woken_at_once_the_later_ones_let_the_sockets_be_looked_at() -> None:
    with asyncio.Runner(loop_factory=AgentLoop) as runner:
        looks = runner.run(looks_while_all_work(streams=30, work_seconds=0.002))
    assert looks >= 30 * 0.002 / HELD_SECONDS / 3


async def looks_while_all_work(*, streams: int, work_seconds: float) -> int:
    """Return how often the loop looked at its sockets from the first to the last of readers that were woken together.

    Each works for `work_seconds` on what it read, and would do so before the next look if nothing held it.
    """
    loop = asyncio.get_running_loop()
    assert isinstance(loop, AgentLoop)
    looked: list[int] = []

    async def work(stream: SocketStream) -> None:
        await stream.read(100)
        looked.append(loop.watch.ended_ns)
        ends = time.monotonic() + work_seconds
        while time.monotonic() < ends:
            pass

    with socket.create_server(("127.0.0.1", 0)) as listener:
        pairs = [await pair(listener) for _ in range(streams)]
        tasks = [asyncio.create_task(work(stream)) for stream, _ in pairs]
        await asyncio.sleep(0.01)  # all wait for their sockets
        for _, peer in pairs:
            peer.sendall(b"x")
        await asyncio.gather(*tasks)
        for stream, peer in pairs:
            stream.close()
            peer.close()
    return len(set(looked))


async def test_what_the_kernel_knew_of_a_connection_is_known_once_it_is_closed() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        stream, peer = await stamped_pair(listener)
        open_info = stream.tcp_info()
        stream.close()
        stream.close()
        closed_info = stream.tcp_info()
        peer.close()
    assert open_info is not None
    assert closed_info is not None
    assert closed_info.min_rtt_seconds == open_info.min_rtt_seconds
