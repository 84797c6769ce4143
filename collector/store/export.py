"""The statement behind `/v1/export`: whole rows of `v_result` in bounded pieces, by their start.

A piece is a transaction of its own and begins behind the last row of the piece before: no cursor is held, so that it
works behind PgBouncer in transaction mode, and whoever reads slowly holds nothing of the database.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from enum import StrEnum
from typing import Final
from uuid import UUID

import msgspec
from sqlalchemy import Connection, text

from collector.store.reading import conditions
from isochrone.marks import MARKS


class Kind(StrEnum):
    """What a column holds."""

    TEXT = "text"
    """Our own words and names that were checked."""
    FREE = "free"
    """Text that comes from outside."""
    WORDS = "words"
    """A list of words."""
    TIME = "time"
    INTEGER = "integer"
    REAL = "real"
    DOUBLE = "double"
    BOOLEAN = "boolean"
    UUID = "uuid"


def _all(kind: Kind, *names: str) -> dict[str, Kind]:
    return dict.fromkeys(names, kind)


_TIMINGS: Final = (
    "ttft_seconds", "answer_ttft_seconds", "tpot_seconds", "tokens_per_second", "stall_seconds", "network_seconds",
    "model_seconds", "streaming_seconds",
)  # fmt: skip
COLUMNS: Final[Mapping[str, Kind]] = {
    **_all(Kind.TEXT, "agent", "agent_region", "endpoint", "endpoint_region"),
    **_all(Kind.BOOLEAN, "simulated"),
    **_all(Kind.TEXT, "model", "module", "prober"),
    **_all(Kind.UUID, "boot_id"),
    **_all(Kind.INTEGER, "seq"),
    **_all(Kind.UUID, "batch_id"),
    **_all(Kind.TIME, "started_at", "started_at_agent", "received_at"),
    **_all(Kind.DOUBLE, "started_boottime_seconds"),
    **_all(Kind.TEXT, "outcome"),
    **_all(Kind.FREE, "reason"),
    **_all(Kind.INTEGER, "http_status"),
    **_all(Kind.FREE, "address"),
    **_all(Kind.INTEGER, "ip_version"),
    **_all(Kind.TEXT, "connection", "clock_source"),
    **_all(Kind.REAL, *(f"marks_{name}" for name in MARKS)),
    **_all(Kind.REAL, "duration_seconds", "setup_seconds", "rtt_seconds"),
    **_all(Kind.TEXT, "rtt_source"),
    **_all(Kind.REAL, *_TIMINGS),
    **_all(Kind.TEXT, "pings_method"),
    **_all(Kind.INTEGER, "pings_sent", "pings_lost"),
    **_all(Kind.REAL, *(f"pings_{name}_seconds" for name in ("min", "median", "mean", "max", "jitter"))),
    **_all(Kind.TEXT, "tokens_source"),
    **_all(Kind.INTEGER, *(f"tokens_{name}" for name in ("output", "input", "cached_input", "reasoning", "arrivals"))),
    **_all(Kind.WORDS, "flags"),
    **_all(Kind.REAL, "start_delay_seconds"),
    **_all(Kind.FREE, "server_timing_source"),
    **_all(Kind.REAL, *(f"server_timing_{name}_seconds" for name in ("first_token", "total", "queue"))),
    **_all(Kind.BOOLEAN, "server_timing_trusted"),
    **_all(Kind.FREE, "served_region"),
    **_all(Kind.REAL, "ttft_bound_seconds", "rtt_variation_seconds"),
}
"""Those of `v_result`, in its order."""

Values = Sequence[object]
"""A row in the order of `COLUMNS`."""

_SELECT: Final = ", ".join(COLUMNS)
_WHERE: Final = (
    "started_at >= :since AND started_at < :until"
    " AND (started_at, batch_id, seq) > (:place_started_at, :place_batch_id, :place_seq)"
)
_PLACE: Final = tuple(list(COLUMNS).index(name) for name in ("started_at", "batch_id", "seq"))


class StartPlace(msgspec.Struct, frozen=True, kw_only=True):
    """A place in the order of starts: behind the result that it names."""

    started_at: datetime
    batch_id: UUID = UUID(int=0)
    seq: int = -1


class Piece(msgspec.Struct, frozen=True, kw_only=True):
    """Which rows to read: started in a stretch of time, behind a place; `limit` at most."""

    since: datetime
    until: datetime
    place: StartPlace
    limit: int


def export_rows(connection: Connection, filters: Mapping[str, str], piece: Piece) -> list[Values]:
    """Return the rows of a piece, by start, batch and number."""
    statement = text(
        f"SELECT {_SELECT} FROM v_result WHERE {_WHERE}{conditions(filters)}"  # noqa: S608  literals of this package
        " ORDER BY started_at, batch_id, seq LIMIT :limit"
    )
    place = {f"place_{name}": value for name, value in msgspec.structs.asdict(piece.place).items()}
    bounds = {"since": piece.since, "until": piece.until, "limit": piece.limit}
    return [tuple(row) for row in connection.execute(statement, {**filters, **place, **bounds})]


def place_behind(row: Values) -> StartPlace:
    """Return the place of a row."""
    started_at, batch_id, seq = (row[index] for index in _PLACE)
    return msgspec.convert({"started_at": started_at, "batch_id": batch_id, "seq": seq}, StartPlace)
