"""Whatever stands in the spool's files, the agent starts, sends every whole result, and counts the rest."""

import os
import random
import struct
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.budget import Budgets
from agent.revisions import ConfigCache, Start
from agent.segment import HEADER_BYTES
from agent.spool.files import write_durably
from agent.telemetry import Telemetry
from isochrone.batch import DropReason
from tests.delivery import files, record, spool_in, stored

RESULTS = 6
FOREIGN_FILES = 10_000
_FRAME = struct.Struct("<II")


def segment_of(folder: Path, count: int = RESULTS) -> bytes:
    """Return the bytes of a sealed segment."""
    spool = spool_in(folder)
    record(spool, count)
    spool.close()
    return files(folder, ".seg")[0].read_bytes()


def frame_starts(data: bytes) -> list[int]:
    """Return where each frame begins; the first is the run's."""
    starts, position = [], HEADER_BYTES
    while position < len(data):
        starts.append(position)
        position += _FRAME.size + _FRAME.unpack_from(data, position)[0]
    return starts


def restarted(folder: Path, data: bytes) -> tuple[list[int], dict[DropReason, int]]:
    """Put `data` in the place of a folder's segment, start an agent, return what it has to send and what it counted."""
    path = files(folder, ".seg")[0]
    path.write_bytes(data)
    path.rename(path.with_suffix(".act"))
    telemetry = Telemetry()
    spool = spool_in(folder, telemetry=telemetry)
    found = stored(spool)
    spool.close()
    return found, telemetry.dropped


def test_f17_truncated_at_any_byte_every_whole_frame_is_sent_and_the_rest_counted(tmp_path: Path) -> None:
    whole = segment_of(tmp_path / "whole")
    starts = frame_starts(whole)
    ends = [*starts[1:], len(whole)]
    for cut in range(len(whole)):
        with tempfile.TemporaryDirectory() as folder:
            segment_of(Path(folder))
            found, dropped = restarted(Path(folder), whole[:cut])
        kept = max(0, sum(end <= cut for end in ends) - 1)
        assert found == list(range(kept)), f"cut at {cut}"
        clean = cut == 0 or cut in ends
        assert dropped == ({} if clean else {DropReason.CORRUPT: 1}), f"cut at {cut}"


@settings(deadline=None, max_examples=60)
@given(place=st.integers(0, 10**9), bit=st.integers(0, 7))
def test_f18_a_flipped_bit_costs_its_own_frame_or_the_tail_and_is_counted(place: int, bit: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        whole = segment_of(Path(folder))
        starts = frame_starts(whole)
        data = bytearray(whole)
        data[place % len(data)] ^= 1 << bit
        found, dropped = restarted(Path(folder), bytes(data))
    hit = sum(start <= place % len(whole) for start in starts) - 2  # the result whose frame was hit
    if bytes(data[5:8]) != whole[5:8]:
        assert found == list(range(RESULTS)), "flags and padding of the header mean nothing"
    elif hit < 0:
        assert found in ([], list(range(RESULTS))), (
            "without its run no result can be told apart; the machine's hash may"
        )
    else:
        assert set(range(RESULTS)) - set(found) <= set(range(hit, RESULTS))
        assert hit not in found
        assert dropped.get(DropReason.CORRUPT, 0) >= 1
    assert found == sorted(set(found))


@pytest.mark.parametrize("length", [0, 64 * 1024 + 1, 2**31, 2**32 - 1])
def test_f19_a_length_that_cannot_be_ends_the_reading_there(tmp_path: Path, length: int) -> None:
    whole = segment_of(tmp_path)
    third = frame_starts(whole)[3]
    data = whole[:third] + length.to_bytes(4, "little") + whole[third + 4 :]
    assert restarted(tmp_path, data) == ([0, 1], {DropReason.CORRUPT: 1})


def test_f20_foreign_files_are_left_alone_and_symlinks_not_followed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder, outside = tmp_path / "spool", tmp_path / "outside"
    outside.write_bytes(segment_of(tmp_path / "other"))
    before = outside.read_bytes()
    segment_of(folder)
    name = "0192f0c4-7a1b-7c3d-8e4f-5a6b7c8d9e{:02x}.seg"
    for number in range(FOREIGN_FILES):
        (folder / f"note-{number}").touch()
    (folder / name.format(1)).touch()
    (folder / name.format(2)).mkdir()
    (folder / name.format(3)).symlink_to(outside)
    (folder / name.format(4)).write_bytes(before)
    (folder / name.format(4)).chmod(0)
    spool = spool_in(folder)
    sent = stored(spool)
    spool.close()
    readable = os.geteuid() == 0  # for root, mode 0000 is no obstacle
    assert sorted(sent) == sorted(list(range(RESULTS)) * (2 if readable else 1))
    assert f"{FOREIGN_FILES} foreign files" in caplog.text
    assert outside.read_bytes() == before
    assert (folder / name.format(3)).is_symlink()
    assert len(list(folder.glob("note-*"))) == FOREIGN_FILES


def test_f21_a_segment_of_a_future_release_is_set_aside_and_the_rest_is_sent(tmp_path: Path) -> None:
    segment_of(tmp_path)
    future = tmp_path / "0192f0c4-7a1b-7c3d-8e4f-5a6b7c8d9e0f.seg"
    data = files(tmp_path, ".seg")[0].read_bytes()
    future.write_bytes(data[:4] + b"\x02" + data[5:])
    telemetry = Telemetry()
    spool = spool_in(tmp_path, telemetry=telemetry)
    assert stored(spool) == list(range(RESULTS))
    assert telemetry.dropped == {DropReason.CORRUPT: 1}
    assert [path.name for path in (tmp_path / "corrupt").iterdir()] == [future.name]
    spool.close()


def test_f21_what_is_set_aside_stays_within_its_bound(tmp_path: Path) -> None:
    noise = random.Random(1)  # noqa: S311  noise, no secret
    for number in range(40):
        name = f"0192f0c4-7a1b-7c3d-8e4f-5a6b7c8d9e{number:02x}.seg"
        (tmp_path / name).write_bytes(noise.randbytes(100_000))
    spool = spool_in(tmp_path)
    spool.close()
    kept = [path.stat().st_size for path in (tmp_path / "corrupt").iterdir()]
    assert 0 < sum(kept) <= 2**20


def test_f20_a_pipe_under_a_name_of_ours_holds_neither_the_start_nor_the_writer(tmp_path: Path) -> None:
    spool_folder, telemetry = tmp_path / "spool", Telemetry()
    spool_folder.mkdir()
    pipes = ("spool/losses.json", "spool/losses.tmp", "budget.json", "budget.tmp", "config.json", "config.notes.tmp")
    for name in pipes:
        os.mkfifo(tmp_path / name)
    spool = spool_in(spool_folder, telemetry=telemetry)
    telemetry.lost(DropReason.FULL, 1)
    record(spool, 3)
    spool.flush()
    assert stored(spool) == [0, 1, 2]
    spool.close()
    Budgets(tmp_path / "budget.json", write=write_durably)
    cache = ConfigCache(tmp_path / "config.json")
    assert cache.start() == Start(good=None, candidate=None, bad=())
    assert len(cache.give_up('"1"', "no").bad) == 1
    with pytest.raises(OSError, match="No such device"):  # nobody reads at the other end
        write_durably(tmp_path / "budget.json", b"{}")
