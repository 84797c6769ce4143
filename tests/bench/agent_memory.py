"""How much memory and disk an agent takes that was installed with the extra `agent` alone.

The environment is built from `deploy/locks/agent.txt`, so what it lacks is proved, not assumed. The agent runs its
targets (a round trip and a stream of each endpoint) against simulators in this process.
"""

import asyncio
import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from agent.simulator import Scenario, Script, Simulator
from isochrone.config import AgentConfig, Assignment, Duration, InferenceOptions, Module, Provider, RttOptions
from isochrone.outcome import Prober
from tests.bench.collector_stub import CollectorStub
from tests.bench.expectation import Expectation
from tests.real.environments import Pip, environment

ROOT: Final = Path(__file__).resolve().parents[2]
LOCK: Final = ROOT / "deploy" / "locks" / "agent.txt"
STOP_SECONDS: Final = 20
LIMIT_MEBIBYTES: Final = 45.0
ABSENT: Final = ("fastapi", "sqlalchemy", "psycopg", "pydantic", "rich", "click", "uvicorn", "prometheus_client")
MEBIBYTE: Final = 1024 * 1024
TOKENS: Final = 32
_TTFT_SECONDS: Final = 0.2
_NOT_OURS: Final = (
    "pip",
    "pip-*",
    "setuptools",
    "setuptools-*",
    "_distutils_hack",
    "distutils-precedence.pth",
    "pkg_resources",
)
"""What the venv brings by itself."""


@dataclass(frozen=True, kw_only=True)
class Load:
    """What the agent is given to do."""

    endpoints: int = 10
    interval_seconds: int = 5
    stream_seconds: float = 0.5
    run_seconds: float = 25
    streams_at_once: int = 16
    """The agent's limit (its setting `max_in_flight`)."""

    @property
    def modules(self) -> dict[str, Module]:
        """Return how each endpoint is probed."""
        interval, timeout = Duration(self.interval_seconds), Duration(self.interval_seconds - 1)
        stream = InferenceOptions(max_output_tokens=TOKENS)
        return {
            "rtt": Module(prober=Prober.RTT, interval=interval, timeout=timeout, rtt=RttOptions(count=5)),
            "chat": Module(prober=Prober.INFERENCE, interval=interval, timeout=timeout, inference=stream),
        }

    @property
    def targets(self) -> int:
        """Return how many targets the agent has."""
        return self.endpoints * len(self.modules)


@dataclass(frozen=True, kw_only=True)
class Weighed:
    """What came of a load."""

    peak_bytes: int
    probes: int
    streams_at_once: int
    """The most that were under way at one moment."""


class BenchFailed(RuntimeError):
    """The measurement means nothing. The text says why."""


def run() -> list[Expectation]:
    """Build, run, measure; raise BenchFailed where the measurement would mean nothing."""
    python = agent_python()
    disk = _size(next((python.parents[1] / "lib").glob("python3*/site-packages")))
    load = Load()
    weighed = weigh(python, load)
    return [
        Expectation(
            bench="agent_memory",
            what=f"agent's peak memory, {load.targets} targets, {weighed.probes} probes",
            measured=round(weighed.peak_bytes / MEBIBYTE, 1),
            unit="MiB",
            against="limit",
            reference=LIMIT_MEBIBYTES,
            at_most=1.0,
        ),
        Expectation(
            bench="agent_memory",
            what="agent's installed size, without pip",
            measured=round(disk / MEBIBYTE, 1),
            unit="MiB",
        ),
    ]


def weigh(python: Path, load: Load) -> Weighed:
    """Run the agent of an environment under `load`; raise BenchFailed where the measurement would mean nothing."""
    return asyncio.run(_measure(python, load))


def agent_python() -> Path:
    """Return an interpreter that has the extra `agent` and this tree's code, and nothing else; raise BenchFailed."""
    digest = hashlib.sha256(LOCK.read_bytes()).hexdigest()
    python = environment("agent", recipe=("agent", digest), install=_install)
    with TemporaryDirectory() as folder:
        # Built here, where hatchling is: the agent's environment stays as it ships.
        _run(
            sys.executable, "-m", "pip", "wheel", *_QUIET, "--no-deps", "--no-build-isolation", "-w", folder, str(ROOT)
        )
        (wheel,) = Path(folder).glob("isochrone-*.whl")
        _run(str(python), "-m", "pip", "install", *_QUIET, "--no-deps", "--force-reinstall", str(wheel))
    if present := _importable(python, ABSENT):
        raise BenchFailed(f"the extra `agent` brings {', '.join(present)}: see deploy/locks/agent.txt")
    print(f"not in the agent's environment: {', '.join(ABSENT)}", flush=True)
    return python


_QUIET: Final = ("--quiet", "--disable-pip-version-check", "--no-input")


def _install(pip: Pip) -> None:
    pip.install("--require-hashes", "-r", str(LOCK))


