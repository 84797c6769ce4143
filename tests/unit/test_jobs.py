"""Jobs go on after any failure, and what stays wrong is told once."""

import asyncio
import logging

import pytest

from collector import jobs
from collector.errors import SchemaBehind, TargetsRefused
from collector.jobs import End, Job

pytestmark = pytest.mark.anyio


class Nobody:
    """Is told, and does nothing."""

    def ended(self, name: str, end: End, reason: str | None = None) -> None: ...

    def missed(self, name: str, count: int) -> None: ...


async def test_a_failure_that_stays_is_told_once_in_one_line_and_another_one_again(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused, behind = TargetsRefused(("line 3: no such module",)), SchemaBehind("run migrate")
    faults, done = [refused, refused, behind, behind, None, behind], asyncio.Event()

    async def work() -> None:
        if not faults:
            done.set()
            return
        fault = faults.pop(0)
        if fault is not None:
            raise fault

    monkeypatch.setattr(jobs, "RETRY_SECONDS", 0.0)
    caplog.set_level(logging.WARNING)
    async with asyncio.timeout(30), jobs.running([Job(name="targets", seconds=0.01, work=work)], Nobody()):
        await done.wait()
    said = [record.getMessage() for record in caplog.records if record.name == "collector.jobs"]
    assert said == [f"job targets waits: {fault}" for fault in (refused, behind, behind)]
    assert not any(record.exc_info for record in caplog.records)
