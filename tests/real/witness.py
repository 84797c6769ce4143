"""The second opinion: time to first token measured by a plain socket, with the very request that the agent sends."""

import os
import re
import secrets
import socket
import subprocess
from collections.abc import Mapping, Sequence
from statistics import median
from time import perf_counter
from typing import Final

from tests.real.lab import Lab

CONTENT: Final = re.compile(rb'"content":\s*"[^"]')
"""A piece of text that is not empty, in chat completions: the role's chunk comes before it and has none."""
_NONCE: Final = re.compile(rb'(?<=")[0-9a-f]{16}(?= )')
"""The beginning of the agent's prompt: another one of the same length leaves the request's length as it is."""
_HOST: Final = re.compile(rb"(?im)^host:[^\r]*")
_END: Final = b"\r\n0\r\n\r\n"
"""The last chunk of a chunked body."""
_TIMEOUT_SECONDS: Final = 30
_ANSWER: Final = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


def capture(
    lab: Lab, command: Sequence[str], *, environment: Mapping[str, str] | None = None
) -> tuple[bytes, "subprocess.CompletedProcess[str]"]:
    """Run `command` with the URL of a server that keeps the request and refuses; return both.

    `{url}` in the command becomes the server's origin.
    """
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(_TIMEOUT_SECONDS)
        url = f"http://127.0.0.1:{server.getsockname()[1]}"
        child = subprocess.Popen(
            [part.replace("{url}", url) for part in command],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=lab.folder,
            env={**os.environ, **(environment or {})},
        )
        try:
            request = _accept_post(server)
            output, errors = child.communicate(timeout=_TIMEOUT_SECONDS)
        finally:
            child.kill()
            child.wait()
    return request, subprocess.CompletedProcess(child.args, child.returncode, output, errors)


def ttft_seconds(*, port: int, request: bytes, token: re.Pattern[bytes] = CONTENT) -> float:
    """Return the time from the request's first byte on an open connection to the first token's arrival.

    The stream is read to its end: one left behind would keep the server busy in the next measurement.
    """
    request = _HOST.sub(b"Host: 127.0.0.1:%d" % port, request, count=1)
    with socket.create_connection(("127.0.0.1", port), timeout=_TIMEOUT_SECONDS) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        received = b""
        seconds: float | None = None
        started = perf_counter()
        connection.sendall(request)
        while not received.endswith(_END) and (data := connection.recv(65_536)):
            received += data
            if seconds is None and token.search(received) is not None:
                seconds = perf_counter() - started
    if seconds is None:
        raise ConnectionError(f"the stream ended without a token: {received[-300:]!r}")
    return seconds


def median_ttft_seconds(*, port: int, request: bytes, token: re.Pattern[bytes] = CONTENT, count: int = 5) -> float:
    """Return the median of `count` measurements, one after the other, each with a prompt of its own."""
    return median(ttft_seconds(port=port, request=_fresh(request), token=token) for _ in range(count))


def _accept_post(server: socket.socket) -> bytes:
    """Return the first POST as it came; answer everything, so that nobody waits."""
    while True:
        connection, _ = server.accept()
        with connection:
            connection.settimeout(_TIMEOUT_SECONDS)
            head, body = _read_request(connection)
            connection.sendall(_ANSWER)
            if head.startswith(b"POST "):
                return head + b"\r\n\r\n" + body


def _read_request(connection: socket.socket) -> tuple[bytes, bytes]:
    received = b""
    while b"\r\n\r\n" not in received:
        data = connection.recv(65_536)
        if not data:
            return received, b""
        received += data
    head, _, body = received.partition(b"\r\n\r\n")
    length = re.search(rb"(?im)^content-length:\s*(\d+)", head)
    while length is not None and len(body) < int(length[1]):
        data = connection.recv(65_536)
        if not data:
            break
        body += data
    return head, body


def _fresh(request: bytes) -> bytes:
    """Return the request with another nonce: the model server would answer a repeat from its cache."""
    fresh, replaced = _NONCE.subn(secrets.token_hex(8).encode(), request)
    if replaced != 1:
        raise ValueError(f"the request holds {replaced} nonces")
    return fresh
