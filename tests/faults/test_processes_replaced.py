"""Agent and collector that end at one instant, and collectors that are replaced one by one under load."""

import signal
from pathlib import Path

import pytest

from collector import processes
from tests.system.cluster import Cluster, running_cluster, until

pytestmark = [pytest.mark.anyio, pytest.mark.slow_fault, pytest.mark.timeout(400)]

TIMES = 3


@pytest.fixture(autouse=True)
def _restarted_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "GOOD_RUN_SECONDS", 0.0)  # who is ended often is not at fault


async def test_f13_agent_and_collector_killed_at_one_instant(data: Path) -> None:
    async with running_cluster(data) as cluster:
        await cluster.progresses(what="the start")
        for _ in range(TIMES):
            restarts = {name: cluster.children[name].restarts for name in ("agent", "collector")}
            for name in restarts:
                cluster.signal(name, signal.SIGKILL)
            await until(lambda before=restarts: again(cluster, before), what="both again", seconds=60)
            await cluster.progresses(what="agent and collector killed")
        await sends_twice(cluster)
        assert cluster.ledger().problems() == []


async def test_f49_collectors_restarted_one_after_the_other(data: Path) -> None:
    async with running_cluster(data, collectors=2) as cluster:
        await cluster.progresses(what="the start")
        for _ in range(TIMES):
            for name in ("collector", "collector-2"):
                await cluster.kill(name, signal.SIGTERM)
                await cluster.progresses(what=f"the restart of {name}")
        await sends_twice(cluster)
        assert cluster.ledger().problems() == []


def again(cluster: Cluster, before: dict[str, int]) -> bool:
    children = cluster.children
    return all(children[name].restarts > count and children[name].pid is not None for name, count in before.items())


async def sends_twice(cluster: Cluster) -> None:
    """Lose an answer, so that the run holds a repeat, and let the agent end."""
    cluster.cable.cuts_wanted += 1
    await until(lambda: cluster.cable.cuts_made == cluster.cable.cuts_wanted, what="an answer cut", seconds=90)
    await cluster.progresses(what="a lost answer")
    await cluster.drains()
