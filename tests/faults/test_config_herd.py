"""A fleet that hears of a new revision does not come for it all at once."""

import asyncio
import random
from pathlib import Path

import pytest

from agent.push import ConfigCache, ConfigPoller, Timing
from agent.revisions import Fetched, Start
from isochrone.config import encode_config
from tests.configuring import Giver, config, polled
from tests.delivery import TOKEN, MovedClock
from tests.scripted_http import Reply

pytestmark = pytest.mark.anyio
AGENTS = 10_000
FLUSH_SECONDS = 10.0
NEW = '"2-0"'


BODY = encode_config(config(1, "a"))


class Forgetful(ConfigCache):
    """No disk for ten thousand."""

    def start(self) -> Start:
        return Start(good=None, candidate=None, bad=())

    def try_out(self, fetched: Fetched) -> bool:
        return fetched.etag != NEW


class Asked(BaseException):
    """The second request: what the test waits for."""


@pytest.mark.slow_fault
async def test_f47_ten_thousand_agents_fetch_a_new_revision_over_thirty_seconds(tmp_path: Path) -> None:
    dice = random.Random(4)  # noqa: S311  no secret: the spread is measured
    arrivals = [await arrival(dice, tmp_path) for _ in range(AGENTS)]
    assert max(arrivals) - min(arrivals) >= 30
    fullest = max(sum(second <= moment < second + 1 for moment in arrivals) for second in range(40))
    assert fullest < 1.3 * AGENTS / 30


async def arrival(dice: random.Random, tmp_path: Path) -> float:
    """Return when an agent asks again, in seconds since the revision was made: an ack tells it, then it waits."""
    waits: list[float] = []
    now = 0.0

    async def wait(event: asyncio.Event, seconds: float) -> bool:
        nonlocal now
        if not event.is_set() and not waits:
            waits.append(seconds)
            now = dice.random() * FLUSH_SECONDS
            poller.hint(NEW)
            if not event.is_set():
                raise AssertionError("the hint did not wake the poller")
            event.clear()
            return True
        now += seconds
        return False

    class Client:
        asked = 0

        async def request(self, *_words: str, **_more: object) -> Reply:
            self.asked += 1
            if self.asked > 1:
                raise Asked
            return Reply(body=BODY, headers={"etag": '"1-0"'})

    timing = Timing(clock=MovedClock(), random=dice.random, wait=wait)
    poller = ConfigPoller(Client(), Forgetful(tmp_path / "config.json"), credential=lambda: TOKEN, timing=timing)
    try:
        await poller.run()
    except Asked:
        return now
    raise AssertionError("never asked again")


async def test_f47_a_tag_that_is_known_wakes_nobody(tmp_path: Path) -> None:
    giver = Giver(config(1, "a"))
    async with polled(tmp_path, giver) as agent:
        await agent.poller.fetch()
        agent.poller.hint(giver.etag)
        assert not agent.poller._wake.is_set()  # noqa: SLF001  the only sign before the wait
