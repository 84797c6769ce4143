"""Random faults on a running cluster, one after the other; after each a new result must reach Postgres.

Every kind comes once before any comes again; a seed makes the order and the chances.
"""

import asyncio
import os
import signal
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from time import monotonic
from typing import Any

import psycopg

from tests.oracle import Window
from tests.system.cluster import DATABASE, PATIENCE_SECONDS, Cluster, running_cluster, until
from tests.system.disk import small_disk

FROZEN_SECONDS = (1.0, 3.0)
BROKEN_SECONDS = (2.0, 4.0)
"""How long a cable stays bad: some batches must meet it."""
FULL_SECONDS = 3.0
REFILL_SECONDS = 0.1
"""What the agent frees on a full disk is taken again: another program goes on writing."""
AGENT_DISK = "4m"
DATABASE_DISK = "192m"
"""Tables of minutes, and the log that Postgres writes ahead."""
BACKLOG_SEGMENTS = 2
"""Sealed segments that stand in the spool before the disk is filled: the agent has something to drop."""
LIES = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ncontent-length: 22\r\n\r\n<html>Sign in</html>\r\n",
    b"HTTP/1.1 204 No Content\r\n\r\n",
    b"HTTP/1.1 301 Moved Permanently\r\nlocation: http://127.0.0.1:9/\r\ncontent-length: 0\r\n\r\n",
    b"HTTP/1.1 407 Proxy Authentication Required\r\ncontent-length: 0\r\n\r\n",
    b"HTTP/1.1 502 Bad Gateway\r\ncontent-length: 0\r\n\r\n",
    b"not HTTP at all\r\n\r\n",
)


@dataclass(kw_only=True)
class Chaos:
    """One run of faults."""

    cluster: Cluster
    seed: int
    random: Random
    disk: Path | None
    """The agent's own small disk; None: this user may not mount one, and full disks are left out."""
    database_disk: Path | None
    """As `disk`, of Postgres."""
    faults: Counter[str] = field(default_factory=Counter)
    windows: list[Window] = field(default_factory=list)
    slowest_seconds: float = 0.0
    """Longest time from a fault until a new result stood in Postgres."""
    began: float = field(default_factory=monotonic)

    def kinds(self) -> list[str]:
        """Return what can be done here."""
        disks = {"full disk": self.disk, "full disk of postgres": self.database_disk}
        return [name for name in FAULTS if name not in disks or disks[name] is not None]

    async def run(self, kinds: list[str], *, seconds: float) -> None:
        """Do one fault after the other until the time is over."""
        bag: list[str] = []
        end = monotonic() + seconds
        while monotonic() < end:
            if not bag:
                bag = self.random.sample(kinds, len(kinds))
            await self.once(bag.pop())

    async def once(self, kind: str) -> None:
        """Do one fault and see that life goes on."""
        began = monotonic()
        await FAULTS[kind](self)
        await self.cluster.progresses(what=f"{kind} (seed {self.seed}, after {dict(self.faults)})")
        self.faults[kind] += 1
        self.slowest_seconds = max(self.slowest_seconds, monotonic() - began)

    async def ends(self) -> dict[str, Any]:
        """Let the agent send what it has, ask the oracle, return the summary."""
        await self.once("lost answer")  # so that every run has a batch that arrived twice
        await self.cluster.drains()
        ledger = self.cluster.ledger(tuple(self.windows))
        return {
            "seed": self.seed,
            "seconds": round(monotonic() - self.began),
            "faults": dict(sorted(self.faults.items())),
            "left_out_for_want_of_root": sorted(FAULTS.keys() - set(self.kinds())),
            "recorded": len(ledger.recorded()),
            "stored": len(ledger.stored),
            "declared_lost": dict(self.cluster.cable.lost),
            "batches": len(self.cluster.cable.batches),
            "batches_sent_more_than_once": sum(count > 1 for count in self.cluster.cable.batches.values()),
            "results_told_duplicate": ledger.duplicates_told,
            "slowest_progress_seconds": round(self.slowest_seconds, 1),
            "problems": ledger.problems(),
        }

    def chance(self, bounds: tuple[float, float]) -> float:
        """Return a random number between two bounds."""
        return self.random.uniform(*bounds)


def kills(*names: str) -> Callable[[Chaos], Awaitable[None]]:
    """Return the fault that kills these processes at one instant."""

    async def fault(chaos: Chaos) -> None:
        await asyncio.gather(*(chaos.cluster.kill(name) for name in names))

    return fault


def freezes(name: str) -> Callable[[Chaos], Awaitable[None]]:
    """Return the fault that stops a process for a while."""

    async def fault(chaos: Chaos) -> None:
        chaos.cluster.signal(name, signal.SIGSTOP)
        await asyncio.sleep(chaos.chance(FROZEN_SECONDS))
        chaos.cluster.signal(name, signal.SIGCONT)

    return fault


async def stop_postgres(chaos: Chaos) -> None:
    """As `pg_ctl stop -m immediate`: no farewell, recovery at the next start."""
    await chaos.cluster.kill("postgres", signal.SIGQUIT)


async def kill_backends(chaos: Chaos) -> None:
    for pid in await _backends(chaos):
        _signal(pid, signal.SIGKILL)


async def freeze_backends(chaos: Chaos) -> None:
    frozen = await _backends(chaos)
    for pid in frozen:
        _signal(pid, signal.SIGSTOP)
    await asyncio.sleep(chaos.chance(FROZEN_SECONDS))
    for pid in frozen:
        _signal(pid, signal.SIGCONT)


