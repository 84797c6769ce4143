"""Round trips by HEAD requests on one connection, kept for the next probe."""

from agent.probes.attempt import Attempt, Deadline, Link, open_link
from agent.probes.pool import Pool
from agent.probes.rtt.series import Series, repeats
from agent.transport import Answer, Failure, Origin
from isochrone.outcome import Connection, Outcome, Prober, RttSource


class Heads:
    """Takes the samples of one probe."""

    def __init__(self, series: Series, pool: Pool) -> None:
        self._series = series
        self._attempt = series.attempt
        self._pool = pool

    async def sample(self, origin: Origin, deadline: Deadline) -> None:
        """Take all samples; one that fails ends the probe. Raises Failure."""
        series, attempt = self._series, self._attempt
        series.source = RttSource.HTTP
        link = await self._pool.take(series.target, origin)
        attempt.connection = Connection.COLD if link is None else Connection.WARM
        attempt.origin_ns = attempt.clock.monotonic_ns()  # asking anew for a kept link is before the start
        for _ in range(series.options.count):
            if link is None:
                link = await self._open(origin, deadline)
            try:
                await series.pause(deadline)
                await self._head(link, origin, deadline)
            except BaseException:
                link.http.close()
                raise
            if not link.http.usable():
                link.http.close()
                link = None
        if link is not None:
            self._pool.keep(series.target, link)

    async def _open(self, origin: Origin, deadline: Deadline) -> Link:
        attempt = self._attempt
        if not self._series.sent:
            return await open_link(origin, attempt, deadline)
        # A server that closes after each answer: the marks stay those of the first connection.
        return await open_link(
            origin, Attempt(attempt.target, Prober.RTT, clock=attempt.clock, guard=attempt.guard), deadline
        )

    async def _head(self, link: Link, origin: Origin, deadline: Deadline) -> None:
        series, attempt = self._series, self._attempt
        attempt.address = link.address
        what = f"no answer to HEAD {origin.target.partition('?')[0]}"
        deadline.expect(Outcome.TIMEOUT_HEADERS, what, seconds=series.target.options.timeout)
        series.sent += 1
        before = repeats(link.http.stream)
        answer = await link.http.request("HEAD", origin.target, headers={})
        await answer.body(limit=1)
        await answer.close()
        attempt.http_status = answer.status
        self._note(link, answer, repeated=repeats(link.http.stream) - before)

    def _note(self, link: Link, answer: Answer, *, repeated: int) -> None:
        series, attempt = self._series, self._attempt
        departure = link.http.departure
        if departure is None or departure.started_ns is None:
            raise Failure(Outcome.PROTOCOL, "the answer came before the request")
        if series.sent == 1:
            attempt.origin_ns = departure.started_ns if attempt.connection is Connection.WARM else attempt.origin_ns
            attempt.mark_request(link, answered_ns=answer.first.at_ns)
            attempt.mark_arrival("headers", answer.complete)
        if repeated:
            series.lose(f"packets to {link.address} were lost and sent again")
            return
        attempt.timed_by(sent=departure.clock, received=answer.first.clock)
        series.seconds.append(max(0, answer.first.at_ns - departure.started_ns) / 1e9)
