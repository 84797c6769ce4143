"""The `rtt` prober: several round trips, spaced, to one literal address.

`tcp`: handshakes, each on a connection of its own, closed at once. `http`: HEAD requests on one connection, from the
write of the request to the first byte of the answer, whatever it says. A handshake whose SYN was sent twice is a loss.
"""

import asyncio
from typing import Final

import msgspec

from agent.clock import Clock
from agent.probes.attempt import Attempt, Deadline, Link, find_address, open_link
from agent.probes.pings import summarize
from agent.probes.pool import Pool
from agent.transport import Address, Failure, Origin, connect, parse_origin
from isochrone.config import Assignment, RttOptions
from isochrone.outcome import Connection, Flag, Outcome, Prober, RttMethod, RttSource
from isochrone.result import Result

SAMPLE_SECONDS: Final = 1.0
"""RFC 6298 2.1: after this the kernel sends another SYN, and the sample is a loss whatever comes."""


class RttProbe:
    """One attempt."""

    def __init__(self, target: Assignment, *, clock: Clock, pool: Pool) -> None:
        self._target = target
        self._options = target.options.rtt or RttOptions()
        self._pool = pool
        self._attempt = Attempt(target, Prober.RTT, clock=clock)
        self._samples: list[float] = []
        self._sent = 0
        self._source: RttSource | None = None
        self._last: Failure | None = None

    async def run(self) -> Result:
        """Return what was found; a lost sample is data, and only when all are lost the probe has failed."""
        failure: Failure | None = None
        try:
            async with asyncio.timeout(None) as watch:
                deadline = Deadline(watch, total_seconds=self._target.options.timeout)
                await self._sample(deadline)
        except TimeoutError:
            failure = deadline.failure()
        except Failure as exc:
            failure = exc
        return self._result(failure)

    async def _sample(self, deadline: Deadline) -> None:
        try:
            origin = parse_origin(self._target.url)
        except ValueError as exc:
            raise Failure(Outcome.OTHER, str(exc)) from exc
        if self._options.method is RttMethod.HTTP:
            await self._sample_http(origin, deadline)
        else:
            self._attempt.connection = Connection.COLD
            address = await find_address(origin, self._attempt, deadline)
            await self._sample_tcp(address, deadline)

    async def _sample_tcp(self, address: Address, deadline: Deadline) -> None:
        first_at = asyncio.get_running_loop().time()
        for index in range(self._options.count):
            await self._wait_until(first_at + index * self._options.spacing, deadline)
            self._sent += 1
            deadline.expect(Outcome.CONNECT, f"no connection to {address}", seconds=self._target.options.timeout)
            try:
                async with asyncio.timeout(SAMPLE_SECONDS):
                    await self._handshake(address)
            except TimeoutError:
                self._last = Failure(Outcome.CONNECT, f"no connection to {address} within {SAMPLE_SECONDS:g} s")
            except Failure as exc:
                self._last = exc

    async def _handshake(self, address: Address) -> None:
        clock = self._attempt.clock
        dialled_ns = clock.monotonic_ns()
        stream = await connect(address, clock=clock)
        open_ns = clock.monotonic_ns()
        info = stream.tcp_info()
        stream.close()
        if info is not None and info.retransmits:
            self._attempt.flags.add(Flag.RETRANSMITS)
            self._last = Failure(Outcome.CONNECT, f"the first SYN to {address} was lost")
            return
        if not self._attempt.has("tcp"):
            self._attempt.mark("tcp", open_ns)
        kernel_seconds = None if info is None else info.min_rtt_seconds
        self._source = RttSource.HANDSHAKE if kernel_seconds is None else RttSource.TCP_INFO_MIN
        self._samples.append((open_ns - dialled_ns) / 1e9 if kernel_seconds is None else kernel_seconds)

    async def _sample_http(self, origin: Origin, deadline: Deadline) -> None:
        self._source = RttSource.HTTP
        link = await self._pool.take(self._target, origin)
        self._attempt.connection = Connection.COLD if link is None else Connection.WARM
        self._attempt.origin_ns = self._attempt.clock.monotonic_ns()  # asking anew for a kept link is before the start
        first_at: float | None = None
        for index in range(self._options.count):
            if link is None:
                link = await self._open(origin, deadline)
            loop = asyncio.get_running_loop()
            first_at = loop.time() if first_at is None else first_at
            try:
                await self._wait_until(first_at + index * self._options.spacing, deadline)
                await self._head(link, origin, deadline)
            except BaseException:
                link.http.close()
                raise
            if not link.http.usable():
                link.http.close()
                link = None
        if link is not None:
            self._pool.keep(self._target, link)

    async def _open(self, origin: Origin, deadline: Deadline) -> Link:
        attempt = self._attempt
        if not self._sent:
            return await open_link(origin, attempt, deadline)
        # A server that closes after each answer: the marks stay those of the first connection.
        return await open_link(origin, Attempt(self._target, Prober.RTT, clock=attempt.clock), deadline)

    async def _head(self, link: Link, origin: Origin, deadline: Deadline) -> None:
        attempt = self._attempt
        attempt.address = link.address
        what = f"no answer to HEAD {origin.target.partition('?')[0]}"
        deadline.expect(Outcome.TIMEOUT_HEADERS, what, seconds=self._target.options.timeout)
        first = not self._sent
        self._sent += 1
        answer = await link.http.request("HEAD", origin.target, headers={})
        await answer.body(limit=1)
        await answer.close()
        attempt.http_status = answer.status
        departure = link.http.departure
        started_ns = (departure and departure.started_ns) or attempt.clock.monotonic_ns()
        if first:
            attempt.origin_ns = started_ns if attempt.connection is Connection.WARM else attempt.origin_ns
            attempt.mark_request(link, answered_ns=answer.first.at_ns)
            attempt.mark_arrival("headers", answer.complete)
        self._samples.append(max(0, answer.first.at_ns - started_ns) / 1e9)

    async def _wait_until(self, at: float, deadline: Deadline) -> None:
        wait = at - asyncio.get_running_loop().time()
        if wait > 0:
            deadline.expect(Outcome.TIMEOUT_TOTAL, "not all samples", seconds=self._target.options.timeout)
            await asyncio.sleep(wait)

    def _result(self, failure: Failure | None) -> Result:
        attempt = self._attempt
        pings = summarize(self._options.method, self._samples, sent=self._sent) if self._sent else None
        if not self._samples:
            failed = failure or self._last or Failure(Outcome.OTHER, "no sample was taken")
            return msgspec.structs.replace(attempt.result(failed), pings=pings)
        duration_seconds = (attempt.clock.monotonic_ns() - attempt.origin_ns) / 1e9
        return msgspec.structs.replace(
            attempt.result(),
            pings=pings,
            duration_seconds=duration_seconds,
            setup_seconds=attempt.marks().request_started,
            rtt_seconds=None if pings is None else pings.median_seconds,
            rtt_source=self._source,
        )
