"""Connections that end in the middle, and proxies that answer in the collector's place."""

from pathlib import Path

import pytest

from tests.delivery import files, impatient
from tests.faults.way import Way, way
from tests.system.chaos import LIES

pytestmark = pytest.mark.anyio

GRID = {
    "asked_bytes": (1, 2, 16, 40, 100, 200, 300, 400, 600, 800, 1_000),
    "answered_bytes": (1, 2, 16, 40, 80, 120, 160, 200),
}
"""Bytes after which a connection is cut: within the first line, the headers and the body."""
RESULTS = 200
"""Over 1,500 bytes when they are compressed: the longest cut is within."""


async def attempt(one: Way) -> None:
    """Send what waits once, over a connection that meets the cable as it is."""
    await one.cable.drop()
    for sealed in one.spool.waiting():
        await one.sender.send(sealed)


@pytest.mark.parametrize("direction", GRID)
async def test_f32_a_connection_cut_after_any_number_of_bytes_costs_nothing(tmp_path: Path, direction: str) -> None:
    timing, _ = impatient()
    async with way(tmp_path, timing=timing) as one:
        for size in GRID[direction]:
            one.record(RESULTS)
            batch_id = one.seal()
            setattr(one.cable, direction, size)
            await attempt(one)
            assert batch_id in {sealed.batch_id for sealed in one.spool.waiting()}, f"forgotten after {size} bytes"
        setattr(one.cable, direction, None)
        await attempt(one)
        assert one.spool.waiting() == []
        assert one.stands_once()
        assert one.telemetry.dropped == {}
        # An answer cut means a batch that stands already; a request cut, one that never came.
        assert (one.collector.duplicates > 0) == (direction == "answered_bytes")


@pytest.mark.parametrize("lie", LIES, ids=lambda lie: lie.split(b"\r")[0].decode())
async def test_f33_what_a_proxy_answers_is_no_acknowledgement(tmp_path: Path, lie: bytes) -> None:
    timing, patience = impatient()
    async with way(tmp_path, timing=timing) as one:
        one.record(RESULTS)
        batch_id = one.seal()
        one.cable.canned = lie
        for _ in range(5):
            await one.sender.turn()
        assert one.cable.canned_given == 5
        assert [path.stem for path in files(tmp_path / "spool", ".seg")] == [str(batch_id)]
        assert len(patience.waits) == 5, "after each it waited"
        one.cable.canned = None
        await attempt(one)
        assert one.stands_once()
        assert one.telemetry.dropped == {}
