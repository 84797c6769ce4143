"""The oracle finds what it is there to find, and is content with nothing less than everything."""

from datetime import UTC, datetime
from typing import Any

import pytest

from tests.oracle import Ledger, Window, read_printed

BOOT = "018f3e2a-0000-7000-8000-000000000001"
OTHER = "018f3e2a-0000-7000-8000-000000000002"


def line(seq: int, **more: Any) -> dict[str, Any]:  # noqa: ANN401  any field of a result
    fields = {"boot_id": BOOT, "seq": seq, "rtt_seconds": 0.1, "outcome": "ok", "started_at": "2026-01-01T00:00:00Z"}
    return {**fields, "tokens": {"output": 4}, **more}


def row(seq: int, **more: Any) -> dict[str, Any]:  # noqa: ANN401  as above
    moment = datetime(2026, 1, 1, tzinfo=UTC)
    fields = {"boot_id": BOOT, "seq": seq, "rtt_seconds": 0.1, "outcome": "ok", "started_at_agent": moment}
    return {**fields, "tokens_output": 4, **more}


def ledger(*, lines: list[dict[str, Any]], rows: list[dict[str, Any]], **more: Any) -> Ledger:  # noqa: ANN401  as above
    printed = {(one["boot_id"], one["seq"]): one for one in lines}
    return Ledger(**{"printed": printed, "stored": rows, "duplicates_told": 1, "in_flight": 2, **more})


def lines(count: int) -> list[dict[str, Any]]:
    return [line(seq) for seq in range(count)]


def rows(count: int) -> list[dict[str, Any]]:
    return [row(seq) for seq in range(count)]


def test_everything_in_its_place_is_no_problem() -> None:
    assert ledger(lines=lines(5), rows=rows(5)).problems() == []


@pytest.mark.parametrize(
    ("stored", "words"),
    [
        (rows(4), "1 results are missing, 0 were declared lost"),
        ([*rows(5), row(3)], "1 results stand twice"),
        ([*rows(4), row(4, rtt_seconds=0.2)], "1 results differ in rtt_seconds"),
        ([*rows(4), row(4, outcome="timeout_connect")], "1 results differ in outcome"),
        ([*rows(4), row(4, rtt_seconds=None)], "1 results differ in rtt_seconds"),
        ([*rows(4), row(4, tokens_output=5)], "1 results differ in tokens_output"),
        ([*rows(4), row(4, started_at_agent=datetime(2026, 1, 2, tzinfo=UTC))], "1 results differ in started_at_agent"),
        ([*rows(5), row(0, boot_id=OTHER)], "1 results are invented"),
        ([*rows(5), row(7)], "1 results are invented"),
    ],
)
def test_every_breach_is_told(stored: list[dict[str, Any]], words: str) -> None:
    (problem,) = ledger(lines=lines(5), rows=stored).problems()
    assert problem.startswith(words)


def test_a_gap_in_what_was_printed_is_filled_by_nobody() -> None:
    (problem,) = ledger(lines=[line(0), line(2)], rows=rows(3)).problems()
    assert problem.startswith("1 results are invented")


def test_what_was_recorded_in_the_instant_of_a_kill_is_not_invented() -> None:
    assert ledger(lines=lines(5), rows=rows(7)).problems() == []


def test_what_stood_in_memory_while_the_disk_was_full_is_owed_and_not_invented() -> None:
    printed = [*lines(2), line(5)]
    window = Window(boot_id=BOOT, first=2, last=4)
    assert ledger(lines=printed, rows=rows(6), windows=(window,)).problems() == []
    (problem,) = ledger(lines=printed, rows=[row(0), row(1), row(5)], windows=(window,)).problems()
    assert problem.startswith("3 results are missing")


@pytest.mark.parametrize(("declared", "found"), [(1, 1), (2, 0), (3, 1)])
def test_what_is_missing_must_be_declared_to_the_very_number(declared: int, found: int) -> None:
    assert len(ledger(lines=lines(5), rows=rows(3), declared={"full": declared}).problems()) == found


def test_a_loss_that_no_limit_explains_is_a_problem_though_it_was_declared() -> None:
    assert ledger(lines=lines(5), rows=rows(4), declared={"corrupt": 1}).problems() == [
        "1 results were lost as corrupt"
    ]


def test_a_run_in_which_nothing_arrived_twice_proves_nothing() -> None:
    (problem,) = ledger(lines=lines(5), rows=rows(5), duplicates_told=0).problems()
    assert "proves nothing" in problem


def test_a_line_that_a_kill_cut_short_is_no_promise() -> None:
    text = '{"boot_id": "a", "seq": 1}\n{"boot_id": "a", "seq": 2, "rtt_sec'
    assert list(read_printed(text)) == [("a", 1)]
