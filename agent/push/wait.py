"""What the loops that talk to the collector need from outside: a client, time, dice, a wait that can be cut short."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Protocol

import msgspec

from agent.clock import Clock


class Answer(Protocol):
    """An HTTP answer, whole."""

    @property
    def status(self) -> int:
        """Return the status code."""
        ...

    @property
    def headers(self) -> Mapping[str, str]:
        """Return the headers, names in lower case."""
        ...

    @property
    def body(self) -> bytes:
        """Return the content."""
        ...


class Client(Protocol):
    """What `agent.transport.CollectorClient` gives."""

    async def request(
        self, method: str, path: str, *, headers: Mapping[str, str], body: bytes | None = None, max_response_bytes: int
    ) -> Answer:
        """Return the answer; raise DeliveryError for whatever the network does."""
        ...


class Timing(msgspec.Struct, frozen=True, kw_only=True):
    """Clock, sleep and dice: given, so that tests need no patience."""

    clock: Clock
    random: Callable[[], float]
    """Numbers from 0 to below 1."""
    wait: Callable[[asyncio.Event, float], Awaitable[bool]]
    """Wait for the event, at most so many seconds; tell whether it came. Clears it."""


async def wait_for(event: asyncio.Event, seconds: float) -> bool:
    """Return True as soon as `event` is set (and clear it), False after `seconds`."""
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return False
    event.clear()
    return True
