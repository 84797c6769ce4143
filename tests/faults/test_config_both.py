"""A real agent's poller at a real collector: what fails here is seen there."""

from pathlib import Path

import pytest

from agent.push import ConfigCache, ConfigPoller
from agent.transport import CollectorClient
from collector import admin
from collector.work import write_reports
from isochrone.config import AgentConfig
from isochrone.outcome import Outcome
from tests.collecting import AGENT, Collector, running_collector
from tests.delivery import impatient
from tests.faults.test_config_shrink import sites

pytestmark = pytest.mark.anyio


async def test_f63_a_real_collector_answers_304_without_a_body_to_the_running_and_to_the_failed(
    database_url: str, tmp_path: Path
) -> None:
    """And `targets show` tells what runs, and what was given up and why."""
    async with running_collector(database_url, targets=sites(2)) as collector:
        timing, patience = impatient()
        counted = Counted(collector)
        poller = ConfigPoller(
            counted, ConfigCache(tmp_path / "config.json"), credential=lambda: collector.token, timing=timing
        )
        applied: list[int] = []

        async def apply(config: AgentConfig) -> None:
            if config.revision == 2:
                raise OverflowError("nobody foresaw this")
            applied.append(config.revision)

        poller.apply = apply
        await thrice(poller)
        poller.ran(Outcome.OK, 1)
        poller.hint("anything")
        patience.clock.moved += 601
        await poller.review()
        assert not poller.state.probation
        admin.apply_targets(database_url, sites(3))
        await collector.context.registry.newer_than(0)
        await thrice(poller)
        await counted.client.close()
        assert counted.answers == [(200, True), (304, False), (304, False), (200, True), (304, False), (304, False)]
        assert applied == [1, 1], "at first, and when it went back"
        await write_reports(collector.context)
        shown = admin.show_targets(database_url, None)
    assert shown is not None
    assert [(one.running, one.received, one.failed) for one in shown.history] == [(0, 1, 1), (1, 0, 0)]
    (report,) = shown.reports
    assert (report.agent, report.reason) == (AGENT, "it could not be applied: OverflowError")


async def thrice(poller: ConfigPoller) -> None:
    for _ in range(3):
        await poller.fetch()


class Counted:
    """The agent's client, and what it was answered: status, and whether there was a body."""

    def __init__(self, collector: Collector) -> None:
        self.client = CollectorClient(str(collector.client.base_url).rstrip("/"))
        self.answers: list[tuple[int, bool]] = []

    async def request(self, method: str, path: str, **more: object) -> object:
        answer = await self.client.request(method, path, **more)  # type: ignore[arg-type]  passed on as it came
        self.answers.append((answer.status, bool(answer.body)))
        return answer
