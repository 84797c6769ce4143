"""The second opinion: time to first token measured by a plain socket, with the very request that the agent sends."""

import json
import re
import secrets
import socket
import subprocess
from collections.abc import Sequence
from statistics import median
from time import perf_counter
from typing import Final

from tests.real.lab import Lab

_TOKEN: Final = re.compile(rb'"content":\s*"[^"]')
"""The first piece of text that is not empty: the role's chunk comes before it and has none."""
_TIMEOUT_SECONDS: Final = 30
_ANSWER: Final = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


def capture_body(lab: Lab, command: Sequence[str]) -> tuple[bytes, "subprocess.CompletedProcess[str]"]:
    """Run `command` with the URL of a server that keeps the body and refuses; return the body and how that ended."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(_TIMEOUT_SECONDS)
        url = f"http://127.0.0.1:{server.getsockname()[1]}/v1"
        child = subprocess.Popen(
            [part.replace("{url}", url) for part in command],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=lab.folder,
        )
        try:
            body = _accept_post(server)
            output, errors = child.communicate(timeout=_TIMEOUT_SECONDS)
        finally:
            child.kill()
            child.wait()
    return body, subprocess.CompletedProcess(child.args, child.returncode, output, errors)


def ttft_seconds(*, port: int, body: bytes, key: str | None = None) -> float:
    """Return the time from the request's first byte on an open connection to the first token's arrival."""
    request = _request(_fresh(body), port=port, key=key)
    with socket.create_connection(("127.0.0.1", port), timeout=_TIMEOUT_SECONDS) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        received = b""
        started = perf_counter()
        connection.sendall(request)
        while _TOKEN.search(received) is None:
            data = connection.recv(65_536)
            if not data:
                raise ConnectionError(f"the stream ended without a token: {received[-300:]!r}")
            received += data
        return perf_counter() - started


def median_ttft_seconds(*, port: int, body: bytes, key: str | None = None, count: int = 5) -> float:
    """Return the median of `count` measurements, one after the other."""
    return median(ttft_seconds(port=port, body=body, key=key) for _ in range(count))


def _accept_post(server: socket.socket) -> bytes:
    """Return the body of the first POST; answer everything, so that nobody waits."""
    while True:
        connection, _ = server.accept()
        with connection:
            connection.settimeout(_TIMEOUT_SECONDS)
            head, body = _read_request(connection)
            connection.sendall(_ANSWER)
            if head.startswith(b"POST "):
                return body


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


def _fresh(body: bytes) -> bytes:
    """Return the body with another beginning of the prompt: the model server would answer a repeat from its cache."""
    document = json.loads(body)
    message = document["messages"][-1]
    message["content"] = f"{secrets.token_hex(4)} {message['content']}"
    return json.dumps(document).encode()


def _request(body: bytes, *, port: int, key: str | None) -> bytes:
    lines = [
        "POST /v1/chat/completions HTTP/1.1",
        f"Host: 127.0.0.1:{port}",
        "Content-Type: application/json",
        "Connection: close",
        f"Content-Length: {len(body)}",
        *([f"Authorization: Bearer {key}"] if key is not None else []),
    ]
    return "\r\n".join([*lines, "", ""]).encode() + body
