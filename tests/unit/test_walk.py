"""A walk finds every result once and in order, wherever its looks, pages and pauses begin and end."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from itertools import count
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.api.walk import QUICK_SECONDS, Pace, Walk, before, behind, walk_back, walk_on
from collector.errors import Refused
from collector.store.reading import Look, Place, Row

pytestmark = pytest.mark.anyio

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
BATCH = UUID(int=7)
MINUTES = st.lists(st.integers(min_value=0, max_value=400), max_size=30)
"""When results were received; looks begin and end at whole minutes, too."""


def rows_of(minutes: list[int]) -> list[Row]:
    return [
        {"received_at": NOON + timedelta(minutes=minute), "batch_id": BATCH, "seq": seq}
        for seq, minute in enumerate(sorted(minutes))
    ]


def key(row: Row) -> tuple[object, ...]:
    return row["received_at"], row["batch_id"], row["seq"]


def place_key(place: Place) -> tuple[object, ...]:
    return place.received_at, place.batch_id, place.seq


def clock(step: float) -> Callable[[], float]:
    """Return a clock that goes on by so much whenever somebody looks at it."""
    ticks = count()
    return lambda: next(ticks) * step


def walk_from(place: Place, limit: int) -> Walk:
    ends = {"received_since": NOON - timedelta(hours=1), "received_until": NOON + timedelta(minutes=401)}
    return Walk(place=place, started_since=NOON - timedelta(days=9), started_until=NOON + timedelta(days=9),
                limit=limit, **ends)  # fmt: skip


@given(minutes=MINUTES, limit=st.integers(1, 9), step=st.sampled_from([0.0, QUICK_SECONDS, 3.0]))
async def test_back(minutes: list[int], limit: int, step: float) -> None:
    rows = rows_of(minutes)

    async def fetch(look: Look) -> list[Row]:
        found = [
            row
            for row in reversed(rows)
            if key(row) < place_key(look.place) and look.received_since <= row["received_at"] <= look.received_until  # type: ignore[operator]
        ]
        return found[: look.limit]

    seen: list[Row] = []
    place: Place | None = before(NOON + timedelta(days=1))
    for _ in range(2_000):
        if place is None:
            break
        walked = await walk_back(walk_from(place, limit), fetch, Pace(clock(step)))
        assert len(walked.rows) <= limit
        seen, place = seen + walked.rows, walked.place
    assert seen == rows[::-1]


@given(minutes=MINUTES, limit=st.integers(1, 9), step=st.sampled_from([0.0, QUICK_SECONDS, 3.0]))
async def test_on(minutes: list[int], limit: int, step: float) -> None:
    rows = rows_of(minutes)

    async def fetch(look: Look) -> list[Row]:
        found = [
            row
            for row in rows
            if key(row) > place_key(look.place) and look.received_since <= row["received_at"] <= look.received_until  # type: ignore[operator]
        ]
        return found[: look.limit]

    seen: list[Row] = []
    place: Place | None = behind(NOON - timedelta(days=1))
    for _ in range(2_000):
        if place is None:
            break
        walked = await walk_on(walk_from(place, limit), fetch, Pace(clock(step)))
        seen, place = seen + walked.rows, walked.place
    assert seen == rows


async def test_looks_grow_while_they_are_quick_and_not_while_they_are_slow() -> None:
    for step, grown in ((QUICK_SECONDS / 2, True), (QUICK_SECONDS, False)):
        pace = Pace(clock(step))
        first = pace.length
        pace.looked()
        assert (pace.length > first) is grown


@pytest.mark.parametrize("walk", [walk_back, walk_on])
async def test_a_look_that_is_too_much_is_taken_again_at_a_shorter_stretch(walk: Callable[..., object]) -> None:
    """Looks grew over a quiet night, and the next meets a busy day."""
    refused: list[timedelta] = []

    async def fetch(look: Look) -> list[Row]:
        stretch = look.received_until - look.received_since
        if stretch > timedelta(minutes=20):
            refused.append(stretch)
            raise Refused("too_much", "Ask for less.")
        return []

    place = before(NOON + timedelta(days=1)) if walk is walk_back else behind(NOON - timedelta(days=1))
    walked = await walk(walk_from(place, 9), fetch, Pace(clock(0.0)))  # type: ignore[misc]  both are coroutines
    assert walked.place is None
    assert refused


async def test_a_shortest_look_that_is_too_much_is_told() -> None:
    async def fetch(_look: Look) -> list[Row]:
        raise Refused("too_much", "Ask for less.")

    with pytest.raises(Refused, match="Ask for less"):
        await walk_on(walk_from(behind(NOON), 9), fetch, Pace(clock(0.0)))
