"""A revision goes to a few agents first, and is taken back when it does them harm."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import httpx
import msgspec
import pytest

from collector import admin, rollout
from collector.errors import SettingsError
from collector.rollout import Applied, Rollout
from collector.store.engine import admin_transaction
from collector.store.targets import try_canary_lock
from collector.work import watch_canary, write_reports
from isochrone.config import STATE_HEADER, ConfigState, Targets, encode_state
from tests.collecting import AGENT, Collector, batch_of, rtt_result, running_collector
from tests.faults.test_config_shrink import sites

pytestmark = pytest.mark.anyio
AGENTS = 200


@dataclass(frozen=True, kw_only=True)
class Fleet:
    """A collector with many agents, by name with their tokens; some of them are in the canary."""

    collector: Collector
    tokens: dict[str, str]

    async def poll(self, name: str, state: ConfigState | None = None) -> httpx.Response:
        """Ask for the configuration as that agent does."""
        headers = {"Authorization": f"Bearer {self.tokens[name]}"}
        if state is not None:
            headers[STATE_HEADER] = encode_state(state)
        return await self.collector.client.get("/v1/agent/config", headers=headers)

    async def revisions(self) -> dict[str, int]:
        """Return what each agent gets."""
        await self.collector.context.registry.newer_than(0)
        return {name: (await self.poll(name)).json()["revision"] for name in self.tokens}

    async def judge(self) -> None:
        """Let the collector write down what it heard, and look at the canary."""
        await write_reports(self.collector.context)
        await self.collector.context.registry.newer_than(0)
        await watch_canary(self.collector.context)


@asynccontextmanager
async def fleet(database_url: str, count: int) -> AsyncIterator[Fleet]:
    admin.apply_targets(database_url, sites(2))
    tokens = {f"a-{n}": admin.add_agent(database_url, name=f"a-{n}", region="eu") for n in range(count)}
    async with running_collector(database_url, targets=None) as collector:
        yield Fleet(collector=collector, tokens=tokens)


def canary(database_url: str, document: Targets, share: int) -> Applied:
    return admin.apply_targets(database_url, document, Rollout(share_percent=share))


async def test_f64_a_canary_halts_when_two_of_twenty_fail(database_url: str) -> None:
    async with fleet(database_url, 21) as all_of_it:
        applied = canary(database_url, sites(3), 95)
        members = [name for name, revision in (await all_of_it.revisions()).items() if revision == 2]
        # The agent of the fixture counts too, in the canary or not.
        assert applied.canaries is not None
        assert len(members) in {applied.canaries, applied.canaries - 1}
        await all_of_it.poll(members[0], ConfigState(running=1, received=2, failed=2, reason="all 3 probes failed"))
        for name in members[1:]:
            await all_of_it.poll(name, ConfigState(running=2, received=2, probation=True))
        await all_of_it.judge()
        assert 2 in (await all_of_it.revisions()).values(), "one may be that agent's own trouble"
        await all_of_it.poll(members[1], ConfigState(running=1, received=2, failed=2, reason="all 3 probes failed"))
        await all_of_it.judge()
        assert set((await all_of_it.revisions()).values()) == {1}, "taken back from all"
        metrics = (await all_of_it.collector.client.get("/metrics")).text
        assert "isochrone_config_halted 1" in metrics
        shown = admin.show_targets(database_url, None)
        assert shown is not None
        assert (shown.revision, shown.canary) == (1, None)
        newest = shown.history[0]
        assert (newest.revision, newest.halted, newest.failed) == (2, True, 2)
        assert "all 3 probes failed" in str(newest.halt_reason)
        with pytest.raises(SettingsError, match="was halted"):
            admin.promote_targets(database_url)


async def test_f64_a_canary_halts_when_its_agents_fall_silent(database_url: str) -> None:
    async with fleet(database_url, 10) as all_of_it:
        canary(database_url, sites(3), 99)
        await all_of_it.revisions()
        for name in all_of_it.tokens:
            await all_of_it.poll(name, ConfigState(running=1, received=1))
        await all_of_it.judge()
        assert set((await all_of_it.revisions()).values()) == {2}
        now = datetime.now(UTC) + timedelta(seconds=rollout.SILENT_SECONDS + 10)
        all_of_it.collector.context.utc_now = lambda: now
        for name in list(all_of_it.tokens)[2:]:
            await all_of_it.poll(name, ConfigState(running=2, received=2))
        await all_of_it.judge()
        assert set((await all_of_it.revisions()).values()) == {1}


async def test_f62_agents_that_no_collector_could_hear_speak_against_no_canary(database_url: str) -> None:
    async with fleet(database_url, 10) as all_of_it:
        canary(database_url, sites(3), 99)
        await all_of_it.revisions()
        for name in all_of_it.tokens:
            await all_of_it.poll(name, ConfigState(running=1, received=1))
        await all_of_it.judge()
        now = datetime.now(UTC) + timedelta(seconds=rollout.SILENT_SECONDS + 10)
        context = all_of_it.collector.context
        context.utc_now = lambda: now
        context.heard_since = now  # as after a start, or an outage of the database
        await all_of_it.judge()
        assert set((await all_of_it.revisions()).values()) == {2}
        context.heard_since = now - timedelta(seconds=rollout.SILENT_SECONDS)
        await all_of_it.judge()
        assert set((await all_of_it.revisions()).values()) == {1}


async def test_f64_one_collector_at_a_time_judges(database_url: str) -> None:
    async with fleet(database_url, 1) as all_of_it:
        canary(database_url, sites(3), 99)
        await all_of_it.collector.context.registry.newer_than(0)
        await all_of_it.poll("a-0", ConfigState(running=1, received=2, failed=2, reason="bad"))
        await all_of_it.poll("a-0", ConfigState(running=1, received=2, failed=2, reason="bad"))
        await write_reports(all_of_it.collector.context)
        with admin_transaction(database_url) as other, admin_transaction(database_url) as this:
            assert try_canary_lock(other)
            assert rollout.halt_if_harmful(this, datetime.now(UTC)) is None


async def test_a_canary_grows_and_nobody_leaves_it(database_url: str) -> None:
    async with fleet(database_url, AGENTS // 4) as all_of_it:
        canary(database_url, sites(3), 1)
        before: set[str] = set()
        for share in (10, 50, 100):
            members = {name for name, revision in (await all_of_it.revisions()).items() if revision == 2}
            assert before <= members
            assert len(members) < len(all_of_it.tokens)
            before = members
            assert admin.promote_targets(database_url).share_percent == share
        assert set((await all_of_it.revisions()).values()) == {2}
        with pytest.raises(SettingsError, match="no canary is open"):
            admin.promote_targets(database_url)


async def test_results_of_a_canary_that_was_taken_back_are_still_stored(database_url: str) -> None:
    async with fleet(database_url, 0) as all_of_it:
        canary(database_url, sites(3), 99)
        await all_of_it.collector.context.registry.newer_than(0)
        for n in range(6):
            canary(database_url, sites(4 + n), 1)
        admin.roll_back_targets(database_url, None, confirmed=False)
        await all_of_it.collector.context.registry.newer_than(0)
        results = [
            rtt_result(0, endpoint="site-0", config_revision=1),
            rtt_result(1, endpoint="site-8", config_revision=8),
        ]
        ack = (await all_of_it.collector.send(batch_of(results))).json()
        assert ack["accepted"] == 2, ack


async def test_reading_the_same_file_again_neither_ends_nor_widens_a_canary(database_url: str) -> None:
    admin.apply_targets(database_url, sites(2))
    canary(database_url, sites(3), 10)
    for document in (sites(2), sites(3)):
        assert admin.apply_targets(database_url, document).changed is False
    shown = admin.show_targets(database_url, None)
    assert shown is not None
    assert (shown.revision, shown.canary, shown.history[0].share_percent) == (1, 2, 10)
    applied = admin.apply_targets(database_url, sites(3), Rollout(share_percent=100))
    assert (applied.revision, applied.changed, applied.canaries) == (2, True, None)


@pytest.mark.parametrize("header", ["", "{", "[]", '{"running":-1}', '{"reason":"\\u0000"}', "x" * 5_000])
async def test_a_header_that_says_nothing_costs_no_configuration(database_url: str, header: str) -> None:
    async with running_collector(database_url) as collector:
        headers = {"Authorization": f"Bearer {collector.token}", STATE_HEADER: header}
        assert (await collector.client.get("/v1/agent/config", headers=headers)).status_code == 200
        assert collector.context.config_reports == {}


async def test_f64_a_halt_does_not_undo_a_file_that_is_applied_meanwhile(database_url: str) -> None:
    async with fleet(database_url, 1) as all_of_it:
        canary(database_url, sites(3), 99)
        await all_of_it.collector.context.registry.newer_than(0)
        for name in ("a-0", AGENT):
            token = all_of_it.collector.token if name == AGENT else all_of_it.tokens[name]
            state = encode_state(ConfigState(running=1, received=2, failed=2, reason="bad"))
            headers = {"Authorization": f"Bearer {token}", STATE_HEADER: state}
            await all_of_it.collector.client.get("/v1/agent/config", headers=headers)
        await write_reports(all_of_it.collector.context)

        def halt() -> str | None:
            with admin_transaction(database_url) as connection:
                return rollout.halt_if_harmful(connection, datetime.now(UTC))

        moved = msgspec.structs.replace(sites(3), sites=tuple(
            msgspec.structs.replace(site, url="http://127.0.0.1:9/moved") for site in sites(3).sites
        ))  # fmt: skip
        with admin_transaction(database_url) as operator:
            rollout.apply_document(operator, moved)
            halting = asyncio.create_task(asyncio.to_thread(halt))
            await asyncio.sleep(0.3)  # it may wait for the operator or not: what it does must be right
        assert await halting is None, "that canary is not the newest any more"
        urls = all_of_it.collector.rows("SELECT DISTINCT url FROM endpoint")
        assert urls == [("http://127.0.0.1:9/moved",)]
