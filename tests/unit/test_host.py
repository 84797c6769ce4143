"""What the machine did to a probe becomes its flags: nothing where nothing happened, or where nobody tells."""

import ctypes
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from agent.host import (
    FULL_AT_LATEST_SECONDS,
    FULL_WHEN_IDLE_SECONDS,
    LOOP_LAG_SECONDS,
    TICK_SECONDS,
    FullCollections,
    Host,
    LagMeter,
    Watch,
    clock_unsynchronized,
    throttle_counter,
)
from agent.probes import Probes
from isochrone.outcome import Flag, RttMethod
from tests.simulated import SystemClock, rtt

pytestmark = pytest.mark.anyio

TIME_ERROR = 5
"""ntp_adjtime(3): the clock is not synchronised to a reliable server."""
HELD_SECONDS = LOOP_LAG_SECONDS + 2 * TICK_SECONDS


def telling(answers: Iterable[object]) -> Callable[[], object]:
    return iter(answers).__next__


def quiet(throttled: Iterable[int | None] = (), unsynchronized: Iterable[bool | None] = ()) -> Host:
    return Host(
        throttled=telling([*throttled, None, None]),  # type: ignore[arg-type]
        unsynchronized=telling([*unsynchronized, None]),  # type: ignore[arg-type]
    )


async def test_a_loop_that_was_held_up_is_told() -> None:
    with quiet().watch() as watch:
        time.sleep(HELD_SECONDS)  # noqa: ASYNC251  the hold itself
    assert Flag.LOOP_LAG in watch.flags
    assert watch.lag_seconds <= HELD_SECONDS * 10


def test_all_garbage_is_collected_between_probes_and_in_the_end_during_them() -> None:
    done: list[float] = []
    now = 1_000.0
    collections = FullCollections(collect=lambda: done.append(now))
    collections.pause(now, idle=True)
    now += FULL_WHEN_IDLE_SECONDS
    collections.pause(now, idle=False)
    assert done == []
    collections.pause(now, idle=True)
    collections.pause(now, idle=True)
    assert done == [now]
    now += FULL_AT_LATEST_SECONDS
    collections.pause(now, idle=False)
    assert done == [now - FULL_AT_LATEST_SECONDS, now]


async def test_the_end_of_the_last_probe_is_the_moment_to_collect() -> None:
    asked: list[bool] = []

    class Noted(FullCollections):
        def pause(self, now: float, *, idle: bool) -> None:
            assert now > 0
            asked.append(idle)

    host = Host(throttled=lambda: None, unsynchronized=lambda: None, collections=Noted())
    with host.watch():
        with host.watch():
            pass
        assert asked == [False]
    assert asked == [False, True]


async def test_what_held_the_loop_before_a_probe_is_not_its_matter() -> None:
    meter = LagMeter()
    first = meter.add()
    time.sleep(HELD_SECONDS)  # noqa: ASYNC251  the hold itself
    second = meter.add()
    meter.remove(second)
    meter.remove(first)
    assert first.lag_seconds > LOOP_LAG_SECONDS
    assert second.lag_seconds < first.lag_seconds / 2


def test_a_hold_counts_from_the_start_of_the_watch() -> None:
    watch = Watch(began=10.0)
    watch.note(0.5, now=10.1)
    assert watch.lag_seconds == pytest.approx(0.1)
    watch.note(0.2, now=20.0)
    watch.note(-0.1, now=30.0)
    assert watch.lag_seconds == pytest.approx(0.2)


@pytest.mark.parametrize(
    ("counts", "flagged"), [((7, 7), False), ((7, 8), True), ((None, 8), False), ((7, None), False)]
)
async def test_denied_periods_during_the_probe_are_told(counts: tuple[int | None, ...], *, flagged: bool) -> None:
    with quiet(throttled=counts).watch() as watch:
        pass
    assert (Flag.THROTTLED in watch.flags) is flagged


@pytest.mark.parametrize(
    ("answers", "flagged"),
    [
        ([False, False], [False, False]),
        ([False, True], [False, True]),
        ([False, True, False], [False, True, False]),
        ([True, True], [False, False]),
        ([None, None], [False, False]),
    ],
    ids=["kept", "lost", "found again", "never had", "not told"],
)
async def test_a_synchronisation_that_was_lost_is_told(answers: list[bool | None], flagged: list[bool]) -> None:
    host = Host(throttled=lambda: None, unsynchronized=telling(answers))  # type: ignore[arg-type]
    found = []
    for _ in answers:
        with host.watch() as watch:
            pass
        found.append(Flag.CLOCK_UNSYNCHRONIZED in watch.flags)
    assert found == flagged


async def test_the_flags_of_the_machine_join_those_of_the_probe() -> None:
    running = Probes(SystemClock(), lambda _: "", host=quiet(throttled=(1, 2)))
    result = await running.run(rtt("ftp://nowhere", RttMethod.TCP))
    assert Flag.THROTTLED in result.flags


@pytest.mark.parametrize(
    ("groups", "file"),
    [
        ("0::/agent.slice\n", "agent.slice/cpu.stat"),
        ("0::/\n", "cpu.stat"),
        ("0::/../outside\n", "cpu.stat"),
        ("4:memory:/m\n1:cpu,cpuacct:/a/b\n0::/\n", "cpu,cpuacct/a/b/cpu.stat"),
        ("1:cpu:/docker/abc\n", "cpu/cpu.stat"),
    ],
    ids=["version 2", "its root", "seen from inside", "version 1", "version 1 seen from inside"],
)
def test_denied_periods_are_read_where_the_group_keeps_them(tmp_path: Path, groups: str, file: str) -> None:
    proc, stat = tmp_path / "cgroup", tmp_path / "fs" / file
    proc.write_text(groups)
    stat.parent.mkdir(parents=True)
    stat.write_text("usage_usec 5\nnr_periods 9\nnr_throttled 3\nthrottled_usec 1\n")
    count = throttle_counter(proc, tmp_path / "fs")
    assert count() == 3
    stat.write_text("nr_throttled 4\n")
    assert count() == 4


@pytest.mark.parametrize("groups", [None, "", "0::/\n", "4:memory:/m\n", "nonsense\n"])
def test_a_machine_without_control_groups_tells_nothing(tmp_path: Path, groups: str | None) -> None:
    proc = tmp_path / "cgroup"
    if groups is not None:
        proc.write_text(groups)
    (tmp_path / "cpu.stat").write_text("usage_usec 5\n")
    assert throttle_counter(proc, tmp_path)() is None


@pytest.mark.skipif(sys.platform != "linux", reason="other kernels do not tell")
def test_what_is_said_of_the_clock_is_the_kernels_own_word() -> None:
    state = ctypes.CDLL(None).ntp_adjtime(ctypes.create_string_buffer(256))
    if state < 0:
        pytest.skip("this sandbox does not let the clock be asked for")
    assert clock_unsynchronized() is (state == TIME_ERROR)
