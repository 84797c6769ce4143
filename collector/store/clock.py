"""Statements on clocks: the database's own, and the mark that retention keeps of the collectors'."""

from datetime import datetime
from typing import Final

from msgspec.structs import asdict
from sqlalchemy import Connection, text

from collector.clockcheck import Mark

_NOW: Final = text("SELECT clock_timestamp()")
_MARK: Final = text("SELECT believed_at, looked_at, doubted_seconds FROM clock_mark WHERE job = :job")
_LAST_REPORT: Final = text("SELECT max(received_at) FROM agent_report")
_PUT: Final = text(
    "INSERT INTO clock_mark (job, believed_at, looked_at, doubted_seconds)"
    " VALUES (:job, :believed_at, :looked_at, :doubted_seconds) ON CONFLICT (job) DO UPDATE SET"
    " believed_at = excluded.believed_at, looked_at = excluded.looked_at, doubted_seconds = excluded.doubted_seconds"
)


def database_now(connection: Connection) -> datetime:
    """Return the time by the database's clock."""
    now: datetime = connection.execute(_NOW).scalar_one()
    return now


def read_mark(connection: Connection, job: str) -> Mark | None:
    """Return what a job remembers of the clock; before its first look, when an agent last reported, else None."""
    row = connection.execute(_MARK, {"job": job}).mappings().one_or_none()
    if row is not None:
        return Mark(**row)
    reported: datetime | None = connection.execute(_LAST_REPORT).scalar_one()
    return None if reported is None else Mark(believed_at=reported, looked_at=reported)


def put_mark(connection: Connection, job: str, mark: Mark) -> None:
    """Remember it."""
    connection.execute(_PUT, {"job": job, **asdict(mark)})
