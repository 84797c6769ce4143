"""Warm connections, one per target, kept between its probes."""

from agent.probes.attempt import Link
from isochrone.config import Assignment

Key = tuple[str, str, str]


class Pool:
    """Holds idle links. A link in use is not in it, so that two probes never share one."""

    def __init__(self) -> None:
        self._links: dict[Key, Link] = {}

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
        if link.http.usable():
            self._links[_key(target)] = link
        else:
            link.http.close()

    def close(self) -> None:
        """Close all."""
        for link in self._links.values():
            link.http.close()
        self._links.clear()


def _key(target: Assignment) -> Key:
    return target.endpoint, target.module, target.url
