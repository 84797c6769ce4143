"""What a probe does with names: the mark `dns`, one family alone, and warm connections whose address may have moved."""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest

from agent.clock import SystemClock
from agent.probes import Probes
from agent.probes.pool import MIN_TTL_SECONDS, UNKNOWN_TTL_SECONDS
from agent.transport import dial
from isochrone.outcome import Connection, Outcome, RttMethod
from isochrone.result import Result
from tests.name_server import SERVFAIL, A, NameServer, Record, Reply, SystemAnswer, etc, resolver, serving
from tests.simulated import FAST, KEY, inference, rtt, simulator

pytestmark = pytest.mark.anyio

HOST = "api.example.test"
HERE, ELSEWHERE = "127.0.0.1", "127.0.0.77"


class MovableClock(SystemClock):
    """The machine's clock, as if it had slept between probes: a TTL runs on meanwhile."""

    ahead_seconds = 0.0

    def boottime_seconds(self) -> float:
        return super().boottime_seconds() + self.ahead_seconds


class Lab:
    """A simulator on 127.0.0.1, its name, and the probes."""

    def __init__(self, url: str, server: NameServer) -> None:
        self.url = url.replace(HERE, HOST)
        self.server = server
        self.clock = MovableClock()
        self.probes = Probes(self.clock, lambda _: KEY)
        self.answer(HERE)

    def answer(self, *addresses: str, ttl: int = 60) -> None:
        self.server.replies[HOST, A] = Reply(tuple(Record(HOST, A, ip, ttl) for ip in addresses))

    async def ping(self) -> Result:
        return await self.probes.run(rtt(self.url, RttMethod.HTTP, count=1))

    async def chat(self, connection: Connection) -> Result:
        return await self.probes.run(inference(self.url, connection=connection))


@pytest.fixture
async def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Lab]:
    async with laboratory(etc(tmp_path, more="options timeout:1 attempts:1\n"), monkeypatch) as made:
        yield made


@asynccontextmanager
async def laboratory(folder: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Lab]:
    server = NameServer()
    SystemAnswer(monkeypatch, HOST)
    async with serving(server) as port, simulator(FAST) as url:
        client = resolver(folder, port)
        monkeypatch.setattr(dial, "system_resolver", lambda: client)  # the machine's own /etc is not ours to write
        made = Lab(url, server)
        yield made
        await made.probes.close()


async def test_the_mark_dns_covers_the_real_time_of_the_look_up(lab: Lab) -> None:
    lab.server.replies[HOST, A] = Reply((Record(HOST, A, HERE),), delay=0.15)
    begun_ns = lab.clock.monotonic_ns()
    result = await lab.chat(Connection.COLD)
    ended_ns = lab.clock.monotonic_ns()
    assert (result.outcome, result.address, result.ip_version) == (Outcome.OK, HERE, 4)
    (asked_ns, answered_ns), marks = lab.server.times_ns[-1], result.marks
    assert marks.dns is not None
    assert marks.tcp is not None
    assert marks.end is not None
    assert answered_ns - asked_ns >= 0.149e9
    assert marks.dns * 1e9 >= answered_ns - asked_ns
    assert marks.dns < marks.tcp < marks.end <= (ended_ns - begun_ns) / 1e9
    assert (marks.end - marks.dns) * 1e9 <= ended_ns - answered_ns


async def test_every_cold_probe_looks_up_anew(lab: Lab) -> None:
    for count in (1, 2):
        assert (await lab.chat(Connection.COLD)).outcome is Outcome.OK
        assert len(lab.server.asked) == count


async def test_a_warm_connection_is_asked_about_once_its_ttl_has_passed_and_kept_while_its_address_holds(
    lab: Lab,
) -> None:
    assert (await lab.ping()).connection is Connection.COLD
    lab.clock.ahead_seconds += 50
    assert (await lab.ping()).connection is Connection.WARM
    assert len(lab.server.asked) == 1
    lab.answer(ELSEWHERE, HERE, ttl=600)
    lab.clock.ahead_seconds += 11
    result = await lab.ping()
    assert (result.outcome, result.connection, result.address) == (Outcome.OK, Connection.WARM, HERE)
    assert result.marks.dns is None
    assert len(lab.server.asked) == 2
    lab.clock.ahead_seconds += 500  # the new TTL holds now
    assert (await lab.ping()).connection is Connection.WARM
    assert len(lab.server.asked) == 2


