"""What tests of identity share: join tokens, agents that join and rotate, a client whose answers get lost."""

import os
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import psycopg

from agent.clock import SystemClock
from agent.config.tokens import OwnToken, new_token, own_token
from agent.errors import DeliveryError
from agent.push import Timing
from agent.push.credentials import CredentialFiles, Rotator
from agent.push.wait import Answer, Client, wait_for
from agent.transport import CollectorClient
from collector import identity
from collector.app import create_app
from collector.config import Settings
from collector.identity import JoinTerms
from tests.collecting import Collector, serving

OLD_SECONDS = 40 * 86_400


@dataclass
class Losing:
    """A client that does every request and loses the answers for which `lose` says so."""

    client: Client
    lose: Callable[[str], bool]
    """Of the method."""
    done: list[str] = field(default_factory=list)

    async def request(
        self, method: str, path: str, *, headers: Mapping[str, str], body: bytes | None = None, max_response_bytes: int
    ) -> Answer:
        answer = await self.client.request(
            method, path, headers=headers, body=body, max_response_bytes=max_response_bytes
        )
        self.done.append(f"{method} {answer.status}")
        if self.lose(method):
            raise DeliveryError("the answer was lost")
        return answer


def join_token(database_url: str, **terms: object) -> str:
    """Return a join token for region eu-central."""
    return identity.make_join_token(database_url, JoinTerms(**{"region": "eu-central", **terms}))  # type: ignore[arg-type]


async def join(collector: Collector, token: str, *, name: str, own: OwnToken | None = None) -> httpx.Response:
    """Ask to be let in, as an agent does; asked again while the collector is busy."""
    own = own or new_token()
    body = {"name": name, "key_id": own.key_id, "secret_sha256": own.secret_sha256}
    headers = {"Authorization": f"Bearer {token}"}
    while True:
        answer = await collector.client.post("/v1/agents/enroll", json=body, headers=headers)
        if answer.status_code != 503:
            return answer


async def status_with(client: httpx.AsyncClient, token: str) -> int:
    """Return what the collector answers to an agent with this credential."""
    answer = await client.get("/v1/agent/config", headers={"Authorization": f"Bearer {token}"})
    return answer.status_code


@asynccontextmanager
async def another(database_url: str) -> AsyncIterator[httpx.AsyncClient]:
    """Give a client of one more collector on the same database."""
    async with (
        serving(create_app(Settings(database_url=database_url))) as address,
        httpx.AsyncClient(base_url=address, trust_env=False, timeout=30) as client,
    ):
        yield client


def old_credential(folder: Path, token: str) -> CredentialFiles:
    """Return the files of an agent whose credential is due for rotation."""
    path = folder / "credential"
    path.write_text(f"{token}\n", encoding="ascii")
    path.chmod(0o600)
    then = path.stat().st_mtime - OLD_SECONDS
    os.utime(path, (then, then))
    return CredentialFiles(path)


def rotator(client: Client, files: CredentialFiles) -> Rotator:
    """Return a rotator for which a credential of 30 days is old."""
    timing = Timing(clock=SystemClock(), random=lambda: 0.5, wait=wait_for)
    return Rotator(client, files, timing=timing, every_seconds=30 * 86_400)


@asynccontextmanager
async def agents_client(collector: Collector) -> AsyncIterator[CollectorClient]:
    """Give the client that agents have."""
    client = CollectorClient(str(collector.client.base_url))
    try:
        yield client
    finally:
        await client.close()


def token_in(path: Path) -> OwnToken:
    """Return the credential in a file."""
    return own_token(path.read_text(encoding="ascii").strip())


def one(database_url: str, query: str) -> object:
    """Return the first column of the first row."""
    with psycopg.connect(database_url) as connection:
        row = connection.execute(query.encode()).fetchone()
    return None if row is None else row[0]
