"""Results per second through POST /v1/batches, against raw binary COPY and against the path that most would write.

All ways in one run, in alternating rounds, and the median of each: the machine's speed drifts by a third. Everything is
real: the collector in a process of its own with all its jobs, gzip batches, a durable commit for each answer, an
embedded Postgres, and clients in a third process whose requests were made before the clock started.
"""

import asyncio
import os
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from random import Random
from typing import Final

import httpx
import psycopg

from collector import admin
from collector.ingest import Moments, Sender, plan_batch
from collector.registry import Registry
from collector.store.engine import admin_transaction
from collector.store.registry import load_rows
from collector.store.results import Row, copy_rows
from isochrone.wire import Decoded
from tests.bench.expectation import Expectation
from tests.bench.mix import mixed_batch
from tests.bench.sending import send_round
from tests.collecting import TARGETS
from tests.postgres import running_postgres

PER_BATCH: Final = 500
SMALL_BATCH: Final = 50
CLIENTS: Final = 8
"""Agents, each with one connection."""
BATCHES_PER_CLIENT: Final = 25
SMALL_BATCHES_PER_CLIENT: Final = 100
PEER_BATCHES_PER_CLIENT: Final = 5
ROUNDS: Final = 5
OF_COPY: Final = 0.25
OF_PEER: Final = 4.0
OF_LARGE: Final = 0.6


@dataclass(frozen=True, kw_only=True)
class Stage:
    """A database with agents, and who serves it."""

    url: str
    tokens: Mapping[str, str]


@dataclass(kw_only=True)
class Rates:
    """Results per second, one of each round."""

    large: list[float] = field(default_factory=list)
    small: list[float] = field(default_factory=list)
    copy: list[float] = field(default_factory=list)
    peer: list[float] = field(default_factory=list)


def run() -> list[Expectation]:
    """Measure, print the rounds, and return what is held against what."""
    rates = Rates()
    with running_postgres() as server:
        stage = new_stage(server.new_database())
        with collecting(stage.url) as address, _peer(stage.url) as peer:
            for number in range(ROUNDS + 1):
                found = _round(stage, address, peer)
                if number > 0:  # the first warms caches and makes partitions
                    for name, rate in found.items():
                        getattr(rates, name).append(rate)
    for name in ("large", "small", "copy", "peer"):
        print(f"{name:6} rounds {' '.join(f'{rate:,.0f}' for rate in getattr(rates, name))}")
    return _expectations({name: statistics.median(getattr(rates, name)) for name in ("large", "small", "copy", "peer")})


def _expectations(median: Mapping[str, float]) -> list[Expectation]:
    through = "results through POST /v1/batches, {} in a gzip batch"
    large = {"bench": "ingest", "what": through.format(PER_BATCH), "measured": median["large"], "unit": "/s"}
    small = {"bench": "ingest", "what": through.format(SMALL_BATCH), "measured": median["small"], "unit": "/s"}
    return [
        Expectation(**large, against="raw binary COPY", reference=median["copy"], at_least=OF_COPY),
        Expectation(**large, against="pydantic + SQLAlchemy", reference=median["peer"], at_least=OF_PEER),
        Expectation(**small, against=f"{PER_BATCH} in a batch", reference=median["large"], at_least=OF_LARGE),
    ]


def _round(stage: Stage, address: str, peer: str) -> dict[str, float]:
    found = {}
    for name, where, batches, per_batch in (
        ("large", address, BATCHES_PER_CLIENT, PER_BATCH),
        ("small", address, SMALL_BATCHES_PER_CLIENT, SMALL_BATCH),
        ("peer", peer, PEER_BATCHES_PER_CLIENT, PER_BATCH),
    ):
        checkpoint(stage.url)
        found[name] = send_round(where, stage.tokens, batches=batches, per_batch=per_batch)
    found["copy"] = asyncio.run(_copy_round(stage.url))
    return found


def new_stage(url: str) -> Stage:
    """Return a migrated database with targets and agents."""
    admin.migrate(url)
    admin.apply_targets(url, TARGETS)
    names = [f"bench-{n}" for n in range(CLIENTS)]
    return Stage(url=url, tokens={name: admin.add_agent(url, name=name, region="eu-central") for name in names})


@contextmanager
def collecting(url: str) -> Iterator[str]:
    """Give the address of a collector that takes batches as fast as they come."""
    address, stop = _start_collector(url, ISOCHRONE_BATCHES_PER_SECOND="10000")
    try:
        yield address
    finally:
        stop()


@contextmanager
def _peer(url: str) -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    process = subprocess.Popen([sys.executable, "-m", "tests.bench.peer", url, str(port)])
    try:
        _wait_for(f"http://127.0.0.1:{port}/openapi.json")
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(30)


def _start_collector(url: str, **more: str) -> tuple[str, Callable[[], None]]:
    environment = {**os.environ, "ISOCHRONE_DATABASE_URL": url, "ISOCHRONE_LISTEN": "127.0.0.1:0", **more}
    process = subprocess.Popen(
        [sys.executable, "-m", "collector.cli", "serve"], env=environment, stderr=subprocess.PIPE, text=True
    )
    stderr = process.stderr
    if stderr is None:
        raise RuntimeError("the collector has no stderr")

    def stop() -> None:
        process.terminate()
        process.communicate(timeout=30)

    for line in stderr:
        if line.startswith("listening on "):
            address = line.removeprefix("listening on ").strip()
            _wait_for(f"{address}/readyz")
            return address, stop
    raise RuntimeError("the collector did not start")


def _wait_for(url: str) -> None:
    for _ in range(300):
        try:
            if httpx.get(url, trust_env=False).is_success:
                return
        except httpx.HTTPError:
            pass
        time.sleep(0.1)
    raise RuntimeError(f"{url} does not answer")


async def _copy_round(url: str) -> float:
    rows = rows_of(url, PER_BATCH)
    checkpoint(url)
    async with await psycopg.AsyncConnection.connect(url) as connection:
        begin = time.perf_counter()
        for _ in range(CLIENTS * BATCHES_PER_CLIENT):
            async with connection.cursor() as cursor:
                await copy_rows(cursor, rows)
            await connection.commit()
        return CLIENTS * BATCHES_PER_CLIENT * PER_BATCH / (time.perf_counter() - begin)


def checkpoint(url: str) -> None:
    """Let no round pay for the one before."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("CHECKPOINT")


def rows_of(url: str, count: int) -> Sequence[Row]:
    """Return rows of the first agent, made ready as the collector does."""
    with admin_transaction(url) as connection:
        registry = Registry(load_rows(connection))
    agent = registry.rows.agents[0]
    sender = Sender(agent=agent, run_id=1, targets=registry.known_targets(agent.id))
    decoded = Decoded(batch=mixed_batch(count, Random(count)))  # noqa: S311  no secret
    now = datetime.now(UTC)
    return plan_batch(decoded, sender, moments=Moments(came_at=now, received_at=now), late_seconds=300).rows


if __name__ == "__main__":
    for expectation in run():
        print(expectation.fields())
