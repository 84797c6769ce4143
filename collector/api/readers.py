"""Reading the database for those who ask: few at once, so that batches keep their connections."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Concatenate, Final, ParamSpec, TypeVar

from collector.errors import Refused, StatementTooSlow
from collector.store.engine import AsyncEngine, Connection, run

P = ParamSpec("P")
T = TypeVar("T")

MAX_READS_AT_ONCE: Final = 4
"""Of the engine's 16 connections; a summary of a month keeps one core of the database busy for seconds."""
WAIT_SECONDS = 2.0
"""How long a reader waits for its turn: several panels of one dashboard ask at once."""


class Readers:
    """Runs the store's functions for readers, at most `MAX_READS_AT_ONCE` at a time."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine
        self._turns = asyncio.Semaphore(MAX_READS_AT_ONCE)

    async def read(self, statement: Callable[Concatenate[Connection, P], T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Return what the statement says.

        Raise Refused when no turn comes or the database finds it too much, and DatabaseUnavailable.
        """
        async with self._turn():
            try:
                return await run(self._engine, statement, *args, **kwargs)
            except StatementTooSlow as exc:
                raise Refused("too_much", "The database gave up on it. Ask for less: narrow the window.") from exc

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
