"""The spool on a real disk: nothing recorded is lost in silence, and nothing found on disk stops a start."""

import os
import stat
import subprocess
import sys
import time
from pathlib import Path
from uuid import UUID

import pytest

from agent.errors import SpoolError, SpoolLocked
from agent.segment import encode_header, machine_hash
from agent.spool import SpoolLimits
from agent.spool.spool import SEAL_BYTES
from agent.telemetry import Telemetry
from isochrone.batch import MAX_RESULTS, DropReason
from isochrone.wire import decode_result
from tests.delivery import MACHINE, MovedClock, files, record, spool_in, stored

ROOT = Path(__file__).parents[2]


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
