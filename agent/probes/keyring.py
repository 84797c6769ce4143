"""How a probe gets a key: found by its name, and only for an origin that may have it."""

from collections.abc import Callable

import msgspec

from agent.errors import AgentError
from agent.transport import Failure
from isochrone.config import ApiKey
from isochrone.outcome import Outcome

ResolveKey = Callable[[ApiKey], str]
"""Raises AgentError that says where the key was looked for."""
KeyRefusal = Callable[[ApiKey, str], str | None]
"""Return why a key may not go to an origin (scheme://host:port); None if it may."""


def anywhere(_key: ApiKey, _origin: str) -> None:
    """Bind no key: for whoever names both the key and the URL himself."""


class KeyRing(msgspec.Struct, frozen=True, kw_only=True):
    """The keys of endpoints."""

    resolve: ResolveKey
    refusal: KeyRefusal = anywhere

    def check(self, key: ApiKey, origin: str) -> None:
        """Return if `key` may go to `origin`; else raise Failure (denied)."""
        why = self.refusal(key, origin)
        if why is not None:
            raise Failure(Outcome.DENIED, why)

    def read(self, key: ApiKey) -> str:
        """Return the key itself. Raises Failure (auth)."""
        try:
            return self.resolve(key)
        except AgentError as exc:
            raise Failure(Outcome.AUTH, str(exc)) from exc
