"""Supervised children are real processes here: they die, hang, and refuse to end."""

import asyncio
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from time import monotonic

import pytest

from collector import processes
from collector.processes import BoundedLog, Child, ChildFailed, Program, State, describe_end

pytestmark = pytest.mark.anyio
PATIENCE_SECONDS = 30
FULL = Path("/dev/full")


def python(code: str, log: Path, **more: object) -> Program:
    command = (sys.executable, "-c", textwrap.dedent(code))
    return Program(name="child", command=command, environment=dict(os.environ), log=log, **more)


async def until(condition: Callable[[], bool]) -> None:
    deadline = monotonic() + PATIENCE_SECONDS
    while not condition():
        assert monotonic() < deadline, "waited too long"
        await asyncio.sleep(0.02)


def exists(path: Path) -> Callable[[int], object]:
    async def ready(_pid: int) -> bool:
        return await asyncio.to_thread(path.exists)

    return ready


def lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


SLEEPER = "import time; time.sleep(600)"


async def test_a_child_leads_its_own_session_and_ends_politely(tmp_path: Path) -> None:
    child = Child(program=python(SLEEPER, tmp_path / "log"))
    await child.start()
    assert child.pid is not None
    assert os.getsid(child.pid) == child.pid != os.getsid(0)
    assert child.state is State.RUNNING
    assert await child.stop()
    assert (child.pid, child.state) == (None, State.STOPPED)


async def test_a_child_that_dies_is_started_again_and_the_death_is_told(tmp_path: Path) -> None:
    child = Child(program=python(SLEEPER, tmp_path / "log"))
    await child.start()
    first = child.pid
    assert first is not None
    os.kill(first, signal.SIGKILL)
    await until(lambda: child.restarts == 1 and child.state is State.RUNNING)
    assert child.pid not in {None, first}
    assert child.last_end == "was killed by SIGKILL"
    await child.stop()


async def test_a_child_that_cannot_start_is_told_with_its_last_lines(tmp_path: Path) -> None:
    code = """
        import sys
        for number in range(20):
            print("line", number, file=sys.stderr)
        sys.exit(3)
    """
    never = exists(tmp_path / "never")
    child = Child(program=python(code, tmp_path / "log", ready=never))
    with pytest.raises(ChildFailed, match=r"child ended with exit code 3 \(log: .*/log\)") as caught:
        await child.start()
    assert str(caught.value).endswith("line 18\n    line 19")
    assert "line 11\n" not in str(caught.value)
    assert (tmp_path / "log").read_text().count("line") == 20


async def test_a_child_that_is_not_ready_in_time_is_ended(tmp_path: Path) -> None:
    child = Child(program=python(SLEEPER, tmp_path / "log", ready=exists(tmp_path / "never"), ready_seconds=0.3))
    with pytest.raises(ChildFailed, match=r"was not ready within 0\.3 s"):
        await child.start()
    assert child.pid is None


async def test_a_child_without_a_deadline_may_start_for_long_and_a_person_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "LONG_START_SECONDS", 0.1)
    told: list[str] = []

    async def ready(_pid: int) -> bool:
        return bool(told)

    program = python(SLEEPER, tmp_path / "log", ready=ready, ready_seconds=None, long_start="it recovers")
    child = Child(program=program, tell=told.append)
    await child.start()
    assert (child.state, told) == (State.RUNNING, ["it recovers"])
    await child.stop()


async def test_a_child_whose_start_is_called_off_ends_in_its_own_way(tmp_path: Path) -> None:
    code = f"""
        import pathlib, signal, sys, time
        def end(*_):
            pathlib.Path({str(tmp_path / "ended")!r}).touch()
            sys.exit(0)
        signal.signal(signal.SIGTERM, end)
        pathlib.Path({str(tmp_path / "listens")!r}).touch()
        time.sleep(600)
    """
    program = python(code, tmp_path / "log", ready=exists(tmp_path / "never"), stop_seconds=PATIENCE_SECONDS)
    child = Child(program=program)
    start = asyncio.create_task(child.start())
    await until((tmp_path / "listens").exists)
    start.cancel()
    with pytest.raises(asyncio.CancelledError):
        await start
    assert await child.stop()
    assert (tmp_path / "ended").exists()


