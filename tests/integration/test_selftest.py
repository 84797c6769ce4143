"""`isochrone-agent selftest`, really run: its document, its exit status, and what it leaves behind."""

import asyncio
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from agent.selftest.cells import Cell, Plan
from agent.selftest.children import busy_core, can_pin, simulators
from agent.selftest.measure import Report
from agent.selftest.streams import StreamProber
from agent.selftest.verdict import Facts, judge
from agent.transport import AgentLoop, kernel
from isochrone.outcome import ClockSource

SELFTEST = [sys.executable, "-m", "agent.cli", "selftest"]
FACTS = Facts(cpus=2, load_per_cpu=None, throttled=None, clock_synchronized=None, pinned=True)
LINUX = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


def children(parent: int) -> dict[int, str]:
    """Return the command lines of a process's children."""
    found = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            ppid = int(stat.read_text().rpartition(")")[2].split()[1])
            if ppid == parent:
                found[int(stat.parent.name)] = stat.with_name("cmdline").read_bytes().replace(b"\0", b" ").decode()
        except (OSError, IndexError):
            continue  # it ended meanwhile
    return found


def until(condition: Callable[[], bool], seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come"
        time.sleep(0.02)


def test_the_document_has_each_cell_and_the_exit_status_is_that_of_its_own_numbers(tmp_path: Path) -> None:
    done = subprocess.run(
        [*SELFTEST, "--streams", "4", "--json"],
        capture_output=True,
        check=False,
        timeout=90,
        env={**os.environ, "TMPDIR": str(tmp_path)},
    )
    assert done.stderr == b""
    report = msgspec.json.decode(done.stdout, type=Report)
    kinds = [(cell.tls, cell.busy, cell.streams) for cell in report.cells]
    assert kinds == [(False, False, 4), (False, True, 4), (True, False, 4), (True, True, 4)]
    assert all(cell.measured + cell.failed > 0 for cell in report.cells)
    assert all(cell.ttft_error_seconds and cell.gap_error_seconds and cell.rtt_seconds for cell in report.cells)
    assert judge(report.cells, report.host) == report.verdict
    assert done.returncode == (0 if report.verdict.can_measure_to_1_ms else 1)
    assert report.duration_seconds < 60
    assert list(tmp_path.iterdir()) == []


@LINUX
def test_stamps_of_the_kernel_are_what_is_compared_on_linux() -> None:
    cell = _run_cell(Plan(tls=False, busy=False, streams=4))
    assert cell.failed == 0
    assert set(cell.truth_clocks) == {ClockSource.KERNEL}
    assert ClockSource.USER not in cell.clock_sources


def test_an_agent_without_stamps_on_a_loop_that_is_held_cannot_measure_to_1_ms(monkeypatch: pytest.MonkeyPatch) -> None:
    """The simulator runs in a process of its own, and so keeps its stamps."""
    monkeypatch.setattr(kernel, "ask_for_stamps", lambda _: False)
    monkeypatch.setattr(kernel, "ask_for_departures", lambda _: False)
    cell = _run_cell(Plan(tls=False, busy=False, streams=4), held_seconds=0.02)
    assert set(cell.clock_sources) == {ClockSource.USER}
    assert cell.ttft_error_seconds is not None
    assert cell.ttft_error_seconds.p99 > 0.001
    verdict = judge([cell], FACTS)
    assert not verdict.can_measure_to_1_ms
    assert verdict.failed_cells == ("plain, idle, 4 at once",)


def test_a_cell_for_which_no_time_is_left_is_told_and_not_invented() -> None:
    cell = _run_cell(Plan(tls=False, busy=False, streams=4), seconds=0.0)
    assert (cell.measured, cell.ttft_error_seconds, cell.rtt_seconds) == (0, None, None)
    verdict = judge([cell], FACTS)
    assert not verdict.can_measure_to_1_ms
    assert "plain, idle, 4 at once: nothing was measured (no time was left)." in verdict.words[1]


def _run_cell(plan: Plan, *, held_seconds: float = 0.0, seconds: float = 60.0) -> Cell:
    async def hold() -> None:
        while held_seconds:
            end = time.monotonic() + held_seconds
            while time.monotonic() < end:
                pass
            await asyncio.sleep(0.001)

    async def run(folder: Path) -> Cell:
        with simulators(folder) as servers:
            prober = StreamProber()
            holding = asyncio.create_task(hold())
            try:
                for server in servers.values():
                    await server.listening()
                await prober.stream(servers[plan.tls].url)
                return await prober.run(plan, servers[plan.tls], ends_at=asyncio.get_running_loop().time() + seconds)
            finally:
                holding.cancel()
                await prober.close()

    with tempfile.TemporaryDirectory() as folder, asyncio.Runner(loop_factory=AgentLoop) as runner:
        return runner.run(run(Path(folder)))


@LINUX
@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 130), (signal.SIGINT, 130), (signal.SIGKILL, -9)])
def test_however_it_ends_no_process_outlives_it(number: signal.Signals, status: int, tmp_path: Path) -> None:
    def named(word: str) -> list[int]:
        return [pid for pid, line in children(process.pid).items() if word in line]

    # A shell starts what runs in its background with SIGINT ignored, which children inherit: not the case meant here.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    process = subprocess.Popen(
        [*SELFTEST, "--streams", "1"],
        env={**os.environ, "TMPDIR": str(tmp_path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    signal.signal(signal.SIGINT, before)
    try:
        until(lambda: bool(named("agent.selftest.busy")))
        pids = [*named("agent.selftest.busy"), *named("simulate")]
        process.send_signal(number)
        said, complained = process.communicate(timeout=20)
    finally:
        process.kill()
    assert len(pids) == 3
    assert (process.returncode, said, complained) == (status, b"", b"")
    until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids))


def test_the_busy_loop_shares_one_core_with_the_agent_and_is_gone_after_it() -> None:
    before = os.sched_getaffinity(0) if can_pin() else set()
    with busy_core():
        mine = children(os.getpid())
        (busy,) = [pid for pid, line in mine.items() if "agent.selftest.busy" in line]
        if can_pin():
            assert len(os.sched_getaffinity(0)) == 1
            assert os.sched_getaffinity(busy) == os.sched_getaffinity(0)
    assert not Path(f"/proc/{busy}").exists()
    assert not can_pin() or os.sched_getaffinity(0) == before


@pytest.mark.parametrize("value", ["0", "257", "-1", "many", "1.5"])
def test_a_number_of_streams_that_is_none_is_wrong_usage(value: str) -> None:
    done = subprocess.run([*SELFTEST, "--streams", value], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "is not a number of streams from 1 to 256" in done.stderr or "expected one argument" in done.stderr


def test_running_the_agent_loads_nothing_of_the_self_test() -> None:
    code = (
        "import sys, agent.cli, agent.app; print([name for name in sys.modules if name.startswith('agent.selftest')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
