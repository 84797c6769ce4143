"""The `rtt` prober: handshakes or HEAD requests, spaced, with the lost ones counted."""

import asyncio
import contextlib
import itertools
import socket

import pytest

from agent.clock import SystemClock
from agent.probes.attempt import Deadline
from agent.probes.rtt.series import Series
from agent.simulator import Scenario
from agent.transport import Failure
from agent.transport.kernel import TcpInfo
from agent.transport.stream import SocketStream
from isochrone.config import Duration
from isochrone.outcome import Connection, Flag, Outcome, RttMethod, RttSource
from isochrone.wire import decode_result, encode_result
from tests.simulated import probes, rtt, simulator

pytestmark = pytest.mark.anyio
DISTANT = Scenario(rtt=Duration(0.05))


async def test_handshakes_are_counted_and_spaced() -> None:
    async with simulator() as url, probes() as running:
        result = await running.run(rtt(url, RttMethod.TCP, count=4, spacing=0.05))
    assert result.outcome is Outcome.OK
    assert result.pings is not None
    assert (result.pings.method, result.pings.sent, result.pings.lost) == (RttMethod.TCP, 4, 0)
    assert result.rtt_seconds == result.pings.median_seconds
    assert result.rtt_source in {RttSource.TCP_INFO_MIN, RttSource.HANDSHAKE}
    assert result.duration_seconds is not None
    assert result.duration_seconds >= 3 * 0.05
    assert result.connection is Connection.COLD
    assert result.marks.tcp is not None
    assert result.marks.request_started is None
    assert decode_result(encode_result(result)) == result


async def test_head_requests_read_the_scripted_distance() -> None:
    async with simulator(DISTANT) as url, probes() as running:
        first, second = [await running.run(rtt(url, RttMethod.HTTP)) for _ in range(2)]
    assert (first.outcome, first.rtt_source) == (Outcome.OK, RttSource.HTTP)
    assert first.rtt_seconds == pytest.approx(0.05, rel=0.5)
    assert first.pings is not None
    assert first.pings.lost == 0
    assert (first.connection, second.connection) == (Connection.COLD, Connection.WARM)
    assert first.marks.tcp is not None
    assert (second.marks.tcp, second.marks.request_started) == (None, 0)


async def test_an_answer_of_any_status_is_a_round_trip() -> None:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError):
            while await reader.readuntil(b"\r\n\r\n"):
                writer.write(b"HTTP/1.1 405 Not Allowed\r\nContent-Length: 99\r\n\r\n")
        writer.close()

    async with await asyncio.start_server(handle, "127.0.0.1", 0) as server, probes() as running:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
        result = await running.run(rtt(url, RttMethod.HTTP))
    assert (result.outcome, result.http_status) == (Outcome.OK, 405)
    assert result.pings is not None
    assert (result.pings.sent, result.pings.lost) == (3, 0)


async def test_a_request_of_which_a_packet_was_sent_twice_is_a_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    heads: list[bytes] = []

    def counted(_: SocketStream) -> TcpInfo:  # loss cannot be provoked on loopback: the kernel's counter is played
        return TcpInfo(rtt_seconds=None, min_rtt_seconds=None, retransmits=7 + (len(heads) > 1), out_of_order=0)

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError):
            while head := await reader.readuntil(b"\r\n\r\n"):
                heads.append(head)
                await asyncio.sleep(0.2 if len(heads) == 2 else 0)
                writer.write(b"HTTP/1.1 204 No Content\r\n\r\n")
        writer.close()

    monkeypatch.setattr(SocketStream, "tcp_info", counted)
    async with await asyncio.start_server(handle, "127.0.0.1", 0) as server, probes() as running:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
        result = await running.run(rtt(url, RttMethod.HTTP))
    assert (result.outcome, result.flags) == (Outcome.OK, (Flag.RETRANSMITS,))
    assert result.pings is not None
    assert (result.pings.sent, result.pings.lost) == (3, 1)
    assert result.pings.max_seconds is not None
    assert result.pings.max_seconds < 0.2


async def test_a_server_that_closes_after_each_answer_costs_no_sample() -> None:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n")
        writer.close()

    async with await asyncio.start_server(handle, "127.0.0.1", 0) as server, probes() as running:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
        result = await running.run(rtt(url, RttMethod.HTTP))
    assert result.outcome is Outcome.OK
    assert result.pings is not None
    assert (result.pings.sent, result.pings.lost) == (3, 0)


@pytest.mark.parametrize("method", [RttMethod.TCP, RttMethod.TLS, RttMethod.HTTP])
async def test_a_port_that_refuses_loses_every_sample(method: RttMethod) -> None:
    scheme = "https" if method is RttMethod.TLS else "http"
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        async with probes() as running:
            result = await running.run(rtt(f"{scheme}://127.0.0.1:{taken.getsockname()[1]}/", method))
    assert result.outcome is Outcome.CONNECT
    assert "connection refused" in str(result.reason)
    assert (result.rtt_seconds, result.duration_seconds) == (None, None)
    if method is not RttMethod.HTTP:
        assert result.pings is not None
        assert (result.pings.sent, result.pings.lost) == (3, 3)


@pytest.mark.parametrize("method", list(RttMethod))
async def test_a_name_without_an_address_is_dns(method: RttMethod) -> None:
    async with probes() as running:
        result = await running.run(rtt("https://nowhere.invalid/", method))
    assert result.outcome is Outcome.DNS


async def test_silence_ends_with_the_timeout() -> None:
    async with simulator(Scenario(rtt=Duration(3_600))) as url, probes() as running:
        result = await running.run(rtt(url, RttMethod.HTTP, timeout=0.3))
    assert result.outcome is Outcome.TIMEOUT_TOTAL
    assert result.reason == "no answer to HEAD /v1 within 0.3 s, the timeout"
    assert result.pings is not None
    assert (result.pings.sent, result.pings.lost) == (1, 1)


async def test_a_sample_that_the_end_of_the_probe_cuts_off_is_not_called_lost() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        probe = Series(
            rtt(f"http://127.0.0.1:{listener.getsockname()[1]}", RttMethod.TCP, count=3), clock=SystemClock()
        )
    late = Failure(Outcome.CONNECT, "no answer")

    async def sample() -> None:
        if probe.sent == 2:
            await asyncio.Event().wait()
        probe.seconds.append(0.01)

    with pytest.raises(TimeoutError):
        async with Deadline(total_seconds=0.2) as deadline:
            await probe.each(sample, deadline, late=late)
    assert (probe.sent, probe.seconds) == (1, [0.01])


async def test_after_a_lost_sample_the_rest_stay_apart() -> None:
    probe = Series(rtt("http://127.0.0.1:9", RttMethod.TCP, count=4, spacing=0.1), clock=SystemClock())
    began: list[float] = []

    async def sample() -> None:
        began.append(asyncio.get_running_loop().time())
        if len(began) == 1:
            await asyncio.Event().wait()

    async with Deadline(total_seconds=30) as deadline:
        await probe.each(sample, deadline, late=Failure(Outcome.CONNECT, "no answer"), seconds=0.35)
    assert began[1] - began[0] >= 0.35
    assert [later - earlier >= 0.1 for earlier, later in itertools.pairwise(began[1:])] == [True, True]
