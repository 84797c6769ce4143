"""Jobs go on after any failure, and what stays wrong is told once."""

import asyncio
import logging

import pytest

from collector.errors import SchemaBehind, TargetsRefused
from collector.jobs import Job, running

pytestmark = pytest.mark.anyio


async def test_a_failure_that_stays_is_told_once_in_one_line_and_another_one_again(
    caplog: pytest.LogCaptureFixture,
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

    caplog.set_level(logging.INFO)
    async with asyncio.timeout(30), running([Job(name="targets", seconds=0.0, work=work)]):
        await done.wait()
    said = [record.getMessage() for record in caplog.records if record.name == "collector.jobs"]
    assert said == [f"job targets waits: {fault}" for fault in (refused, behind, behind)]
    assert not any(record.exc_info for record in caplog.records)
