"""The database that readers are sent to, where there is one beside that of the batches: how it is doing."""

import logging
from collections.abc import Callable
from enum import StrEnum
from typing import Final

from collector.errors import DatabaseUnavailable
from collector.store.engine import AsyncEngine, run
from collector.store.replica import lag_seconds, written_place

MAX_LAG_SECONDS: Final = 30.0
"""What is farther behind is not read from: a page of minutes would show old numbers as new ones."""

_log = logging.getLogger(__name__)


class State(StrEnum):
    """How the reading database is."""

    READY = "ready"
    LAGGING = "lagging"
    UNAVAILABLE = "unavailable"


class Replica:
    """A reading database; until it was looked at, and whenever it is not well, the primary is read instead."""

    def __init__(
        self, engine: AsyncEngine, primary: AsyncEngine, *, tell: Callable[[bool, float | None], None]
    ) -> None:
        """`tell` is told at each look whether readers are served from it, and its lag."""
        self.engine = engine
        self.lag_seconds: float | None = None
        """When it was last looked at; None: it does not say."""
        self.state = State.UNAVAILABLE
        self._primary = primary
        self._tell = tell
        self._told: str | None = None

    async def look(self) -> None:
        """See how it is. Raise DatabaseUnavailable when the primary does not serve: then nobody knows."""
        place = await run(self._primary, written_place)
        try:
            self._judge(await run(self.engine, lag_seconds, place))
        except DatabaseUnavailable as exc:
            self.fail(exc)
        self._tell(self.state is State.READY, self.lag_seconds)

    async def close(self) -> None:
        """Let its connections go."""
        await self.engine.dispose()

    def fail(self, exc: DatabaseUnavailable) -> None:
        """Note that it did not serve."""
        self.lag_seconds = None
        self._turn(State.UNAVAILABLE, f"the reading database: {exc}")

    def _judge(self, lag: float | None) -> None:
        self.lag_seconds = lag
        if lag is not None and lag <= MAX_LAG_SECONDS:
            self._turn(State.READY, None)
        else:
            behind = "has replayed nothing yet" if lag is None else f"is {lag:.0f} s behind"
            self._turn(State.LAGGING, f"the reading database {behind}")

    def _turn(self, state: State, problem: str | None) -> None:
        if state is not self.state or (problem is not None and self._told is None):
            if problem is None:
                _log.info("the reading database serves readers")
            else:
                _log.warning("%s: readers are served by the primary", problem)
        self.state, self._told = state, problem
