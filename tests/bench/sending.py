"""Clients that cost next to nothing: prepared requests over plain sockets, one connection for each.

Run as a program, so that they stand beside the server and not inside the process that measures: `bodies` on the disk,
tokens on stdin, seconds on stdout.
"""

import asyncio
import gzip
import json
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Final
from urllib.parse import urlsplit
from uuid import uuid4

import msgspec

from isochrone.batch import MEDIA_TYPE
from isochrone.wire import encode_batch
from tests.bench.mix import mixed_batch

DIFFERENT: Final = 4
"""Batches of a round that differ in what they hold; all differ in their ids."""


def send_round(address: str, tokens: Mapping[str, str], *, batches: int, per_batch: int) -> float:
    """Let each agent send so many batches, all at once; return results per second from first byte to last answer."""
    dice = Random(per_batch)  # noqa: S311  no secret
    with TemporaryDirectory(prefix="isochrone-bench-") as folder:
        kinds = [mixed_batch(per_batch, dice) for _ in range(DIFFERENT)]
        for name in tokens:
            for number in range(batches):
                batch = msgspec.structs.replace(kinds[number % DIFFERENT], batch_id=uuid4())
                (Path(folder) / f"{name}.{number}").write_bytes(gzip.compress(encode_batch(batch), 6))
        done = subprocess.run(
            [sys.executable, "-m", "tests.bench.sending", folder, address, str(per_batch)],
            input=json.dumps(tokens),
            capture_output=True,
            text=True,
            check=False,
        )
    if done.returncode:
        raise RuntimeError(done.stderr)
    return len(tokens) * batches * per_batch / float(done.stdout)


async def _send_all(requests: Mapping[str, Sequence[bytes]], address: str, *, per_batch: int) -> float:
    parts = urlsplit(address)
    pairs = [await asyncio.open_connection(parts.hostname, parts.port) for _ in requests]
    begin = time.perf_counter()
    lists = zip(pairs, requests.values(), strict=True)
    await asyncio.gather(*(_send(pair, one, b'"accepted":%d' % per_batch) for pair, one in lists))
    took = time.perf_counter() - begin
    for _, writer in pairs:
        writer.close()
    return took


async def _send(
    pair: tuple[asyncio.StreamReader, asyncio.StreamWriter], requests: Sequence[bytes], wanted: bytes
) -> None:
    reader, writer = pair
    for request in requests:
        writer.write(request)
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().split(b"content-length:", 1)[1].split(b"\r\n", 1)[0])
        answer = await reader.readexactly(length)
        if b" 200 " not in head.split(b"\r\n", 1)[0] or wanted not in answer:
            raise RuntimeError(f"not all were taken: {head!r} {answer[:200]!r}")


def _requests(folder: Path, tokens: Mapping[str, str]) -> dict[str, list[bytes]]:
    found: dict[str, list[bytes]] = {}
    for path in sorted(folder.iterdir()):
        body = path.read_bytes()
        head = (
            "POST /v1/batches HTTP/1.1\r\nHost: bench\r\n"
            f"Authorization: Bearer {tokens[path.stem]}\r\nContent-Type: {MEDIA_TYPE}\r\n"
            f"Content-Encoding: gzip\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        found.setdefault(path.stem, []).append(head.encode() + body)
    return found


if __name__ == "__main__":
    where, address, size = sys.argv[1:]
    requests = _requests(Path(where), json.load(sys.stdin))
    print(asyncio.run(_send_all(requests, address, per_batch=int(size))))
