"""Advisory locks that let one collector of several do a job. A lock ends with the transaction that took it.

None is held by a session: behind a PgBouncer in transaction mode nobody has one.
"""

from collections.abc import Callable
from typing import Concatenate, Final, ParamSpec, TypeVar

from sqlalchemy import Connection, text

from collector.errors import DoneElsewhere
from collector.store.engine import AsyncEngine, run

P = ParamSpec("P")
T = TypeVar("T")

_LOCK: Final = text("SELECT pg_try_advisory_xact_lock(:space, hashtext(:job))")
_SPACE: Final = 0x150C
"""First half of the key of every job's lock."""


def take(connection: Connection, job: str) -> None:
    """Hold the lock of a job until the transaction ends; raise DoneElsewhere when another collector has it."""
    if not connection.execute(_LOCK, {"space": _SPACE, "job": job}).scalar_one():
        raise DoneElsewhere(f"another collector does the job {job} at the moment")


async def run_alone(
    engine: AsyncEngine,
    job: str,
    statement: Callable[Concatenate[Connection, P], T],
    /,
    *args: P.args,
    **kwargs: P.kwargs,
) -> T:
    """Run one of the store's functions in a transaction that holds the job's lock.

    Raise DoneElsewhere when another collector has it, and DatabaseUnavailable.
    """

    def alone(connection: Connection) -> T:
        take(connection, job)
        return statement(connection, *args, **kwargs)

    return await run(engine, alone)
