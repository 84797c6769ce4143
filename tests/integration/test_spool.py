"""The spool on a real disk: nothing recorded is lost in silence, and nothing found on disk stops a start."""

import errno
import os
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import msgspec
import pytest

from agent.clock import SystemClock
from agent.errors import SpoolError, SpoolLocked
from agent.segment import encode_frame, encode_header, machine_hash
from agent.spool import Spool, SpoolLimits
from agent.spool.files import MAX_SEGMENT_BYTES
from agent.spool.spool import MEMORY_RESULTS, SEAL_BYTES
from agent.telemetry import Telemetry
from isochrone.batch import MAX_RESULTS, DropReason
from isochrone.wire import decode_result
from tests.delivery import MACHINE, MovedClock, record, result, spool_in

ROOT = Path(__file__).parents[2]


def stored(spool: Spool) -> list[int]:
    """Return the numbers of all results that wait, segment by segment, the oldest first."""
    segments = [spool.read(sealed) for sealed in reversed(spool.waiting())]
    return [decode_result(line).seq for segment in segments for line in segment.payloads]


def files(folder: Path, suffix: str) -> list[Path]:
    return sorted(folder.glob(f"*{suffix}"))


def test_results_are_numbered_from_zero_without_a_gap_and_read_back_in_order(tmp_path: Path) -> None:
    spool = spool_in(tmp_path / "spool")
    assert record(spool, 5) == [0, 1, 2, 3, 4]
    spool.flush()
    assert record(spool, 5) == [5, 6, 7, 8, 9]
    spool.flush()
    assert stored(spool) == list(range(10))
    assert len(spool.waiting()) == 2
    spool.close()


def test_folder_and_files_are_for_this_user_alone(tmp_path: Path) -> None:
    spool = spool_in(tmp_path / "state" / "spool")
    record(spool, 1)
    spool.flush()
    assert stat.S_IMODE((tmp_path / "state" / "spool").stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "state" / "spool").iterdir()} == {0o600}
    spool.close()


def test_a_segment_is_sealed_by_size_before_it_is_too_large_for_a_batch(tmp_path: Path) -> None:
    spool = spool_in(tmp_path)
    record(spool, 2_500, reason="r" * 150)
    spool.flush()
    assert len(spool.waiting()) > 2
    assert all(sealed.size_bytes <= SEAL_BYTES + 8_192 for sealed in spool.waiting())
    assert stored(spool) == list(range(2_500))
    spool.close()


def test_a_segment_holds_no_more_results_than_a_batch_may(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agent.spool.spool.SEAL_BYTES", 2**30)
    spool = spool_in(tmp_path)
    record(spool, MAX_RESULTS + 1)
    spool.flush()
    assert sorted(sealed.results for sealed in spool.waiting()) == [1, MAX_RESULTS]
    spool.close()


def test_a_second_agent_on_one_spool_is_refused(tmp_path: Path) -> None:
    spool = spool_in(tmp_path)
    with pytest.raises(SpoolLocked, match="another agent works on this spool"):
        spool_in(tmp_path)
    spool.close()
    spool_in(tmp_path).close()


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SpoolError, match="ISOCHRONE_STATE_DIR"):
        spool_in(tmp_path / "file" / "spool")


def test_an_acknowledged_segment_leaves_the_disk(tmp_path: Path) -> None:
    spool = spool_in(tmp_path)
    record(spool, 3)
    spool.flush()
    spool.acknowledge(spool.waiting()[0].batch_id)
    assert (spool.waiting(), spool.queued_results) == ([], 0)
    spool.close()
    assert files(tmp_path, ".seg") == []


def test_another_run_finds_what_waited_under_the_same_batch_id_and_boot_id(tmp_path: Path) -> None:
    first = spool_in(tmp_path)
    record(first, 3)
    first.close()
    second = spool_in(tmp_path)
    assert [sealed.batch_id for sealed in second.waiting()] == [sealed.batch_id for sealed in first.waiting()]
    segment = second.read(second.waiting()[0])
    assert segment.boot_id == first.boot_id != second.boot_id
    assert second.is_of_this_machine_start(segment)
    assert second.queued_results == 3
    second.close()
    third = spool_in(tmp_path, machine="another start of the machine")
    assert not third.is_of_this_machine_start(third.read(third.waiting()[0]))
    third.close()


