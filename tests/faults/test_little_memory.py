"""F84: a collector with little memory, under bombs, slow connections and a returning fleet at once."""

import asyncio
import gzip
from contextlib import suppress

import pytest

from collector import admin
from isochrone.batch import MEDIA_TYPE
from tests.bench.herd import Member, Tally, live, make_fleet, peak_rss_mb, start_collector
from tests.collecting import TARGETS

pytestmark = [pytest.mark.anyio, pytest.mark.slow_fault, pytest.mark.timeout(600)]

MAX_MB = 256
FLEET = 400
ATTACKERS = 8
BOMBS = 25
"""Of each attacker."""
SLOW = 1_000
BOMB = 200_000_000


async def test_f84_the_collector_stays_within_256_mb_under_all_attacks_at_once(database_url: str) -> None:
    admin.apply_targets(database_url, TARGETS)
    bomb = gzip.compress(bytes(BOMB))
    fleet = make_fleet(database_url, FLEET + ATTACKERS, batches=1)
    base, stop = start_collector(database_url)  # from this thread: its memory is asked for by it
    host, port = base.removeprefix("http://").rsplit(":", 1)
    address, tally = (host, int(port)), Tally()
    try:
        slow = asyncio.create_task(_stay_slow(address))
        bombs = [asyncio.create_task(_throw(bomb, member, address)) for member in fleet[FLEET:]]
        async with asyncio.timeout(500):
            await asyncio.gather(*(live(member, address, tally, splay=False) for member in fleet[:FLEET]))
            answers = await asyncio.gather(*bombs)
        slow.cancel()
        await asyncio.gather(slow, return_exceptions=True)
        peak = peak_rss_mb()
    finally:
        await asyncio.to_thread(stop)
    assert tally.acknowledged == FLEET
    assert {status for one in answers for status in one} <= {"413", "429", "503", "closed"}
    assert any("413" in one for one in answers), "no bomb came as far as to be opened"
    assert peak < MAX_MB


async def _throw(bomb: bytes, member: Member, address: tuple[str, int]) -> list[str]:
    """Send bombs without pause; return the statuses."""
    head = (
        f"POST /v1/batches HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {member.token}\r\n"
        f"Content-Type: {MEDIA_TYPE}\r\nContent-Encoding: gzip\r\n"
        f"Content-Length: {len(bomb)}\r\nConnection: close\r\n\r\n"
    ).encode()
    return [await _answer(head + bomb, address) for _ in range(BOMBS)]


async def _answer(request: bytes, address: tuple[str, int]) -> str:
    answer = b""
    with suppress(OSError):
        reader, writer = await asyncio.open_connection(*address)
        with suppress(OSError):
            writer.write(request)
            answer = await reader.read()
        writer.close()
    return answer.split()[1].decode() if answer else "closed"


async def _stay_slow(address: tuple[str, int]) -> None:
    """Hold many connections that say nothing or little; open new ones for those that are closed."""
    starts = (b"", b"POST /v1/bat", b"POST /v1/agents/enroll HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n")
    gate = asyncio.Semaphore(SLOW)

    async def one(start: bytes) -> None:
        async with gate:
            with suppress(OSError):
                reader, writer = await asyncio.open_connection(*address)
                try:
                    writer.write(start)
                    await reader.read()
                finally:
                    writer.close()

    async with asyncio.TaskGroup() as group:
        for number in range(20 * SLOW):
            group.create_task(one(starts[number % len(starts)]))
