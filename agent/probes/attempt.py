"""One attempt while it runs: the moments that it passed, how long it may still wait, and for what."""

import asyncio
from types import TracebackType
from typing import Final, Self

import msgspec

from agent.clock import Clock
from agent.probes.guard import Guard, everywhere
from agent.transport import Address, Arrival, Failure, HttpConnection, Origin, Stream, connect, resolve, secure
from isochrone.config import Assignment
from isochrone.marks import Marks
from isochrone.outcome import ClockSource, Connection, Flag, Outcome, Prober, RttSource
from isochrone.result import Result

PHASE_SECONDS: Final = 10.0
"""Longest wait for a name, a connection or a TLS handshake: the kernel's first three SYNs leave within 7 s."""


class Link(msgspec.Struct, frozen=True, kw_only=True):
    """An open connection, and how it came to be."""

    http: HttpConnection
    address: Address
    looked_up_seconds: float
    """When the name was last asked for, by CLOCK_BOOTTIME: a TTL runs on while the machine sleeps."""
    handshake_seconds: float | None
    """None when a SYN was sent twice: that measures a timer, not the way."""
    retransmits: int

    def round_trip(self) -> tuple[float, RttSource] | tuple[None, None]:
        """Return the connection's round trip in seconds and its source: the kernel's word, else the handshake."""
        info = self.http.stream.tcp_info()
        if info is not None and info.min_rtt_seconds is not None:
            return info.min_rtt_seconds, RttSource.TCP_INFO_MIN
        if info is not None and info.rtt_seconds is not None:
            return info.rtt_seconds, RttSource.TCP_INFO
        if self.handshake_seconds is not None:
            return self.handshake_seconds, RttSource.HANDSHAKE
        return None, None


