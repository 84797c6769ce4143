"""The samples of one `rtt` probe while they are taken."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from agent.clock import Clock
from agent.probes.attempt import Attempt, Deadline
from agent.probes.guard import Guard, everywhere
from agent.transport import Failure, Stream
from isochrone.config import Assignment, RttOptions
from isochrone.outcome import Flag, Outcome, Prober, RttSource

SAMPLE_SECONDS: Final = 1.0
"""RFC 6298 2.1: after this the kernel sends another SYN, and the sample is a loss whatever comes."""


class Series:
    """What the methods share."""

    def __init__(self, target: Assignment, *, clock: Clock, guard: Guard = everywhere) -> None:
        self.target = target
        self.options = target.options.rtt or RttOptions()
        self.attempt = Attempt(target, Prober.RTT, clock=clock, guard=guard)
        self.seconds: list[float] = []
        """Of the samples that were not lost, in order."""
        self.sent = 0
        self.source: RttSource | None = None
        self.last: Failure | None = None
        """Why the latest lost sample was."""
        self._due_at: float | None = None

    async def pause(self, deadline: Deadline) -> None:
        """Wait until the next sample is due: the spacing after the last one was, or at once where that one took longer.

        What was missed meanwhile is not made up for: samples in a row would meet the queue that they make.
        """
        now = asyncio.get_running_loop().time()
        self._due_at = now if self._due_at is None else max(now, self._due_at + self.options.spacing)
        wait = self._due_at - now
        if wait > 0:
            deadline.expect(Outcome.TIMEOUT_TOTAL, "not all samples", seconds=self.target.options.timeout)
            await asyncio.sleep(wait)

    async def each(
        self,
        sample: Callable[[], Awaitable[None]],
        deadline: Deadline,
        *,
        late: Failure,
        seconds: float | None = None,
    ) -> None:
        """Take all samples; one that raises is lost, and one that takes longer than `seconds` is `late`.

        None: `SAMPLE_SECONDS`. One that the end of the probe cuts off does not count, unless it is the only one. Where
        TLS fails before any sample succeeded, it will not succeed later, and no packet was lost: that is raised.
        """
        seconds = SAMPLE_SECONDS if seconds is None else seconds
        for _ in range(self.options.count):
            await self.pause(deadline)
            self.sent += 1
            deadline.expect(late.outcome, late.words, seconds=self.target.options.timeout)
            try:
                async with asyncio.timeout(seconds):
                    await sample()
            except TimeoutError:
                self.last = Failure(late.outcome, f"{late.words} within {seconds:g} s")
            except asyncio.CancelledError:
                self.sent = max(1, self.sent - 1)
                raise
            except Failure as exc:
                if exc.outcome is Outcome.TLS and not self.seconds:
                    self.sent -= 1
                    raise
                self.last = exc

    def lose(self, words: str) -> None:
        """Note that something was sent twice: the sample is lost."""
        self.attempt.flags.add(Flag.RETRANSMITS)
        self.last = Failure(Outcome.CONNECT, words)


def repeats(stream: Stream) -> int:
    """Return how many segments of a connection were sent again, as far as this side can know.

    Ours are counted. Of the other side's, one that came before another that was missing tells that there was one.
    """
    info = stream.tcp_info()
    return 0 if info is None else info.retransmits + info.out_of_order