async def _backends(chaos: Chaos) -> list[int]:
    found: list[int] = []

    def some() -> bool:
        with suppress(psycopg.OperationalError):
            found[:] = chaos.cluster.backends()
        return bool(found)

    await until(some, what="a connection of the collector to Postgres", seconds=60)
    return found


async def lose_answer(chaos: Chaos) -> None:
    """Keep one acknowledgement, and see the batch come again: a run that ends before would prove nothing."""
    cable = chaos.cluster.cable
    before = cable.duplicates_told
    cable.cuts_wanted += 1
    await until(lambda: cable.cuts_made == cable.cuts_wanted, what="an acknowledgement cut", seconds=90)
    await until(lambda: cable.duplicates_told > before, what="the batch sent again", seconds=90)


async def cut_requests(chaos: Chaos) -> None:
    chaos.cluster.cable.asked_bytes = chaos.random.randrange(1, 3_000)
    await _broken(chaos)


async def cut_answers(chaos: Chaos) -> None:
    chaos.cluster.cable.answered_bytes = chaos.random.randrange(1, 400)
    await _broken(chaos)


async def lie(chaos: Chaos) -> None:
    chaos.cluster.cable.canned = chaos.random.choice(LIES)
    await _broken(chaos)


async def stall(chaos: Chaos) -> None:
    chaos.cluster.cable.stall()
    await asyncio.sleep(chaos.chance(BROKEN_SECONDS))
    chaos.cluster.cable.flow()


async def _broken(chaos: Chaos) -> None:
    cable = chaos.cluster.cable
    await cable.drop()
    await asyncio.sleep(chaos.chance(BROKEN_SECONDS))
    cable.asked_bytes = cable.answered_bytes = cable.canned = None
    await cable.drop()


async def fill_disk(chaos: Chaos) -> None:
    """Let others take the agent's disk while it has a backlog: it drops the oldest and says so.

    Nothing that waits may have been committed: the agent would declare it lost, as far as it knows, and be wrong.
    """
    assert chaos.disk is not None
    spool, cable = chaos.disk / "spool", chaos.cluster.cable
    await _all_answered(chaos)
    cable.stall()
    await cable.drop()
    while len(list(spool.glob("*.seg"))) < BACKLOG_SEGMENTS + 1:  # one is on its way, and kept
        await _makes_results(chaos)
        await chaos.cluster.kill("agent")  # the next run seals what this one left
    boot, before = await _makes_results(chaos)
    await _take(chaos.disk / "filler")
    await cable.drop()
    cable.flow()
    _, after = await _makes_results(chaos)
    chaos.windows.append(Window(boot_id=boot, first=before + 1, last=after - 1))


async def _all_answered(chaos: Chaos) -> None:
    """Return at a moment at which every batch is acknowledged; no other task has run since."""
    end = monotonic() + PATIENCE_SECONDS
    while chaos.cluster.cable.unanswered:
        assert monotonic() < end, "a batch is not acknowledged"
        await asyncio.sleep(0.01)


async def fill_database_disk(chaos: Chaos) -> None:
    """Let others take the disk of Postgres: it refuses, or ends in panic, until there is room again."""
    assert chaos.database_disk is not None
    await _take(chaos.database_disk / "filler")


async def _take(filler: Path) -> None:
    end = monotonic() + FULL_SECONDS
    with filler.open("wb", buffering=0) as file:
        while monotonic() < end:
            with suppress(OSError):
                while file.write(bytes(4_096)):
                    pass
            await asyncio.sleep(REFILL_SECONDS)
    await asyncio.to_thread(filler.unlink)


async def _makes_results(chaos: Chaos) -> tuple[str, int]:
    """Wait for a result that is printed from now on; return the newest of it."""
    cluster = chaos.cluster
    since = cluster.lines.stat().st_size
    await until(lambda: bool(cluster.printed(since=since)), what="a new result on the agent's stdout", seconds=60)
    *_, newest = cluster.printed(since=since)
    return newest


def _signal(pid: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, number)


FAULTS: dict[str, Callable[[Chaos], Awaitable[None]]] = {
    "agent killed": kills("agent"),
    "collector killed": kills("collector"),
    "agent and collector killed at once": kills("agent", "collector"),
    "postgres killed": kills("postgres"),
    "postgres stopped at once": stop_postgres,
    "postgres backends killed": kill_backends,
    "postgres backends frozen": freeze_backends,
    "agent frozen": freezes("agent"),
    "collector frozen": freezes("collector"),
    "lost answer": lose_answer,
    "requests cut": cut_requests,
    "answers cut": cut_answers,
    "lies": lie,
    "cable stalled": stall,
    "full disk": fill_disk,
    "full disk of postgres": fill_database_disk,
}
ENDS_PROCESSES = frozenset({"agent killed", "collector killed", "agent and collector killed at once", "full disk"})
"""Faults after which agent or collector is another process than before."""


@asynccontextmanager
async def chaos_in(data: Path, *, seed: int) -> AsyncIterator[Chaos]:
    """Give a cluster that works, and the means to disturb it."""
    async with AsyncExitStack() as stack:
        disk = stack.enter_context(small_disk(data / "agent", AGENT_DISK))
        database_disk = stack.enter_context(small_disk(data / DATABASE, DATABASE_DISK))
        cluster = await stack.enter_async_context(running_cluster(data))
        await cluster.progresses(what="the start")
        yield Chaos(cluster=cluster, seed=seed, random=Random(seed), disk=disk, database_disk=database_disk)  # noqa: S311  chances of a test
