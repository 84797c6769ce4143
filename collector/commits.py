"""Group commit: batches that come at once share a transaction, and each is answered after its commit.

A lane commits whatever waits when it comes free, so a batch that is alone waits for nobody, and a crowd shares what a
transaction costs: five small statements, as dear as some hundred results. A batch for which the database refuses a
group takes nobody with it: then each is stored by itself. One that another transaction holds (of a collector that
stands still) goes apart from then on: else every group with it would wait for that lock, and all agents with the group.
"""

import asyncio
from collections import defaultdict, deque
from collections.abc import Coroutine
from dataclasses import dataclass, field
from typing import Final

from collector.errors import DatabaseUnavailable, Locked
from collector.store import engine
from collector.store.engine import AsyncEngine
from collector.store.results import Parcel, Repeated, store_batches

LANES: Final = 2
"""Transactions at once: one is made ready while the database works on the other. More make smaller groups."""
ENOUGH_ROWS: Final = 1_000
"""Waiting rows for which another lane is worth its transaction; fewer join the next group."""
GATHER_SECONDS: Final = 0.002
"""How long a crowd of small batches gathers: those that were answered together come again together. Nobody waits alone.
"""
PATIENCE_SECONDS: Final = 0.05
"""Then fewer get another lane too: the first may be held up by a lock."""
LANES_BY_AGENT: Final = 8
"""The same, where a transaction holds one agent's batches."""
MAX_ROWS: Final = 5_000
"""Of a group, unless its first batch has more: bounds how long the first waits for the last."""
SINGLES_AT_ONCE: Final = 4
"""Connections that a group which failed may take for its batches."""
APART_SECONDS: Final = 120.0
"""How long a batch goes apart after it met a lock: agents come again sooner."""
APART_AT_ONCE: Final = 2
"""Connections for these; more are told at once to come again."""
MAX_APART: Final = 1_000
"""Batches that are remembered; the oldest is forgotten first."""

Key = tuple[int, bytes]
"""Agent and batch."""


@dataclass(kw_only=True, eq=False)
class _Waiting:
    """A batch on its way."""

    parcel: Parcel
    deadline: float
    """By the loop's clock: nobody waits for the answer any longer, and those who follow results count on that."""
    done: asyncio.Future[Repeated | None]

    @property
    def key(self) -> Key:
        return self.parcel.ledger.agent_id, self.parcel.ledger.batch_id.bytes


@dataclass(kw_only=True)
class _Queue:
    waiting: deque[_Waiting] = field(default_factory=deque)
    lanes: int = 0
    crowded: bool = False
    """The last group had more than one batch."""

    @property
    def enough(self) -> bool:
        return sum(len(one.parcel.rows) for one in self.waiting) >= ENOUGH_ROWS