@pytest.mark.skipif(not FULL.exists(), reason="no device here that is always full")
async def test_a_child_whose_log_cannot_be_written_goes_on_and_the_loss_is_counted(tmp_path: Path) -> None:
    code = f"""
        import pathlib, sys, time
        for number in range(50_000):
            print("line", number, file=sys.stderr)
        pathlib.Path({str(tmp_path / "done")!r}).touch()
        time.sleep(600)
    """
    child = Child(program=python(code, FULL, ready=exists(tmp_path / "done")))
    await child.start()
    assert child.lost_lines > 1_000
    assert await child.stop()


async def test_a_program_that_is_missing_is_told(tmp_path: Path) -> None:
    program = Program(name="ghost", command=("/no/such/program",), environment={}, log=tmp_path / "log")
    with pytest.raises(ChildFailed, match="ghost cannot be started"):
        await Child(program=program).start()


async def test_a_child_that_does_not_listen_is_killed_at_its_deadline(tmp_path: Path) -> None:
    code = f"""
        import pathlib, signal, time
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        pathlib.Path({str(tmp_path / "deaf")!r}).touch()
        time.sleep(600)
    """
    child = Child(program=python(code, tmp_path / "log", ready=exists(tmp_path / "deaf"), stop_seconds=0.2))
    await child.start()
    pid = child.pid
    assert pid is not None
    assert not await child.stop()
    assert not lives(pid)


async def test_a_child_told_to_stop_while_it_waits_to_start_again_stays_down(tmp_path: Path) -> None:
    child = Child(program=python("raise SystemExit(1)", tmp_path / "log"))
    await child.start()
    await until(lambda: child.state is State.WAITING)
    assert await child.stop()
    assert (child.pid, child.state) == (None, State.STOPPED)


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's tie to the parent is Linux'")
async def test_children_of_a_killed_parent_are_killed_by_the_kernel(tmp_path: Path) -> None:
    code = f"""
        import asyncio, os, pathlib, sys
        from collector.processes import Child, Program
        async def main():
            command = (sys.executable, "-c", {SLEEPER!r})
            log = pathlib.Path({str(tmp_path / "log")!r})
            child = Child(program=Program(name="c", command=command, environment={{}}, log=log))
            await child.start()
            print(child.pid, flush=True)
            await asyncio.sleep(600)
        asyncio.run(main())
    """
    parent = await asyncio.create_subprocess_exec(sys.executable, "-c", textwrap.dedent(code), stdout=subprocess.PIPE)
    assert parent.stdout is not None
    pid = int(await parent.stdout.readline())
    assert lives(pid)
    parent.kill()
    await parent.wait()
    await until(lambda: not lives(pid))


def test_a_log_never_grows_past_its_bound_and_keeps_the_newest(tmp_path: Path) -> None:
    log = BoundedLog(tmp_path / "log", max_bytes=1_000)
    for number in range(500):
        log.write(b"line %d\n" % number)
    log.close()
    sizes = [(tmp_path / name).stat().st_size for name in ("log", "log.1")]
    assert all(0 < size <= 1_000 for size in sizes)
    assert (tmp_path / "log").read_text().endswith("line 499\n")
    assert log.last_lines()[-1] == "line 499"


def test_a_log_that_could_not_be_written_goes_on_when_it_can(tmp_path: Path) -> None:
    log = BoundedLog(tmp_path / "later" / "log")
    log.write(b"one\n")
    (tmp_path / "later").mkdir()
    log.write(b"two\n")
    log.close()
    assert (log.lost, log.last_lines()) == (1, ["one", "two"])
    assert (tmp_path / "later" / "log").read_text() == "two\n"


@pytest.mark.parametrize(
    ("code", "text"),
    [
        (0, "ended with exit code 0"),
        (75, "ended with exit code 75"),
        (-9, "was killed by SIGKILL"),
        (-200, "was killed by signal 200"),
    ],
)
def test_an_end_is_told_in_words(code: int, text: str) -> None:
    assert describe_end(code) == text
