"""F68: a credential on two hosts is seen, and ends everywhere when it is revoked."""

import asyncio
from datetime import UTC, datetime
from time import monotonic
from uuid import UUID

import httpx
import pytest

from collector import admin, identity
from collector.fleet import View
from collector.work import write_clones
from isochrone.wire import encode_batch
from tests.collecting import AGENT, Collector, batch_of, boottime, inference_result, running_collector
from tests.joining import another, one, status_with

pytestmark = pytest.mark.anyio

FIRST, SECOND = UUID(int=1), UUID(int=2)
METRIC = f'isochrone_agent_duplicate_identity{{agent="{AGENT}",agent_region="eu-central"}}'


async def deliver(collector: Collector, boot_id: UUID, seq: int, *, age: float) -> None:
    """Send one result of a run that was measured so many seconds ago."""
    result = inference_result(seq, started_boottime_seconds=boottime() - age)
    answer = await collector.send(batch_of([result], boot_id=boot_id))
    assert answer.json()["accepted"] == 1


async def duplicate(collector: Collector) -> str:
    text = (await collector.client.get("/metrics")).text
    return next(line.rpartition(" ")[2] for line in text.splitlines() if line.startswith(METRIC))


async def test_f68_two_hosts_with_one_credential_are_told_and_their_results_are_kept(database_url: str) -> None:
    async with running_collector(database_url) as collector:
        await deliver(collector, FIRST, 0, age=600)
        await deliver(collector, SECOND, 0, age=480)
        assert await duplicate(collector) == "0"
        await deliver(collector, FIRST, 1, age=360)
        assert await duplicate(collector) == "1"
        await write_clones(collector.context)
        (entry,) = clones_listed(database_url)
        assert entry is not None
        assert len(collector.rows()) == 3
    async with running_collector(database_url) as later:
        await write_clones(later.context)
        assert await duplicate(later) == "1", "it outlives the process"


def clones_listed(database_url: str) -> list[object]:
    view = View(now=datetime.now(UTC), late_seconds=300, flush_seconds=10)
    return [entry.clone_seen_at for entry in admin.list_agents(database_url, view)]


@pytest.mark.parametrize(
    "order",
    [
        ((FIRST, 600), (FIRST, 300), (SECOND, 290), (SECOND, 0)),
        ((SECOND, 0), (FIRST, 600), (SECOND, 100), (FIRST, 300)),
        ((FIRST, 600), (SECOND, 0), (FIRST, 580), (SECOND, 0), (FIRST, 560)),
        ((FIRST, 600), (SECOND, 590), (FIRST, 560), (SECOND, 0)),
    ],
    ids=["a restart", "a restart with a backlog, newest first", "two lanes", "a restart that overlaps"],
)
async def test_f68_an_agent_that_was_started_again_is_no_clone(
    database_url: str, order: tuple[tuple[UUID, float], ...]
) -> None:
    async with running_collector(database_url) as collector:
        for seq, (boot_id, age) in enumerate(order):
            await deliver(collector, boot_id, seq, age=age)
        assert await duplicate(collector) == "0"


async def test_f68_a_batch_that_names_another_agent_is_refused(database_url: str) -> None:
    async with running_collector(database_url) as collector:
        answer = await collector.post(encode_batch(batch_of([inference_result()], agent="agent-2")))
        assert (answer.status_code, answer.json()["type"]) == (403, "urn:isochrone:problem:forbidden")
        assert (await collector.post(encode_batch(batch_of([inference_result()], agent=AGENT)))).status_code == 200
        assert len(collector.rows()) == 1


async def test_f68_after_removal_the_name_is_free_and_the_ban_of_the_old_key_stays(database_url: str) -> None:
    async with running_collector(database_url) as collector:
        await deliver(collector, FIRST, 0, age=1)
        identity.revoke_agent(database_url, AGENT, "stolen")
        left = identity.remove_agent(database_url, AGENT)
        assert left.startswith(f"{AGENT}~")
        await collector.context.registry.newer_than(0)
        assert (await collector.fetch("/v1/agent/config")).status_code == 403
        assert one(database_url, "SELECT agent FROM v_result") == left


@pytest.mark.slow_fault
async def test_f68_a_revoked_agent_is_refused_within_30_s_by_every_collector(database_url: str) -> None:
    async with running_collector(database_url) as collector, another(database_url) as other:
        clients = (collector.client, other)
        assert [await status_with(client, collector.token) for client in clients] == [200, 200]
        identity.revoke_agent(database_url, AGENT, "stolen")
        taken = await asyncio.gather(*(seconds_until(client, collector.token) for client in clients))
    assert max(taken) < 30


async def seconds_until(client: httpx.AsyncClient, token: str) -> float:
    """Return how long the agent was still let in; it asks all the while."""
    begun = monotonic()
    while await status_with(client, token) != 403:
        assert monotonic() < begun + 60
        await asyncio.sleep(0.2)
    return monotonic() - begun
