"""The statement behind `/v1/results`: rows of `v_result`, newest first or onward from a place."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Final
from uuid import UUID

import msgspec
from sqlalchemy import Connection, RowMapping, text

_FILTERS: Final = {
    "endpoint": "endpoint = :endpoint",
    "agent_region": "agent_region = :agent_region",
    "outcome": "outcome = :outcome",
}
_NEWEST: Final = "ORDER BY received_at DESC, batch_id DESC, seq DESC"
_ONWARD: Final = "ORDER BY received_at, batch_id, seq"
_GROUPS: Final = ("marks", "pings", "tokens", "server_timing")
_COMPONENTS: Final = ("network_seconds", "model_seconds", "streaming_seconds")


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """A place in the order in which results came in: just behind the result that it names."""

    received_at: datetime
    batch_id: UUID = UUID(int=2**128 - 1)
    seq: int = 2**62


class Range(msgspec.Struct, frozen=True, kw_only=True):
    """What came in behind a place and before a moment."""

    after: Place
    until: datetime


def newest_results(
    connection: Connection, filters: Mapping[str, str], *, received_since: datetime, limit: int
) -> Sequence[RowMapping]:
    """Return the latest results that came in since a moment, newest first."""
    where = " AND ".join(["received_at >= :received_since", *(_FILTERS[name] for name in filters)])
    statement = text(f"SELECT * FROM v_result WHERE {where} {_NEWEST} LIMIT :limit")  # noqa: S608  literals of this file
    return connection.execute(statement, {**filters, "received_since": received_since, "limit": limit}).mappings().all()


def results_after(
    connection: Connection, filters: Mapping[str, str], *, within: Range, limit: int
) -> Sequence[RowMapping]:
    """Return the results of a range, in order."""
    behind = "received_at >= :received_at AND (received_at, batch_id, seq) > (:received_at, :batch_id, :seq)"
    where = " AND ".join([behind, "received_at < :until", *(_FILTERS[name] for name in filters)])
    statement = text(f"SELECT * FROM v_result WHERE {where} {_ONWARD} LIMIT :limit")  # noqa: S608  as above
    values = {**filters, **msgspec.structs.asdict(within.after), "until": within.until, "limit": limit}
    return connection.execute(statement, values).mappings().all()


def wire_fields(row: Mapping[str, object]) -> dict[str, object]:
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
