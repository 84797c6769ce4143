"""Round trips by ICMP: no port, no connection, and the other side's kernel answers."""

from contextlib import closing
from functools import partial

from agent.probes.attempt import Deadline, find_address
from agent.probes.rtt.series import Series
from agent.transport import EchoSocket, Failure, Origin
from isochrone.outcome import Outcome, RttSource


async def sample_icmp(series: Series, origin: Origin, deadline: Deadline) -> None:
    """Take all samples. Raises Failure (dns; connect: no way there; other: not allowed here)."""
    series.source = RttSource.ICMP
    address = await find_address(origin, series.attempt, deadline)
    late = Failure(Outcome.CONNECT, f"no echo reply from {address.ip}")
    with closing(EchoSocket(address, clock=series.attempt.clock)) as sock:
        await sock.settle()
        await series.each(partial(_by_icmp, series, sock), deadline, late=late)


async def _by_icmp(series: Series, sock: EchoSocket) -> None:
    echo = await sock.echo()
    series.attempt.timed_by(sent=echo.sent_by, received=echo.came_by)
    series.seconds.append((echo.came_ns - echo.sent_ns) / 1e9)
