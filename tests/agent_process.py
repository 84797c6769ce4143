"""An agent as a process against a scripted collector, and an endpoint that keeps what it was asked."""

import asyncio
import json
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from isochrone.config import AgentConfig, ApiKey, Assignment, Duration, InferenceOptions, Module, Provider, RttOptions
from isochrone.outcome import Prober
from tests.delivery import TOKEN
from tests.scripted_http import Reply, Request

PATIENCE_SECONDS = 60
Lines = list[dict[str, Any]]


class Endpoint:
    """Answers every request alike, and keeps them."""

    def __init__(self, reply: Reply) -> None:
        self.reply = reply
        self.requests: list[Request] = []

    def __call__(self, request: Request) -> Reply:
        self.requests.append(request)
        return self.reply


def chat(
    name: str,
    url: str,
    *,
    interval: float = 0.5,
    timeout: float | None = None,
    tokens: int = 32,
    key: str | None = None,
) -> Assignment:
    """Return an inference target."""
    options = InferenceOptions(max_output_tokens=tokens)
    timeout = Duration(interval * 0.9 if timeout is None else timeout)
    module = Module(prober=Prober.INFERENCE, interval=Duration(interval), timeout=timeout, inference=options)
    return Assignment(
        endpoint=name,
        module="chat",
        url=url,
        options=module,
        provider=Provider.OPENAI,
        model="m",
        api_key=None if key is None else ApiKey(env=key),
    )


def handshakes(name: str, url: str) -> Assignment:
    """Return a target whose round trip is measured by TCP."""
    module = Module(
        prober=Prober.RTT, interval=Duration(0.5), timeout=Duration(0.45), rtt=RttOptions(count=1, spacing=Duration(0))
    )
    return Assignment(endpoint=name, module="rtt", url=url, options=module)


def config_of(*targets: Assignment, revision: int = 1) -> AgentConfig:
    return AgentConfig(revision=revision, agent="a", agent_region="eu", targets=targets)


@asynccontextmanager
async def running_agent(folder: Path, collector_url: str, **environment: str) -> AsyncIterator[Process]:
    """Run an agent that prints its results; `environment` are more of its variables."""
    credential = folder / "credential"
    credential.write_text(f"{TOKEN}\n")
    credential.chmod(0o600)
    own = {
        "PYTHONUNBUFFERED": "1",
        "ISOCHRONE_COLLECTOR_URL": collector_url,
        "ISOCHRONE_CREDENTIAL_FILE": str(credential),
        "ISOCHRONE_STATE_DIR": str(folder / "state"),
        "ISOCHRONE_FLUSH_INTERVAL": "1s",
    }
    command = (sys.executable, "-m", "agent.cli", "run", "--json")
    process = await asyncio.create_subprocess_exec(*command, stdout=PIPE, stderr=PIPE, env=own | environment)
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def printed(process: Process, enough: Callable[[Lines], bool]) -> Lines:
    """Return what it printed until that is `enough`."""
    assert process.stdout is not None
    lines: Lines = []
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not enough(lines):
            line = await process.stdout.readline()
            if not line:
                assert process.stderr is not None
                raise AssertionError((await process.stderr.read()).decode())
            lines.append(json.loads(line))
    return lines


async def ended(process: Process) -> tuple[Lines, str]:
    """Stop it; return what it still printed, and its log."""
    process.terminate()
    async with asyncio.timeout(PATIENCE_SECONDS):
        out, log = await process.communicate()
    return [json.loads(line) for line in out.splitlines()], log.decode()
