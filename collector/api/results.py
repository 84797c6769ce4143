"""GET /v1/results: single results, newest first, or onward from a place for those who follow."""

from datetime import UTC, date, datetime, time, timedelta
from typing import Annotated, Any, Final
from uuid import UUID

import msgspec
from fastapi import APIRouter, Query, Response

from collector.api.asking import LATEST, AskedSpan, OnlyKnown, ResultFilters, Span, parse_moment, text_of
from collector.api.context import Context, Reading, Running
from collector.api.walk import AHEAD, MAX_SEQ, OLDER, Pace, Walk, Walked, behind, place_of, walk_back, walk_on
from collector.api.walk import before as first_before
from collector.errors import Refused
from collector.store.engine import ANSWER_SECONDS
from collector.store.partitions import existing_days
from collector.store.reading import Look, Place, Row, results_after, results_before, wire_fields

router = APIRouter(tags=["reading"], dependencies=[Reading, OnlyKnown])

MAX_LIMIT: Final = 1_000
SETTLED: Final = timedelta(seconds=ANSWER_SECONDS + 5.0)
"""A batch that came longer ago is stored or never will be: its transaction has ended. 5 s are for clocks that differ.
A follower who read younger results would miss those that came before them and were committed after."""

Limit = Annotated[int, Query(ge=1, le=MAX_LIMIT)]
PlaceText = Annotated[str | None, Query(max_length=120)]


class Page(msgspec.Struct, frozen=True, kw_only=True):
    """The answer."""

    results: list[dict[str, Any]]
    """Any: fields of every kind, by the names of the wire."""
    next_before: str | None
    """None: there is nothing older, or the page goes onward."""
    next_after: str


@router.get("/v1/results")
async def get_results(
    context: Running,
    filters: ResultFilters,
    span: AskedSpan,
    *,
    limit: Limit = 100,
    before: PlaceText = None,
    after: PlaceText = None,
) -> Response:
    """Return results in the wire's field names, newest first; `since` and `until` bound when they started.

    With `before` (the `next_before` of an answer) those that came in earlier. A page may hold fewer than `limit`, even
    none: ask again with `next_before` until that is null.

    With `after` (an RFC 3339 time of receipt, or the `next_after` of the answer before) those that came in later, in
    order: ask again with `next_after` to follow. A follower gets every result once, and 20 s after it came in: until
    then another that came before it may still be on its way into the database. The `next_after` of an answer without
    `after` lies 20 s back, so that the first results that follow may be some that were seen already.
    """
    if before is not None and after is not None:
        raise Refused("invalid", "Give before or after, not both.")
    known = await filters.known()
    started = span.open_span(context.utc_now())
    if after is not None:
        return _answer(await _onward(context, known, started=started, limit=limit, after=after))
    return _answer(await _newest(context, known, started=started, limit=limit, before=before))


def parse_place(name: str, text: str) -> tuple[datetime, Place | None]:
    """Return the time that `text` names, and the place when it is a result's; raise Refused."""
    moment, *rest = text.split("~")
    try:
        received_at = parse_moment(name, moment)
        if not rest:
            return received_at, None
        batch_id, seq = rest
        return received_at, Place(received_at=received_at, batch_id=UUID(batch_id), seq=min(int(seq[:20]), MAX_SEQ))
    except (ValueError, Refused) as exc:
        raise Refused(
            "invalid", f"{name}: give a time as in 2026-01-31T12:00:00Z, or the next_{name} of an answer"
        ) from exc


def place_text(place: Place) -> str:
    """Return what `parse_place` reads."""
    return f"{text_of(place.received_at)}~{place.batch_id}~{place.seq}"


async def _newest(context: Context, filters: dict[str, str], *, started: Span, limit: int, before: str | None) -> Page:
    now = context.utc_now()
    moment, place = (now + AHEAD, None) if before is None else parse_place("before", before)
    days = await context.readers.read(existing_days)
    walk = _walk(place or first_before(moment), started=started, within=_Within(limit=limit, days=days, now=now))

    async def fetch(look: Look) -> list[Row]:
        return await context.readers.read(results_before, filters, look)

    walked = await walk_back(walk, fetch, Pace(context.monotonic))
    next_before = None if walked.place is None else place_text(walked.place)
    return _page(walked, next_before=next_before, next_after=text_of(now - SETTLED))


async def _onward(context: Context, filters: dict[str, str], *, started: Span, limit: int, after: str) -> Page:
    now = context.utc_now()
    moment, place = parse_place("after", after)
    days = await context.readers.read_primary(existing_days)
    walk = _walk(place or behind(moment), started=started, within=_Within(limit=limit, days=days, now=now))
    walk = msgspec.structs.replace(walk, received_until=min(walk.received_until, now - SETTLED))

    async def fetch(look: Look) -> list[Row]:
        return await context.readers.read_primary(results_after, filters, look)

    walked = await walk_on(walk, fetch, Pace(context.monotonic))
    place = walked.place or (place_of(walked.rows[-1]) if walked.rows else None)
    return _page(walked, next_before=None, next_after=after if place is None else place_text(place))


class _Within(msgspec.Struct, frozen=True, kw_only=True):
    """What bounds a walk beside the span that was asked for."""

    limit: int
    days: list[date]
    """That have a partition."""
    now: datetime


def _walk(place: Place, *, started: Span, within: _Within) -> Walk:
    """Return a walk over what was received of the results that started in a span, as far as the database keeps them."""
    since, until, days = started.since, started.until, within.days
    if days:
        since = max(since, datetime.combine(days[0], time(), tzinfo=UTC))
        until = min(until, datetime.combine(days[-1], time(), tzinfo=UTC) + timedelta(days=1))
    return Walk(
        place=place,
        received_since=since - AHEAD if days else LATEST,
        received_until=min(until + OLDER, within.now + AHEAD),
        started_since=since,
        started_until=until,
        limit=within.limit,
    )


def _page(walked: Walked, *, next_before: str | None, next_after: str) -> Page:
    results = [wire_fields(row) for row in walked.rows]
    return Page(results=results, next_before=next_before, next_after=next_after)


def _answer(page: Page) -> Response:
    return Response(msgspec.json.encode(page), media_type="application/json")
