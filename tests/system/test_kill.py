"""kill -9 of each part in the middle of load: what the agent had recorded is in Postgres exactly once."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import psycopg
import pytest

from tests.system.cluster import ENDPOINTS, MODULES, Cluster, Ledger, running_cluster, until

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(240)]

IN_FLIGHT = len(ENDPOINTS) * len(MODULES)
"""Results that may be recorded and not yet printed when a kill comes: one for each target."""


@pytest.fixture
def data() -> Iterator[Path]:
    """Give a folder that Postgres' own user can reach."""
    with TemporaryDirectory(prefix="isochrone-kill-") as folder:
        yield Path(folder)


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
        check(ledger)
        check_books(cluster)
        assert cluster.cable.duplicates_told > 0, "no batch was sent twice: this run proves nothing"


async def answers_are_lost(cluster: Cluster) -> None:
    """Cut two answers after the commit: the agent must send again what stands already."""
    cluster.cable.cuts_wanted = 2
    await until(lambda: cluster.cable.cuts_made == 2, what="two answers cut", seconds=60)
    await cluster.progresses(what="two lost answers")


async def backends_are_killed(cluster: Cluster) -> None:
    """Kill the processes that serve the collector: Postgres ends all sessions and recovers."""
    with psycopg.connect(cluster.server.url) as connection:
        rows = connection.execute(
            "SELECT pid FROM pg_stat_activity WHERE application_name LIKE 'isochrone%'"
        ).fetchall()
    assert rows, "the collector holds no connection"
    for (pid,) in rows:
        os.kill(pid, signal.SIGKILL)


def check(ledger: Ledger) -> None:
    assert len(ledger.printed) > 50
    assert ledger.missing() == set()
    assert ledger.doubled() == set()
    assert ledger.changed() == set()
    boots = {boot for boot, _ in ledger.printed}
    assert len(boots) == 2, "the agent ran twice"
    last = {boot: max(seq for b, seq in ledger.printed if b == boot) for boot in boots}
    for boot, seq in ledger.unprinted():
        assert boot in boots, "a result of an agent that never was"
        assert last[boot] < seq <= last[boot] + IN_FLIGHT, "a result that was never recorded"


def check_books(cluster: Cluster) -> None:
    """No kill makes a loss of what is there: every number of both runs is accounted for."""
    with psycopg.connect(cluster.server.url) as connection:
        runs = connection.execute("SELECT recorded - received - dropped, received FROM agent_run").fetchall()
        (left_over,) = connection.execute("SELECT unaccounted FROM agent_report").fetchall()
    assert [difference for difference, _ in runs] == [0, 0]
    assert all(received > 10 for _, received in runs)
    assert left_over[0] <= 0
