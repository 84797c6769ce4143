"""Results per second through POST /v1/batches against raw binary COPY of the same rows into the same table.

Both ways in one run, in alternating rounds, and the median of each: the machine's speed drifts by a third.
Everything is real: uvicorn on loopback in a process of its own, gzip batches of 500, a durable commit for each, an
embedded Postgres, and clients in a third process whose bodies were made before the clock started.
"""

import asyncio
import gzip
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final
from uuid import UUID, uuid4

import httpx
import psycopg

from collector import admin
from collector.ingest import Moments, Sender, plan_batch
from collector.registry import Registry
from collector.store.engine import admin_transaction
from collector.store.registry import load_rows
from collector.store.results import Row, copy_rows
from isochrone.batch import MEDIA_TYPE, Batch
from isochrone.result import Result
from isochrone.wire import Decoded, encode_batch
from tests.collecting import TARGETS, batch_of, inference_result, rtt_result
from tests.postgres import running_postgres

PER_BATCH: Final = 500
CLIENTS: Final = 8
"""Agents, each with one connection."""
BATCHES_PER_CLIENT: Final = 25
ROUNDS: Final = 5
EXPECTED_RATIO: Final = 0.2


@dataclass(frozen=True, kw_only=True)
class Agent:
    """One client of the run."""

    name: str
    token: str


def run() -> dict[str, float]:
    """Measure, print, and return results per second of both ways and their ratio."""
    with running_postgres() as server:
        url = server.new_database()
        admin.migrate(url)
        admin.apply_targets(url, TARGETS)
        names = [f"bench-{n}" for n in range(CLIENTS)]
        agents = [Agent(name=name, token=admin.add_agent(url, name=name, region="eu-central")) for name in names]
        http, raw = _alternate(url, agents)
    report = {
        "http_results_per_second": statistics.median(http),
        "copy_results_per_second": statistics.median(raw),
    }
    report["ratio"] = report["http_results_per_second"] / report["copy_results_per_second"]
    print(f"POST /v1/batches  {report['http_results_per_second']:>9,.0f} results/s  rounds {_list(http)}")
    print(f"binary COPY       {report['copy_results_per_second']:>9,.0f} results/s  rounds {_list(raw)}")
    print(f"ratio             {report['ratio']:>9.2f}  expected at least {EXPECTED_RATIO}")
    return report


def _alternate(url: str, agents: Sequence[Agent]) -> tuple[list[float], list[float]]:
    address, stop = _start_collector(url, ISOCHRONE_BATCHES_PER_SECOND="10000")
    http: list[float] = []
    raw: list[float] = []
    try:
        for number in range(ROUNDS + 1):
            rates = _http_round(url, address, agents), asyncio.run(_copy_round(url))
            if number > 0:  # the first warms caches and makes partitions
                http.append(rates[0])
                raw.append(rates[1])
    finally:
        stop()
    return http, raw


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
            _wait_ready(address)
            return address, stop
    raise RuntimeError("the collector did not start")


def _wait_ready(address: str) -> None:
    for _ in range(300):
        try:
            if httpx.get(f"{address}/readyz", trust_env=False).is_success:
                return
        except httpx.HTTPError:
            pass
        time.sleep(0.1)
    raise RuntimeError("the collector did not become ready")


def _http_round(url: str, address: str, agents: Sequence[Agent]) -> float:
    with TemporaryDirectory(prefix="isochrone-bench-") as folder:
        for agent in agents:
            for number in range(BATCHES_PER_CLIENT):
                body = gzip.compress(encode_batch(_batch()), 6)
                (Path(folder) / f"{agent.name}.{number}").write_bytes(body)
        _checkpoint(url)
        tokens = json.dumps({agent.name: agent.token for agent in agents})
        done = subprocess.run(
            [sys.executable, "-m", "tests.bench.ingest", folder, address],
            input=tokens,
            capture_output=True,
            text=True,
            check=True,
        )
    return CLIENTS * BATCHES_PER_CLIENT * PER_BATCH / float(done.stdout)


async def _copy_round(url: str) -> float:
    rows = _rows(url)
    _checkpoint(url)
    async with await psycopg.AsyncConnection.connect(url) as connection:
        begin = time.perf_counter()
        for _ in range(CLIENTS * BATCHES_PER_CLIENT):
            async with connection.cursor() as cursor:
                await copy_rows(cursor, rows)
            await connection.commit()
        return CLIENTS * BATCHES_PER_CLIENT * PER_BATCH / (time.perf_counter() - begin)


def _checkpoint(url: str) -> None:
    """Let no round pay for the one before."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("CHECKPOINT")


def _rows(url: str) -> Sequence[Row]:
    with admin_transaction(url) as connection:
        registry = Registry(load_rows(connection))
    agent = registry.rows.agents[0]
    sender = Sender(agent=agent, run_id=1, targets=registry.known_targets(agent.id))
    decoded = Decoded(batch=_batch())
    now = datetime.now(UTC)
    return plan_batch(decoded, sender, moments=Moments(came_at=now, received_at=now), late_seconds=300).rows


def _batch() -> Batch:
    """Return a batch as a busy agent sends it: three in four are inference probes."""
    results: list[Result] = [
        rtt_result(n) if n % 4 == 0 else inference_result(n, ttft_seconds=0.3 + n / 10_000) for n in range(PER_BATCH)
    ]
    return batch_of(results, batch_id=uuid4(), boot_id=UUID(int=uuid4().int))


def _list(rates: Sequence[float]) -> str:
    return " ".join(f"{rate:,.0f}" for rate in rates)


def _bodies(folder: Path) -> dict[str, list[bytes]]:
    """Return the bodies of each agent."""
    bodies: dict[str, list[bytes]] = {}
    for path in sorted(folder.iterdir()):
        bodies.setdefault(path.stem, []).append(path.read_bytes())
    return bodies


async def _send_all(bodies: dict[str, list[bytes]], address: str, *, tokens: dict[str, str]) -> float:
    """Send every agent's bodies, one connection each, all at once; return the seconds it took."""
    async with httpx.AsyncClient(base_url=address, trust_env=False, timeout=60) as client:
        begin = time.perf_counter()
        await asyncio.gather(*(_send(client, tokens[name], bodies[name]) for name in tokens))
        return time.perf_counter() - begin


async def _send(client: httpx.AsyncClient, token: str, bodies: Sequence[bytes]) -> None:
    headers = {"Authorization": f"Bearer {token}", "Content-Type": MEDIA_TYPE, "Content-Encoding": "gzip"}
    for body in bodies:
        answer = await client.post("/v1/batches", content=body, headers=headers)
        answer.raise_for_status()
        if answer.json()["accepted"] != PER_BATCH:
            raise RuntimeError(f"not all were taken: {answer.text[:200]}")


if __name__ == "__main__":
    if len(sys.argv) == 1:
        run()
    else:
        print(asyncio.run(_send_all(_bodies(Path(sys.argv[1])), sys.argv[2], tokens=json.load(sys.stdin))))
