"""A configuration that kills the process, and files that a crash left behind."""

import asyncio
import itertools
import subprocess
import sys
from pathlib import Path

import pytest

from isochrone.outcome import Outcome
from tests.configuring import Giver, config, good_configuration, polled
from tests.scripted_http import serving

pytestmark = pytest.mark.anyio

DEADLY = """
import asyncio, os, sys
from pathlib import Path
from agent.push import ConfigCache, ConfigPoller, Timing
from agent.clock import SystemClock
from agent.push.wait import wait_for
from agent.transport import CollectorClient

async def apply(config):
    print(config.revision, flush=True)
    if config.revision == 2:
        os._exit(9)

async def main():
    timing = Timing(clock=SystemClock(), random=lambda: 0.5, wait=wait_for)
    cache = ConfigCache(Path(sys.argv[2]))
    poller = ConfigPoller(CollectorClient(sys.argv[1]), cache, credential=lambda: "isoa_k3y_" + "x" * 40, timing=timing)
    poller.apply = apply
    await poller.begin()
    await poller.fetch()
    await poller.rest()

asyncio.run(main())
"""


async def test_f58_a_configuration_that_kills_the_process_is_left_after_two_deaths(tmp_path: Path) -> None:
    giver = Giver(config(1, "a"))
    await good_configuration(tmp_path, giver)
    giver.give(config(2, "b"), 2)
    runs: list[tuple[int, list[str]]] = []
    async with serving(giver) as url:
        for _ in range(4):
            command = [sys.executable, "-c", DEADLY, url, str(tmp_path / "config.json")]
            done = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, check=False)
            runs.append((done.returncode, done.stdout.split()))
    assert runs == [(9, ["1", "2"]), (9, ["2"]), (0, ["1"]), (0, ["1"])]
    assert giver.bodies == 2, "the deadly one came once and is not asked for again"
    async with polled(tmp_path, giver) as agent:
        state = agent.poller.state
        assert (state.running, state.failed) == (1, 2)
        assert "died 2 times" in str(state.reason)


async def test_f58_without_another_one_it_is_tried_again_after_a_pause(tmp_path: Path) -> None:
    giver = Giver(config(1, "a"))
    for _ in range(2):
        async with polled(tmp_path, giver) as agent:  # ends without a word, as a killed process does
            await agent.poller.fetch()
            assert agent.poller.state.running == 1
    async with polled(tmp_path, giver) as agent:
        await agent.poller.fetch()
        await agent.poller.review()
        assert (agent.poller.state.running, agent.poller.state.failed, agent.applied) == (None, 1, [])
        await agent.after_probation()
        await agent.poller.fetch()
        assert (agent.poller.state.running, agent.poller.state.failed) == (1, None)


async def test_f58_a_clean_stop_is_no_death(tmp_path: Path) -> None:
    giver = Giver(config(1, "a"))
    await good_configuration(tmp_path, giver)
    giver.give(config(2, "b"), 2)
    for _ in range(5):
        async with polled(tmp_path, giver) as agent:
            await agent.poller.fetch()
            await agent.poller.rest()
        assert agent.poller.state.running == 2


DAMAGE = {
    "gone": None,
    "empty": b"",
    "half": b'{"etag":"x","config":{"rev',
    "noise": b"\xff\x00" * 500,
    "another form": b'{"etag":"1","config":{}}',
    "deep": b"[" * 100_000,
    "huge": b" " * 2_000_000,
    "a folder": "folder",
}
FILES = ("config.json", "config.candidate.json", "config.notes.json")


@pytest.mark.slow_fault
@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("names", [c for n in (1, 2, 3) for c in itertools.combinations(FILES, n)], ids="+".join)
async def test_f59_damaged_files_do_not_stop_the_start(tmp_path: Path, names: tuple[str, ...], damage: str) -> None:
    giver = Giver(config(1, "a"))
    await good_configuration(tmp_path, giver)
    async with polled(tmp_path, giver) as agent:
        giver.give(config(2, "b"), 2)
        await agent.poller.fetch()
    for name in names:
        spoil(tmp_path / name, DAMAGE[damage])
    async with polled(tmp_path, giver) as agent:
        expected = 2 if "config.candidate.json" not in names else None if "config.json" in names else 1
        if damage == "a folder" and "config.notes.json" in names:
            expected = None if "config.json" in names else 1  # a death could not be counted: the good one
        assert agent.poller.state.running == expected
        giver.give(config(3, "c"), 3)
        await agent.poller.fetch()
        assert agent.poller.state.received == 3


async def test_f59_a_candidate_cut_at_any_byte_is_the_whole_or_none(tmp_path: Path) -> None:
    giver = Giver(config(1, "a"))
    await good_configuration(tmp_path, giver)
    giver.give(config(2, "b"), 2)
    async with polled(tmp_path, giver) as agent:
        await agent.poller.fetch()
    path = tmp_path / "config.candidate.json"
    whole = path.read_bytes()
    for length in range(0, len(whole), 7):
        path.write_bytes(whole[:length])
        async with polled(tmp_path, giver) as agent:
            assert agent.poller.state.running == 1


async def test_f59_an_older_good_one_stands_in_for_the_newest(tmp_path: Path) -> None:
    giver = Giver(config(1, "a"))
    for revision in (1, 2, 3, 4):
        giver.give(config(revision, "a"), revision)
        async with polled(tmp_path, giver) as agent:
            await agent.poller.fetch()
            agent.probes(Outcome.OK)
            agent.poller.hint(giver.etag)
            await agent.after_probation()
    found: list[int | None] = []
    for name in ("config.json", "config.2.json", "config.3.json"):
        async with polled(tmp_path, giver) as agent:
            found.append(agent.poller.state.running)
        spoil(tmp_path / name, b"{")
    assert found == [4, 3, 2]


def spoil(path: Path, content: bytes | str | None) -> None:
    path.unlink(missing_ok=True)
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        path.mkdir()
