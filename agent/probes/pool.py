"""Warm connections, one per target, kept between its probes."""

from collections.abc import Iterable

from agent.probes.attempt import Link
from isochrone.config import Assignment, InferenceOptions, RttOptions
from isochrone.outcome import Connection, Prober, RttMethod

Key = tuple[str, str, str]


class Pool:
    """Holds idle links. A link in use is not in it, so that two probes never share one."""

    def __init__(self) -> None:
        self._links: dict[Key, Link] = {}
        self._wanted: frozenset[Key] | None = None
        """None: all."""

    def take(self, target: Assignment) -> Link | None:
        """Return the target's link if it still lives."""
        link = self._links.pop(_key(target), None)
        if link is None or link.http.usable():
            return link
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

    def _wants(self, key: Key) -> bool:
        return self._wanted is None or key in self._wanted


def _key(target: Assignment) -> Key:
    return target.endpoint, target.module, target.url


def _takes_warm(target: Assignment) -> bool:
    options = target.options
    if options.prober is Prober.RTT:
        return (options.rtt or RttOptions()).method is RttMethod.HTTP
    return (options.inference or InferenceOptions()).connection is Connection.WARM
