"""Reading a body without trusting it: type, encoding, size and time are bounded before anything is decoded."""

import asyncio
import zlib
from typing import Final

from fastapi import Request
from starlette.requests import ClientDisconnect

from collector.errors import Refused
from isochrone.batch import MAX_BODY_BYTES, MAX_INFLATED_BYTES, MEDIA_TYPE

BODY_SECONDS: Final = 19.0
"""Whole body, from the first byte to the last; shorter than the protocol's, so that it is answered."""
MEDIA_TYPES: Final = (MEDIA_TYPE, "application/json")

_GZIP: Final = 31
"""zlib's name for a gzip header and a window of 32 KiB."""


def check_headers(request: Request) -> bool:
    """Return whether the body is gzip; raise Refused for a type, encoding or length that is not taken."""
    media_type = request.headers.get("content-type", "").split(";", 1)[0].strip().lower()
    if media_type not in MEDIA_TYPES:
        raise Refused("unsupported", f"Send Content-Type: {MEDIA_TYPE}.")
    # Several headers are joined, so that gzip twice is seen as what it is.
    encoding = ",".join(request.headers.getlist("content-encoding")).strip().lower()
    if encoding not in ("", "identity", "gzip"):
        raise Refused("unsupported", "Send Content-Encoding gzip or identity.")
    length = request.headers.get("content-length", "0")
    if not length.isascii() or not length.isdigit() or int(length) > MAX_BODY_BYTES:
        raise _too_large(MAX_BODY_BYTES)
    return encoding == "gzip"


async def read_body(request: Request) -> bytes:
    """Return the body as sent; raise Refused when it is too large or too slow."""
    chunks: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(BODY_SECONDS):
            async for chunk in request.stream():
                size += len(chunk)
                if size > MAX_BODY_BYTES:
                    raise _too_large(MAX_BODY_BYTES)
                chunks.append(chunk)
    except TimeoutError as exc:
        raise Refused("timeout", f"The body must be complete within {BODY_SECONDS:g} s.") from exc
    except ClientDisconnect as exc:
        raise Refused("malformed", "The connection closed before the body was complete.") from exc
    return b"".join(chunks)


def inflate(body: bytes) -> bytes:
    """Return what one gzip member holds; raise Refused for a bomb, a cut, a wrong checksum or anything behind it."""
    inflator = zlib.decompressobj(_GZIP)
    try:
        data = inflator.decompress(body, MAX_INFLATED_BYTES + 1)
    except zlib.error as exc:
        raise Refused("malformed", "The body says gzip and is not.") from exc
    if len(data) > MAX_INFLATED_BYTES:
        raise _too_large(MAX_INFLATED_BYTES)
    if not inflator.eof:
        raise Refused("malformed", "The gzip body ends too early.")
    if inflator.unused_data:
        raise Refused("malformed", "There is something behind the gzip body.")
    return data


def _too_large(limit: int) -> Refused:
    return Refused("too_large", f"At most {limit} bytes. Send fewer results at once.")
