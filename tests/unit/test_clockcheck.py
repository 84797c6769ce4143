"""Which clocks are believed: by their year, beside the database's, and by how they came to where they are."""

from datetime import UTC, datetime, timedelta

import pytest

from collector import clockcheck
from collector.clockcheck import Mark, check_clock, check_mark, check_year, look
from collector.errors import ClockWrong

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
HOUR, DAY, YEAR = timedelta(hours=1), timedelta(days=1), timedelta(days=365)


@pytest.mark.parametrize("moment", [datetime(1970, 1, 1, tzinfo=UTC), datetime(2000, 1, 1, tzinfo=UTC)])
def test_a_clock_before_this_software_is_wrong(moment: datetime) -> None:
    with pytest.raises(ClockWrong, match=f"says {moment.year}-01-01"):
        check_year(moment)
    with pytest.raises(ClockWrong):
        check_clock(moment, database_now=moment)


@pytest.mark.parametrize("apart", [-YEAR, -2 * HOUR, 2 * HOUR, 10 * YEAR])
def test_a_clock_far_from_the_databases_is_wrong_and_both_are_told(apart: timedelta) -> None:
    with pytest.raises(ClockWrong, match=r"2026-06-01T12:00:00\+00:00") as wrong:
        check_clock(NOW + abs(apart), database_now=NOW)
    assert (NOW + abs(apart)).isoformat() in str(wrong.value)
    check_clock(NOW + timedelta(minutes=50), database_now=NOW)


def believed(mark: Mark | None, now: datetime) -> Mark:
    after = look(mark, now)
    check_mark(after)
    return after


def doubted(mark: Mark | None, now: datetime) -> Mark:
    after = look(mark, now)
    with pytest.raises(ClockWrong, match="nothing is dropped"):
        check_mark(after)
    return after


def test_a_clock_that_runs_is_believed_and_so_is_one_that_was_off_for_a_day() -> None:
    mark = believed(None, NOW)
    for step in (HOUR, DAY, clockcheck.MAX_GAP, -clockcheck.BACK / 2):
        mark = believed(mark, mark.believed_at + step)


@pytest.mark.parametrize("jump", [10 * YEAR, 3 * DAY, -4 * DAY, -YEAR])
def test_a_jump_is_doubted_until_the_clock_has_run_for_three_days(jump: timedelta) -> None:
    there = NOW + jump
    mark = doubted(believed(None, NOW), there)
    for hour in range(1, 72):
        mark = doubted(mark, there + hour * HOUR)
    mark = believed(mark, there + 72 * HOUR)
    believed(mark, there + 73 * HOUR)


def test_a_clock_that_was_put_right_again_is_believed_at_once() -> None:
    mark = doubted(believed(None, NOW), NOW + 10 * YEAR)
    believed(mark, NOW + HOUR)


def test_jumps_one_after_the_other_do_not_count_as_running() -> None:
    mark = doubted(believed(None, NOW), NOW + YEAR)
    mark = doubted(mark, NOW + 9 * YEAR)
    mark = doubted(mark, NOW + 20 * YEAR)
    mark = doubted(mark, NOW + 5 * YEAR)
    assert mark.doubted_seconds == pytest.approx(1)


def test_a_machine_that_runs_for_an_hour_a_week_is_believed_in_the_end() -> None:
    mark = look(believed(None, NOW), NOW + 7 * DAY)
    weeks = 1
    while mark.doubted_seconds > 0:
        weeks += 1
        mark = look(mark, NOW + weeks * 7 * DAY)
    assert weeks == 4
