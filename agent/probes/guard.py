"""Whether the addresses of a host may be dialled: asked once they are known, before the first packet to them."""

from collections.abc import Callable, Iterable

from agent.transport import Origin

Guard = Callable[[Origin, Iterable[str]], str | None]
"""Return why an origin may not be dialled at its addresses, all of one look-up's answer; None if it may."""


def everywhere(_origin: Origin, _addresses: Iterable[str]) -> None:
    """Bar no address: for whoever names the URL himself."""
