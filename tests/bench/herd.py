"""`make bench-herd`: a fleet that lost its collector for five minutes comes back at once.

Each simulated agent holds batches that wait. When it sends is decided by the agent's own `Backoff`, played through the
five minutes of the outage before the clock starts, and obeyed in real time afterwards. `--no-splay` lets all come in
the first instant. The collector is the real program on a real Postgres; `/healthz` is asked by a process of its own.
Not played: spools, TLS, and connections kept from before the outage.
"""

import argparse
import asyncio
import gzip
import http.client
import json
import os
import random
import re
import select
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from uuid import uuid4

import psycopg

from agent.push.backoff import Backoff
from collector import admin
from collector.auth import new_credential
from collector.store import agents as store
from collector.store.engine import admin_transaction
from isochrone.batch import MEDIA_TYPE
from isochrone.wire import encode_batch
from tests.bench.expectation import Expectation
from tests.bench.ingest import _start_collector as start_collector
from tests.bench.run import print_rows
from tests.collecting import REGION, TARGETS, batch_of, rtt_result
from tests.postgres import running_postgres

OUTAGE_SECONDS: Final = 300.0
FLUSH_SECONDS: Final = 10.0
BACKLOG_PAUSE_SECONDS: Final = 2.0
"""As agent.push.sender."""
PER_BATCH: Final = 10
MAX_RSS_MB: Final = 300.0
MAX_HEALTHZ_SECONDS: Final = 0.1
MAX_SENDS: Final = 1.3
ASK_EVERY_SECONDS: Final = 0.05
SEND_SECONDS: Final = 30.0


@dataclass(kw_only=True)
class Tally:
    """What the fleet saw."""

    sends: int = 0
    acknowledged: int = 0
    accepted: int = 0
    answers: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True, kw_only=True)
class Member:
    """One simulated agent."""

    token: str
    bodies: tuple[bytes, ...]


def waited_out(backoff: Backoff) -> float:
    """Return when, after the outage, the next attempt of an agent falls that failed all through it."""
    moment = random.random() * FLUSH_SECONDS  # noqa: S311  no secret
    while moment < OUTAGE_SECONDS:
        moment += backoff.failed(FLUSH_SECONDS)
    return moment - OUTAGE_SECONDS


async def live(member: Member, address: tuple[str, int], tally: Tally, *, splay: bool) -> None:
    """Send all that waits, as the agent would."""
    backoff = Backoff(random.random)
    first = waited_out(backoff)
    await asyncio.sleep(first if splay else 0)
    for body in member.bodies:
        while True:
            status, retry_after, answer = await send(member.token, body, address)
            tally.sends += 1
            tally.answers[status] += 1
            if status == "200":
                break
            await asyncio.sleep(backoff.failed(FLUSH_SECONDS, retry_after))
        backoff.acknowledged()
        tally.acknowledged += 1
        tally.accepted += json.loads(answer)["accepted"]
        await asyncio.sleep(BACKLOG_PAUSE_SECONDS)


