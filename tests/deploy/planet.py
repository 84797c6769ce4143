"""A small world with everything that dashboards tell of: regions at their distances from endpoints, some of which fail.

Collector, agents, Prometheus and Alertmanager are real processes; endpoints are simulators in this event loop, each
behind a way that lets answers take as long as the distance does.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from urllib.parse import urlsplit

from agent.simulator import Scenario, Script, Simulator
from collector import admin
from collector.config import Listen
from collector.processes import Child, Program
from collector.up import ask, programs
from collector.up.data import write_secret
from isochrone.config import (
    Budget,
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
from isochrone.outcome import Connection, Prober, RttMethod
from isochrone.physics import great_circle_meters, rtt_floor_seconds
from tests.system.monitoring import Monitoring, monitoring
from tests.system.ways import LOOPBACK, Way

DETOUR = 1.8
"""Round trips over their floor: what is usual between data centres."""
LAST_MILE_SECONDS = 0.004
ROOM_BYTES = 10_000_000_000


@dataclass(frozen=True, kw_only=True)
class Stand:
    """One endpoint, or a site where there is no model."""

    name: str
    location: Location
    model: str | None = None
    scenario: Scenario = field(default_factory=Scenario)
    modules: tuple[str, ...] = ("rtt", "chat")
    budget: Budget | None = None
    detours: dict[str, float] = field(default_factory=dict)
    """Round trips over their floor of single regions."""


@dataclass(frozen=True, kw_only=True)
class Planet:
    """Who measures what, and how often."""

    regions: Sequence[Region]
    stands: Sequence[Stand]
    rtt_seconds: float = 1.0
    chat_seconds: float = 2.0
    tokens: int = 8

    def modules(self) -> dict[str, Module]:
        chat = InferenceOptions(
            max_output_tokens=self.tokens,
            first_token_timeout=Duration(0.8 * self.chat_seconds),
            stall_timeout=Duration(0.5 * self.chat_seconds),
        )
        rtt = RttOptions(method=RttMethod.HTTP, count=2, spacing=Duration(0.02))
        talk = Module(
            prober=Prober.INFERENCE,
            interval=Duration(self.chat_seconds),
            timeout=Duration(0.9 * self.chat_seconds),
            inference=chat,
        )
        warm = InferenceOptions(
            connection=Connection.WARM,
            max_output_tokens=chat.max_output_tokens,
            first_token_timeout=chat.first_token_timeout,
            stall_timeout=chat.stall_timeout,
        )
        ping = Module(
            prober=Prober.RTT, interval=Duration(self.rtt_seconds), timeout=Duration(0.9 * self.rtt_seconds), rtt=rtt
        )
        return {"rtt": ping, "chat": talk, "warm": replace_inference(talk, warm)}

    def targets(self, ports: dict[str, int]) -> Targets:
        """Return the target file."""
        return Targets(
            modules=self.modules(),
            endpoints=tuple(_endpoint(stand, ports[stand.name]) for stand in self.stands if stand.model is not None),
            sites=tuple(
                Site(
                    name=one.name, url=f"http://{LOOPBACK}:{ports[one.name]}/", modules=("rtt",), location=one.location
                )
                for one in self.stands
                if one.model is None
            ),
            regions=tuple(self.regions),
        )


def replace_inference(module: Module, options: InferenceOptions) -> Module:
    """Return the module with other options."""
    return Module(prober=module.prober, interval=module.interval, timeout=module.timeout, inference=options)


def _endpoint(stand: Stand, port: int) -> Endpoint:
    assert stand.model is not None
    return Endpoint(
        name=stand.name,
        url=f"http://{LOOPBACK}:{port}/v1",
        provider=Provider.OPENAI,
        model=stand.model,
        modules=stand.modules,
        location=stand.location,
        price=TokenPrice(input_per_million=0.5, output_per_million=4.0),
        budget=stand.budget,
        simulated=True,
    )


def distance_seconds(region: Region, stand: Stand) -> float:
    """Return the round trip between the two."""
    place = stand.location
    assert place.latitude is not None
    assert place.longitude is not None
    meters = great_circle_meters(
        region.latitude, region.longitude, latitude_b=place.latitude, longitude_b=place.longitude
    )
    return LAST_MILE_SECONDS + stand.detours.get(region.name, DETOUR) * rtt_floor_seconds(meters)


@dataclass(frozen=True, kw_only=True)
class Living:
    """A planet that measures itself."""

    seen: Monitoring
    collector: Listen
    ways: dict[str, Way]


@asynccontextmanager
async def living(planet: Planet, folder: Path, database_url: str) -> AsyncIterator[Living]:
    """Run everything."""
    door = ask.reserve(Listen(LOOPBACK, 0))
    processes: dict[int, str] = {}
    async with AsyncExitStack() as stack:
        ways = {stand.name: await _way(stack, stand, planet=planet, processes=processes) for stand in planet.stands}
        targets = planet.targets({name: way.port for name, way in ways.items()})
        await asyncio.to_thread(admin.apply_targets, database_url, targets)
        seen = await stack.enter_async_context(monitoring(folder / "monitoring", door))
        collector = programs.collector(database_url, door, folder)
        more = {"ISOCHRONE_FLUSH_SECONDS": "1", "ISOCHRONE_MAX_DB_BYTES": str(ROOM_BYTES)}
        await _start(stack, replace(collector, environment={**collector.environment, **more}))
        for region in planet.regions:
            program = await asyncio.to_thread(_agent, f"http://{door}", folder / f"{region.name}-1", database_url)
            child = await _start(stack, program)
            assert child.pid is not None
            processes[child.pid] = region.name
        yield Living(seen=seen, collector=door, ways=ways)


async def _way(stack: AsyncExitStack, stand: Stand, *, planet: Planet, processes: dict[int, str]) -> Way:
    simulator = Simulator(Script(default=stand.scenario), seed=1)
    url = await simulator.start(LOOPBACK, 0)
    stack.push_async_callback(simulator.close)
    way = Way(urlsplit(url).port or 0, processes, seconds=0.0)
    way.longer.update({region.name: distance_seconds(region, stand) for region in planet.regions})
    await way.open()
    stack.push_async_callback(way.close)
    return way


async def _start(stack: AsyncExitStack, program: Program) -> Child:
    child = Child(program=program)
    stack.push_async_callback(child.kill)
    await child.start()
    return child


def _agent(collector_url: str, folder: Path, database_url: str) -> Program:
    folder.mkdir(mode=0o700)
    region = folder.name.rpartition("-")[0]
    write_secret(folder / "agent.credential", admin.add_agent(database_url, name=folder.name, region=region))
    settings = programs.agent_settings(collector_url, folder) | {"ISOCHRONE_FLUSH_INTERVAL": "1s"}
    return replace(programs.agent(settings, folder), name=folder.name)
