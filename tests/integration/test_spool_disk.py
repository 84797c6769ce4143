"""The spool on a disk that is full, slow, damaged or gone: what is lost is counted, and recording goes on."""

import errno
import os
import subprocess
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest

from agent.clock import SystemClock
from agent.segment import encode_frame
from agent.spool.files import MAX_SEGMENT_BYTES
from agent.spool.spool import MEMORY_RESULTS
from agent.spool.writer import Writer
from agent.telemetry import Telemetry
from isochrone.batch import DropReason
from tests.delivery import MovedClock, files, record, result, spool_in, stored

ROOT = Path(__file__).parents[2]


def test_a_removed_folder_costs_what_was_in_it_and_recording_goes_on(tmp_path: Path) -> None:
    telemetry = Telemetry()
    folder = tmp_path / "spool"
    spool = spool_in(folder, telemetry=telemetry)
    record(spool, 3)
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()
    assert record(spool, 3) == [3, 4, 5]
    spool.flush()
    assert stored(spool) == [3, 4, 5]
    assert telemetry.dropped == {DropReason.IO: 3}
    spool.close()


def test_while_the_disk_refuses_results_wait_in_a_bounded_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    telemetry = Telemetry()
    spool = spool_in(tmp_path, telemetry=telemetry)
    write = os.write

    def refuse(descriptor: int, data: bytes) -> int:
        if data[:4] == b"ISO1" or b'"endpoint"' in data:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return write(descriptor, data)

    monkeypatch.setattr(os, "write", refuse)  # no file system here can be told to fail on cue
    assert record(spool, MEMORY_RESULTS + 50) == []
    assert spool.queued_results == MEMORY_RESULTS
    assert telemetry.dropped == {DropReason.IO: 50}
    monkeypatch.setattr(os, "write", write)
    assert record(spool, 1) == [MEMORY_RESULTS + 50]
    spool.flush()
    assert stored(spool) == list(range(50, MEMORY_RESULTS + 51))
    spool.close()


@pytest.mark.parametrize("ready", ["full of results", "full of bytes", "removed"])
def test_results_from_memory_are_written_once_though_the_open_segment_ends_under_them(
    *, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ready: str
) -> None:
    monkeypatch.setattr("agent.spool.spool.SEAL_BYTES", 2_000 if ready == "full of bytes" else 2**30)
    monkeypatch.setattr("agent.spool.spool.MAX_RESULTS", 5 if ready == "full of results" else 2_000)
    spool = spool_in(tmp_path)
    record(spool, 4)
    write = os.write

    def refuse(descriptor: int, data: bytes) -> int:
        if b'"endpoint"' in data:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return write(descriptor, data)

    monkeypatch.setattr(os, "write", refuse)  # no file system here can be told to fail on cue
    assert record(spool, 8) == []
    monkeypatch.setattr(os, "write", write)
    if ready == "removed":
        files(tmp_path, ".act")[0].unlink()
    assert record(spool, 8) == list(range(12, 20))
    spool.rotate()
    spool.flush()
    assert sorted(stored(spool)) == list(range(4 if ready == "removed" else 0, 20))
    assert spool.queued_results == len(stored(spool))
    spool.close()


def test_results_that_only_stood_in_memory_at_the_end_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    telemetry = Telemetry()
    spool = spool_in(tmp_path, telemetry=telemetry)
    write = os.write

    def refuse(descriptor: int, data: bytes) -> int:
        if data[:4] == b"ISO1":
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return write(descriptor, data)

    monkeypatch.setattr(os, "write", refuse)  # no file system here can be told to fail on cue
    record(spool, 3)
    spool.close()
    assert telemetry.dropped == {DropReason.IO: 3}
    assert "3 results are lost" in caplog.text


