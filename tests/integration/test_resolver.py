"""The look-up against real DNS servers: what they answer, what they leave out, and when the system is asked instead."""

import asyncio
import socket
from pathlib import Path
from typing import Literal

import pytest

from agent.transport import Failure, parse_origin, resolve
from agent.transport.resolver import Found
from isochrone.outcome import Outcome
from tests.name_server import (
    AAAA,
    CNAME,
    NXDOMAIN,
    SERVFAIL,
    A,
    NameServer,
    Record,
    Reply,
    SystemAnswer,
    etc,
    message,
    resolver,
    serving,
)

pytestmark = pytest.mark.anyio

HOST = "api.example.test"
ORIGIN = parse_origin(f"http://{HOST}:8000/v1")
FOUR, SIX = Record(HOST, A, "10.0.0.1", 60), Record(HOST, AAAA, "2001:db8::1", 90)
FOUND = Found(version=4, addresses=("10.0.0.1",), ttl_seconds=60)


async def test_one_family_alone_is_asked_for(tmp_path: Path) -> None:
    server = NameServer({(HOST, A): Reply((FOUR,)), (HOST, AAAA): Reply((SIX,))})
    async with serving(server) as port:
        client = resolver(etc(tmp_path), port)
        assert await client.look_up(HOST, (4, 6)) == FOUND
        assert await client.look_up(HOST, (6,)) == Found(version=6, addresses=("2001:db8::1",), ttl_seconds=90)
    assert server.asked == [(HOST, A, "udp"), (HOST, AAAA, "udp")]


async def test_a_name_without_ipv4_gives_its_ipv6_address(tmp_path: Path) -> None:
    server = NameServer({(HOST, AAAA): Reply((SIX,))})
    async with serving(server) as port:
        address = await resolve(ORIGIN, resolver=resolver(etc(tmp_path), port))
    assert (address.ip, address.version, address.sockaddr) == ("2001:db8::1", 6, ("2001:db8::1", 8000, 0, 0))
    assert (address.ttl_seconds, address.answer, address.looked_up) == (90, ("2001:db8::1",), True)


async def test_an_alias_is_followed_and_its_ttl_counts(tmp_path: Path) -> None:
    chain = (Record(HOST, CNAME, "cdn.test", 7), Record("cdn.test", A, "10.0.0.2", 300))
    server = NameServer({(HOST, A): Reply((*chain, Record("cdn.test", A, "10.0.0.3", 300)))})
    async with serving(server) as port:
        address = await resolve(ORIGIN, ip_version=4, resolver=resolver(etc(tmp_path), port))
    assert (address.ip, address.answer, address.ttl_seconds) == ("10.0.0.2", ("10.0.0.2", "10.0.0.3"), 7)
    assert address.sockaddr == ("10.0.0.2", 8000)


async def test_an_answer_that_was_cut_short_is_fetched_over_tcp(tmp_path: Path) -> None:
    records = tuple(Record(HOST, A, f"10.0.1.{index}", 60) for index in range(200))
    server = NameServer({(HOST, A): Reply(records, truncated=True)})
    async with serving(server) as port:
        found = await resolver(etc(tmp_path), port).look_up(HOST, (4,))
    assert found is not None
    assert found.addresses == tuple(record.value for record in records)
    assert [way for _, _, way in server.asked] == ["udp", "tcp"]


@pytest.mark.parametrize("first", [None, Reply(rcode=SERVFAIL)])
async def test_where_the_first_server_has_no_answer_the_second_is_asked(tmp_path: Path, first: Reply | None) -> None:
    silent, server = NameServer({(HOST, A): first}), NameServer({(HOST, A): Reply((FOUR,))})
    async with serving(silent, server) as port:
        client = resolver(etc(tmp_path, servers=2, more="options timeout:1\n"), port)
        assert await client.look_up(HOST, (4,)) == FOUND
    assert (len(silent.asked), len(server.asked)) == (1, 1)


async def test_a_server_that_is_not_there_costs_no_wait(tmp_path: Path) -> None:
    server = NameServer({(HOST, A): Reply((FOUR,))})
    async with serving(server) as port:
        folder = etc(tmp_path, servers=1)
        (folder / "resolv.conf").write_text("nameserver 127.0.0.99\nnameserver 127.0.0.2\noptions timeout:5\n")
        begun = asyncio.get_running_loop().time()
        assert await resolver(folder, port).look_up(HOST, (4,)) == FOUND
        assert asyncio.get_running_loop().time() - begun < 5


async def test_silence_ends_after_the_attempts_that_resolv_conf_gives(tmp_path: Path) -> None:
    server = NameServer({(HOST, A): None})
    async with serving(server) as port:
        client = resolver(etc(tmp_path, more="options timeout:1 attempts:2\n"), port)
        assert await client.look_up(HOST, (4,)) is None
    assert len(server.asked) == 2


