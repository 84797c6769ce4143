"""How far a database that is read from is behind the one that is written to."""

from typing import Final

from sqlalchemy import Connection, text

_PLACE: Final = text("SELECT CAST(pg_current_wal_lsn() AS text)")
# A standby that lost its primary has replayed all that it received: only the primary's own place tells the truth.
_LAG: Final = text(
    "SELECT CASE WHEN NOT pg_is_in_recovery() OR pg_last_wal_replay_lsn() >= CAST(:place AS pg_lsn) THEN 0"
    " ELSE extract(epoch FROM clock_timestamp() - pg_last_xact_replay_timestamp()) END"
)


def written_place(connection: Connection) -> str:
    """Return the place that the write-ahead log has reached; asked of the primary."""
    return str(connection.execute(_PLACE).scalar_one())


def lag_seconds(connection: Connection, place: str) -> float | None:
    """Return how long ago the newest change that was replayed was committed, 0 when `place` was reached.

    None: nothing was replayed since the standby started. By the clocks of both machines.
    """
    lag = connection.execute(_LAG, {"place": place}).scalar_one()
    return None if lag is None else max(0.0, float(lag))
