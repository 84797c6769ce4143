"""The exposition as bytes: names, types, labels, bounds, order and numbers that dashboards and alerts rely on.

After a change that is wanted: `python -m tests.contract.test_golden_exposition` writes both files anew.
"""

import asyncio

import pytest

from isochrone.outcome import Connection, Outcome
from tests.collecting import TARGETS, inference_result, rtt_result
from tests.contract.examples import GOLDEN
from tests.exposed import Exposed, rows_of

FILES = {False: GOLDEN / "exposition.txt", True: GOLDEN / "exposition.openmetrics.txt"}


async def _exposed() -> Exposed:
    exposed = Exposed()
    await exposed.know(rows_of(TARGETS))
    exposed.count(
        inference_result(1),
        inference_result(2, ttft_seconds=0.55, connection=Connection.WARM),
        inference_result(3, outcome=Outcome.OVERLOADED),
        rtt_result(4),
    )
    exposed.metrics.expire()
    return exposed


def _ours(text: bytes) -> bytes:
    """Return the exposition without what differs from run to run: the process itself, and the build."""
    lines = [line for line in text.split(b"\n") if b"isochrone_" in line and b"isochrone_build_info{" not in line]
    return b"\n".join(lines) + b"\n"


@pytest.mark.anyio
@pytest.mark.parametrize("openmetrics", [False, True])
async def test_the_exposition_is_the_golden_one(*, openmetrics: bool) -> None:
    text = (await _exposed()).metrics.render(openmetrics=openmetrics)
    assert _ours(text).decode() == FILES[openmetrics].read_text(encoding="utf-8")


@pytest.mark.anyio
async def test_what_openmetrics_ends_with_stands_at_the_end_alone() -> None:
    metrics = (await _exposed()).metrics
    assert metrics.render(openmetrics=True).endswith(b"\n# EOF\n")
    assert metrics.render(openmetrics=True).count(b"# EOF") == 1
    assert b"# EOF" not in metrics.render()


def _write() -> None:
    exposed = asyncio.run(_exposed())
    for openmetrics, path in FILES.items():
        path.write_bytes(_ours(exposed.metrics.render(openmetrics=openmetrics)))


if __name__ == "__main__":
    _write()
