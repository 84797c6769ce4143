"""Where a URL points, taken apart: the one reading of it, for the allow-list and for the dialling alike. Pure.

Two readings would let a URL pass the operator's list as one place and be dialled as another.
"""

from typing import Final
from urllib.parse import SplitResult, urlsplit

import msgspec

from isochrone.names import printable

DEFAULT_PORTS: Final = {"http": 80, "https": 443}


class Origin(msgspec.Struct, frozen=True, kw_only=True):
    """Where a URL points, taken apart. `str()` of it is scheme://host:port, the port always told."""

    scheme: str
    host: str
    """As dialled and named in TLS: ASCII (IDNA), lower case, no brackets."""
    port: int
    target: str
    """Path and query, at least "/"."""

    @property
    def authority(self) -> str:
        """The Host header."""
        return self._host if self.port == DEFAULT_PORTS[self.scheme] else f"{self._host}:{self.port}"

    def __str__(self) -> str:
        return f"{self.scheme}://{self._host}:{self.port}"

    @property
    def _host(self) -> str:
        return f"[{self.host}]" if ":" in self.host else self.host


def parse_origin(url: str) -> Origin:
    """Return where `url` points; raise ValueError with a line that says what would be right."""
    shown = printable(url, limit=100)
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError as exc:
        raise ValueError(f"{shown!r} is no URL: {printable(str(exc))}") from exc
    if parts.username is not None or parts.password is not None:
        raise ValueError("a URL must not hold a user or password: give the key with --api-key-env or api_key")
    if parts.scheme not in DEFAULT_PORTS or not host:
        raise ValueError(f"{shown!r} is no address: write http:// or https:// and a host")
    if port == 0:
        raise ValueError(f"{shown!r} has the port 0, which nothing can dial")
    return Origin(
        scheme=parts.scheme,
        host=_ascii(host),
        port=DEFAULT_PORTS[parts.scheme] if port is None else port,
        target=_target(parts, shown),
    )


def _target(parts: SplitResult, shown: str) -> str:
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    if not target.isascii() or any(c <= " " for c in target):
        raise ValueError(f"{shown!r}: percent-encode what is not plain ASCII in the path")
    return target


def _ascii(host: str) -> str:
    if host.isascii():
        return host
    try:
        return host.encode("idna").decode("ascii")
    except UnicodeError as exc:
        raise ValueError(f"{host!r} is no host name: {exc}") from exc
