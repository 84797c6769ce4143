"""An agent killed at any point loses nothing that it had recorded, and sends nothing that was not."""

import asyncio
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.delivery import TOKEN, record, spool_in
from tests.scripted_http import LittleCollector, serving

pytestmark = pytest.mark.anyio
ROOT = Path(__file__).parents[2]
RESULTS = 30

PRODUCER = """
import sys
from pathlib import Path
from tests.delivery import result, spool_in
spool = spool_in(Path(sys.argv[1]))
while True:
    one = spool.record(result())
    print(spool.boot_id, one.seq, flush=True)
    if one.seq % 40 == 39:
        spool.rotate()
"""

AT_POINT = '''
"""Records, seals and sends; dies by SIGKILL at the named point."""
import asyncio, os, signal, sys
from pathlib import Path
from agent.push import Sender
from agent.spool import Spool, active, spool as spool_module
from agent.telemetry import Telemetry
from agent.transport import CollectorClient
from tests.delivery import TOKEN, impatient, result, spool_in

def die(*_args, **_options):
    os.kill(os.getpid(), signal.SIGKILL)

def then_die(call):
    def both(*args, **options):
        call(*args, **options)
        die()
    return both

folder, url, point = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
spool = spool_in(folder)
if point == "before_first_frame":
    active.Active.append = die
for _ in range(int(sys.argv[4])):
    print(spool.boot_id, spool.record(result()).seq, flush=True)
if point == "after_write":
    die()
elif point == "before_fsync":
    os.fsync = os.fdatasync = die
elif point == "after_rename":
    Path.rename = then_die(Path.rename)
elif point == "before_folder_fsync":
    active.fsync_folder = die
spool.flush()
if point == "after_post":
    Spool.acknowledge = die
elif point == "mid_unlink":
    Path.unlink = then_die(Path.unlink)

async def send():
    timing, _ = impatient()
    client = CollectorClient(url)
    sender = Sender(spool, client, credential=lambda: TOKEN, telemetry=Telemetry(), timing=timing, flush_seconds=10)
    await sender.send_once_each()
    await client.close()

asyncio.run(send())
spool.close()
'''
POINTS = ("after_write", "before_fsync", "after_rename", "before_folder_fsync", "after_post", "mid_unlink")


def printed_by(lines: list[str]) -> set[tuple[str, int]]:
    """Return what a child said it had recorded; a line that its death cut says nothing."""
    whole = [line.split() for line in lines if line.endswith("\n")]
    return {(boot_id, int(seq)) for boot_id, seq in whole}


def waiting_in(folder: Path) -> list[tuple[str, int]]:
    """Return every result that a new run finds."""
    spool = spool_in(folder)
    segments = [spool.read(sealed) for sealed in spool.waiting()]
    found = [(str(segment.boot_id), json.loads(line)["seq"]) for segment in segments for line in segment.payloads]
    spool.close()
    return found


def produce_and_kill(folder: Path, after_seconds: float) -> set[tuple[str, int]]:
    """Let an agent record until it is killed; return what it printed."""
    child = subprocess.Popen([sys.executable, "-c", PRODUCER, str(folder)], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    first = child.stdout.readline()
    time.sleep(after_seconds)
    child.kill()
    lines = [first, *child.stdout.readlines()]
    child.stdout.close()
    child.wait()
    return printed_by(lines)


@pytest.mark.parametrize("kills", [4, pytest.param(100, marks=[pytest.mark.slow_fault, pytest.mark.timeout(600)])])
def test_f01_killed_at_random_moments_nothing_recorded_is_lost(tmp_path: Path, kills: int) -> None:
    dice = random.Random(kills)  # noqa: S311  the same kills each time, no secret
    printed: set[tuple[str, int]] = set()
    for _ in range(kills):
        printed |= produce_and_kill(tmp_path / "spool", dice.uniform(0, 0.15))
    found = waiting_in(tmp_path / "spool")
    assert len(found) == len(set(found))
    assert printed - set(found) == set()
    # A result may be written whose line did not come out: one for each kill, and no other.
    assert len(set(found) - printed) <= kills


async def child_at(point: str, folder: Path, *, url: str, results: int = RESULTS) -> tuple[int, set[tuple[str, int]]]:
    """Run one agent that dies at `point`; return its exit status, and what it printed."""
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-c", AT_POINT, str(folder), url, point, str(results), cwd=ROOT, stdout=subprocess.PIPE
    )
    out, _ = await child.communicate()
    return child.returncode or 0, printed_by(out.decode().splitlines(keepends=True))