def test_machines_that_do_not_tell_their_start_never_count_as_the_same(tmp_path: Path) -> None:
    first = spool_in(tmp_path, machine="")
    record(first, 1)
    first.close()
    second = spool_in(tmp_path, machine="")
    assert not second.is_of_this_machine_start(second.read(second.waiting()[0]))
    second.close()


CHILD = """
import sys
from pathlib import Path
from tests.delivery import result, spool_in
spool = spool_in(Path(sys.argv[1]))
while True:
    one = spool.record(result())
    print(spool.boot_id, one.seq, flush=True)
    if one.seq % 50 == 49:
        spool.rotate()
"""


@pytest.mark.parametrize("alive_seconds", [0.0, 0.05, 0.2])
def test_a_killed_agent_loses_nothing_that_it_had_recorded(tmp_path: Path, alive_seconds: float) -> None:
    printed: set[tuple[str, int]] = set()
    for _ in range(2):
        child = subprocess.Popen(
            [sys.executable, "-c", CHILD, str(tmp_path / "spool")], cwd=ROOT, stdout=subprocess.PIPE, text=True
        )
        assert child.stdout is not None
        first = child.stdout.readline()
        time.sleep(alive_seconds)
        child.kill()
        lines = [first, *child.stdout.read().splitlines()]
        child.stdout.close()
        child.wait()
        whole = [line.split() for line in lines if len(line.split()) == 2]
        printed |= {(boot_id, int(seq)) for boot_id, seq in whole[:-1]}
        printed.add((whole[0][0], int(whole[0][1])))
    telemetry = Telemetry()
    spool = spool_in(tmp_path / "spool", telemetry=telemetry)
    segments = [spool.read(sealed) for sealed in spool.waiting()]
    found = [(str(segment.boot_id), decode_result(line).seq) for segment in segments for line in segment.payloads]
    assert printed - set(found) == set()
    assert len(found) == len(set(found))
    assert telemetry.dropped == {}
    assert files(tmp_path / "spool", ".act") == []
    spool.close()


def test_a_torn_tail_costs_its_own_result_and_is_counted_once(tmp_path: Path) -> None:
    spool = spool_in(tmp_path)
    record(spool, 3)
    spool.close()
    path = files(tmp_path, ".seg")[0]
    path.write_bytes(path.read_bytes()[:-5])
    path.rename(path.with_suffix(".act"))  # as a power cut leaves it
    telemetry = Telemetry()
    spool = spool_in(tmp_path, telemetry=telemetry)
    assert stored(spool) == [0, 1]
    assert telemetry.dropped == {DropReason.CORRUPT: 1}
    assert [file.name for file in (tmp_path / "corrupt").iterdir()] == [path.with_suffix(".act").name]
    spool.close()
    again = Telemetry()
    spool = spool_in(tmp_path, telemetry=again)
    assert (stored(spool), again.dropped) == ([0, 1], {})
    spool.close()


def test_whatever_lies_in_the_folder_the_agent_starts(tmp_path: Path) -> None:
    name = "0192f0c4-7a1b-7c3d-8e4f-5a6b7c8d9e{:02x}"
    outside = tmp_path / "outside"
    outside.write_bytes(b"not ours")
    folder = tmp_path / "spool"
    folder.mkdir()
    head = encode_header(UUID(name.format(0)), machine_hash(MACHINE))
    for number, content in enumerate(
        [
            b"",
            b"x",
            b"SQLite format 3\x00",
            head[:20],
            head,
            b"ISO1\x09" + head[5:],
            head + b"\xff" * 50,
            os.urandom(99),
        ]
    ):
        (folder / (name.format(number) + ".seg")).write_bytes(content)
        (folder / (name.format(number + 32) + ".act")).write_bytes(content)
    (folder / "notes.txt").write_text("hello")
    (folder / (name.format(90) + ".tmp")).write_bytes(head)
    (folder / (name.format(91) + ".seg")).mkdir()
    (folder / (name.format(92) + ".seg")).symlink_to(outside)
    (folder / (name.format(93) + ".seg")).symlink_to("/nowhere")
    os.mkfifo(folder / (name.format(94) + ".seg"))
    telemetry = Telemetry()
    spool = spool_in(folder, telemetry=telemetry)
    assert spool.waiting() == []
    assert telemetry.dropped[DropReason.CORRUPT] >= 10
    assert record(spool, 2) == [0, 1]
    spool.flush()
    assert stored(spool) == [0, 1]
    spool.close()
    assert outside.read_bytes() == b"not ours"
    assert (folder / "notes.txt").exists()
    assert not (folder / (name.format(90) + ".tmp")).exists()


