"""Warm connections, one per target, kept between its probes.

A connection is not kept on an address longer than its TTL without asking again: once that has passed, the name is
looked up before the link is taken, and a link to an address that is no longer among the answer is closed.
"""

import asyncio
from collections.abc import Iterable
from typing import Final

import msgspec

from agent.clock import Clock
from agent.probes.attempt import Link
from agent.transport import Failure, Origin, resolve
from isochrone.config import Assignment, InferenceOptions, RttOptions
from isochrone.outcome import Connection, Prober, RttMethod

Key = tuple[str, str, str, int | None, bool]
UNKNOWN_TTL_SECONDS: Final = 300.0
MIN_TTL_SECONDS: Final = 30.0
"""A name whose answers hold for no time must not be asked for at each probe."""
RENEW_SECONDS: Final = 3.0
"""Longest look-up before a link is taken, and at most a quarter of the probe's timeout."""


class Pool:
    """Holds idle links. A link in use is not in it, so that two probes never share one."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._links: dict[Key, Link] = {}
        self._wanted: frozenset[Key] | None = None
        """None: all."""

    async def take(self, target: Assignment, origin: Origin) -> Link | None:
        """Return the target's link if it still lives and its address still holds, which may take a look-up."""
        link = self._links.pop(_key(target), None)
        if link is None:
            return None
        try:
            fresh = link if self._holds(link) else await self._renewed(link, target, origin)
        except BaseException:
            link.http.close()
            raise
        if fresh is not None and fresh.http.usable():
            return fresh
        link.http.close()
        return None

    def keep(self, target: Assignment, link: Link) -> None:
        """Keep `link` for the target's next probe, or close it if it cannot be used again."""
        older = self._links.pop(_key(target), None)
        if older is not None:
            older.http.close()
        if self._wants(_key(target)) and link.http.usable():
            self._links[_key(target)] = link
        else:
            link.http.close()

    def retain(self, targets: Iterable[Assignment]) -> None:
        """Close the links that no target in `targets` would take, and keep none for others from now on."""
        self._wanted = frozenset(_key(target) for target in targets if _takes_warm(target))
        for key in [key for key in self._links if not self._wants(key)]:
            self._links.pop(key).http.close()

    def close(self) -> None:
        """Close all."""
        for link in self._links.values():
            link.http.close()
        self._links.clear()

    def _holds(self, link: Link) -> bool:
        if not link.address.looked_up:
            return True
        ttl_seconds = link.address.ttl_seconds
        ttl_seconds = UNKNOWN_TTL_SECONDS if ttl_seconds is None else max(MIN_TTL_SECONDS, ttl_seconds)
        return (self._clock.monotonic_ns() - link.looked_up_ns) / 1e9 < ttl_seconds

    async def _renewed(self, link: Link, target: Assignment, origin: Origin) -> Link | None:
        """Return the link with its address's new TTL, None if the name has moved away from it.

        A look-up that fails says nothing of the connection, which stands: it is kept, and asked about again soon.
        """
        ttl_seconds: float | None = MIN_TTL_SECONDS
        try:
            async with asyncio.timeout(min(RENEW_SECONDS, target.options.timeout / 4)):
                found = await resolve(origin, ip_version=target.ip_version)
        except (Failure, TimeoutError):
            pass
        else:
            if link.address.ip not in found.answer:
                return None
            ttl_seconds = found.ttl_seconds
        address = msgspec.structs.replace(link.address, ttl_seconds=ttl_seconds)
        return msgspec.structs.replace(link, address=address, looked_up_ns=self._clock.monotonic_ns())

    def _wants(self, key: Key) -> bool:
        return self._wanted is None or key in self._wanted


def _key(target: Assignment) -> Key:
    return target.endpoint, target.module, target.url, target.ip_version, target.http2


def _takes_warm(target: Assignment) -> bool:
    options = target.options
    if options.prober is Prober.RTT:
        return (options.rtt or RttOptions()).method is RttMethod.HTTP
    return (options.inference or InferenceOptions()).connection is Connection.WARM
