"""Random faults, one after the other: nothing recorded is lost but what was declared, nothing stands twice.

`ISOCHRONE_CHAOS_SECONDS` says how long (`make test-faults`: over three minutes), `ISOCHRONE_CHAOS_SEED` which run,
`ISOCHRONE_CHAOS_SUMMARY` names a file for the summary.
"""

import asyncio
import json
import os
from pathlib import Path

import pytest

from collector import processes
from tests.system.chaos import chaos_in

SECONDS = float(os.environ.get("ISOCHRONE_CHAOS_SECONDS", "20"))
SEED = int(os.environ.get("ISOCHRONE_CHAOS_SEED", "1181"))

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(SECONDS + 600)]


async def test_random_faults_cost_nothing_but_what_is_declared(
    data: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(processes, "GOOD_RUN_SECONDS", 0.0)  # who is killed often is not at fault
    async with chaos_in(data, seed=SEED) as chaos:
        await chaos.run(chaos.kinds(), seconds=SECONDS)
        summary = await chaos.ends()
    text = json.dumps(summary, indent=2)
    with capsys.disabled():
        print(f"\n{json.dumps(summary)}")
    if where := os.environ.get("ISOCHRONE_CHAOS_SUMMARY"):
        await asyncio.to_thread(Path(where).write_text, text + "\n")
    assert summary["problems"] == [], text
    assert summary["batches_sent_more_than_once"] > 0