def test_a_fault_of_ours_on_the_writer_thread_ends_neither_it_nor_the_flush(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    spool = spool_in(tmp_path)
    calls: list[str] = []

    def fail_once() -> None:
        calls.append("sealed")
        if len(calls) == 1:
            raise ValueError("nobody foresaw this")

    spool.on_sealed = fail_once
    record(spool, 1)
    flushed = [threading.Thread(target=spool.flush, daemon=True)]
    flushed[0].start()
    flushed[0].join(timeout=30)
    assert not flushed[0].is_alive()
    assert "nobody foresaw this" in caplog.text
    record(spool, 1)
    spool.flush()
    assert stored(spool) == [0, 1]
    spool.close()


def test_the_rest_of_a_file_larger_than_any_segment_is_counted(tmp_path: Path) -> None:
    spool = spool_in(tmp_path)
    record(spool, 3)
    spool.close()
    path = files(tmp_path, ".seg")[0]
    frame = encode_frame(b"x" * 60_000)
    whole = path.read_bytes()
    fitting, left = divmod(MAX_SEGMENT_BYTES - len(whole), len(frame))
    filler = encode_frame(b"x" * (left - 8))  # the last frame that is read ends where reading ends
    path.write_bytes(whole + fitting * frame + filler + 2 * frame)
    telemetry = Telemetry()
    spool = spool_in(tmp_path, telemetry=telemetry)
    assert spool.queued_results == 3 + fitting + 1
    assert telemetry.dropped[DropReason.CORRUPT] >= 1
    spool.close()


@pytest.mark.parametrize("named_years_ago", [56, 1_000])
def test_a_segment_named_under_a_clock_that_was_not_set_is_kept_after_a_restart(
    tmp_path: Path, named_years_ago: int
) -> None:
    class UnsetClock(SystemClock):
        def utc_now(self) -> datetime:
            return datetime.fromtimestamp(
                max(0.0, super().utc_now().timestamp() - named_years_ago * 31_557_600), tz=UTC
            )

    old = spool_in(tmp_path, clock=UnsetClock(), machine="the start before")
    record(old, 2)
    old.close()
    telemetry = Telemetry()
    spool = spool_in(tmp_path, telemetry=telemetry)
    assert (spool.queued_results, telemetry.dropped) == (2, {})
    spool.close()


def test_an_old_segment_is_dropped_after_a_restart_by_the_age_in_its_name(tmp_path: Path) -> None:
    clock = MovedClock()
    clock.moved = -8 * 86_400.0
    old = spool_in(tmp_path, clock=clock, machine="the start before")
    record(old, 2)
    old.close()
    telemetry = Telemetry()
    spool = spool_in(tmp_path, telemetry=telemetry)
    assert (spool.queued_results, telemetry.dropped) == (0, {DropReason.AGE: 2})
    spool.close()


def test_a_half_written_result_leaves_no_trace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spool = spool_in(tmp_path)
    record(spool, 2)
    write = os.write
    cuts = [10]

    def cut(descriptor: int, data: bytes) -> int:
        return write(descriptor, data[: cuts.pop()] if cuts and b'"endpoint"' in data else data)

    monkeypatch.setattr(os, "write", cut)  # a disk that fills up in the middle of one write
    record(spool, 2)
    record(spool, 1)
    spool.flush()
    assert stored(spool) == [0, 1, 2, 3, 4]
    assert all(spool.read(sealed).bad_bytes == 0 for sealed in spool.waiting())
    spool.close()


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small file system needs root")
def test_a_full_disk_drops_old_segments_and_keeps_recording(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "none", str(disk)], check=False)
    if mounted.returncode:
        pytest.skip("mounting is not allowed here")
    try:
        telemetry = Telemetry()
        spool = spool_in(disk / "spool", telemetry=telemetry)
        recorded: list[int] = []
        for _ in range(100):
            recorded += record(spool, 100, reason="r" * 150)
            spool.flush()
        kept = stored(spool)
        assert recorded == list(range(10_000)), "every result found room on disk"
        assert kept == list(range(kept[0], 10_000))
        assert telemetry.dropped == {DropReason.FULL: kept[0]}
        spool.close()
    finally:
        subprocess.run(["umount", "--lazy", str(disk)], check=True)


def test_the_recording_thread_never_waits_for_the_disk_and_the_disk_is_synced_within_seconds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[tuple[str, str]] = []

    def watched(name: str, call: Callable[[int], None]) -> Callable[[int], None]:
        def sync(descriptor: int) -> None:
            synced.append((name, threading.current_thread().name))
            call(descriptor)

        return sync

    for name in ("fsync", "fdatasync"):
        monkeypatch.setattr(os, name, watched(name, getattr(os, name)))  # watches, and does what it is asked
    spool = spool_in(tmp_path)
    record(spool, 2_500, reason="r" * 150)
    spool.rotate()
    record(spool, 1)
    for _ in range(500):
        if any(name == "fdatasync" for name, _ in synced):
            break
        time.sleep(0.02)
    spool.close()
    assert {name for name, _ in synced} == {"fsync", "fdatasync"}
    assert {thread for _, thread in synced} == {"spool-writer"}


def test_a_result_too_large_for_the_collector_is_left_out_and_counted(tmp_path: Path) -> None:
    telemetry = Telemetry()
    spool = spool_in(tmp_path, telemetry=telemetry)
    flags = tuple(result().flags) + ("late_start",) * 1_000
    large = msgspec.structs.replace(result(), flags=flags)
    assert spool.record(large) is None
    assert telemetry.dropped == {DropReason.REJECTED: 1}
    assert record(spool, 1) == [1]
    spool.close()


def test_a_disk_that_refuses_the_books_alone_is_told_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("agent.spool.writer.SYNC_SECONDS", 0.001)
    tries: list[int] = []
    enough = threading.Event()

    def refuse() -> None:
        tries.append(1)
        if len(tries) == 5:
            enough.set()
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    writer = Writer(lambda: None, books=refuse)
    writer.start()
    assert enough.wait(30)
    writer.stop()
    assert caplog.text.count("the disk fails") == 1
