"""GET /v1/results: single results, newest first, or onward from a place for those who follow."""

from datetime import UTC, datetime, timedelta
from typing import Annotated, Final
from uuid import UUID

import msgspec
from fastapi import APIRouter, Query, Response

from collector.api.context import Context, Reading, Running
from collector.errors import Refused
from collector.store.engine import run
from collector.store.reading import Place, newest_results, results_after, wire_fields
from isochrone.outcome import Outcome

router = APIRouter(tags=["reading"], dependencies=[Reading])

MAX_LIMIT: Final = 1_000
_HORIZONS: Final = (timedelta(minutes=15), timedelta(days=1), timedelta(days=31))
"""Tried in turn, so that the newest few do not cost a look at a month."""

Limit = Annotated[int, Query(ge=1, le=MAX_LIMIT)]
NameFilter = Annotated[str | None, Query(max_length=64, pattern=r"^[a-z0-9][a-z0-9._/-]*$")]
After = Annotated[str | None, Query(max_length=120)]

Fields = list[dict[str, object]]


@router.get("/v1/results")
async def get_results(  # noqa: PLR0917  FastAPI reads the query from the parameters
    context: Running,
    limit: Limit = 100,
    endpoint: NameFilter = None,
    agent_region: NameFilter = None,
    outcome: Outcome | None = None,
    after: After = None,
) -> Response:
    """Return results in the wire's field names, newest first.

    With `after` (an RFC 3339 time of receipt, or the `next_after` of the answer before) those that came in later, in
    order: ask again with `next_after` to follow.
    """
    given = {"endpoint": endpoint, "agent_region": agent_region, "outcome": outcome}
    filters = {name: str(value) for name, value in given.items() if value is not None}
    if after is None:
        results = await _newest(context, filters, limit)
        newest = results[0] if results else None
    else:
        rows = await run(context.engine, results_after, filters, place=parse_place(after), limit=limit)
        results = [wire_fields(dict(row)) for row in rows]
        newest = results[-1] if results else None
    body = {"results": results, "next_after": after if newest is None else place_text(newest)}
    return Response(msgspec.json.encode(body), media_type="application/json")


def parse_place(text: str) -> Place:
    """Return the place that `after` names; raise Refused."""
    moment, *rest = text.split("~")
    try:
        received_at = datetime.fromisoformat(moment.replace(" ", "+"))
        received_at = received_at if received_at.tzinfo else received_at.replace(tzinfo=UTC)
        if not rest:
            return Place(received_at=received_at)
        batch_id, seq = rest
        return Place(received_at=received_at, batch_id=UUID(batch_id), seq=min(int(seq), 2**62))
    except (ValueError, OverflowError) as exc:
        raise Refused(
            "invalid", "after: give a time as in 2026-01-31T12:00:00Z, or the next_after of an answer"
        ) from exc


def place_text(result: dict[str, object]) -> str:
    """Return the `next_after` behind a result."""
    received_at = result["received_at"]
    stamp = received_at.isoformat() if isinstance(received_at, datetime) else str(received_at)
    return f"{stamp.replace('+00:00', 'Z')}~{result['batch_id']}~{result['seq']}"


async def _newest(context: Context, filters: dict[str, str], limit: int) -> Fields:
    now = context.utc_now()
    rows: Fields = []
    for horizon in _HORIZONS:
        found = await run(context.engine, newest_results, filters, received_since=now - horizon, limit=limit)
        rows = [wire_fields(dict(row)) for row in found]
        if len(rows) == limit:
            break
    return rows
