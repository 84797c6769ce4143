"""Disks that are full, slow, read-only, broken or gone: probing goes on, and every loss is counted."""

import asyncio
import contextlib
import errno
import os
import stat
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from agent.spool import Spool
from agent.spool.spool import MEMORY_RESULTS
from agent.telemetry import Telemetry
from isochrone.batch import DropReason
from tests.delivery import files, record, result, spool_in, stored

SLOW_SYNC_SECONDS = 0.5
RECOVERY_SECONDS = 2.0
PATIENCE_SECONDS = 30.0


@contextmanager
def small_disk(folder: Path, options: str) -> Iterator[Path]:
    """Yield a file system of its own, of a size or a number of files that can be used up; skip where none can be."""
    if os.geteuid() != 0:
        pytest.skip("mounting a small file system needs root")
    folder.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", options, "none", str(folder)], check=False).returncode:
        pytest.skip("mounting is not allowed here")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def refusing(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """Let every write of a segment fail: no file system here can be told to fail on cue."""
    write = os.write

    def refuse(descriptor: int, data: bytes) -> int:
        if data[:4] == b"ISO1" or b'"endpoint"' in data:
            raise OSError(number, os.strerror(number))
        return write(descriptor, data)

    monkeypatch.setattr(os, "write", refuse)


def recovers_by_itself(spool: Spool) -> threading.Event:
    """Let `spool` write its memory out as the agent does; return what is set once it did."""
    done = threading.Event()

    def recover() -> None:
        spool.recover()
        if spool.queued_results and not spool.in_memory:
            done.set()

    spool.on_memory = recover
    return done


def test_f22_a_missing_folder_is_made_and_a_removed_one_costs_what_was_in_it_alone(tmp_path: Path) -> None:
    folder, telemetry = tmp_path / "not" / "there", Telemetry()
    spool = spool_in(folder, telemetry=telemetry)
    record(spool, 3)
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()
    assert record(spool, 3) == [3, 4, 5]
    spool.flush()
    assert (stored(spool), telemetry.dropped) == ([3, 4, 5], {DropReason.IO: 3})
    spool.close()


def test_f22_a_disk_that_turns_read_only_leaves_a_bounded_memory_and_counts_the_rest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    telemetry = Telemetry()
    spool = spool_in(tmp_path, telemetry=telemetry)
    record(spool, 2)
    spool.flush()
    with monkeypatch.context() as patched:
        refusing(patched, errno.EROFS)
        assert record(spool, MEMORY_RESULTS + 7) == []
        assert spool.queued_results == MEMORY_RESULTS + 2
        assert telemetry.dropped == {DropReason.IO: 7}
    assert recovers_by_itself(spool).wait(PATIENCE_SECONDS)
    spool.flush()
    assert stored(spool) == [0, 1, *range(9, MEMORY_RESULTS + 9)]
    spool.close()


def test_f23_a_full_disk_drops_the_oldest_keeps_the_newest_and_counts_to_the_number(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", "size=2m") as disk:
        telemetry = Telemetry()
        spool = spool_in(disk / "spool", telemetry=telemetry)
        recorded: list[int] = []
        for _ in range(250):
            recorded += record(spool, 100, reason="r" * 150)
            spool.flush()
        kept = stored(spool)
        assert recorded == list(range(25_000)), "each found room on disk: over three times as much as fits"
        assert len(kept) * 3 < len(recorded)
        assert kept == list(range(kept[0], 25_000)), "the newest, without a hole"
        assert telemetry.dropped == {DropReason.FULL: kept[0]}
        spool.close()


def fill_up(path: Path) -> None:
    """Leave no byte free on the disk of `path`."""
    with path.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while file.write(b"x" * 4_096):
            pass


def test_f24_another_process_fills_the_disk_acknowledged_segments_leave_and_recording_comes_back(
    tmp_path: Path,
) -> None:
    with small_disk(tmp_path / "disk", "size=2m") as disk:
        telemetry = Telemetry()
        spool = spool_in(disk / "spool", telemetry=telemetry)
        record(spool, 100)
        spool.flush()
        (sealed,) = spool.waiting()
        spool.lease(sealed.batch_id)  # on its way: not to be dropped for room
        fill_up(disk / "filler")
        refused = 1_000 - len(record(spool, 1_000, reason="r" * 150))
        assert refused > 0
        spool.acknowledge(sealed.batch_id)
        spool.lease(None)
        deadline = time.monotonic() + PATIENCE_SECONDS
        while sealed.path.exists() and time.monotonic() < deadline:
            time.sleep(0.01)
        assert not sealed.path.exists(), "what is acknowledged leaves a full disk too"
        recovered = recovers_by_itself(spool)
        (disk / "filler").unlink()
        assert recovered.wait(RECOVERY_SECONDS), "without a new result, within two seconds"
        spool.flush()
        assert stored(spool) == list(range(100, 1_100))
        assert telemetry.dropped == {}
        spool.close()


def test_f25_without_inodes_old_segments_make_room_for_new_ones(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", "nr_inodes=50") as disk:
        telemetry = Telemetry()
        spool = spool_in(disk / "spool", telemetry=telemetry)
        recorded: list[int] = []
        for _ in range(150):
            recorded += record(spool, 1)
            spool.flush()
        kept = stored(spool)
        assert recorded == list(range(150))
        assert kept == list(range(kept[0], 150))
        assert telemetry.dropped == {DropReason.FULL: kept[0]}
        assert kept[0] > 90
        spool.close()


@pytest.mark.slow_fault
@pytest.mark.anyio
async def test_f26_a_slow_disk_does_not_hold_the_event_loop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The bench holds the exact bound; here, no wait of the loop comes near one of the disk's."""
    syncs: list[str] = []

    def slowly(_: int) -> None:
        syncs.append(threading.current_thread().name)
        time.sleep(SLOW_SYNC_SECONDS)

    monkeypatch.setattr(os, "fsync", slowly)  # the disk of this machine cannot be slowed
    monkeypatch.setattr(os, "fdatasync", slowly)
    spool = spool_in(tmp_path)
    lags = []
    for number in range(150):
        before = time.monotonic()
        assert spool.record(result()) is not None
        if number % 50 == 49:
            spool.rotate()
        await asyncio.sleep(0.01)
        lags.append(time.monotonic() - before - 0.01)
    await asyncio.to_thread(spool.close)
    assert len(syncs) >= 3
    assert set(syncs) == {"spool-writer"}
    assert sorted(lags)[len(lags) * 9 // 10] < SLOW_SYNC_SECONDS / 2


@pytest.mark.parametrize("number", [errno.EIO, errno.EDQUOT, errno.EROFS, errno.ENOSPC])
def test_f27_writes_that_fail_leave_results_in_memory_until_the_disk_takes_them(
    *, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    telemetry = Telemetry()
    spool = spool_in(tmp_path, telemetry=telemetry)
    with monkeypatch.context() as patched:
        refusing(patched, number)
        assert record(spool, 20) == []
        assert (spool.in_memory, telemetry.dropped) == (20, {})
    assert recovers_by_itself(spool).wait(PATIENCE_SECONDS)
    assert record(spool, 1) == [20]
    spool.flush()
    assert (stored(spool), telemetry.dropped) == (list(range(21)), {})
    spool.close()


def test_f27_a_sync_that_fails_costs_nothing_that_was_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(_: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    spool = spool_in(tmp_path)
    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", fail)
        record(spool, 3)
        spool.flush()
    assert "cannot be sealed" in caplog.text
    assert stored(spool) == [0, 1, 2]
    spool.close()
    again = spool_in(tmp_path)
    assert stored(again) == [0, 1, 2]
    again.close()


def test_f95_all_that_a_spool_holds_is_for_its_user_alone(tmp_path: Path) -> None:
    umask = os.umask(0)
    try:
        telemetry = Telemetry()
        spool = spool_in(tmp_path / "spool", telemetry=telemetry)
        record(spool, 4)
        spool.flush()
        (whole,) = spool.waiting()
        spool.split(whole, spool.read(whole))
        spool.reject(whole.batch_id, [b"{}"])
        spool.give_up(spool.waiting()[0])
        record(spool, 1)
        spool.close()
    finally:
        os.umask(umask)
    found = [tmp_path / "spool", *(tmp_path / "spool").rglob("*")]
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in found}
    assert {"corrupt", "rejected", "lock", "losses.json"} < modes.keys()
    assert files(tmp_path / "spool", ".seg") != []
    assert {mode for path, mode in zip(found, modes.values(), strict=True) if path.is_dir()} == {0o700}
    assert {mode for path, mode in zip(found, modes.values(), strict=True) if path.is_file()} == {0o600}