def _run(*command: str) -> None:
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=300)
    if done.returncode != 0:
        raise BenchFailed(f"{' '.join(command[:4])} ended with {done.returncode}:\n{done.stderr.strip()[-1000:]}")


def _importable(python: Path, names: Sequence[str]) -> list[str]:
    code = (
        "import importlib.util, json, sys; print(json.dumps([n for n in sys.argv[1:] if importlib.util.find_spec(n)]))"
    )
    found: list[str] = json.loads(subprocess.check_output([str(python), "-I", "-c", code, *names], text=True))
    return found


def _size(site: Path) -> int:
    foreign = {path for pattern in _NOT_OURS for path in site.glob(pattern)}
    files = (path for top in site.iterdir() if top not in foreign for path in (top, *top.rglob("*")))
    return sum(path.stat().st_size for path in files if path.is_file())


async def _measure(python: Path, load: Load) -> Weighed:
    tpot_seconds = (load.stream_seconds - _TTFT_SECONDS) / (TOKENS - 1)
    scenario = Scenario(ttft=Duration(_TTFT_SECONDS), tpot=Duration(tpot_seconds), tokens=TOKENS)
    async with AsyncExitStack() as stack:
        urls = []
        for _ in range(load.endpoints):
            simulator = Simulator(Script(default=scenario))
            urls.append(await simulator.start("127.0.0.1", 0))
            stack.push_async_callback(simulator.close)
        collector = CollectorStub(_config(urls, load))
        url = await collector.start()
        stack.push_async_callback(collector.close)
        with TemporaryDirectory(prefix="isochrone-bench-") as folder:
            peak = await _run_agent(python, load, folder=Path(folder), collector_url=url)
        _require_all_targets(collector, load)
        return Weighed(peak_bytes=peak, probes=collector.counts.total(), streams_at_once=collector.streams_at_once())


async def _run_agent(python: Path, load: Load, *, folder: Path, collector_url: str) -> int:
    credential = folder / "credential"
    credential.touch(mode=0o600)
    credential.write_text("isoa_bench_0123456789abcdef0123456789abcdef\n")
    log = folder / "agent.log"
    environment_ = {
        "PATH": os.environ["PATH"],
        "HOME": str(folder),
        "ISOCHRONE_COLLECTOR_URL": collector_url,
        "ISOCHRONE_CREDENTIAL_FILE": str(credential),
        "ISOCHRONE_STATE_DIR": str(folder / "state"),
        "ISOCHRONE_ALLOW_PRIVATE": "127.0.0.0/8",
        "ISOCHRONE_MAX_IN_FLIGHT": str(load.streams_at_once),
    }
    with log.open("wb") as sink:
        agent = await asyncio.create_subprocess_exec(
            *(str(python.with_name("isochrone-agent")), "run"),
            cwd=folder,
            env=environment_,
            stdin=subprocess.DEVNULL,
            stdout=sink,
            stderr=sink,
        )
    try:
        if (code := await _wait(agent, load.run_seconds)) is not None:
            raise BenchFailed(f"the agent ended with {code}:\n{log.read_text()[-1000:]}")
        peak = peak_bytes(agent.pid)
        agent.terminate()
        if (code := await _wait(agent, STOP_SECONDS)) != 0:
            raise BenchFailed(f"the agent ended with {code} on SIGTERM:\n{log.read_text()[-1000:]}")
    finally:
        await _end(agent)
    return peak


async def _end(child: asyncio.subprocess.Process) -> None:
    if child.returncode is None:
        child.kill()
        await child.wait()


async def _wait(child: asyncio.subprocess.Process, seconds: float) -> int | None:
    """Return the exit code when `child` ends, None when `seconds` have passed before."""
    try:
        return await asyncio.wait_for(child.wait(), seconds)
    except TimeoutError:
        return None


def peak_bytes(pid: int) -> int:
    """Return the most resident memory that a process ever had (VmHWM; Linux only)."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError as exc:
        raise BenchFailed("peak memory is read from /proc: this bench needs Linux") from exc
    (kibibytes,) = (line.split()[1] for line in lines if line.startswith("VmHWM:"))
    return int(kibibytes) * 1024


def _require_all_targets(collector: CollectorStub, load: Load) -> None:
    good = {(endpoint, module) for endpoint, module, outcome in collector.counts if outcome == "ok"}
    if len(good) != load.targets:
        seen = f"{dict(collector.counts)}; reasons: {sorted(collector.reasons)[:3]}"
        raise BenchFailed(f"only {len(good)} of {load.targets} targets brought a good result: {seen}")


def _config(urls: Sequence[str], load: Load) -> AgentConfig:
    targets = tuple(
        Assignment(
            endpoint=f"endpoint-{number}",
            module=name,
            url=url,
            options=module,
            provider=Provider.OPENAI,
            model="simulated",
        )
        for number, url in enumerate(urls)
        for name, module in load.modules.items()
    )
    return AgentConfig(revision=1, agent="bench", agent_region="bench", targets=targets)
