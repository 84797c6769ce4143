"""The agent's event loop: asyncio's own, which remembers when it waited.

A socket that it waited for in the wait before the latest, and did not name then, was empty when that wait began: so
narrows the bound of an arrival. And who works for long can tell how long nobody has looked at the sockets.
"""

import asyncio
import selectors

from agent.clock import Clock, SystemClock


class Watch(selectors.DefaultSelector):
    """Waits for sockets, and tells when. All moments are CLOCK_MONOTONIC."""

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self._now_ns = clock.monotonic_ns
        self.before_ns = 0
        """The beginning of the wait before the latest."""
        self.began_ns = 0
        """The beginning of the latest wait."""
        self.ended_ns = 0
        """Its end."""

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """Wait as its base does."""
        self.before_ns, self.began_ns = self.began_ns, self._now_ns()
        ready = super().select(timeout)
        self.ended_ns = self._now_ns()
        return ready


class AgentLoop(asyncio.SelectorEventLoop):
    """An event loop over a `Watch`."""

    def __init__(self) -> None:
        self.watch = Watch(SystemClock())
        super().__init__(self.watch)
