"""Many agents with a day's backlog each: none of them shows the past before the present."""

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from tests.delivery import leave_backlog
from tests.faults.way import running, way

pytestmark = [pytest.mark.anyio, pytest.mark.slow_fault, pytest.mark.timeout(120)]

AGENTS = 20
SEGMENTS = 30
SECONDS = 20.0


async def test_f48_with_a_days_backlog_the_present_is_never_late(tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        ways = []
        for number in range(AGENTS):
            folder = tmp_path / f"agent-{number}"
            folder.mkdir()
            leave_backlog(folder / "spool", segments=SEGMENTS)
            ways.append(await stack.enter_async_context(way(folder)))
            await stack.enter_async_context(running(ways[-1]))
        await asyncio.gather(*(one.record_for(SECONDS) for one in ways))
        assert max(one.lag() for one in ways) < SECONDS / 2  # a minute is what is promised, with flushes of ten seconds
        old = [len(one.arrived.keys() - one.born.keys()) for one in ways]
        assert min(old) > 0, "the backlog stands still"
        assert max(old) <= SECONDS, "the backlog crowds the line"
