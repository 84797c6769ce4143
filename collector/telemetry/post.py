"""The only door to httpx on the collector's side: one receiver, no redirects, no proxies of the environment."""

import asyncio
import socket
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import httpx

from collector.errors import SettingsError
from collector.receivers import Receiver
from collector.telemetry.answers import Answer
from collector.telemetry.exporter import Unreachable
from isochrone.names import printable

TOTAL_SECONDS: Final = 15.0
MAX_ANSWER_BYTES: Final = 64 * 1024
_TIMEOUT: Final = httpx.Timeout(10.0, connect=5.0)
_USER_AGENT: Final = "isochrone-collector"


class HttpDoor:
    """Posts to one receiver."""

    def __init__(self, receiver: Receiver, headers: Mapping[str, str], *, ca_file: Path | None) -> None:
        parts = urlsplit(receiver.url)
        self.address = f"{parts.scheme}://{parts.netloc}{parts.path}"
        self._url = receiver.url
        self._secrets = [value for _, value in receiver.headers]
        self._client = httpx.AsyncClient(
            verify=_context(ca_file) if parts.scheme == "https" else False,
            timeout=_TIMEOUT,
            limits=httpx.Limits(max_keepalive_connections=1, keepalive_expiry=60.0),
            follow_redirects=False,
            trust_env=False,
            headers=[
                ("User-Agent", _USER_AGENT),
                ("Accept-Encoding", "identity"),
                *receiver.headers,
                *headers.items(),
            ],
        )

    async def post(self, body: bytes) -> Answer:
        """Return the answer to one try; raise Unreachable."""
        try:
            async with asyncio.timeout(TOTAL_SECONDS), self._client.stream("POST", self._url, content=body) as answer:
                content = await _bounded(answer)
        except TimeoutError as exc:
            raise Unreachable(f"no answer within {TOTAL_SECONDS:g} s") from exc
        except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError, ValueError) as exc:
            raise Unreachable(self._hide(_words(exc))) from exc
        told = {name.lower(): value for name, value in answer.headers.items()}
        return Answer(status=answer.status_code, headers=told, body=self._hide_bytes(content))

    async def close(self) -> None:
        """Close all connections."""
        await self._client.aclose()

    def _hide(self, text: str) -> str:
        for secret in self._secrets:
            text = text.replace(secret, "***")
        return text

    def _hide_bytes(self, content: bytes) -> bytes:
        """Keep what a receiver repeats of its request out of the log."""
        for secret in self._secrets:
            content = content.replace(secret.encode(), b"***")
        return content


def _context(ca_file: Path | None) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=None if ca_file is None else str(ca_file))
    except (OSError, ssl.SSLError) as exc:
        raise SettingsError(
            f"ISOCHRONE_EXPORT_CA_FILE={str(ca_file)!r}: {exc}: give a PEM file of certificates"
        ) from exc


async def _bounded(answer: httpx.Response) -> bytes:
    """Return the body, or its beginning: more is read by nobody."""
    content = bytearray()
    async for piece in answer.aiter_raw():
        content += piece
        if len(content) > MAX_ANSWER_BYTES:
            break
    return bytes(content[:MAX_ANSWER_BYTES])


def _words(exc: Exception) -> str:
    """Return one line for a person."""
    if isinstance(exc, httpx.ConnectTimeout):
        return f"no connection within {_TIMEOUT.connect:g} s"
    if isinstance(exc, httpx.TimeoutException):
        return f"no answer within {_TIMEOUT.read:g} s"
    root = _system_error(exc)
    if isinstance(root, ssl.SSLCertVerificationError):
        return f"certificate refused: {root.verify_message}"
    if isinstance(root, socket.gaierror):
        return f"no address for this host: {root.strerror}"
    if isinstance(root, ConnectionRefusedError):
        return "connection refused: nothing listens there"
    return printable(str(root if root is not None else exc)) or type(exc).__name__


def _system_error(exc: BaseException | None) -> OSError | None:
    found = None
    while exc is not None:
        found = exc if isinstance(exc, OSError) else found
        exc = exc.__cause__ or exc.__context__
    return found
