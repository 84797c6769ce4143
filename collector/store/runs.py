"""The dictionary of runs: each run of an agent's process has a number, so that results name it by four bytes."""

from collections import OrderedDict
from typing import Final
from uuid import UUID

from sqlalchemy import Connection, event, text

from collector.store.engine import AsyncEngine, run

MAX_KNOWN: Final = 20_000
"""Runs that this process remembers: two for each agent of a large fleet."""

_FIND: Final = text("SELECT id FROM run WHERE agent_id = :agent_id AND boot_id = :boot_id")
_INSERT: Final = text(
    "INSERT INTO run (agent_id, boot_id) VALUES (:agent_id, :boot_id) ON CONFLICT DO NOTHING RETURNING id"
)


class Runs:
    """The numbers of runs, as far as this process knows them.

    Nothing is known any more when a new connection is made: the database may have been restored, and count anew.
    """

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine
        self._known: OrderedDict[tuple[int, UUID], int] = OrderedDict()
        event.listen(engine.sync_engine, "connect", self._forget)

    async def number(self, agent_id: int, boot_id: UUID) -> int:
        """Return a run's number; one that is not known yet gets one, committed. Raise DatabaseUnavailable."""
        key = agent_id, boot_id
        known = self._known.get(key)
        if known is None:
            known = await run(self._engine, put_run, agent_id, boot_id)
        self._known[key] = known
        self._known.move_to_end(key)
        if len(self._known) > MAX_KNOWN:
            self._known.popitem(last=False)
        return known

    def _forget(self, *_: object) -> None:
        self._known.clear()


def put_run(connection: Connection, agent_id: int, boot_id: UUID) -> int:
    """Return a run's number, a new one if it has none."""
    values = {"agent_id": agent_id, "boot_id": boot_id}
    found = connection.execute(_FIND, values).scalar()
    if found is None:
        found = connection.execute(_INSERT, values).scalar()
    if found is None:  # another collector was quicker, and has committed by now
        found = connection.execute(_FIND, values).scalar_one()
    return int(found)
