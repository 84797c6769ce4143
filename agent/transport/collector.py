"""The agent's HTTP client for its collector: httpx, without redirects and without proxies from the environment."""

import asyncio
import socket
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import httpx
import msgspec

from agent.config import parse_origin
from agent.errors import AnswerTooLong, ConfigError, DeliveryError
from agent.transport.failure import why
from agent.transport.http import USER_AGENT
from agent.transport.tls import tls_context

TOTAL_SECONDS: Final = 30.0
_TIMEOUT: Final = httpx.Timeout(15.0, connect=5.0)
_LIMITS: Final = httpx.Limits(max_keepalive_connections=2, keepalive_expiry=60.0)
"""Two lanes push; the configuration is fetched beside them once a minute."""


class Response(msgspec.Struct, frozen=True, kw_only=True):
    """A collector's answer, whole."""

    status: int
    headers: Mapping[str, str]
    """Names in lower case."""
    body: bytes


class CollectorClient:
    """Speaks to one collector. Safe for several requests at once: each takes a connection of its own."""

    def __init__(self, base_url: str, *, verify_file: Path | None = None) -> None:
        try:
            origin = parse_origin(base_url)
        except ValueError as exc:
            raise ConfigError(f"collector URL: {exc}") from exc
        self._authority = origin.authority
        self._base = base_url.rstrip("/")
        context = _context(verify_file) if origin.scheme == "https" else False
        self._client = httpx.AsyncClient(
            verify=context,
            timeout=_TIMEOUT,
            limits=_LIMITS,
            follow_redirects=False,
            trust_env=False,
            headers={"User-Agent": USER_AGENT, "Accept-Encoding": "identity"},
            event_hooks={"response": [_forget_location]},
        )

    async def request(
        self,
        method: str,
        path: str,
        *,
        headers: Mapping[str, str],
        body: bytes | None = None,
        max_response_bytes: int,
    ) -> Response:
        """Return the answer to one request, tried once. Raises DeliveryError for whatever the network does."""
        try:
            async with (
                asyncio.timeout(TOTAL_SECONDS),
                self._client.stream(method, self._base + path, headers=headers, content=body) as answer,
            ):
                content = await _bounded(answer, max_response_bytes)
        except TimeoutError as exc:
            raise DeliveryError(f"{self._authority}: no answer within {TOTAL_SECONDS:g} s") from exc
        except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError, ValueError) as exc:
            # ValueError: what httpx and idna raise for addresses and headers that cannot be encoded
            raise DeliveryError(f"{self._authority}: {_words(exc)}") from exc
        told = {name.lower(): value for name, value in answer.headers.items()}
        if content is None:
            words = f"the answer to {method} {path} is longer than {max_response_bytes} bytes"
            raise AnswerTooLong(words, status=answer.status_code, headers=told)
        return Response(status=answer.status_code, headers=told, body=content)

    async def close(self) -> None:
        """Close all connections."""
        await self._client.aclose()


def _context(verify_file: Path | None) -> ssl.SSLContext:
    try:
        return tls_context(verify_file)
    except (OSError, ssl.SSLError) as exc:
        raise ConfigError(f"ISOCHRONE_CA_FILE {verify_file}: {exc}: give a PEM file of certificates") from exc


async def _forget_location(answer: httpx.Response) -> None:
    """Keep httpx from building the next request, which it does even when it is not to follow, and fails at."""
    answer.headers.pop("location", None)


async def _bounded(answer: httpx.Response, limit: int) -> bytes | None:
    """Return the body as it was sent, None if it is longer than `limit`: no encoding was asked for, none is undone."""
    content = bytearray()
    async for piece in answer.aiter_raw():
        content += piece
        if len(content) > limit:
            return None
    return bytes(content)


def _words(exc: Exception) -> str:
    """Return one line for a person: httpx and its own libraries wrap the system's word two or three deep."""
    if isinstance(exc, httpx.ConnectTimeout):
        return f"no connection within {_TIMEOUT.connect:g} s"
    if isinstance(exc, httpx.TimeoutException):
        return f"no answer within {_TIMEOUT.read:g} s"
    root = _system_error(exc)
    if isinstance(root, ssl.SSLCertVerificationError):
        return f"certificate refused: {root.verify_message}"
    if isinstance(root, socket.gaierror):
        return f"no address for this host: {why(root)}"
    if isinstance(root, ConnectionRefusedError):
        return "connection refused: nothing listens on that port"
    return " ".join(why(root if root is not None else exc).split())


def _system_error(exc: BaseException | None) -> OSError | None:
    """Return the innermost OSError behind `exc`."""
    found = None
    while exc is not None:
        found = exc if isinstance(exc, OSError) else found
        exc = exc.__cause__ or exc.__context__
    return found
