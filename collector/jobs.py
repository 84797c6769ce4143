"""Work that is due again and again: each job alone in its task, a failure told once and tried again."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Final

import msgspec

from collector.errors import CollectorError, ConfirmationNeeded

STOP_SECONDS: Final = 3.0

_log = logging.getLogger(__name__)


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """What to do, and how long to wait between the end of one run and the next."""

    name: str
    seconds: float
    work: Callable[[], Awaitable[object]]


@asynccontextmanager
async def running(jobs: Sequence[Job]) -> AsyncIterator[None]:
    """Run the jobs until the block ends; a run under way may end, for `STOP_SECONDS` at most."""
    stopping = asyncio.Event()
    tasks = [asyncio.create_task(_repeat(job, stopping), name=job.name) for job in jobs]
    try:
        yield
    finally:
        stopping.set()
        if tasks:
            await asyncio.wait(tasks, timeout=STOP_SECONDS)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _repeat(job: Job, stopping: asyncio.Event) -> None:
    told: str | None = None
    while not stopping.is_set():
        try:
            await job.work()
        except ConfirmationNeeded:
            pass  # told by the job itself: it waits for a person
        except CollectorError as exc:
            if str(exc) != told:  # what stays as it was is told once
                _log.warning("job %s waits: %s", job.name, exc)
            told = str(exc)
        except Exception:  # noqa: BLE001  a fault in one run must not end the job for ever
            _log.exception("job %s failed", job.name)
        else:
            told = None
        with suppress(TimeoutError):
            await asyncio.wait_for(stopping.wait(), job.seconds)
