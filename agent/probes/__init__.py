"""One attempt in, one `Result` out. Never retried, never raising for what an endpoint does."""

from collections.abc import Callable

from agent.clock import Clock
from agent.probes.inference import InferenceProbe
from agent.probes.pool import Pool
from agent.probes.rtt import RttProbe
from agent.transport import prepare, tls_context
from isochrone.config import ApiKey, Assignment
from isochrone.outcome import Prober
from isochrone.result import Result


class Probes:
    """Runs probes; keeps the warm connections between them."""

    def __init__(self, clock: Clock, resolve_key: Callable[[ApiKey], str]) -> None:
        self._clock = clock
        self._resolve_key = resolve_key
        self._pool = Pool()
        self._prepared = False

    async def run(self, target: Assignment) -> Result:
        """Return the result of one attempt, `seq` 0, within `target.options.timeout`."""
        if not self._prepared:
            self._prepared = True
            await prepare()
        if target.url.startswith("https:"):
            tls_context()  # 20 to 50 ms the first time: before the clock starts
        if target.options.prober is Prober.RTT:
            return await RttProbe(target, clock=self._clock, pool=self._pool).run()
        probe = InferenceProbe(target, clock=self._clock, pool=self._pool, resolve_key=self._resolve_key)
        return await probe.run()

    async def close(self) -> None:
        """Close the warm connections."""
        self._pool.close()
