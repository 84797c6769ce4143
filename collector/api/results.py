"""GET /v1/results: single results, newest first, or onward from a place for those who follow."""

from datetime import UTC, datetime, timedelta
from typing import Annotated, Final
from uuid import UUID

import msgspec
from fastapi import APIRouter, Query, Response

from collector.api.context import Context, Reading, Running
from collector.errors import Refused
from collector.store.engine import ANSWER_SECONDS
from collector.store.reading import Place, Range, newest_results, results_after, wire_fields
from isochrone.outcome import Outcome

router = APIRouter(tags=["reading"], dependencies=[Reading])

MAX_LIMIT: Final = 1_000
SETTLED: Final = timedelta(seconds=ANSWER_SECONDS + 5.0)
"""A batch that came longer ago is stored or never will be: its transaction has ended. 5 s are for clocks that differ.
A follower who read younger results would miss those that came before them and were committed after."""
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
    order: ask again with `next_after` to follow. A follower gets every result once, and 20 s after it came in: until
    then another that came before it may still be on its way into the database. The `next_after` of an answer without
    `after` lies 20 s back, so that the first results that follow may be some that were seen already.
    """
    given = {"endpoint": endpoint, "agent_region": agent_region, "outcome": outcome}
    filters = {name: str(value) for name, value in given.items() if value is not None}
    settled_at = context.utc_now() - SETTLED
    if after is None:
        results = await _newest(context, filters, limit)
        next_after = _text_of(settled_at)
    else:
        within = Range(after=parse_place(after), until=settled_at)
        rows = await context.readers.read_primary(results_after, filters, within=within, limit=limit)
        results = [wire_fields(dict(row)) for row in rows]
        next_after = place_text(results[-1]) if results else after
    body = {"results": results, "next_after": next_after}
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
    stamp = _text_of(received_at) if isinstance(received_at, datetime) else str(received_at)
    return f"{stamp}~{result['batch_id']}~{result['seq']}"


def _text_of(moment: datetime) -> str:
    return moment.isoformat().replace("+00:00", "Z")


async def _newest(context: Context, filters: dict[str, str], limit: int) -> Fields:
    now = context.utc_now()
    rows: Fields = []
    for horizon in _HORIZONS:
        found = await context.readers.read(newest_results, filters, received_since=now - horizon, limit=limit)
        rows = [wire_fields(dict(row)) for row in found]
        if len(rows) == limit:
            break
    return rows