async def test_a_warm_connection_is_closed_when_its_name_has_moved(lab: Lab) -> None:
    assert (await lab.ping()).address == HERE
    lab.answer(ELSEWHERE)
    assert (await lab.ping()).address == HERE
    lab.clock.ahead_seconds += 61
    lab.server.replies[HOST, A] = Reply((Record(HOST, A, ELSEWHERE),), delay=0.1)
    result = await lab.ping()
    assert (result.connection, result.address) == (Connection.COLD, ELSEWHERE)
    # Asked about the kept connection first, and once more for the new one: the mark holds the second alone.
    assert result.marks.dns is not None
    assert result.marks.dns * 1e9 <= time.monotonic_ns() - lab.server.times_ns[-2][1]


async def test_a_warm_stream_moves_with_its_name_before_the_clock_starts(lab: Lab) -> None:
    assert (await lab.chat(Connection.WARM)).address == HERE
    lab.answer(ELSEWHERE)
    lab.clock.ahead_seconds += 61
    result = await lab.chat(Connection.WARM)
    assert result.address == ELSEWHERE
    lab.answer(HERE)
    result = await lab.chat(Connection.WARM)
    assert (result.outcome, result.address, result.connection) == (Outcome.OK, HERE, Connection.WARM)
    assert (result.marks.dns, result.setup_seconds) == (None, 0)


async def test_a_ttl_of_nothing_is_not_asked_about_at_each_probe(lab: Lab) -> None:
    lab.answer(HERE, ttl=0)
    await lab.ping()
    lab.clock.ahead_seconds += MIN_TTL_SECONDS - 5
    assert (await lab.ping()).connection is Connection.WARM
    assert len(lab.server.asked) == 1
    lab.clock.ahead_seconds += 6
    assert (await lab.ping()).connection is Connection.WARM
    assert len(lab.server.asked) == 2


@pytest.mark.parametrize("reply", [None, Reply(rcode=SERVFAIL)])
async def test_a_look_up_that_fails_leaves_a_connection_that_stands(lab: Lab, reply: Reply | None) -> None:
    assert (await lab.ping()).outcome is Outcome.OK
    lab.server.replies[HOST, A] = reply
    lab.clock.ahead_seconds += 61
    target = rtt(lab.url, RttMethod.HTTP, count=1, timeout=2)
    result = await lab.probes.run(target)
    assert (result.outcome, result.connection) == (Outcome.OK, Connection.WARM)
    asked = len(lab.server.asked)
    assert (await lab.probes.run(target)).connection is Connection.WARM
    assert len(lab.server.asked) == asked


async def test_where_the_system_answered_a_connection_holds_for_five_minutes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with laboratory(etc(tmp_path), monkeypatch) as lab:
        lab.url = lab.url.replace(HOST, "localhost")
        target = msgspec.structs.replace(rtt(lab.url, RttMethod.HTTP, count=1), ip_version=4)
        assert (await lab.probes.run(target)).marks.dns is not None
        looked_up: list[str] = []
        asked = dial._ask_system  # noqa: SLF001  counted, not replaced

        async def counted(origin: dial.Origin, ip_version: dial.Literal[4, 6] | None) -> dial.Address:
            looked_up.append(origin.host)
            return await asked(origin, ip_version)

        monkeypatch.setattr(dial, "_ask_system", counted)
        for seconds, count in ((UNKNOWN_TTL_SECONDS - 10, 0), (11, 1)):
            lab.clock.ahead_seconds += seconds
            assert (await lab.probes.run(target)).connection is Connection.WARM
            assert len(looked_up) == count


async def test_a_target_of_one_version_is_dialled_over_that_alone(lab: Lab) -> None:
    target = msgspec.structs.replace(rtt(lab.url, RttMethod.TCP, count=1, timeout=3), ip_version=6)
    result = await lab.probes.run(target)
    assert (result.outcome, result.address) == (Outcome.DNS, None)
    assert result.reason == f"no IPv6 address for {HOST}: Name or service not known"
    assert (await lab.probes.run(msgspec.structs.replace(target, ip_version=4))).ip_version == 4
