"""The `rtt` prober: several round trips, spaced, to one literal address.

    tcp     handshakes, each on a connection of its own, closed at once
    tls     ClientHello to ServerHello, each on a connection of its own
    http    HEAD requests on one connection, from the request to the first byte of the answer, whatever it says
    icmp    echo requests

A sample is lost when no answer came within a second, or when anything of it was sent twice: that measures a timer, not
the way. (Of `http` the samples have the probe's own timeout, for the server's own time is in them.)
"""

import msgspec

from agent.clock import Clock
from agent.probes.attempt import Deadline
from agent.probes.guard import Guard, everywhere
from agent.probes.pings import summarize
from agent.probes.pool import Pool
from agent.probes.rtt.echoes import sample_icmp
from agent.probes.rtt.handshakes import sample_tcp, sample_tls
from agent.probes.rtt.heads import Heads
from agent.probes.rtt.series import Series
from agent.transport import Failure, Origin, parse_origin
from isochrone.config import Assignment
from isochrone.outcome import Outcome, RttMethod
from isochrone.result import Result


class RttProbe:
    """One attempt."""

    def __init__(self, target: Assignment, *, clock: Clock, pool: Pool, guard: Guard = everywhere) -> None:
        self._pool = pool
        self._series = Series(target, clock=clock, guard=guard)

    async def run(self) -> Result:
        """Return what was found; a lost sample is data, and only when all are lost the probe has failed."""
        failure: Failure | None = None
        try:
            async with Deadline(total_seconds=self._series.target.options.timeout) as deadline:
                await self._sample(deadline)
        except TimeoutError:
            failure = deadline.failure()
        except Failure as exc:
            failure = exc
        return self._result(failure)

    async def _sample(self, deadline: Deadline) -> None:
        try:
            origin = parse_origin(self._series.target.url)
        except ValueError as exc:
            raise Failure(Outcome.OTHER, str(exc)) from exc
        await self._sample_by(self._series.options.method, origin, deadline)

    async def _sample_by(self, method: RttMethod, origin: Origin, deadline: Deadline) -> None:
        match method:
            case RttMethod.TCP:
                await sample_tcp(self._series, origin, deadline)
            case RttMethod.TLS:
                await sample_tls(self._series, origin, deadline)
            case RttMethod.HTTP:
                await Heads(self._series, self._pool).sample(origin, deadline)
            case RttMethod.ICMP:
                await sample_icmp(self._series, origin, deadline)

    def _result(self, failure: Failure | None) -> Result:
        series, attempt = self._series, self._series.attempt
        pings = summarize(series.options.method, series.seconds, sent=series.sent) if series.sent else None
        if not series.seconds:
            failed = failure or series.last or Failure(Outcome.OTHER, "no sample was taken")
            return msgspec.structs.replace(attempt.result(failed), pings=pings)
        duration_seconds = (attempt.clock.monotonic_ns() - attempt.origin_ns) / 1e9
        return msgspec.structs.replace(
            attempt.result(),
            pings=pings,
            duration_seconds=duration_seconds,
            setup_seconds=attempt.marks().request_started,
            rtt_seconds=None if pings is None else pings.median_seconds,
            rtt_source=series.source,
        )
