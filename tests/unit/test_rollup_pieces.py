"""Which level answers which part of a span."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest

from collector.store.rollups import Piece, Span, pieces


def at(words: str) -> datetime:
    return datetime.fromisoformat(f"2026-03-{words}").replace(tzinfo=UTC)


NOW = at("02T12:00")


@pytest.mark.parametrize(
    ("since", "until", "step", "wanted"),
    [
        ("02T08:30", "02T10:15", None, [("minute", "02T08:30", "02T09:00"), ("hour", "02T09:00", "02T10:00"),
                                        ("minute", "02T10:00", "02T10:15")]),
        ("02T08:00", "02T10:00", None, [("hour", "02T08:00", "02T10:00")]),
        ("02T08:10:30", "02T08:20:30", None, [("minute", "02T08:10", "02T08:21")]),
        ("02T08:30", "02T10:15", 60, [("minute", "02T08:30", "02T10:15")]),
        ("02T08:30", "02T10:15", 3600, [("minute", "02T08:30", "02T09:00"), ("hour", "02T09:00", "02T10:00"),
                                        ("minute", "02T10:00", "02T10:15")]),
        # Hours that ended a moment ago may not be rolled up yet.
        ("02T08:00", "02T13:00", None, [("hour", "02T08:00", "02T12:00"), ("minute", "02T12:00", "02T13:00")]),
        # Where minutes are gone, whole hours stand for the ends.
        ("01T08:30", "01T10:15", None, [("hour", "01T08:00", "01T11:00")]),
        ("01T23:30", "02T02:15", None, [("hour", "01T23:00", "02T02:00"), ("minute", "02T02:00", "02T02:15")]),
    ],
)  # fmt: skip
def test_hours_answer_what_is_whole_and_minutes_the_ends(
    since: str, until: str, *, step: int | None, wanted: list[tuple[str, str, str]]
) -> None:
    span = Span(since=at(since), until=at(until), step=None if step is None else timedelta(seconds=step))
    found = pieces(span, settled=NOW, minutes_since=at("02T00:00"))
    assert found == [Piece(level, at(start), at(end)) for level, start, end in wanted]


def test_the_pieces_of_a_span_follow_each_other_without_a_gap() -> None:
    for minutes in range(0, 300, 7):
        for length in (1, 59, 61, 200):
            since = at("02T07:00") + timedelta(minutes=minutes)
            span = Span(since=since, until=since + timedelta(minutes=length))
            found = pieces(span, settled=at("02T10:50"), minutes_since=None)
            assert found[0].since == since
            assert found[-1].until == span.until
            assert all(one.until == other.since for one, other in pairwise(found))
