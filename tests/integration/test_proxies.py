"""Behind a load balancer: whose address counts, and whose word on it is believed."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import pytest
import uvicorn
from fastapi import FastAPI

from agent.config.tokens import new_token
from collector.api import deadlines
from collector.app import create_app, server_config
from collector.config import Settings
from tests.collecting import serving
from tests.joining import join_token

pytestmark = pytest.mark.anyio

INSIDE, OUTSIDE = "10.0.0.7", "192.0.2.1"


@asynccontextmanager
async def served(settings: Settings) -> AsyncIterator[httpx.AsyncClient]:
    """Give a client of a collector that is served as `serve` does it."""
    app = create_app(settings)
    server = uvicorn.Server(server_config(app, settings))
    with socket.create_server(("127.0.0.1", 0)) as sock:
        task = asyncio.create_task(server.serve(sockets=[sock]))
        url = f"http://127.0.0.1:{sock.getsockname()[1]}"
        try:
            async with httpx.AsyncClient(base_url=url, trust_env=False, timeout=30) as client:
                yield client
        finally:
            server.should_exit = True
            await task


@pytest.mark.parametrize(
    ("trusted", "forwarded", "status"),
    [
        (("127.0.0.1/32",), INSIDE, 200),
        (("127.0.0.1/32",), OUTSIDE, 401),
        (("127.0.0.1/32",), f"{INSIDE}, {OUTSIDE}", 401),
        (("10.0.0.0/8",), INSIDE, 401),
        (None, INSIDE, 401),
    ],
)
async def test_a_join_token_is_held_against_the_client_behind_a_proxy_that_is_trusted(
    database_url: str, trusted: tuple[str, ...] | None, *, forwarded: str, status: int
) -> None:
    token, own = join_token(database_url, cidr="10.0.0.0/8"), new_token()
    async with served(Settings(database_url=database_url, trusted_proxies=trusted)) as client:
        body = {"name": "new-1", "key_id": own.key_id, "secret_sha256": own.secret_sha256}
        headers = {"Authorization": f"Bearer {token}", "X-Forwarded-For": forwarded}
        answer = await client.post("/v1/agents/enroll", json=body, headers=headers)
    assert answer.status_code == status


@pytest.mark.parametrize(("proxies", "served_all"), [(("127.0.0.0/8",), True), (("10.0.0.0/8",), False)])
async def test_a_trusted_proxy_may_bring_the_connections_of_many(
    monkeypatch: pytest.MonkeyPatch, proxies: tuple[str, ...], *, served_all: bool
) -> None:
    monkeypatch.setattr(deadlines, "is_loopback", lambda _address: False)
    monkeypatch.setattr("tests.collecting.BoundedProtocol", deadlines.bounded(2, proxies=proxies))
    async with serving(FastAPI()) as address:
        port = int(address.rsplit(":", 1)[1])
        pairs = [await asyncio.open_connection("127.0.0.1", port) for _ in range(4)]
        reader, writer = pairs[-1]
        writer.write(b"GET /nothing HTTP/1.1\r\nHost: x\r\n\r\n")
        try:
            line = await asyncio.wait_for(reader.readline(), 10)
        except ConnectionError:
            line = b""
        assert (b" 404 " in line) is served_all
        for _, one in pairs:
            one.close()
