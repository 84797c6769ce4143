"""Round trips by handshakes: of TCP, and of TLS above it."""

from functools import partial
from typing import Final

from agent.probes.attempt import Deadline, find_address
from agent.probes.rtt.series import SAMPLE_SECONDS, Series, repeats
from agent.transport import Address, Failure, Origin, TlsStream, connect, secure
from isochrone.outcome import Connection, Outcome, RttSource

TLS_SECONDS: Final = 3 * SAMPLE_SECONDS
"""TCP, the hellos, and the end of the handshake are a round trip each. What was sent again is found by its count."""


async def sample_tcp(series: Series, origin: Origin, deadline: Deadline) -> None:
    """Take all samples by TCP. Raises Failure (dns)."""
    series.attempt.connection = Connection.COLD
    address = await find_address(origin, series.attempt, deadline)
    late = Failure(Outcome.CONNECT, f"no connection to {address}")
    await series.each(partial(_by_tcp, series, address), deadline, late=late)


async def sample_tls(series: Series, origin: Origin, deadline: Deadline) -> None:
    """Take all samples by TLS. Raises Failure (dns, tls)."""
    if origin.scheme != "https":
        raise Failure(Outcome.OTHER, "the method tls needs an https:// url")
    series.attempt.connection = Connection.COLD
    series.source = RttSource.TLS
    address = await find_address(origin, series.attempt, deadline)
    late = Failure(Outcome.TLS, f"no end of the TLS handshake with {address}")
    await series.each(partial(_by_tls, series, address, origin), deadline, late=late, seconds=TLS_SECONDS)


async def _by_tcp(series: Series, address: Address) -> None:
    clock = series.attempt.clock
    dialled_ns = clock.monotonic_ns()
    stream = await connect(address, clock=clock)
    open_ns = clock.monotonic_ns()
    info = stream.tcp_info()
    stream.close()
    if info is not None and info.retransmits:
        series.lose(f"the first SYN to {address} was lost")
        return
    if not series.attempt.has("tcp"):
        series.attempt.mark("tcp", open_ns)
    kernel_seconds = None if info is None else info.min_rtt_seconds
    series.source = RttSource.HANDSHAKE if kernel_seconds is None else RttSource.TCP_INFO_MIN
    series.seconds.append((open_ns - dialled_ns) / 1e9 if kernel_seconds is None else kernel_seconds)


async def _by_tls(series: Series, address: Address, origin: Origin) -> None:
    attempt = series.attempt
    lower = await connect(address, clock=attempt.clock)
    open_ns = attempt.clock.monotonic_ns()
    upper = await secure(lower, origin)
    secured_ns = attempt.clock.monotonic_ns()
    try:
        if repeats(upper):
            series.lose(f"packets of a TLS handshake with {address} were lost")
            return
        _note_hello(series, upper)
    finally:
        await upper.part()
    if not attempt.has("tls"):
        attempt.mark("tcp", open_ns)
        attempt.mark("tls", secured_ns)


def _note_hello(series: Series, stream: TlsStream) -> None:
    hello = stream.hello
    if hello is None or hello.departure.sent_ns is None:
        raise Failure(Outcome.TLS, "the server spoke before it was asked")
    series.attempt.timed_by(sent=hello.departure.clock, received=hello.arrival.clock)
    series.seconds.append(max(0, hello.arrival.at_ns - hello.departure.sent_ns) / 1e9)
