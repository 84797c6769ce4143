"""Streams measured by the agent's own probes, and the table's cells made of them."""

import asyncio
from collections.abc import Sequence
from typing import Final

import msgspec

from agent.clock import SystemClock
from agent.host import Host
from agent.probes import Probes
from agent.selftest.cells import Cell, Plan, Stream, summarize
from agent.selftest.children import TOKENS, SimulatorProcess, busy_core
from agent.timeline import TokenArrival
from isochrone.config import Assignment, Duration, InferenceOptions, Module, Provider, RttOptions
from isochrone.outcome import Flag, Prober, RttMethod

STREAM_SECONDS: Final = 0.32
"""One stream of the simulator as `children` starts it."""
SPREAD_SECONDS: Final = 0.1
"""Over which the streams of one round begin: each still overlaps with all others."""
ROUND_SECONDS: Final = 2 * (SPREAD_SECONDS + STREAM_SECONDS)
"""What a round is taken to last before it is begun: double, for a slow machine."""
SETTLE_SECONDS: Final = 0.2
"""A busy loop takes so long to be one."""
HANDSHAKES: Final = 5
_TIMEOUT: Final = Duration(5)
_MOST_ROUNDS: Final = 8
_LEAST_ROUNDS: Final = 2
_WANTED: Final = 128
"""Streams in a cell, if rounds allow."""


def rounds(streams: int) -> int:
    """Return how often a cell's streams are begun: the fewer at once, the oftener."""
    return min(_MOST_ROUNDS, max(_LEAST_ROUNDS, _WANTED // streams))


class StreamProber:
    """The product's probes, with an eye on the arrivals that results do not hold."""

    def __init__(self) -> None:
        self._arrivals: dict[str, tuple[TokenArrival, ...]] = {}
        self._probes = Probes(SystemClock(), lambda _: "", observe=self._note)
        self._names = 0

    async def run(self, plan: Plan, server: SimulatorProcess, *, ends_at: float) -> Cell:
        """Return one cell; no round of it begins that would end after the loop's time `ends_at`."""
        if not plan.busy:
            return await self._run(plan, server, ends_at=ends_at)
        with busy_core():
            await asyncio.sleep(SETTLE_SECONDS)
            return await self._run(plan, server, ends_at=ends_at)

    async def stream(self, url: str) -> Stream:
        """Measure one stream; its endpoint and model have a name of their own."""
        self._names += 1
        name = f"stream-{self._names}"
        result = await self._probes.run(_inference(url, name))
        return Stream(result=result, arrivals=self._arrivals.pop(name, ()))

    async def close(self) -> None:
        """Close what is open."""
        await self._probes.close()

    async def _run(self, plan: Plan, server: SimulatorProcess, *, ends_at: float) -> Cell:
        loop = asyncio.get_running_loop()
        streams: list[Stream] = []
        with Host().watch() as watch:
            handshakes = asyncio.create_task(self._probes.run(_handshakes(server.url)))
            for _ in range(rounds(plan.streams)):
                if loop.time() + ROUND_SECONDS > ends_at:
                    break
                streams += await asyncio.gather(
                    *(self._later(server.url, at / plan.streams) for at in range(plan.streams))
                )
            pings = (await handshakes).pings
        seen = await server.truth.of({stream.result.endpoint for stream in streams})
        cell = summarize(plan, streams, seen)
        return msgspec.structs.replace(
            cell,
            failure=cell.failure if streams else "no time was left",
            tcp_rtt_seconds=None if pings is None else pings.median_seconds,
            loop_lag_seconds=watch.lag_seconds,
            throttled=Flag.THROTTLED in watch.flags,
        )

    async def _later(self, url: str, share: float) -> Stream:
        await asyncio.sleep(share * SPREAD_SECONDS)
        return await self.stream(url)

    def _note(self, target: Assignment, arrivals: Sequence[TokenArrival]) -> None:
        self._arrivals[target.endpoint] = tuple(arrivals)


def _inference(url: str, name: str) -> Assignment:
    options = InferenceOptions(max_output_tokens=TOKENS, first_token_timeout=_TIMEOUT, stall_timeout=_TIMEOUT)
    module = Module(prober=Prober.INFERENCE, interval=_TIMEOUT, timeout=_TIMEOUT, inference=options)
    return Assignment(endpoint=name, module="selftest", url=url, options=module, provider=Provider.OPENAI, model=name)


def _handshakes(url: str) -> Assignment:
    options = RttOptions(method=RttMethod.TCP, count=HANDSHAKES, spacing=Duration(0.05))
    module = Module(prober=Prober.RTT, interval=_TIMEOUT, timeout=_TIMEOUT, rtt=options)
    return Assignment(endpoint="handshakes", module="selftest", url=url, options=module)
