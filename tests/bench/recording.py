"""What recording costs the agent's event loop: the call itself, and the loop's lag over a disk that is slow to sync."""

import asyncio
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median, quantiles
from tempfile import TemporaryDirectory
from typing import Final

from tests.bench.expectation import Expectation
from tests.delivery import result, spool_in

RECORD_LIMIT_US: Final = 20.0
LAG_LIMIT_MS: Final = 5.0
SYNC_SECONDS: Final = 0.5
ROUNDS: Final = 50
RECORDS: Final = 200
WATCHED_SECONDS: Final = 10.0
TICK_SECONDS: Final = 0.002


def run() -> list[Expectation]:
    """Return the cost of one record, and the loop's lag while every fsync takes half a second."""
    with TemporaryDirectory(prefix="isochrone-bench-") as folder:
        cost = record_microseconds(Path(folder) / "cost")
        with slow_syncs() as syncs:
            lags = asyncio.run(lags_milliseconds(Path(folder) / "lag"))
    what = f"loop lag p99 while each fsync takes {SYNC_SECONDS:g} s ({len(syncs)} of them)"
    lag = quantiles(lags, n=100)[98]
    return [
        limited("recording a result, median", cost, unit="us", limit=RECORD_LIMIT_US),
        limited(what, lag, unit="ms", limit=LAG_LIMIT_MS),
    ]


def limited(what: str, measured: float, *, unit: str, limit: float) -> Expectation:
    """Return an expectation that `measured` stays within `limit`."""
    return Expectation(
        bench="recording", what=what, measured=measured, unit=unit, against="limit", reference=limit, at_most=1.0
    )


def record_microseconds(folder: Path) -> float:
    """Return the median over rounds of what one call takes: sealing and the writer thread's share of the CPU within."""
    spool, one = spool_in(folder), result()
    costs = []
    for _ in range(ROUNDS):
        began = time.perf_counter_ns()
        for _ in range(RECORDS):
            spool.record(one)
        costs.append((time.perf_counter_ns() - began) / RECORDS / 1_000)
        time.sleep(TICK_SECONDS)
    spool.close()
    return median(costs)


async def lags_milliseconds(folder: Path) -> list[float]:
    """Return by how much each tick of the loop came late while results are recorded and segments sealed."""
    spool, one = spool_in(folder), result()
    lags: list[float] = []
    until = time.monotonic() + WATCHED_SECONDS
    while (before := time.monotonic()) < until:
        spool.record(one)
        if len(lags) % 500 == 499:
            spool.rotate()
        await asyncio.sleep(TICK_SECONDS)
        lags.append(1_000 * (time.monotonic() - before - TICK_SECONDS))
    await asyncio.to_thread(spool.close)
    return lags


@contextmanager
def slow_syncs() -> Iterator[list[float]]:
    """Let every fsync of this process take half a second more; yield when each began."""
    began: list[float] = []

    def slowed(call: Callable[[int], None]) -> Callable[[int], None]:
        def sync(descriptor: int) -> None:
            began.append(time.monotonic())
            time.sleep(SYNC_SECONDS)
            call(descriptor)

        return sync

    fsync, fdatasync = os.fsync, os.fdatasync
    os.fsync, os.fdatasync = slowed(fsync), slowed(fdatasync)  # type: ignore[assignment]  # no disk here can be slowed
    try:
        yield began
    finally:
        os.fsync, os.fdatasync = fsync, fdatasync
