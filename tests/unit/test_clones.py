"""Two processes with one credential are told from one that was started again. Property: order of arrival is nothing."""

from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.clones import FORGET, SLACK, CloneWatch, Run

NOW = datetime(2026, 1, 1, tzinfo=UTC)
SLACK_SECONDS = int(SLACK.total_seconds())


def run(number: int, oldest: float, newest: float | None = None) -> Run:
    """Return a run whose results began so many seconds ago."""
    began = NOW - timedelta(seconds=oldest)
    return Run(
        boot_id=UUID(int=number), oldest=began, newest=NOW - timedelta(seconds=oldest if newest is None else newest)
    )


def told(*runs: Run) -> bool:
    watch = CloneWatch()
    return any(watch.note(1, one, now=NOW) for one in runs)


@given(st.permutations([(1, 900), (1, 700), (2, 690), (2, 400), (3, 390), (3, 10)]))
def test_runs_that_follow_each_other_are_no_clones_in_whatever_order_they_come(order: list[tuple[int, int]]) -> None:
    assert not told(*(run(*one) for one in order))


@given(st.permutations([(1, 900), (2, 800), (1, 700), (2, 600)]))
def test_runs_that_measure_in_turns_are_clones_in_whatever_order_they_come(order: list[tuple[int, int]]) -> None:
    assert told(*(run(*one) for one in order))


@pytest.mark.parametrize(("overlap", "clone"), [(SLACK_SECONDS, False), (SLACK_SECONDS + 1, True)])
def test_a_restart_may_overlap_by_the_slack(overlap: int, *, clone: bool) -> None:
    assert told(run(1, 900, 300), run(2, 300 + overlap, 0)) is clone


def test_agents_are_not_compared_with_each_other() -> None:
    watch = CloneWatch()
    assert not watch.note(1, run(1, 900, 0), now=NOW)
    assert not watch.note(2, run(2, 900, 0), now=NOW)


def test_a_clone_is_shown_for_an_hour_and_what_others_saw_counts() -> None:
    watch = CloneWatch()
    assert watch.note(1, run(1, 900, 0), now=NOW) is False
    assert watch.note(1, run(2, 900, 0), now=NOW) is True
    assert watch.current(1, now=NOW + FORGET - timedelta(seconds=1))
    assert watch.take_over({2: NOW}, now=NOW + timedelta(seconds=1)) == {1, 2}
    assert watch.current(2, now=NOW + timedelta(seconds=1))
    assert watch.take_over({}, now=NOW + FORGET) == {1, 2}
    assert not watch.current(1, now=NOW + FORGET)
    assert watch.seen == {}


def test_many_restarts_take_no_memory() -> None:
    watch = CloneWatch()
    for number in range(1_000):
        watch.note(1, run(number, 1_000 - number), now=NOW)
    assert len(watch._runs[1]) == 4  # noqa: SLF001  the bound is the promise
