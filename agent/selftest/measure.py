"""The whole self-test: starts the simulators, measures cell after cell, and comes to a verdict."""

import asyncio
import os
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import msgspec

from agent.host import clock_unsynchronized, throttle_counter
from agent.selftest.cells import Cell, Plan
from agent.selftest.children import SimulatorProcess, can_pin, simulators
from agent.selftest.streams import StreamProber
from agent.selftest.verdict import Facts, Verdict, judge
from agent.simulator import LOOPBACK_PEM

STREAMS: Final = (1, 8, 32, 128)
TOTAL_SECONDS: Final = 50.0
"""Nothing begins that would end later."""

Progress = Callable[[str], None]


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """All that a self-test found."""

    verdict: Verdict
    host: Facts
    cells: tuple[Cell, ...]
    duration_seconds: float


def plans(streams: Sequence[int]) -> list[Plan]:
    """Return the cells for these numbers of streams at once."""
    kinds = [(tls, busy) for tls in (False, True) for busy in (False, True)]
    return [Plan(tls=tls, busy=busy, streams=count) for tls, busy in kinds for count in streams]


async def measure(streams: Sequence[int], *, progress: Progress) -> Report:
    """Return the whole report, in less than a minute. Raises AgentError when the simulator does not start."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    os.environ["SSL_CERT_FILE"] = str(LOOPBACK_PEM)  # OpenSSL's own name for it, read when the context is built
    throttled = throttle_counter()
    throttled_before, load = throttled(), _load()
    with tempfile.TemporaryDirectory(prefix="isochrone-selftest-") as folder, simulators(Path(folder)) as servers:
        cells = await _cells(servers, plans(streams), ends_at=began + TOTAL_SECONDS, progress=progress)
    facts = _facts(throttled_before, throttled(), load=load)
    verdict = judge(cells, facts)
    return Report(verdict=verdict, host=facts, cells=tuple(cells), duration_seconds=loop.time() - began)


async def _cells(
    servers: dict[bool, SimulatorProcess], wanted: Sequence[Plan], *, ends_at: float, progress: Progress
) -> list[Cell]:
    prober = StreamProber()
    cells = []
    try:
        for server in servers.values():
            await server.listening()
            await prober.stream(server.url)  # what is loaded and begun once falls in no measurement
        for number, plan in enumerate(wanted, start=1):
            progress(f"{number}/{len(wanted)}  {plan}")
            cells.append(await prober.run(plan, servers[plan.tls], ends_at=ends_at))
    finally:
        await prober.close()
    return cells


def _facts(throttled_before: int | None, throttled_after: int | None, *, load: float | None) -> Facts:
    unsynchronized = clock_unsynchronized()
    throttled = None
    if throttled_before is not None and throttled_after is not None:
        throttled = throttled_after > throttled_before
    cpus = len(os.sched_getaffinity(0)) if can_pin() else os.cpu_count() or 1
    return Facts(
        cpus=cpus,
        load_per_cpu=None if load is None else round(load / cpus, 2),
        throttled=throttled,
        clock_synchronized=None if unsynchronized is None else not unsynchronized,
        pinned=can_pin(),
    )


def _load() -> float | None:
    try:
        return os.getloadavg()[0]
    except OSError:
        return None
