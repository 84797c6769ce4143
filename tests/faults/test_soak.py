"""All faults at random for long: nothing is lost, and neither side grows. `ISOCHRONE_SOAK_MINUTES` says how long."""

import asyncio
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from time import monotonic

import pytest

from collector import processes
from tests.system.chaos import ENDS_PROCESSES, Chaos, chaos_in

MINUTES = float(os.environ.get("ISOCHRONE_SOAK_MINUTES", "3"))
SEED = int(os.environ.get("ISOCHRONE_CHAOS_SEED", "96"))
SAMPLE_SECONDS = 2.0
GROWTH_BYTES_PER_HOUR = 1024 * 1024
NOISE_BYTES = 4 * 1024 * 1024
"""What pools, caches and an allocator move within minutes."""
NOISE_FDS = 6
"""Connections that come and go."""

pytestmark = [pytest.mark.anyio, pytest.mark.slow_fault, pytest.mark.timeout(MINUTES * 60 + 900)]


@dataclass
class Watch:
    """Memory and open files of one process, as time goes on."""

    resident: list[int] = field(default_factory=list)
    files: list[int] = field(default_factory=list)

    def look(self, pid: int) -> None:
        place = Path("/proc") / str(pid)
        status = dict(line.split(":", 1) for line in (place / "status").read_text().splitlines())
        self.resident.append(int(status["VmRSS"].split()[0]) * 1024)
        self.files.append(len(list((place / "fd").iterdir())))

    @staticmethod
    def growth(values: list[int]) -> float:
        """Return the median of the last quarter less that of the first."""
        quarter = max(1, len(values) // 4)
        return median(values[-quarter:]) - median(values[:quarter])


async def look_on(chaos: Chaos, watches: dict[str, Watch]) -> None:
    pids = {name: chaos.cluster.children[name].pid for name in watches}
    while True:
        for name, pid in pids.items():
            assert pid is not None
            assert pid == chaos.cluster.children[name].pid, f"{name} ended, and nobody ended it"
            watches[name].look(pid)
        await asyncio.sleep(SAMPLE_SECONDS)


@contextmanager
def watching(chaos: Chaos, watches: dict[str, Watch]) -> Iterator[None]:
    task = asyncio.create_task(look_on(chaos, watches))
    try:
        yield
    finally:
        if task.done():
            task.result()
        task.cancel()


async def test_f96_after_a_long_time_of_faults_all_stands_and_nothing_grew(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "GOOD_RUN_SECONDS", 0.0)  # who is killed often is not at fault
    seconds = MINUTES * 60
    watches = {"agent": Watch(), "collector": Watch()}
    async with chaos_in(data, seed=SEED) as chaos:
        await chaos.run(chaos.kinds(), seconds=seconds / 3)
        gentle = [kind for kind in chaos.kinds() if kind not in ENDS_PROCESSES]
        began = monotonic()
        with watching(chaos, watches):
            await chaos.run(gentle, seconds=seconds * 2 / 3)
        hours = (monotonic() - began) / 3600
        summary = await chaos.ends()
    for name, watch in watches.items():
        summary[f"{name}_growth_bytes"] = watch.growth(watch.resident)
        summary[f"{name}_growth_files"] = watch.growth(watch.files)
    text = json.dumps(summary, indent=2)
    print(text)
    assert summary["problems"] == [], text
    for name in watches:
        assert summary[f"{name}_growth_bytes"] < NOISE_BYTES + hours * GROWTH_BYTES_PER_HOUR, text
        assert summary[f"{name}_growth_files"] <= NOISE_FDS, text