class Commits:
    """Stores batches, several in a transaction. `by_agent`: only those of one agent share one, as a Citus wants it."""

    def __init__(self, engine: AsyncEngine, *, by_agent: bool = False) -> None:
        self.engine = engine
        self._by_agent = by_agent
        self._lanes_of_queue = 1 if by_agent else LANES
        self._connections = asyncio.Semaphore(LANES_BY_AGENT if by_agent else LANES)
        self._queues: defaultdict[int, _Queue] = defaultdict(_Queue)
        self._tasks: set[asyncio.Task[None]] = set()
        self._apart = asyncio.Semaphore(APART_AT_ONCE)
        self.apart: dict[Key, float] = {}
        """Batches that another transaction held, and until when each goes apart, by the loop's clock."""
        self.under_way = 0
        """Batches that were handed in and are not answered yet."""

    async def store(self, parcel: Parcel, *, deadline: float | None = None) -> Repeated | None:
        """Return after the commit: what the ledger says of a repeat, None for a new batch. Raise as `store_batches`.

        Nothing is stored after `deadline`, by the loop's clock; None: after the longest wait from now.
        """
        loop = asyncio.get_running_loop()
        until = loop.time() + engine.ANSWER_SECONDS if deadline is None else deadline
        one = _Waiting(parcel=parcel, deadline=until, done=loop.create_future())
        if self.apart.get(one.key, 0.0) > loop.time():
            self._open_apart(one)
        else:
            self._enqueue(one)
        self.under_way += 1
        try:
            return await one.done
        finally:
            self.under_way -= 1

    def _enqueue(self, one: _Waiting) -> None:
        name = one.parcel.ledger.agent_id if self._by_agent else 0
        queue = self._queues[name]
        queue.waiting.append(one)
        if not queue.lanes or queue.enough:
            self._open_lane(name, queue)
        elif queue.lanes < self._lanes_of_queue:
            asyncio.get_running_loop().call_later(PATIENCE_SECONDS, self._open_lane, name, queue)

    def _open_apart(self, one: _Waiting) -> None:
        if self._apart.locked():
            raise Locked("another transaction still holds this batch, and others wait for theirs")
        self._start(self._store_apart(one))

    async def _store_apart(self, one: _Waiting) -> None:
        async with self._apart:
            await self._store_group([one])

    def _open_lane(self, name: int, queue: _Queue) -> None:
        if not queue.waiting or queue.lanes >= self._lanes_of_queue:
            return
        queue.lanes += 1
        self._start(self._work(name, queue))

    def _start(self, work: Coroutine[None, None, None]) -> None:
        # A task of its own: a request that is given up must not take along the batches of others.
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _work(self, name: int, queue: _Queue) -> None:
        try:
            while queue.waiting:
                async with self._connections:
                    if queue.crowded and not queue.enough:
                        await asyncio.sleep(GATHER_SECONDS)
                    group = _take(queue.waiting)
                    queue.crowded = len(group) > 1
                    await self._store_group(group)
        finally:
            queue.lanes -= 1
            if not queue.lanes and self._by_agent:
                self._queues.pop(name, None)

    async def _store_group(self, group: list[_Waiting]) -> None:
        try:
            await self._store(group)
        except Exception as exc:  # noqa: BLE001  each of the batches gets it, or is stored
            if len(group) == 1:
                self._note(group[0], exc)
                _fail(group[0], exc)
            else:
                await self._store_singly(group)

    def _note(self, one: _Waiting, exc: Exception) -> None:
        if isinstance(exc, Locked):
            self.apart.pop(one.key, None)
            self.apart[one.key] = asyncio.get_running_loop().time() + APART_SECONDS
            if len(self.apart) > MAX_APART:
                del self.apart[next(iter(self.apart))]

    async def _store_singly(self, group: list[_Waiting]) -> None:
        """Find out whose fault it was. Where it is the database's, each batch meets it by itself, as without groups."""
        turns = asyncio.Semaphore(SINGLES_AT_ONCE)

        async def store(one: _Waiting) -> None:
            async with turns:
                await self._store_group([one])

        await asyncio.gather(*map(store, group))

    async def _store(self, group: list[_Waiting]) -> None:
        wanted = [one for one in group if not one.done.done()]
        if not wanted:
            return
        try:
            async with asyncio.timeout_at(min(one.deadline for one in wanted)):
                found = await store_batches(self.engine, [one.parcel for one in wanted])
        except TimeoutError as exc:
            raise DatabaseUnavailable(f"the batches were not stored within {engine.ANSWER_SECONDS:g} s") from exc
        for one, repeated in zip(wanted, found, strict=True):
            if not one.done.done():
                one.done.set_result(repeated)


def _take(waiting: deque[_Waiting]) -> list[_Waiting]:
    """Take the group to come from the front. Of a batch that came twice the second stays: it is told as a repeat."""
    group: dict[Key, _Waiting] = {}
    rows = 0
    while waiting:
        one = waiting[0]
        rows += len(one.parcel.rows)
        if one.key in group or (group and rows > MAX_ROWS):
            break
        group[one.key] = waiting.popleft()
    return list(group.values())


def _fail(one: _Waiting, exc: Exception) -> None:
    if not one.done.done():
        one.done.set_exception(exc)
