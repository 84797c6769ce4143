"""A configuration that does harm is given up; what the world does is not blamed on it."""

from pathlib import Path

import pytest

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
