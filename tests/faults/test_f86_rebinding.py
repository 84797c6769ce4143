"""F86: a name that is public when it is looked at and loopback when it is dialled gains nothing by it."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from agent.clock import SystemClock
from agent.policy import Policy
from agent.probes import Probes, attempt
from agent.probes.rtt import echoes, handshakes
from agent.transport import Address, Failure, dial
from isochrone.config import Assignment
from isochrone.outcome import Connection, Outcome, RttMethod
from tests.name_server import AAAA, A, NameServer, Record, Reply, SystemAnswer, etc, resolver, serving
from tests.simulated import KEY, inference, rtt

pytestmark = pytest.mark.anyio

HOST = "rebinding.example.test"
PUBLIC = "93.184.216.34"
URL = f"http://{HOST}:9/v1"
KINDS = {
    "cold": inference(URL),
    "warm": inference(URL, connection=Connection.WARM),
    "tcp": rtt(URL, RttMethod.TCP, count=1),
    "tls": rtt(URL.replace("http:", "https:"), RttMethod.TLS, count=1),
    "http": rtt(URL, RttMethod.HTTP, count=1),
    "icmp": rtt(URL, RttMethod.ICMP, count=1),
}


@pytest.fixture
def dialled(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Give the addresses that would have been dialled: no packet of a test leaves the machine."""
    addresses: list[str] = []

    async def note(address: Address, **_: object) -> None:
        addresses.append(address.ip)
        raise Failure(Outcome.CONNECT, "not dialled by the test")

    def note_echo(address: Address, **_: object) -> None:
        addresses.append(address.ip)
        raise Failure(Outcome.CONNECT, "not dialled by the test")

    monkeypatch.setattr(attempt, "connect", note)
    monkeypatch.setattr(handshakes, "connect", note)
    monkeypatch.setattr(echoes, "EchoSocket", note_echo)
    return addresses


@pytest.fixture
async def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[NameServer]:
    """Give the name server that the agent asks, and no other."""
    SystemAnswer(monkeypatch, HOST, {})
    server = NameServer()
    async with serving(server) as port:
        client = resolver(etc(tmp_path, more="options timeout:1 attempts:1\n"), port)
        monkeypatch.setattr(dial, "system_resolver", lambda: client)
        yield server


@pytest.fixture
async def probes() -> AsyncIterator[Probes]:
    """Give the probes of an agent without a policy."""
    probes = Probes(SystemClock(), lambda _: KEY, guard=Policy().address_refusal)
    yield probes
    await probes.close()


@pytest.mark.parametrize("target", KINDS.values(), ids=KINDS)
async def test_f86_the_address_that_was_checked_is_the_one_that_is_dialled(
    target: Assignment, *, dialled: list[str], server: NameServer, probes: Probes
) -> None:
    outcomes = []
    for addresses in ((PUBLIC,), ("127.0.0.1",), (PUBLIC, "127.0.0.1"), (PUBLIC, "169.254.169.254"), (PUBLIC,)):
        server.replies[HOST, A] = Reply(tuple(Record(HOST, A, ip) for ip in addresses))
        outcomes.append((await probes.run(target)).outcome)
    assert outcomes == [Outcome.CONNECT, *[Outcome.DENIED] * 3, Outcome.CONNECT]
    assert dialled == [PUBLIC, PUBLIC]
    assert [kind for _, kind, _ in server.asked] == [A] * 5  # one look-up for a probe, none between check and dialling


async def test_f86_an_ipv4_address_in_ipv6_is_seen_through(
    dialled: list[str], server: NameServer, probes: Probes
) -> None:
    for address in ("::ffff:127.0.0.1", "64:ff9b::a9fe:a9fe", "2002:7f00:1::1", "::1", "fec0::1"):
        server.replies[HOST, AAAA] = Reply((Record(HOST, AAAA, address),))
        result = await probes.run(KINDS["tcp"])
        assert (result.outcome, result.address) == (Outcome.DENIED, None)
        assert result.reason is not None
        assert result.reason.startswith(f"{HOST} stands for ")
    assert dialled == []


async def test_f86_the_systems_own_look_up_is_checked_too(
    dialled: list[str], probes: Probes, monkeypatch: pytest.MonkeyPatch, *, tmp_path: Path
) -> None:
    """Where our resolver has no answer, the system is asked, whose word is another look-up."""
    SystemAnswer(monkeypatch, HOST, {2: "127.0.0.1"})
    client = resolver(etc(tmp_path, nsswitch="hosts: files\n"), 9)
    monkeypatch.setattr(dial, "system_resolver", lambda: client)
    result = await probes.run(KINDS["cold"])
    assert (result.outcome, dialled) == (Outcome.DENIED, [])
