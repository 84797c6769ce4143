"""Bugs planted in the real programs: the oracle must find each of them, or its silence means nothing."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from tests.system.cluster import Cluster, running_cluster, until

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(240)]


async def a_killed_collector(cluster: Cluster) -> None:
    await cluster.kill("collector")


async def a_lost_answer(cluster: Cluster) -> None:
    cluster.cable.cuts_wanted = 1
    await until(lambda: cluster.cable.cuts_made == 1, what="an answer cut", seconds=60)


async def a_proxy_in_between(cluster: Cluster) -> None:
    cluster.cable.canned = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello"
    await cluster.cable.drop()
    before = cluster.cable.canned_given
    await until(lambda: cluster.cable.canned_given >= before + 3, what="answers of the proxy", seconds=60)
    await asyncio.sleep(1)
    cluster.cable.canned = None
    await cluster.cable.drop()


@pytest.mark.parametrize(
    ("bug", "fault", "finding"),
    [
        ("acknowledge-before-commit", a_killed_collector, "results are missing"),
        ("no-duplicate-check", a_lost_answer, "results stand twice"),
        ("unlink-before-acknowledgement", a_proxy_in_between, "lost as corrupt"),
    ],
)
async def test_the_oracle_finds_a_planted_bug(
    *, data: Path, bug: str, fault: Callable[[Cluster], Awaitable[None]], finding: str
) -> None:
    async with running_cluster(data, planted=bug) as cluster:
        await cluster.progresses(what="the start")
        await fault(cluster)
        await cluster.progresses(what=bug)
        await cluster.children["agent"].stop()
        await asyncio.sleep(5)  # what a collector with the bug commits late is not lost
        problems = cluster.ledger().problems()
    assert any(finding in problem for problem in problems), problems