def test_a_full_spool_drops_its_oldest_segment_and_counts_every_result(tmp_path: Path) -> None:
    telemetry = Telemetry()
    spool = spool_in(tmp_path, telemetry=telemetry, limits=SpoolLimits(max_bytes=5 * SEAL_BYTES))
    for _ in range(60):
        record(spool, 200, reason="r" * 150)
        spool.flush()
        spool.keep_limits()
    kept = stored(spool)
    on_disk = sum(path.stat().st_size for path in tmp_path.glob("*.*"))
    assert on_disk <= 5 * SEAL_BYTES
    assert kept == list(range(kept[0], 12_000)), "the newest stay, without a hole"
    assert telemetry.dropped == {DropReason.FULL: kept[0]}
    spool.close()


def test_the_segment_on_its_way_is_not_dropped(tmp_path: Path) -> None:
    spool = spool_in(tmp_path, limits=SpoolLimits(max_bytes=3 * SEAL_BYTES))
    record(spool, 500, reason="r" * 150)
    spool.flush()
    on_its_way = spool.waiting()[-1]
    spool.lease(on_its_way.batch_id)
    for _ in range(20):
        record(spool, 500, reason="r" * 150)
        spool.flush()
        spool.keep_limits()
    assert on_its_way in spool.waiting()
    assert len(spool.waiting()) < 10
    spool.close()


def test_results_older_than_the_limit_are_dropped_whatever_the_wall_clock_said(tmp_path: Path) -> None:
    clock, telemetry = MovedClock(), Telemetry()
    spool = spool_in(tmp_path, clock=clock, telemetry=telemetry, limits=SpoolLimits(max_age_seconds=3_600))
    record(spool, 4)
    spool.flush()
    clock.moved += 3_500
    spool.keep_limits()
    assert spool.queued_results == 4
    clock.moved += 200
    spool.keep_limits()
    assert spool.queued_results == 0
    assert telemetry.dropped == {DropReason.AGE: 4}
    spool.close()


def test_halves_have_ids_that_follow_from_their_whole(tmp_path: Path) -> None:
    spool = spool_in(tmp_path)
    record(spool, 5)
    spool.flush()
    whole = spool.waiting()[0]
    segment = spool.read(whole)
    spool.split(whole, segment)
    halves = {sealed.batch_id: sealed.results for sealed in spool.waiting()}
    assert sorted(halves.values()) == [2, 3]
    assert sorted(stored(spool)) == [0, 1, 2, 3, 4]
    assert {spool.read(sealed).boot_id for sealed in spool.waiting()} == {spool.boot_id}
    spool.split(whole, segment)  # as after a crash before the whole was removed
    assert {sealed.batch_id for sealed in spool.waiting()} == set(halves)
    spool.close()
    again = spool_in(tmp_path)
    assert {sealed.batch_id: sealed.results for sealed in again.waiting()} == halves
    again.close()


def test_rejected_results_are_kept_aside_within_a_bound(tmp_path: Path) -> None:
    telemetry = Telemetry()
    spool = spool_in(tmp_path, telemetry=telemetry)
    for _ in range(30):
        record(spool, 1)
        spool.flush()
        sealed = spool.waiting()[0]
        spool.reject(sealed.batch_id, [b"x" * 100_000])
        spool.acknowledge(sealed.batch_id)
    assert telemetry.dropped == {DropReason.REJECTED: 30}
    kept = list((tmp_path / "rejected").iterdir())
    assert 5 <= len(kept) <= 10
    assert sum(path.stat().st_size for path in kept) <= 2**20
    spool.close()


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
