"""What a result takes: bytes on disk with everything that grows with it, bytes of write-ahead log, and memory.

Disk and log are measured without the collector's jobs: rollups have limits of their own. Memory is the collector
process's, after batches that make a million results, beside what it had after the first of them: it decodes without
the cyclic garbage collector at its heels, and nothing may pile up.
"""

import asyncio
from datetime import UTC, datetime
from random import Random
from typing import Final
from uuid import uuid4

import httpx
import msgspec
import psycopg

from collector.books import Receipt
from collector.commits import Commits
from collector.ingest import Ledger, Moments, Sender, ingest, plan_batch
from collector.registry import Registry
from collector.store.engine import admin_transaction, open_engine
from collector.store.partitions import Partitions
from collector.store.registry import load_rows
from collector.store.runs import Runs
from isochrone.wire import Decoded
from tests.bench.expectation import Expectation
from tests.bench.ingest import PER_BATCH, SMALL_BATCH, collecting, new_stage
from tests.bench.mix import mixed_batch
from tests.bench.sending import send_round
from tests.postgres import running_postgres

RESULTS: Final = 100_000
MAX_DISK_BYTES: Final = 220.0
MAX_LOG_BYTES: Final = 260.0
ROUNDS: Final = 10
BATCHES_PER_CLIENT: Final = 25
MAX_GROWTH: Final = 1.25
_DISK: Final = (
    "SELECT sum(pg_total_relation_size(oid)) FROM pg_class WHERE relkind = 'r'"
    " AND (relname ~ '^result_' OR relname IN ('batch', 'run', 'agent_run', 'agent_report'))"
)


def run() -> list[Expectation]:
    """Measure with large and with small batches."""
    found = []
    for per_batch in (PER_BATCH, SMALL_BATCH):
        with running_postgres() as server:
            disk, log = asyncio.run(_store(new_stage(server.new_database()).url, per_batch))
        what = f"of a result, {per_batch} in a batch"
        found += [
            _bytes(f"disk {what}, indexes and ledger included", disk, MAX_DISK_BYTES),
            _bytes(f"write-ahead log {what}", log, MAX_LOG_BYTES),
        ]
    return [*found, _memory()]


def _bytes(what: str, measured: float, limit: float) -> Expectation:
    return Expectation(
        bench="footprint", what=what, measured=measured, unit="B", against="limit", reference=limit, at_most=1.0
    )


async def _store(url: str, per_batch: int) -> tuple[float, float]:
    """Return bytes of disk and of log per result."""
    with admin_transaction(url) as connection:
        registry = Registry(load_rows(connection))
    agent = registry.rows.agents[0]
    engine = open_engine(url)
    commits, partitions, runs, dice = Commits(engine), Partitions(), Runs(engine), Random(1)  # noqa: S311  no secret
    await partitions.ensure_ahead(engine, datetime.now(UTC).date())
    kinds = [mixed_batch(per_batch, dice) for _ in range(20)]
    disk_before, log_before = _sizes(url)
    for number in range(RESULTS // per_batch):
        # Each with an id of its own; the run changes seldom, as in the field.
        kind = kinds[number % len(kinds)]
        batch = msgspec.structs.replace(kind, batch_id=uuid4(), boot_id=kinds[0].boot_id)
        now = datetime.now(UTC)
        run_id = await runs.number(agent.id, batch.boot_id)
        sender = Sender(agent=agent, run_id=run_id, targets=registry.known_targets(agent.id))
        plan = plan_batch(Decoded(batch=batch), sender, moments=Moments(came_at=now, received_at=now), late_seconds=300)
        receipt = Receipt(agent_id=agent.id, received_at=now, flush_seconds=10)
        await ingest(commits, partitions, plan=plan, ledger=Ledger(batch=batch, receipt=receipt))
    await engine.dispose()
    disk_after, log_after = _sizes(url)
    return (disk_after - disk_before) / RESULTS, (log_after - log_before) / RESULTS


def _sizes(url: str) -> tuple[int, int]:
    with psycopg.connect(url, autocommit=True) as connection:
        disk = connection.execute(_DISK.encode()).fetchone()
        log = connection.execute("SELECT pg_current_wal_lsn() - '0/0'::pg_lsn").fetchone()
    if disk is None or log is None:
        raise RuntimeError("the database does not tell its sizes")
    return int(disk[0]), int(log[0])


def _memory() -> Expectation:
    with running_postgres() as server:
        stage = new_stage(server.new_database())
        with collecting(stage.url) as address:
            sizes = []
            for _ in range(ROUNDS):
                send_round(address, stage.tokens, batches=BATCHES_PER_CLIENT, per_batch=PER_BATCH)
                sizes.append(_resident_bytes(address) / 2**20)
    print("memory of the collector, MiB:", " ".join(f"{size:.0f}" for size in sizes))
    return Expectation(
        bench="footprint",
        what=f"memory of the collector after {ROUNDS * BATCHES_PER_CLIENT * PER_BATCH * 8:,} results",
        measured=sizes[-1],
        unit="MiB",
        against=f"after {BATCHES_PER_CLIENT * PER_BATCH * 8:,}",
        reference=sizes[0],
        at_most=MAX_GROWTH,
    )


def _resident_bytes(address: str) -> float:
    text = httpx.get(f"{address}/metrics", trust_env=False).text
    return next(
        float(line.split()[1]) for line in text.splitlines() if line.startswith("process_resident_memory_bytes ")
    )


if __name__ == "__main__":
    for expectation in run():
        print(expectation.fields())
