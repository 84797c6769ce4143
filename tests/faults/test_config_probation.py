"""A configuration that does harm is given up; what the world does is not blamed on it."""

import asyncio
from pathlib import Path

import msgspec
import pytest

from agent.push import ConfigCache
from agent.revisions import Fetched
from isochrone.config import encode_config
from isochrone.outcome import Outcome
from tests.configuring import Giver, config, good_configuration, polled
from tests.scripted_http import Reply

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("outcome", [Outcome.AUTH, Outcome.HTTP_4XX, Outcome.PROTOCOL, Outcome.DENIED])
async def test_f61_a_configuration_that_fails_every_target_is_rolled_back(tmp_path: Path, outcome: Outcome) -> None:
    giver = Giver(config(1, "a"))
    await good_configuration(tmp_path, giver)
    async with polled(tmp_path, giver) as agent:
        giver.give(config(2, "b"), 2)
        await agent.poller.fetch()
        agent.poller.hint(giver.etag)
        agent.probes(outcome)
        await agent.poller.review()
        assert agent.poller.state.running == 2, "its time is not over"
        await agent.after_probation()
        state = agent.poller.state
        assert (state.running, state.received, state.failed, state.probation) == (1, 2, 2, False)
        assert "by configuration" in str(state.reason)
        await agent.poller.fetch()
        assert giver.bodies == 2, "the bad one is not sent again"
        giver.give(config(3, "c"), 3)
        await agent.poller.fetch()
        assert (agent.poller.state.running, agent.poller.state.failed) == (3, None)
    assert [one.revision for one in agent.applied] == [1, 2, 1, 3]


@pytest.mark.parametrize(
    "outcome",
    [Outcome.DNS, Outcome.CONNECT, Outcome.TLS, Outcome.TIMEOUT_TOTAL, Outcome.HTTP_5XX, Outcome.OVERLOADED,
     Outcome.RATE_LIMITED, Outcome.STREAM_ERROR],
)  # fmt: skip
async def test_f61_an_outage_of_every_endpoint_is_not_rolled_back(tmp_path: Path, outcome: Outcome) -> None:
    giver = Giver(config(1, "a"))
    await good_configuration(tmp_path, giver)
    async with polled(tmp_path, giver) as agent:
        giver.give(config(2, "b"), 2)
        await agent.poller.fetch()
        agent.poller.hint(giver.etag)
        agent.probes(outcome, 50)
        await agent.after_probation()
        assert (agent.poller.state.running, agent.poller.state.probation) == (2, False)


async def test_f61_what_failed_before_the_change_is_not_its_fault(tmp_path: Path) -> None:
    giver = Giver(config(1, "a"))
    await good_configuration(tmp_path, giver)
    async with polled(tmp_path, giver) as agent:
        agent.probes(Outcome.AUTH)
        giver.give(config(2, "b"), 2)
        await agent.poller.fetch()
        agent.poller.hint(giver.etag)
        agent.probes(Outcome.AUTH)
        await agent.after_probation()
        assert agent.poller.state.running == 2


async def test_f61_lost_writes_are_rolled_back(tmp_path: Path) -> None:
    giver = Giver(config(1, "a"))
    await good_configuration(tmp_path, giver)
    async with polled(tmp_path, giver) as agent:
        giver.give(config(2, "b"), 2)
        await agent.poller.fetch()
        agent.poller.hint(giver.etag)
        agent.poller.io_lost = lambda: 3
        await agent.after_probation()
        assert (agent.poller.state.running, agent.poller.state.failed) == (1, 2)
        assert "3 results could not be written" in str(agent.poller.state.reason)


@pytest.mark.parametrize("status", [429, 503])
async def test_f62_a_collector_that_is_overloaded_is_no_reason_to_roll_back(tmp_path: Path, status: int) -> None:
    giver = Giver(config(1, "a"))
    await good_configuration(tmp_path, giver)
    async with polled(tmp_path, giver) as agent:
        giver.give(config(2, "b"), 2)
        await agent.poller.fetch()
        agent.probes(Outcome.OK)
        giver.faults = [Reply(status) for _ in range(20)]
        for _ in range(20):
            await agent.poller.fetch()
        await agent.after_probation()
        await agent.after_probation()
        state = agent.poller.state
        assert (state.running, state.probation, state.failed) == (2, True, None), "neither promoted nor given up"
        agent.poller.hint(giver.etag)
        await agent.poller.review()
        assert (agent.poller.state.running, agent.poller.state.probation) == (2, False)
    async with polled(tmp_path, lambda _: Reply(503)) as agent:
        assert (agent.poller.state.running, agent.poller.state.probation) == (2, False), "the last known good one"


async def test_f63_an_unchanged_configuration_has_no_body_and_is_not_applied_again(tmp_path: Path) -> None:
    giver = Giver(config(1, "a"))
    async with polled(tmp_path, giver) as agent:
        for _ in range(5):
            await agent.poller.fetch()
        assert agent.poller.state.age_seconds is not None
    assert giver.bodies == 1
    assert len(agent.applied) == 1
    assert all(request.headers["if-none-match"] == giver.etag for request in giver.requests[1:])


@pytest.mark.parametrize("status", [401, 403])
async def test_f42_a_refused_agent_asks_for_its_configuration_ever_more_rarely_until_it_is_let_in(
    tmp_path: Path, status: int
) -> None:
    giver = Giver(config(1, "a"))
    await good_configuration(tmp_path, giver)
    giver.faults = [Reply(status) for _ in range(500)]
    async with polled(tmp_path, giver) as agent:
        asked, clock = len(giver.requests), agent.patience.clock
        running = asyncio.create_task(agent.poller.run())
        async with asyncio.timeout(60):
            while clock.moved < 12 * 3_600:  # noqa: ASYNC110  the agent's own clock gives no event
                await asyncio.sleep(0.001)
            assert len(giver.requests) - asked <= 20
            giver.faults.clear()
            agent.poller.hint(giver.etag)
            let_in, asked = clock.moved, len(giver.requests)
            while len(giver.requests) <= asked:  # noqa: ASYNC110  as above
                await asyncio.sleep(0.001)
        running.cancel()
        assert clock.moved - let_in < 120


def test_f61_what_was_tried_on_a_full_disk_becomes_the_good_one_and_the_older_ones_stay(tmp_path: Path) -> None:
    cache = ConfigCache(tmp_path / "config.json")
    tried = [Fetched(etag=f'"{n}"', config=msgspec.Raw(encode_config(config(n, "a")))) for n in range(1, 5)]
    for one in tried[:3]:
        assert cache.try_out(one)
        assert cache.promote(one)
    assert cache.promote(tried[3]), "no candidate of it stands on disk"
    found = [ConfigCache(tmp_path / name).load() for name in ("config.json", "config.2.json", "config.3.json")]
    assert [one.etag for one in found if one is not None] == ['"4"', '"3"', '"2"']
