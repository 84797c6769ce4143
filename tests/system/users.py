"""Three regions with four agents, a collector and two endpoints, under the eyes of Prometheus and Alertmanager."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from collector import admin
from collector.config import Listen
from collector.processes import Child, Program
from collector.up import ask, programs
from collector.up.data import write_secret
from collector.up.demo import Simulated
from isochrone.config import (
    Duration,
    Endpoint,
    InferenceOptions,
    Location,
    Module,
    Provider,
    Region,
    RttOptions,
    Site,
    Targets,
    TokenPrice,
)
from isochrone.outcome import Prober, RttMethod
from tests.system.monitoring import Monitoring, monitoring
from tests.system.ways import LOOPBACK, Way

AGENTS = {"eu-1": "eu", "us-1": "us", "ap-1": "ap", "ap-2": "ap"}
ENDPOINTS = ("near", "far")
SITE = "site"
"""A bare address, which round trips alone are measured to."""
TOKENS = 4
WAY_SECONDS = 0.1
"""Far over what a busy machine adds: a fifth of it is the bound of what counts as a regression."""
USUAL = Simulated(name="usual", rtt="0ms", ttft="700ms", tpot="80ms", region="here", latitude=0.0, longitude=0.0)
SLOW = replace(USUAL, name="slow", ttft="1250ms")
MODULES = {
    "rtt": Module(
        prober=Prober.RTT,
        interval=Duration(1),
        timeout=Duration(0.9),
        rtt=RttOptions(method=RttMethod.HTTP, count=3, spacing=Duration(0.02)),
    ),
    "chat": Module(
        prober=Prober.INFERENCE,
        interval=Duration(2),
        timeout=Duration(1.9),
        inference=InferenceOptions(
            max_output_tokens=TOKENS, first_token_timeout=Duration(1.7), stall_timeout=Duration(1.0)
        ),
    ),
}
REGIONS = (
    Region(name="eu", latitude=50.1, longitude=8.7, country="DE", weight=0.5),
    Region(name="us", latitude=38.9, longitude=-77.4, country="US", weight=0.3),
    Region(name="ap", latitude=35.7, longitude=139.7, country="JP", weight=0.2),
)


@dataclass(frozen=True, kw_only=True)
class World:
    """What a test can touch."""

    seen: Monitoring
    collector: Listen
    ways: dict[str, Way]
    usual: int
    """Port of the endpoint as it is."""
    slow: int
    """Port of one that thinks longer."""
    children: dict[str, Child]
    processes: dict[int, str]
    """Whose each agent's process is: the region's name."""

    async def start(self, program: Program) -> None:
        self.children[program.name] = child = Child(program=program)
        await child.start()
        if program.name in AGENTS and child.pid is not None:
            self.processes[child.pid] = AGENTS[program.name]

    async def stop(self, name: str) -> Program:
        """Stop a process; return how to start it again."""
        await self.children[name].stop()
        return self.children[name].program


def targets(ways: dict[str, Way]) -> Targets:
    """Return what is probed: both endpoints and the site."""
    location = Location(region="eu-west", latitude=52.4, longitude=4.9)
    return Targets(
        modules=MODULES,
        endpoints=tuple(
            Endpoint(
                name=name,
                url=f"http://{LOOPBACK}:{way.port}/v1",
                provider=Provider.OPENAI,
                model=f"model-{name}",
                modules=tuple(MODULES),
                location=location,
                price=TokenPrice(input_per_million=1.0, output_per_million=2.0),
                simulated=True,
            )
            for name, way in ways.items()
            if name != SITE
        ),
        sites=(Site(name=SITE, url=f"http://{LOOPBACK}:{ways[SITE].port}/", modules=("rtt",)),),
        regions=REGIONS,
    )


@asynccontextmanager
async def running_world(folder: Path, database_url: str) -> AsyncIterator[World]:
    """Give everything, measuring."""
    usual, slow, door = (ask.reserve(Listen(LOOPBACK, 0)) for _ in range(3))
    processes: dict[int, str] = {}
    ways = {name: Way(usual.port, processes, seconds=WAY_SECONDS) for name in (*ENDPOINTS, SITE)}
    for way in ways.values():
        await way.open()
    await asyncio.to_thread(admin.apply_targets, database_url, targets(ways))
    async with monitoring(folder / "monitoring", door) as seen:
        world = World(
            seen=seen,
            collector=door,
            ways=ways,
            usual=usual.port,
            slow=slow.port,
            children={},
            processes=processes,
        )
        try:
            await _start(world, folder, database_url)
            yield world
        finally:
            await asyncio.gather(*(child.kill() for child in world.children.values()))
            for way in ways.values():
                await way.close()


async def _start(world: World, folder: Path, database_url: str) -> None:
    collector = programs.collector(database_url, world.collector, folder)
    every_second = {**collector.environment, "ISOCHRONE_FLUSH_SECONDS": "1"}
    await asyncio.gather(
        world.start(replace(collector, environment=every_second)),
        world.start(programs.simulator(USUAL, world.usual, folder)),
        world.start(programs.simulator(SLOW, world.slow, folder)),
    )
    agents = [await asyncio.to_thread(_agent, world, folder / name, database_url) for name in AGENTS]
    await asyncio.gather(*map(world.start, agents))


def _agent(world: World, folder: Path, database_url: str) -> Program:
    name = folder.name
    folder.mkdir(mode=0o700)
    token = partial(admin.add_agent, database_url, name=name, region=AGENTS[name])()
    write_secret(folder / "agent.credential", token)
    settings = programs.agent_settings(f"http://{world.collector}", folder) | {"ISOCHRONE_FLUSH_INTERVAL": "1s"}
    return replace(programs.agent(settings, folder), name=name)