async def test_datagrams_that_answer_something_else_are_passed_over(tmp_path: Path) -> None:
    poison = Record(HOST, A, "6.6.6.6")

    def wrong_id(query: bytes) -> bytes:
        return message(bytes([query[0] ^ 1]) + query[1:], (poison,))

    def wrong_name(query: bytes) -> bytes:
        return message(query, (poison,)).replace(b"\x03api", b"\x03apo")

    before = (wrong_id, wrong_name, lambda _: b"", lambda _: b"\xff" * 500, lambda query: query)
    server = NameServer({(HOST, A): Reply((FOUR,), before=before)})
    async with serving(server) as port:
        assert await resolver(etc(tmp_path), port).look_up(HOST, (4,)) == FOUND
    assert len(server.asked) == 1


async def test_a_flood_of_foreign_datagrams_ends(tmp_path: Path) -> None:
    flood = (lambda query: bytes([query[0] ^ 1]) + query[1:],) * 200
    server = NameServer({(HOST, A): Reply((FOUR,), before=flood)})
    async with serving(server) as port:
        client = resolver(etc(tmp_path, more="options attempts:1 timeout:5\n"), port)
        assert await client.look_up(HOST, (4,)) is None


async def test_a_broken_answer_sends_us_to_the_next_server(tmp_path: Path) -> None:
    broken = NameServer({(HOST, A): Reply((FOUR,), before=(lambda query: message(query, (FOUR,))[:-3],))})
    server = NameServer({(HOST, A): Reply((FOUR,))})
    async with serving(broken, server) as port:
        assert await resolver(etc(tmp_path, servers=2), port).look_up(HOST, (4,)) == FOUND
    assert len(server.asked) == 1


async def test_search_domains_are_tried_in_their_order(tmp_path: Path) -> None:
    long = f"{HOST}.b.example"
    replies: dict[tuple[str, int], Reply | None] = {
        (f"{HOST}.a.example", A): Reply(rcode=NXDOMAIN),
        (long, A): Reply((Record(long, A, "10.0.0.9", 5),)),
    }
    server = NameServer(replies)
    async with serving(server) as port:
        client = resolver(etc(tmp_path, more="search a.example b.example\noptions ndots:5\n"), port)
        found = await client.look_up(HOST, (4, 6))
    assert found == Found(version=4, addresses=("10.0.0.9",), ttl_seconds=5)
    assert server.asked == [(f"{HOST}.a.example", A, "udp"), (long, A, "udp")]


async def test_the_word_of_the_system_stands_where_there_is_no_such_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    system = SystemAnswer(monkeypatch, HOST, {socket.AF_INET: "10.9.9.9"})
    server = NameServer({(HOST, A): Reply(rcode=NXDOMAIN)})
    async with serving(server) as port:
        address = await resolve(ORIGIN, ip_version=4, resolver=resolver(etc(tmp_path), port))
    assert (address.ip, address.ttl_seconds, address.answer) == ("10.9.9.9", None, ("10.9.9.9",))
    assert (len(server.asked), system.asked) == (1, [socket.AF_INET])


@pytest.mark.parametrize(("version", "words"), [(None, "no address"), (4, "no IPv4 address"), (6, "no IPv6 address")])
async def test_no_address_of_the_family_is_a_failure_that_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, version: Literal[4, 6] | None, words: str
) -> None:
    SystemAnswer(monkeypatch, HOST)
    async with serving(NameServer()) as port:
        client = resolver(etc(tmp_path), port)
        with pytest.raises(Failure) as failed:
            await resolve(ORIGIN, ip_version=version, resolver=client)
    assert failed.value.outcome is Outcome.DNS
    assert failed.value.reason == f"{words} for {HOST}: Name or service not known"


async def test_without_a_family_ipv4_of_the_systems_answer_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    SystemAnswer(monkeypatch, HOST, {socket.AF_INET6: "2001:db8::1", socket.AF_INET: "10.0.0.1"})
    etc(tmp_path, hosts=f"10.0.0.1 {HOST}\n")
    address = await resolve(ORIGIN, resolver=resolver(tmp_path, 1))
    assert (address.version, address.answer) == (4, ("10.0.0.1",))
    address = await resolve(ORIGIN, ip_version=6, resolver=resolver(tmp_path, 1))
    assert (address.version, address.ip) == (6, "2001:db8::1")


async def test_a_literal_address_and_localhost_are_not_asked_for(tmp_path: Path) -> None:
    server = NameServer()
    async with serving(server) as port:
        client = resolver(etc(tmp_path), port)
        literal = await resolve(parse_origin("http://[::1]:81/"), ip_version=6, resolver=client)
        local = await resolve(parse_origin("http://localhost:81/"), ip_version=4, resolver=client)
    assert (literal.looked_up, literal.ttl_seconds, literal.sockaddr) == (False, None, ("::1", 81, 0, 0))
    assert (local.ip, local.looked_up, local.ttl_seconds) == ("127.0.0.1", True, None)
    assert server.asked == []


async def test_a_literal_address_of_the_other_version_is_refused() -> None:
    with pytest.raises(Failure, match=r"127.0.0.1 is no IPv6 address"):
        await resolve(parse_origin("http://127.0.0.1/"), ip_version=6)
