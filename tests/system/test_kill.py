"""kill -9 of each part in the middle of load: what the agent had recorded is in Postgres exactly once."""

import os
import signal
from contextlib import suppress
from pathlib import Path

import psycopg
import pytest

from tests.system.cluster import Cluster, running_cluster, until

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(240)]


async def test_every_recorded_result_stands_once_whoever_was_killed(data: Path) -> None:
    async with running_cluster(data) as cluster:
        await cluster.progresses(what="the start")
        await answers_are_lost(cluster)
        for victim in ("agent", "collector", "postgres"):
            await cluster.kill(victim)
            await cluster.progresses(what=f"kill -9 of the {victim}")
        await backends_are_killed(cluster)
        await cluster.progresses(what="kill -9 of Postgres' children")
        assert await cluster.children["agent"].stop(), "the agent did not drain in time"
        ledger = cluster.ledger()
        assert ledger.problems() == []
        check_books(cluster)
        assert ledger.declared == {}
        assert len(ledger.printed) > 50
        assert len({boot for boot, _ in ledger.printed}) == 2, "the agent ran twice"


async def answers_are_lost(cluster: Cluster) -> None:
    """Cut two answers after the commit: the agent must send again what stands already."""
    cluster.cable.cuts_wanted = 2
    await until(lambda: cluster.cable.cuts_made == 2, what="two answers cut", seconds=60)
    await cluster.progresses(what="two lost answers")


async def backends_are_killed(cluster: Cluster) -> None:
    """Kill the processes that serve the collector: Postgres ends all sessions and recovers."""
    backends = cluster.backends()
    assert backends, "the collector holds no connection"
    for pid in backends:
        with suppress(ProcessLookupError):  # the death of the first ends the others
            os.kill(pid, signal.SIGKILL)


def check_books(cluster: Cluster) -> None:
    """No kill makes a loss of what is there: every number of both runs is accounted for."""
    with psycopg.connect(cluster.server.url) as connection:
        runs = connection.execute("SELECT recorded - received - dropped, received FROM agent_run").fetchall()
        (left_over,) = connection.execute("SELECT unaccounted FROM agent_report").fetchall()
    assert [difference for difference, _ in runs] == [0, 0]
    assert all(received > 10 for _, received in runs)
    assert left_over[0] <= 0
