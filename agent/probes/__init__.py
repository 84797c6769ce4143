"""One attempt in, one `Result` out. Never retried, never raising for what an endpoint does."""

from collections.abc import Callable, Iterable, Sequence

import msgspec

from agent.clock import Clock
from agent.host import Host
from agent.probes.guard import Guard, everywhere
from agent.probes.inference import InferenceProbe
from agent.probes.keyring import KeyRefusal, KeyRing, ResolveKey, anywhere
from agent.probes.pool import Pool
from agent.probes.rtt import RttProbe
from agent.probes.waits import Waits
from agent.timeline import TokenArrival
from agent.transport import prepare, tls_context
from isochrone.config import Assignment
from isochrone.outcome import Prober
from isochrone.result import Result

Observe = Callable[[Assignment, Sequence[TokenArrival]], None]
"""Called after each stream with its tokens' arrivals, which a result does not hold."""


class Probes:
    """Runs probes; keeps warm connections and the endpoints' wish to wait between them; flags what the machine did."""

    def __init__(
        self,
        clock: Clock,
        resolve_key: ResolveKey,
        *,
        key_refusal: KeyRefusal = anywhere,
        guard: Guard = everywhere,
        host: Host | None = None,
        observe: Observe | None = None,
    ) -> None:
        self._clock = clock
        self._keys = KeyRing(resolve=resolve_key, refusal=key_refusal)
        self._guard = guard
        self._waits = Waits()
        self._pool = Pool(clock)
        self._host = host or Host()
        self._observe = observe
        self._prepared = False

    async def run(self, target: Assignment) -> Result:
        """Return the result of one attempt, `seq` 0, within `target.options.timeout`."""
        if not self._prepared:
            self._prepared = True
            await prepare()
        if target.url.startswith("https:"):
            tls_context(http2=target.http2)  # 20 to 50 ms the first time: before the clock starts
        with self._host.watch() as watch:
            result = await self._run(target)
        if not watch.flags:
            return result
        return msgspec.structs.replace(result, flags=tuple(sorted({*result.flags, *watch.flags})))

    def retain(self, targets: Iterable[Assignment]) -> None:
        """Close the warm connections of all but `targets`; probes still in flight keep none for the others."""
        self._pool.retain(targets)

    async def close(self) -> None:
        """Close the warm connections."""
        self._pool.close()

    async def _run(self, target: Assignment) -> Result:
        if target.options.prober is Prober.RTT:
            return await RttProbe(target, clock=self._clock, pool=self._pool, guard=self._guard).run()
        probe = InferenceProbe(
            target, clock=self._clock, pool=self._pool, waits=self._waits, keys=self._keys, guard=self._guard
        )
        result = await probe.run()
        if self._observe is not None and probe.reader is not None:
            self._observe(target, probe.reader.arrivals)
        return result