async def send(token: str, body: bytes, address: tuple[str, int]) -> tuple[str, float | None, bytes]:
    """Return status, Retry-After and body of the answer; the status is a word when there is none."""
    head = (
        f"POST /v1/batches HTTP/1.1\r\nHost: herd\r\nAuthorization: Bearer {token}\r\nContent-Type: {MEDIA_TYPE}\r\n"
        f"Content-Encoding: gzip\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    )
    try:
        async with asyncio.timeout(SEND_SECONDS):
            reader, writer = await asyncio.open_connection(*address)
            try:
                writer.write(head.encode() + body)
                answer = await reader.read()
            finally:
                writer.close()
    except (OSError, TimeoutError) as exc:
        return type(exc).__name__, None, b""
    if b"\r\n\r\n" not in answer:
        return "closed", None, b""
    headers, content = answer.split(b"\r\n\r\n", 1)
    told = re.search(rb"retry-after: (\d+)", headers, re.IGNORECASE)
    return headers.split()[1].decode(), None if told is None else float(told[1]), content


async def play(fleet: Sequence[Member], address: tuple[str, int], *, splay: bool) -> tuple[Tally, float]:
    """Let the whole fleet return; give what it saw and how long it took."""
    tally = Tally()
    began = time.monotonic()
    lives = [asyncio.create_task(live(member, address, tally, splay=splay)) for member in fleet]
    telling = asyncio.create_task(_tell(tally, sum(len(member.bodies) for member in fleet)))
    await asyncio.gather(*lives)
    telling.cancel()
    return tally, time.monotonic() - began


async def _tell(tally: Tally, batches: int) -> None:
    while True:
        await asyncio.sleep(5)
        print(f"{tally.acknowledged}/{batches} batches, {dict(tally.answers)}", file=sys.stderr, flush=True)


def make_fleet(url: str, count: int, *, batches: int) -> list[Member]:
    """Register agents in one transaction, and give each what waits in its spool."""
    fleet = []
    with admin_transaction(url) as connection:
        store.ensure_region(connection, REGION)
        for number in range(count):
            new = new_credential()
            agent_id = store.insert_agent(connection, name=f"herd-{number}", region=REGION, labels={})
            if agent_id is None:
                raise RuntimeError("the database is not fresh")
            store.insert_credential(connection, key_id=new.key_id, agent_id=agent_id, secret_sha256=new.secret_sha256)
            fleet.append(Member(token=new.token, bodies=tuple(_body(n) for n in range(batches))))
    return fleet


def _body(number: int) -> bytes:
    results = [rtt_result(number * PER_BATCH + n) for n in range(PER_BATCH)]
    return gzip.compress(encode_batch(batch_of(results, boot_id=uuid4())))


@contextmanager
def watched(address: tuple[str, int], seconds: list[float]) -> Iterator[None]:
    """Ask `/healthz` from a process of its own while the block runs."""
    command = [sys.executable, "-m", "tests.bench.herd", "--watch", f"{address[0]}:{address[1]}"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        yield
        out, _ = child.communicate(timeout=60)
    seconds += json.loads(out)


def watch(host: str, port: int) -> list[float]:
    """Return how long each answer of `/healthz` took, until stdin ends: one at least."""
    seconds: list[float] = []
    while not seconds or not select.select([sys.stdin], [], [], ASK_EVERY_SECONDS)[0]:
        began = time.perf_counter()
        try:
            connection = http.client.HTTPConnection(host, port, timeout=30)
            connection.request("GET", "/healthz")
            connection.getresponse().read()
            connection.close()
        except OSError:
            seconds.append(30.0)
        else:
            seconds.append(time.perf_counter() - began)
    return seconds


def peak_rss_mb() -> float:
    """Return the peak of the collector that this process started."""
    children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    for pid in children:
        if b"collector.cli" in Path(f"/proc/{pid}/cmdline").read_bytes():
            found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
            if found is not None:
                return int(found[1]) / 1024
    raise RuntimeError("the collector is gone")


def run(count: int, *, batches: int, splay: bool) -> list[Expectation]:
    """Measure; return what was wanted beside what was found."""
    with running_postgres() as server:
        url = server.new_database()
        admin.migrate(url)
        admin.apply_targets(url, TARGETS)
        print(f"making {count} agents ...", file=sys.stderr, flush=True)
        fleet = make_fleet(url, count, batches=batches)
        base, stop = start_collector(url)
        host, port = base.removeprefix("http://").rsplit(":", 1)
        seconds: list[float] = []
        try:
            with watched((host, int(port)), seconds):
                tally, took = asyncio.run(play(fleet, (host, int(port)), splay=splay))
            rss = peak_rss_mb()
        finally:
            stop()
        with psycopg.connect(url) as connection:
            row = connection.execute("SELECT count(*), count(DISTINCT (run_id, seq)) FROM result").fetchone()
    if row is None:
        raise RuntimeError("no count")
    return _verdicts(tally, took, rss=rss, seconds=seconds, stored=row, wanted=count * batches * PER_BATCH)


def _verdicts(
    tally: Tally, took: float, *, rss: float, seconds: list[float], stored: tuple[int, ...], wanted: int
) -> list[Expectation]:
    p99 = sorted(seconds)[int(len(seconds) * 0.99)]
    exact = {"unit": "", "against": "recorded", "reference": float(wanted), "at_least": 1.0, "at_most": 1.0}
    batches = wanted / PER_BATCH
    limit = {"against": "limit", "at_most": 1.0}
    return [
        Expectation(bench="herd", what="rows stored", measured=float(stored[0]), **exact),  # type: ignore[arg-type]
        Expectation(bench="herd", what="different rows", measured=float(stored[1]), **exact),  # type: ignore[arg-type]
        Expectation(bench="herd", what="collector RSS, peak", measured=rss, unit="MB", reference=MAX_RSS_MB, **limit),  # type: ignore[arg-type]
        Expectation(
            bench="herd",
            what="/healthz p99",
            measured=p99 * 1000,
            unit="ms",
            reference=MAX_HEALTHZ_SECONDS * 1000,
            **limit,
        ),  # type: ignore[arg-type]
        Expectation(
            bench="herd", what="sends per batch", measured=tally.sends / batches, unit="", reference=MAX_SENDS, **limit
        ),  # type: ignore[arg-type]
        Expectation(bench="herd", what="until all was stored", measured=took, unit="s"),
    ]


def main() -> int:
    """Exit 1 when a verdict is missed."""
    parser = argparse.ArgumentParser(prog="make bench-herd ARGS=...", description="a fleet comes back at once")
    parser.add_argument("--agents", type=int, default=10_000)
    parser.add_argument("--batches", type=int, default=2, help="that wait at each agent")
    parser.add_argument("--no-splay", action="store_true", help="all in the first instant, against the agent's rules")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--watch", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.watch:
        host, port = given.watch.rsplit(":", 1)
        print(json.dumps(watch(host, int(port))))
        return 0
    rows = run(given.agents, batches=given.batches, splay=not given.no_splay)
    print_rows(rows, as_json=given.json)
    return 0 if all(row.met for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
