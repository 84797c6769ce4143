"""Reading the database for those who ask: few at once, so that batches keep their connections.

Where there is a replica that is well, it is asked; else the primary, which always knows more.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Concatenate, Final, ParamSpec, TypeVar

from collector.errors import DatabaseUnavailable, Refused, StatementTooSlow
from collector.replica import Replica, State
from collector.store.engine import AsyncEngine, Connection, run

P = ParamSpec("P")
T = TypeVar("T")

MAX_READS_AT_ONCE: Final = 4
"""Of the engine's 16 connections; a summary of a month keeps one core of the database busy for seconds."""
WAIT_SECONDS = 2.0
"""How long a reader waits for its turn: several panels of one dashboard ask at once."""


class Readers:
    """Runs the store's functions for readers, at most `MAX_READS_AT_ONCE` at a time."""

    def __init__(self, engine: AsyncEngine, replica: Replica | None = None) -> None:
        self.replica = replica
        self._engine = engine
        self._turns = asyncio.Semaphore(MAX_READS_AT_ONCE)

    async def read(self, statement: Callable[Concatenate[Connection, P], T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Return what the statement says.

        Raise Refused when no turn comes or the database finds it too much, and DatabaseUnavailable.
        """
        replica = self.replica
        async with self._turn():
            if replica is not None and replica.state is State.READY:
                try:
                    return await _read(replica.engine, statement, *args, **kwargs)
                except DatabaseUnavailable as exc:
                    replica.fail(exc)
            return await _read(self._engine, statement, *args, **kwargs)

    async def read_primary(
        self, statement: Callable[Concatenate[Connection, P], T], /, *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Do as `read`, where the batches are written: for followers, who must miss nothing that was committed."""
        async with self._turn():
            return await _read(self._engine, statement, *args, **kwargs)

    @asynccontextmanager
    async def _turn(self) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(WAIT_SECONDS):
                await self._turns.acquire()
        except TimeoutError as exc:
            raise Refused("busy", "As many read as the collector serves at once. Ask again later.") from exc
        try:
            yield
        finally:
            self._turns.release()


async def _read(
    engine: AsyncEngine, statement: Callable[Concatenate[Connection, P], T], /, *args: P.args, **kwargs: P.kwargs
) -> T:
    try:
        return await run(engine, statement, *args, **kwargs)
    except StatementTooSlow as exc:
        raise Refused("too_much", "The database gave up on it. Ask for less: narrow the window.") from exc
