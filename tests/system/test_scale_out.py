"""Two collectors behind HAProxy and PgBouncer: whoever is killed, nothing recorded is lost, nothing stands twice.

`ISOCHRONE_CHAOS_SEED` says which run.
"""

import asyncio
import os
from http import HTTPStatus
from pathlib import Path
from random import Random
from time import monotonic

import httpx
import pytest

from collector import processes
from tests import front
from tests.system.chaos import Chaos, freezes, kills, lose_answer
from tests.system.cluster import PATIENCE_SECONDS, Cluster, running_cluster

SEED = int(os.environ.get("ISOCHRONE_CHAOS_SEED", "1181"))
LONG_SECONDS = 60.0
COLLECTORS = ("collector", "collector-2")
FAULTS = {
    "collector killed": kills("collector"),
    "collector-2 killed": kills("collector-2"),
    "both collectors killed": kills(*COLLECTORS),
    "collector frozen": freezes("collector"),
    "pgbouncer killed": kills("pgbouncer"),
    "pgbouncer frozen": freezes("pgbouncer"),
    "haproxy killed": kills("haproxy"),
    "postgres killed": kills("postgres"),
    "lost answer": lose_answer,
}

pytestmark = pytest.mark.anyio


@pytest.fixture(autouse=True)
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    front.found("pgbouncer")
    front.found("haproxy")
    monkeypatch.setattr(processes, "GOOD_RUN_SECONDS", 0.0)  # who is killed often is not at fault


async def test_a_killed_collector_behind_a_balancer_and_a_pooler_costs_nothing(data: Path) -> None:
    async with running_cluster(data, collectors=2, fronted=True) as cluster:
        await cluster.progresses(what="the start")
        for name in COLLECTORS:  # one after the other: the agent keeps to one of them
            await cluster.kill(name)
        await cluster.progresses(what="kill -9 of each collector")
        await lose_answer(_chaos(cluster))
        await cluster.drains()
        assert cluster.ledger().problems() == []


@pytest.mark.slow_fault
@pytest.mark.timeout(LONG_SECONDS + 600)
async def test_random_kills_of_all_that_stands_in_between_cost_nothing(data: Path) -> None:
    async with running_cluster(data, collectors=2, fronted=True) as cluster:
        chaos = _chaos(cluster)
        await cluster.progresses(what="the start")
        end, bag = monotonic() + LONG_SECONDS, list[str]()
        while monotonic() < end or bag:  # each kind at least once
            bag = bag or chaos.random.sample(list(FAULTS), len(FAULTS))
            kind = bag.pop()
            await FAULTS[kind](chaos)
            await cluster.progresses(what=f"{kind} (seed {SEED}, after {dict(chaos.faults)})")
            chaos.faults[kind] += 1
        await lose_answer(chaos)
        await cluster.drains()
        ledger = cluster.ledger()
        assert ledger.problems() == [], dict(chaos.faults)
        assert len(ledger.stored) > LONG_SECONDS
        await without_a_database(cluster)


async def without_a_database(cluster: Cluster) -> None:
    """No collector is ready: those that live answer all the same, and tell agents when to come again."""
    await cluster.children["postgres"].stop()
    async with httpx.AsyncClient(base_url=f"http://{cluster.cable.listen}", trust_env=False, timeout=30) as client:
        deadline = monotonic() + PATIENCE_SECONDS
        while (answer := await client.get("/readyz")).headers.get("content-type") != "application/problem+json":
            assert monotonic() < deadline, f"the balancer answers by itself: {answer.status_code} {answer.text}"
            await asyncio.sleep(0.5)
        assert answer.status_code == HTTPStatus.SERVICE_UNAVAILABLE
        assert int(answer.headers["retry-after"]) > 0
        assert (await client.get("/healthz")).status_code == HTTPStatus.OK


def _chaos(cluster: Cluster) -> Chaos:
    return Chaos(cluster=cluster, seed=SEED, random=Random(SEED), disk=None, database_disk=None)  # noqa: S311  chances of a test
