"""Helpers of tests that probe: targets, and a simulator to point them at."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from agent.clock import SystemClock
from agent.probes import Probes
from agent.simulator import Scenario, Script, Simulator
from isochrone.config import (
    ApiKey,
    Assignment,
    Duration,
    InferenceOptions,
    Module,
    Provider,
    RttOptions,
)
from isochrone.outcome import Connection, Prober, RttMethod

KEY = "sk-secret-4711"
FAST = Scenario(ttft=Duration(0.02), tpot=Duration(0.01), tokens=8)


def inference(
    url: str,
    model: str = "any",
    *,
    connection: Connection = Connection.COLD,
    timeout: float = 20,
    first_token: float = 10,
    stall: float = 10,
    max_output_tokens: int = 64,
    provider: Provider = Provider.OPENAI,
) -> Assignment:
    """Return an inference target with a key."""
    options = InferenceOptions(
        connection=connection,
        max_output_tokens=max_output_tokens,
        first_token_timeout=Duration(first_token),
        stall_timeout=Duration(stall),
    )
    module = Module(prober=Prober.INFERENCE, interval=Duration(60), timeout=Duration(timeout), inference=options)
    return Assignment(
        endpoint="tested",
        module=f"chat-{connection}",
        url=url,
        options=module,
        provider=provider,
        model=model,
        api_key=ApiKey(env="KEY"),
    )


def rtt(url: str, method: RttMethod, *, count: int = 3, timeout: float = 10, spacing: float = 0.02) -> Assignment:
    """Return a target whose round trip is measured."""
    options = RttOptions(method=method, count=count, spacing=Duration(spacing))
    module = Module(prober=Prober.RTT, interval=Duration(60), timeout=Duration(timeout), rtt=options)
    return Assignment(endpoint="tested", module=f"rtt-{method}", url=url, options=module)


@asynccontextmanager
async def simulator(default: Scenario = FAST, **scenarios: Scenario) -> AsyncIterator[str]:
    """Run a simulator; give its base URL."""
    server = Simulator(Script(default=default, scenarios=scenarios), seed=1)
    url = await server.start("127.0.0.1", 0)
    try:
        yield url
    finally:
        await server.close()


@asynccontextmanager
async def probes() -> AsyncIterator[Probes]:
    """Give the probes with the key that `inference` names."""
    probes = Probes(SystemClock(), lambda _: KEY)
    try:
        yield probes
    finally:
        await probes.close()
