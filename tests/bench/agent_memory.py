"""How much memory and disk an agent takes that was installed with the extra `agent` alone.

The environment is built from `deploy/locks/agent.txt`, so what it lacks is proved, not assumed. The agent runs 20
targets (10 endpoints, a round trip and a stream each) against simulators in this process.
"""

import asyncio
import hashlib
import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from contextlib import AsyncExitStack
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
ENDPOINTS: Final = 10
RUN_SECONDS: Final = 25
STOP_SECONDS: Final = 20
LIMIT_MEBIBYTES: Final = 45.0
ABSENT: Final = ("fastapi", "sqlalchemy", "psycopg", "pydantic", "rich", "click", "uvicorn", "prometheus_client")
MEBIBYTE: Final = 1024 * 1024
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
_MODULES: Final = {
    "rtt": Module(prober=Prober.RTT, interval=Duration(5), timeout=Duration(4), rtt=RttOptions(count=5)),
    "chat": Module(
        prober=Prober.INFERENCE,
        interval=Duration(5),
        timeout=Duration(4),
        inference=InferenceOptions(max_output_tokens=32),
    ),
}


class BenchFailed(RuntimeError):
    """The measurement means nothing. The text says why."""


def run() -> list[Expectation]:
    """Build, run, measure; raise BenchFailed where the measurement would mean nothing."""
    python = agent_python()
    present = _importable(python, ABSENT)
    if present:
        raise BenchFailed(f"the extra `agent` brings {', '.join(present)}: see deploy/locks/agent.txt")
    print(f"not in the agent's environment: {', '.join(ABSENT)}", flush=True)
    disk = _size(next((python.parents[1] / "lib").glob("python3*/site-packages")))
    peak, counts = asyncio.run(_measure(python))
    return [
        Expectation(
            bench="agent_memory",
            what=f"agent's peak memory, {ENDPOINTS * len(_MODULES)} targets, {counts.total()} probes",
            measured=round(peak / MEBIBYTE, 1),
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


def agent_python() -> Path:
    """Return an interpreter that has the extra `agent` and this tree's code, and nothing else."""
    digest = hashlib.sha256(LOCK.read_bytes()).hexdigest()
    python = environment("agent", recipe=("agent", digest), install=_install)
    with TemporaryDirectory() as folder:
        # Built here, where hatchling is: the agent's environment stays as it ships.
        _run(
            sys.executable, "-m", "pip", "wheel", *_QUIET, "--no-deps", "--no-build-isolation", "-w", folder, str(ROOT)
        )
        (wheel,) = Path(folder).glob("isochrone-*.whl")
        _run(str(python), "-m", "pip", "install", *_QUIET, "--no-deps", "--force-reinstall", str(wheel))
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


async def _measure(python: Path) -> tuple[int, Counter[tuple[str, str, str]]]:
    """Return the agent's peak resident bytes and the results that it sent."""
    async with AsyncExitStack() as stack:
        urls = []
        for _ in range(ENDPOINTS):
            simulator = Simulator(Script(default=Scenario(ttft=Duration(0.2), tpot=Duration(0.01), tokens=32)))
            urls.append(await simulator.start("127.0.0.1", 0))
            stack.push_async_callback(simulator.close)
        collector = CollectorStub(_config(urls))
        url = await collector.start()
        stack.push_async_callback(collector.close)
        with TemporaryDirectory(prefix="isochrone-bench-") as folder:
            peak = await _run_agent(python, folder=Path(folder), collector_url=url)
        _require_all_targets(collector)
        return peak, collector.counts


async def _run_agent(python: Path, *, folder: Path, collector_url: str) -> int:
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
        if (code := await _wait(agent, RUN_SECONDS)) is not None:
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


def _require_all_targets(collector: CollectorStub) -> None:
    good = {(endpoint, module) for endpoint, module, outcome in collector.counts if outcome == "ok"}
    if len(good) != ENDPOINTS * len(_MODULES):
        seen = f"{dict(collector.counts)}; reasons: {sorted(collector.reasons)[:3]}"
        raise BenchFailed(f"only {len(good)} of {ENDPOINTS * len(_MODULES)} targets brought a good result: {seen}")


def _config(urls: Sequence[str]) -> AgentConfig:
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
        for name, module in _MODULES.items()
    )
    return AgentConfig(revision=1, agent="bench", agent_region="bench", targets=targets)