async def test_f02_killed_before_the_first_frame_the_next_start_is_clean(tmp_path: Path) -> None:
    folder = tmp_path / "spool"
    async with serving(LittleCollector()) as url:
        status, printed = await child_at("before_first_frame", folder, url=url)
        assert (status, printed) == (-signal.SIGKILL, set())
        assert [path.stat().st_size for path in folder.glob("*.act")] == [0]
        collector = LittleCollector()
    async with serving(collector) as url:
        status, printed = await child_at("nowhere", folder, url=url)
    assert status == 0
    assert {(str(boot_id), seq) for boot_id, seq in collector.ids} == printed
    assert list(folder.glob("*.act")) == []


@pytest.mark.parametrize("point", POINTS)
async def test_f03_killed_at_a_point_nothing_is_lost_and_at_most_one_batch_goes_twice(
    tmp_path: Path, point: str
) -> None:
    folder, collector = tmp_path / "spool", LittleCollector()
    async with serving(collector) as url:
        status, printed = await child_at(point, folder, url=url)
        assert status == -signal.SIGKILL
        assert len(printed) == RESULTS
        status, second = await child_at("nowhere", folder, url=url)
    assert status == 0
    found = [(str(boot_id), seq) for boot_id, seq in collector.ids]
    assert sorted(found) == sorted(printed | second)
    assert collector.duplicates == (1 if point == "after_post" else 0)
    assert list(folder.glob("*.seg")) == []


def agent(folder: Path, url: str) -> subprocess.Popen[str]:
    """Start the real agent on a state folder."""
    credential = folder.parent / "token"
    credential.write_text(TOKEN)
    credential.chmod(0o600)
    settings = {"COLLECTOR_URL": url, "CREDENTIAL_FILE": str(credential), "STATE_DIR": str(folder)}
    return subprocess.Popen(
        [sys.executable, "-m", "agent.cli", "run", "--json"],
        cwd=ROOT,
        env={**os.environ, **{f"ISOCHRONE_{key}": value for key, value in settings.items()}},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def started(one: subprocess.Popen[str]) -> str:
    """Wait until an agent works; return its line that says so."""
    assert one.stderr is not None
    for line in one.stderr:
        if ", run " in line:
            return line
    raise AssertionError("the agent ended before it worked")


def test_f14_sigterm_seals_what_is_open_and_ends_well(tmp_path: Path) -> None:
    folder = tmp_path / "state"
    folder.mkdir()
    spool = spool_in(folder / "spool")
    record(spool, 3)
    spool.close()
    one = agent(folder, "http://127.0.0.1:9")
    started(one)
    began = time.monotonic()
    one.terminate()
    _, said = one.communicate(timeout=60)
    assert one.returncode == 0, said
    assert time.monotonic() - began < 30
    assert "stopped: 3 results wait" in said
    assert list((folder / "spool").glob("*.act")) == []


def test_f15_a_second_agent_on_one_spool_is_refused_with_75(tmp_path: Path) -> None:
    folder = tmp_path / "state"
    first = agent(folder, "http://127.0.0.1:9")
    try:
        started(first)
        second = agent(folder, "http://127.0.0.1:9")
        _, said = second.communicate(timeout=60)
        assert second.returncode == 75
        assert "another agent works on this spool: stop it, or set ISOCHRONE_STATE_DIR" in said
        assert first.poll() is None
    finally:
        first.kill()
        first.communicate()


def test_f16_twenty_starts_in_a_row_leave_no_files_and_no_gaps(tmp_path: Path) -> None:
    printed: set[tuple[str, int]] = set()
    for _ in range(20):
        spool = spool_in(tmp_path)
        printed |= {(str(spool.boot_id), seq) for seq in record(spool, 2)}
        spool.close()
    assert len({boot_id for boot_id, _ in printed}) == 20
    assert sorted(waiting_in(tmp_path)) == sorted(printed)
    assert len(list(tmp_path.glob("*.seg"))) == 20
    for _ in range(5):
        spool_in(tmp_path).close()
    assert {path.name for path in tmp_path.iterdir() if path.suffix != ".seg"} == {"lock"}
    assert len(list(tmp_path.glob("*.seg"))) == 20
