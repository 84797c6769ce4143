"""A real schedule in a process of its own whose wall clock libfaketime sets; CLOCK_BOOTTIME and MONOTONIC stay true."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import pytest

LIBRARY = next(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"), None)
NEEDS_FAKETIME = pytest.mark.skipif(LIBRARY is None, reason="libfaketime is not here: install Debian's faketime")

# The schedule alone: this release of libfaketime breaks time.sleep, and an event loop needs none.
PROGRAM = """
import asyncio, json, sys, time
from agent.clock import SystemClock
from agent.schedule import Scheduler
from agent.telemetry import Telemetry
from isochrone.config import AgentConfig, Assignment, Duration, Module
from isochrone.outcome import Prober

async def run(seconds, interval):
    moments, telemetry = [], Telemetry()
    async def attempt(target, late_seconds):
        moments.append(time.monotonic())
    work = Scheduler(SystemClock(), telemetry, attempt=attempt, max_in_flight=4)
    work.start()
    options = Module(prober=Prober.RTT, interval=Duration(interval), timeout=Duration(interval / 2))
    target = Assignment(endpoint="e", module="m", url="http://127.0.0.1:1", options=options)
    work.apply(AgentConfig(revision=1, agent="a", agent_region="r", targets=(target,)))
    watching = asyncio.create_task(work.watch_clock())
    print("started", flush=True)
    await asyncio.sleep(seconds)
    watching.cancel()
    work.count()
    await work.stop(1)
    pauses = [later - sooner for sooner, later in zip(moments, moments[1:])]
    told = dict(attempts=len(moments), missed=telemetry.missed_probes, cpu_seconds=time.process_time(),
                longest_pause=max(pauses, default=seconds))
    print(json.dumps(told), flush=True)

asyncio.run(run(float(sys.argv[1]), float(sys.argv[2])))
"""


class Told(msgspec.Struct, frozen=True):
    attempts: int
    missed: int
    cpu_seconds: float
    longest_pause: float


def run_scheduler(
    folder: Path, steps: list[str], *, seconds: float, interval: float = 0.5, begin: str = "+0", zone: str = "UTC"
) -> Told:
    """Run a schedule for so long, set its wall clock to each step on the way (libfaketime's words), and return."""
    clock = folder / "clock"
    clock.write_text(begin + "\n", encoding="ascii")
    environment = {
        **os.environ,
        "LD_PRELOAD": str(LIBRARY),
        "FAKETIME_TIMESTAMP_FILE": str(clock),
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "TZ": zone,
    }
    command = [sys.executable, "-c", PROGRAM, str(seconds), str(interval)]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "started\n"
        for step in steps:
            time.sleep(seconds / (len(steps) + 1))
            written = folder / "next"
            written.write_text(step + "\n", encoding="ascii")
            written.replace(clock)
        said = process.stdout.readline()
    assert process.returncode == 0
    return Told(**json.loads(said))
