"""The agent's event loop: asyncio's own, which remembers when it last began to wait.

A socket that was not ready at that moment, and is now, got its data since: so narrows the bound of an arrival.
"""

import asyncio
import selectors
import time


class Watch(selectors.DefaultSelector):
    """Waits for sockets, and tells since when."""

    began_ns = 0
    """CLOCK_MONOTONIC at the beginning of the latest wait."""

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """Wait as its base does."""
        self.began_ns = time.monotonic_ns()
        return super().select(timeout)


class AgentLoop(asyncio.SelectorEventLoop):
    """An event loop over a `Watch`."""

    def __init__(self) -> None:
        self.watch = Watch()
        super().__init__(self.watch)
