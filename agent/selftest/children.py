"""The processes of a self-test: simulators, and a busy loop. None outlives it, however it ends."""

import asyncio
import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import msgspec

from agent.errors import AgentError
from agent.simulator import Seen

START_SECONDS: Final = 15.0
STOP_SECONDS: Final = 2.0
LOG_SECONDS: Final = 1.0
"""How long the simulator may take to tell what it saw."""
LOG_POLL_SECONDS: Final = 0.01
BUSY_SECONDS: Final = 60.0
TTFT: Final = "100ms"
TPOT: Final = "20ms"
TOKENS: Final = 12


class Truth:
    """What a simulator writes of the streams that it served."""

    def __init__(self, log: Path) -> None:
        self._log = log
        self._read_bytes = 0
        self._seen: dict[str, Seen] = {}

    async def of(self, models: set[str]) -> dict[str, Seen]:
        """Return what was seen of `models`, as soon as all is there; what does not come soon is left out."""
        for _ in range(int(LOG_SECONDS / LOG_POLL_SECONDS)):
            self._read()
            if models <= self._seen.keys():
                break
            await asyncio.sleep(LOG_POLL_SECONDS)
        return {model: self._seen[model] for model in models & self._seen.keys()}

    def _read(self) -> None:
        with self._log.open("rb") as file:
            file.seek(self._read_bytes)
            whole, newline, _ = file.read().rpartition(b"\n")
        self._read_bytes += len(whole) + len(newline)
        for line in whole.splitlines():
            seen = msgspec.json.decode(line, type=Seen)
            if seen.model is not None:
                self._seen[seen.model] = seen


class SimulatorProcess:
    """One simulator, as a user would start it."""

    def __init__(self, folder: Path, *, tls: bool) -> None:
        log = folder / ("tls.jsonl" if tls else "plain.jsonl")
        log.touch()
        self.truth = Truth(log)
        self.url = ""
        script = ["--ttft", TTFT, "--tpot", TPOT, "--tokens", str(TOKENS)]
        serve = ["--listen", "127.0.0.1:0", "--json", "--log", str(log), "--until-eof", *(["--tls"] if tls else [])]
        self._process = subprocess.Popen(  # noqa: S603  our own program
            [sys.executable, "-m", "agent.cli", "simulate", *serve, *script],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            process_group=0,  # a Ctrl-C is ours to pass on
        )

    async def listening(self) -> None:
        """Wait until it listens; raises AgentError."""
        line = b""
        if self._process.stdout is not None:
            try:
                async with asyncio.timeout(START_SECONDS):
                    line = await asyncio.to_thread(self._process.stdout.readline)
            except TimeoutError:
                self.stop()  # which ends the thread, too
        if not line:
            raise AgentError("the simulator did not start: try `isochrone-agent simulate --tls`")
        self.url = json.loads(line)["url"]

    def stop(self) -> None:
        """End it; again is harmless."""
        _end(self._process)


@contextmanager
def simulators(folder: Path) -> Iterator[dict[bool, SimulatorProcess]]:
    """Run a simulator without TLS and one with it; they are by `tls`."""
    running: dict[bool, SimulatorProcess] = {}
    try:
        for tls in (False, True):
            running[tls] = SimulatorProcess(folder, tls=tls)
        yield running
    finally:
        for process in running.values():
            process.stop()


def can_pin() -> bool:
    """Return whether this process may be held on a core."""
    try:
        os.sched_setaffinity(0, os.sched_getaffinity(0))
    except (AttributeError, OSError):  # no such call here, or not allowed
        return False
    return True


@contextmanager
def busy_core() -> Iterator[None]:
    """Hold this process on one core, together with a busy loop; where that cannot be, only run the loop."""
    cores = os.sched_getaffinity(0) if can_pin() else None
    process = subprocess.Popen(  # noqa: S603  our own program
        [sys.executable, "-m", "agent.selftest.busy", str(os.getpid()), str(BUSY_SECONDS)],
        stdin=subprocess.DEVNULL,
        process_group=0,
    )
    try:
        if cores is not None:
            os.sched_setaffinity(process.pid, {max(cores)})
            os.sched_setaffinity(0, {max(cores)})
        yield
    finally:
        if cores is not None:
            os.sched_setaffinity(0, cores)
        _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(STOP_SECONDS)
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            pipe.close()
