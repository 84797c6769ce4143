"""The statements behind `/v1/results`: rows of `v_result`, in the order in which they came in, back or onward."""

from collections.abc import Mapping
from datetime import datetime
from typing import Final
from uuid import UUID

import msgspec
from sqlalchemy import Connection, text

FILTERS: Final = ("agent", "agent_region", "endpoint", "model", "module", "prober", "connection", "outcome")
_BACK: Final = "ORDER BY received_at DESC, batch_id DESC, seq DESC"
_ONWARD: Final = "ORDER BY received_at, batch_id, seq"
_BEFORE: Final = "(received_at, batch_id, seq) < (:received_at, :batch_id, :seq)"
_BEHIND: Final = "(received_at, batch_id, seq) > (:received_at, :batch_id, :seq)"
# Said twice, for the place alone is no range to an index.
_RECEIVED: Final = "received_at >= :received_since AND received_at <= :received_until"
_STARTED: Final = "started_at >= :started_since AND started_at < :started_until"
_GROUPS: Final = ("marks", "pings", "tokens", "server_timing")
_COMPONENTS: Final = ("network_seconds", "model_seconds", "streaming_seconds")


Row = Mapping[str, object]
"""A result, by the names of `v_result`."""


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """A place in the order in which results came in: that of the result that it names."""

    received_at: datetime
    batch_id: UUID
    seq: int


class Look(msgspec.Struct, frozen=True, kw_only=True):
    """What one statement looks at: results received in a stretch of time and started in another, beside a place."""

    place: Place
    received_since: datetime
    received_until: datetime
    started_since: datetime
    """Bounds the partitions that are looked at."""
    started_until: datetime
    limit: int


def results_before(connection: Connection, filters: Mapping[str, str], look: Look) -> list[Row]:
    """Return the results before the place, newest first."""
    return _results(connection, filters, look=look, beside=f"{_BEFORE} {{}} {_BACK}")


def results_after(connection: Connection, filters: Mapping[str, str], look: Look) -> list[Row]:
    """Return the results behind the place, in order."""
    return _results(connection, filters, look=look, beside=f"{_BEHIND} {{}} {_ONWARD}")


def conditions(filters: Mapping[str, str]) -> str:
    """Return SQL of the filters, each with an AND in front; raise KeyError for a name that is none of `FILTERS`."""
    if unknown := set(filters) - set(FILTERS):
        raise KeyError(unknown)
    return "".join(f" AND {name} = :{name}" for name in filters)


def _results(connection: Connection, filters: Mapping[str, str], *, look: Look, beside: str) -> list[Row]:
    where = f"{_RECEIVED} AND {_STARTED} AND {beside.format(conditions(filters))}"
    statement = text(f"SELECT * FROM v_result WHERE {where} LIMIT :limit")  # noqa: S608  literals of this file
    moments = {name: getattr(look, name) for name in look.__struct_fields__ if name != "place"}
    values = {**filters, **moments, **msgspec.structs.asdict(look.place)}
    return [dict(row) for row in connection.execute(statement, values).mappings()]


def wire_fields(row: Row) -> dict[str, object]:
    """Return a row in the wire's shape: marks, components and the like as objects, null where there are none."""
    nested: dict[str, dict[str, object]] = {group: {} for group in _GROUPS}
    flat: dict[str, object] = {}
    for name, value in row.items():
        group = next((group for group in _GROUPS if name.startswith(f"{group}_")), None)
        if group is not None and name != "tokens_per_second":
            nested[group][name.removeprefix(f"{group}_")] = value
        elif name not in _COMPONENTS:
            flat[name] = value
    components = {name: row[name] for name in _COMPONENTS}
    return {
        **flat,
        "marks": nested["marks"],
        "components": None if row["model_seconds"] is None else components,
        "pings": None if row["pings_method"] is None else nested["pings"],
        "tokens": None if row["tokens_source"] is None else nested["tokens"],
        "server_timing": None if row["server_timing_source"] is None else nested["server_timing"],
    }
