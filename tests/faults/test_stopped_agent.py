"""The real agent, stopped by the kernel or by its collector: it goes on in its rhythm, or not at all."""

import asyncio
import signal
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import pytest

from tests.integration.test_agent_run import RTT, assignment, config, results, running, settings, simulator, stopped
from tests.scripted_http import LittleCollector, Reply, Request, serving

pytestmark = pytest.mark.anyio
INTERVAL = RTT.interval
PATIENCE_SECONDS = 60


def starts(lines: list[dict[str, object]]) -> list[datetime]:
    return sorted(datetime.fromisoformat(str(line["started_at"])) for line in lines)


@pytest.mark.slow_fault
@pytest.mark.parametrize("asleep_seconds", [4, 60])
async def test_f08_an_agent_that_was_stopped_counts_what_it_missed_and_makes_up_for_none(
    tmp_path: Path, asleep_seconds: int
) -> None:
    async with simulator() as endpoint:
        collector = LittleCollector(config(assignment("near", endpoint, RTT)))
        async with serving(collector) as url, running("run", "--json", environment=settings(tmp_path, url)) as agent:
            lines = await results(agent, 2)
            agent.send_signal(signal.SIGSTOP)
            await asyncio.sleep(asleep_seconds)
            agent.send_signal(signal.SIGCONT)
            lines += await results(agent, 6)
            more, log = await stopped(agent)
            assert agent.returncode == 0, log
    began = starts(lines + more)
    gaps = [later - earlier for earlier, later in pairwise(began)]
    asleep = gaps.index(max(gaps))
    assert gaps[asleep] > timedelta(seconds=asleep_seconds - 1)
    woken = began[asleep + 1]
    soon = [moment for moment in began if woken <= moment < woken + timedelta(seconds=4 * INTERVAL)]
    assert len(soon) <= 6, "one run for all that were missed, then the interval again"
    last = list(collector.batches.values())[-1].status
    assert last.missed_probes >= (asleep_seconds - 1) / INTERVAL - 1
    assert last.expected_results >= last.missed_probes + len(began) - 1


@pytest.mark.slow_fault
async def test_f68_a_revoked_agent_stops_probing_within_one_flush_and_keeps_what_waits(tmp_path: Path) -> None:
    async with simulator() as endpoint:
        collector = LittleCollector(config(assignment("near", endpoint, RTT)))
        refused = asyncio.Event()
        refused_at: list[datetime] = []

        def refusing(request: Request) -> Reply:
            if request.method == "GET":
                return collector(request)
            refused_at.append(datetime.now(UTC))
            refused.set()
            return Reply(403, b'{"type":"urn:isochrone:problem:revoked"}', "application/problem+json")

        async with serving(refusing) as url, running("run", "--json", environment=settings(tmp_path, url)) as agent:
            lines = await results(agent, 1)
            async with asyncio.timeout(PATIENCE_SECONDS):
                await refused.wait()
            await asyncio.sleep(8 * INTERVAL)
            more, log = await stopped(agent)
            assert agent.returncode == 0, log
        kept = lines + more
        async with running("spool", "--state-dir", str(tmp_path / "state")) as shown:
            out, _ = await shown.communicate()
    assert starts(kept)[-1] < refused_at[0] + timedelta(seconds=2), "eight intervals of half a second went by since"
    assert "ERROR push: the collector has revoked this agent" in log
    assert "revoked: the collector refuses this agent" in out.decode()
    assert f"{len(kept)} result" in out.decode()
