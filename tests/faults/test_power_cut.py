"""A power cut takes what was written after the last sync, and no more than a second of it.

The disk is the worst there is: at the cut, a file holds what it held at its own last sync, and a folder names what it
named at its own last one. What reached the platters besides is luck, and not counted on.
"""

import itertools
import os
import random
import threading
import time
from pathlib import Path

import pytest

from agent.segment import scan
from tests.delivery import files, record, spool_in, stored

LOST_SECONDS = 1.0


class WorstDisk:
    """Follows the syncs of a folder: what would stand there after a cut now."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = threading.Lock()
        self._content: dict[int, bytes] = {}
        self._names: dict[str, int] = {}

    def synced(self, descriptor: int) -> None:
        """Take what the descriptor stands for as durable, as it was before the call."""
        path = Path(f"/proc/self/fd/{descriptor}").resolve()
        inode = os.fstat(descriptor).st_ino
        with self._lock:
            if path == self._folder:
                self._names = {entry.name: entry.inode() for entry in os.scandir(self._folder)}
            elif path.is_file():
                self._content[inode] = path.read_bytes()

    def after_a_cut(self, target: Path) -> None:
        """Write into `target` what a cut now would leave."""
        target.mkdir()
        with self._lock:
            for name, inode in self._names.items():
                (target / name).write_bytes(self._content.get(inode, b""))


@pytest.mark.slow_fault
@pytest.mark.timeout(600)
@pytest.mark.parametrize("cuts", [2, 30])
def test_f04_a_power_cut_takes_a_second_at_most(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cuts: int) -> None:
    dice = random.Random(cuts)  # noqa: S311  the same cuts each time, no secret
    folder = tmp_path / "spool"
    folder.mkdir()
    disk = WorstDisk(folder)
    for name in ("fsync", "fdatasync"):
        call = getattr(os, name)

        def sync(descriptor: int, call=call) -> None:  # type: ignore[no-untyped-def]  # noqa: ANN001  both of os
            disk.synced(descriptor)
            call(descriptor)

        monkeypatch.setattr(os, name, sync)  # follows, and does what it is asked
    spool = spool_in(folder)
    recorded_at: list[float] = []
    for cut in range(cuts):
        until = time.monotonic() + dice.uniform(1.2, 2.0)
        while time.monotonic() < until:
            record(spool, 1)
            recorded_at.append(time.monotonic())
            if dice.random() < 0.003:
                spool.rotate()
            time.sleep(0.01)
        cut_at = time.monotonic()
        disk.after_a_cut(tmp_path / f"after-{cut}")
        recent = [moment for moment in recorded_at if moment > cut_at - 3 * LOST_SECONDS] + [cut_at]
        # The machine may be loaded: then this thread stood still as well, and not the spool is to blame.
        stall_seconds = max(later - earlier for earlier, later in itertools.pairwise(recent))
        again = spool_in(tmp_path / f"after-{cut}")
        found = set(stored(again))
        again.close()
        lost = [cut_at - moment for seq, moment in enumerate(recorded_at) if seq not in found]
        assert max(lost, default=0.0) <= LOST_SECONDS + stall_seconds, f"cut {cut}"
        assert found <= set(range(len(recorded_at)))
    spool.close()


def test_f04_the_worst_disk_keeps_nothing_that_was_not_synced(tmp_path: Path) -> None:
    """The test above can fail: without a sync there is nothing."""
    folder = tmp_path / "spool"
    disk = WorstDisk(folder)
    spool = spool_in(folder)
    record(spool, 3)
    assert len(scan(files(folder, ".act")[0].read_bytes()).payloads) == 3
    disk.after_a_cut(tmp_path / "after")
    assert list((tmp_path / "after").iterdir()) == []
    spool.close()