class Deadline:
    """The moment by which the next thing must have come; as a context it ends what is inside by a TimeoutError.

    Each token moves it on: the timer is left where it is, and looks when it fires whether the moment came.
    """

    def __init__(self, *, total_seconds: float) -> None:
        self._watch = asyncio.timeout(None)
        self._loop = asyncio.get_running_loop()
        self._total_seconds = total_seconds
        self._total_at = self._loop.time() + total_seconds
        self._awaited = (Outcome.TIMEOUT_TOTAL, "nothing was awaited", total_seconds)
        self._at = self._total_at
        self._timer: asyncio.TimerHandle | None = None

    async def __aenter__(self) -> Self:
        await self._watch.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._timer is not None:
            self._timer.cancel()
        await self._watch.__aexit__(kind, exc, trace)

    def expect(self, outcome: Outcome, what: str, *, seconds: float, since: float | None = None) -> None:
        """Wait at most `seconds` (from the loop's time `since`, or from now) for what `what` misses.

        `outcome` says how the probe ends then; where the whole probe's timeout comes first it is `timeout_total`, but
        while a name, a connection or TLS is awaited, those have failed.
        """
        self._at = (self._loop.time() if since is None else since) + seconds
        self._awaited = (outcome, what, seconds)
        if self._timer is None or min(self._at, self._total_at) < self._timer.when():
            self._wind()

    def failure(self) -> Failure:
        """Return what a TimeoutError means now."""
        outcome, what, seconds = self._awaited
        if self._at <= self._total_at:
            return Failure(outcome, f"{what} within {seconds:g} s")
        if outcome in {Outcome.DNS, Outcome.CONNECT, Outcome.TLS}:
            return Failure(outcome, f"{what} within {self._total_seconds:g} s, the probe's timeout")
        return Failure(Outcome.TIMEOUT_TOTAL, f"{what} within {self._total_seconds:g} s, the timeout")

    def _wind(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_at(min(self._at, self._total_at), self._look)

    def _look(self) -> None:
        if self._loop.time() < min(self._at, self._total_at):
            self._wind()
        else:
            self._watch.reschedule(self._loop.time())


class Attempt:
    """What one probe found so far. Moments are monotonic nanoseconds by the name of their mark."""

    def __init__(self, target: Assignment, prober: Prober, *, clock: Clock, guard: Guard = everywhere) -> None:
        self.target = target
        self.guard = guard
        self.prober = prober
        self.clock = clock
        self.started_at = clock.utc_now()
        self.started_boottime_seconds = clock.boottime_seconds()
        self.origin_ns = clock.monotonic_ns()
        self.address: Address | None = None
        self.connection: Connection | None = None
        self.http_status: int | None = None
        self.served_region: str | None = None
        self.flags: set[Flag] = set()
        self._moments: dict[str, int] = {}
        self._clocks: set[ClockSource] = set()
        self._departures: set[ClockSource] = set()

    def mark(self, name: str, at_ns: int | None = None) -> None:
        """Set the mark `name` to `at_ns`, or to now."""
        self._moments[name] = self.clock.monotonic_ns() if at_ns is None else at_ns

    def mark_arrival(self, name: str, arrival: Arrival) -> None:
        """Set the mark `name` to the moment at which data came."""
        self._clocks.add(arrival.clock)
        self._moments[name] = arrival.at_ns

    def timed_by(self, *, sent: ClockSource, received: ClockSource) -> None:
        """Note whose clock timed a round trip: one that our own did makes the whole no better."""
        self._departures.add(sent)
        self._clocks.add(received)

    def mark_request(self, link: Link, *, answered_ns: int | None = None) -> None:
        """Mark when the request left, if it did; never after its answer came, however late we were told.

        Of a request that did not leave whole, only the start is marked.
        """
        departure = link.http.departure
        if departure is None or departure.started_ns is None:
            return
        self._departures = {departure.clock}
        started_ns, sent_ns = departure.started_ns, departure.sent_ns
        self.mark("request_started", started_ns)
        if sent_ns is not None:
            self.mark("request_sent", sent_ns if answered_ns is None else max(started_ns, min(sent_ns, answered_ns)))

    def forget_marks(self) -> None:
        """Begin anew with the marks: what came so far was before the start."""
        self._moments.clear()

    def has(self, name: str) -> bool:
        """Return whether the moment came."""
        return name in self._moments

    def marks(self) -> Marks:
        """Return the moments as seconds since the start."""
        return Marks(**{name: max(0, at_ns - self.origin_ns) / 1e9 for name, at_ns in self._moments.items()})

    def _clock_source(self) -> ClockSource:
        if self._clocks != {ClockSource.KERNEL}:
            return ClockSource.USER
        return ClockSource.KERNEL if self._departures == {ClockSource.KERNEL} else ClockSource.KERNEL_RECEIVE

    def result(self, failure: Failure | None = None) -> Result:
        """Return the result without its values: `failure` says how it ended, None means well."""
        return Result(
            seq=0,
            endpoint=self.target.endpoint,
            module=self.target.module,
            prober=self.prober,
            started_at=self.started_at,
            started_boottime_seconds=self.started_boottime_seconds,
            outcome=Outcome.OK if failure is None else failure.outcome,
            reason=None if failure is None else failure.reason,
            http_status=self.http_status,
            address=None if self.address is None else self.address.ip,
            ip_version=None if self.address is None else self.address.version,
            connection=self.connection,
            clock_source=self._clock_source(),
            marks=self.marks(),
            served_region=self.served_region,
            flags=tuple(sorted(self.flags)),
        )


async def open_link(origin: Origin, attempt: Attempt, deadline: Deadline) -> Link:
    """Resolve, dial and agree on TLS, marking each. Raises Failure (dns, denied, connect, tls)."""
    address = await find_address(origin, attempt, deadline)
    deadline.expect(Outcome.CONNECT, f"no connection to {address}", seconds=PHASE_SECONDS)
    dialled_ns = attempt.clock.monotonic_ns()
    lower = await connect(address, clock=attempt.clock)
    open_ns = attempt.clock.monotonic_ns()
    attempt.mark("tcp", open_ns)
    info = lower.tcp_info()
    retransmits = 0 if info is None else info.retransmits
    stream: Stream = lower
    if origin.scheme == "https":
        deadline.expect(Outcome.TLS, f"no end of the TLS handshake with {address}", seconds=PHASE_SECONDS)
        stream = await secure(lower, origin, http2=attempt.target.http2)
        attempt.mark("tls")
    return Link(
        http=HttpConnection(stream, origin),
        address=address,
        looked_up_seconds=attempt.clock.boottime_seconds(),
        handshake_seconds=None if retransmits else (open_ns - dialled_ns) / 1e9,
        retransmits=retransmits,
    )


async def find_address(origin: Origin, attempt: Attempt, deadline: Deadline) -> Address:
    """Look the host up, marking it, and let the guard see what would be dialled. Raises Failure (dns, denied).

    There is no second look-up between this and the dialling: a name that changes its mind meanwhile gains nothing.
    """
    deadline.expect(Outcome.DNS, f"no address for {origin.host}", seconds=PHASE_SECONDS)
    address = await resolve(origin, ip_version=attempt.target.ip_version)
    if address.looked_up:
        attempt.mark("dns")
    why = attempt.guard(origin, (address.ip, *address.answer))
    if why is not None:
        raise Failure(Outcome.DENIED, why)
    attempt.address = address
    return address
