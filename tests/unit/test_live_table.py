"""The table of `up`: what it says for which numbers, with a terminal and without."""

import io
import re

import pytest
from rich.console import Console

from collector.live import (
    Failure,
    Part,
    Quantiles,
    Row,
    Screen,
    Shares,
    Summary,
    View,
    decode_summary,
    picture,
    seconds_text,
    share_bar,
)


def rendered(view: View, *, width: int = 100) -> str:
    console = Console(file=io.StringIO(), width=width, record=True)
    console.print(picture(view, width=width))
    return console.export_text()


def view_of(*rows: Row, parts: tuple[Part, ...] = ()) -> View:
    return View(summary=Summary(window_seconds=300, rows=rows), parts=parts, addresses=(("page", "http://x/"),))


NEAR = Row(
    agent_region="local",
    endpoint="near",
    connection="cold",
    simulated=True,
    probes=40,
    failures=0,
    rtt_seconds=Quantiles(p50=0.0083, p95=0.009),
    ttft_seconds=Quantiles(p50=0.19, p95=0.25),
    tokens_per_second=Quantiles(p50=83.3),
    components=Shares(network_seconds=0.1, model_seconds=0.3, streaming_seconds=0.6),
)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, "-"),
        (0.0, "0.00 ms"),
        (0.000037, "0.04 ms"),
        (0.00834, "8.3 ms"),
        (0.24, "240 ms"),
        (0.9994, "999 ms"),
        (1.234, "1.23 s"),
        (71.0, "71.00 s"),
    ],
)
def test_a_duration_is_told_in_the_unit_that_people_read(seconds: float | None, text: str) -> None:
    assert seconds_text(seconds).plain == text


def test_a_row_tells_region_endpoint_and_all_numbers() -> None:
    text = rendered(view_of(NEAR))
    row = next(line for line in text.splitlines() if "near" in line)
    for expected in ("local", "near simulated", "40", "8.3 ms", "190 ms", "250 ms", "83.3", " 0 "):
        assert expected in row


def test_what_was_not_measured_is_a_dash_and_never_zero() -> None:
    row = next(
        line for line in rendered(view_of(Row(agent_region="local", endpoint="site"))).splitlines() if "site" in line
    )
    assert row.count("-") == 4
    assert not re.search(r"0\.0", row)


def test_failures_are_told_with_their_share_of_the_probes() -> None:
    assert "10 (25%)" in rendered(view_of(Row(agent_region="local", endpoint="bad", probes=40, failures=10)))


@pytest.mark.parametrize(("connection", "shown"), [("cold", True), ("warm", True), (None, False)])
def test_round_trips_that_failed_stand_beside_the_failures_of_a_stream(*, connection: str | None, shown: bool) -> None:
    row = Row(agent_region="local", endpoint="bad", connection=connection, probes=40, failures=10, rtt_failures=7)
    text = rendered(view_of(row), width=96)
    assert "10 (25%)" in text
    assert ("10 (25%) +7 rtt" in text) is shown
    assert max(len(line) for line in text.splitlines()) <= 96


def test_the_latest_failure_is_told_in_one_line_however_narrow_the_terminal() -> None:
    reason = "connection refused by 192.0.2.1:443: nothing listens on that port"
    bad = Row(agent_region="local", endpoint="bad", failures=1, last_failure=Failure(outcome="connect", reason=reason))
    lines = rendered(view_of(NEAR, bad), width=100).splitlines()
    assert [line.strip() for line in lines if "connect" in line] == [f"bad connect: {reason}"]
    (narrow,) = [line for line in rendered(view_of(NEAR, bad), width=60).splitlines() if "connect" in line]
    assert len(narrow) <= 60


@pytest.mark.parametrize(
    ("shares", "cells"),
    [
        ((0.1, 0.3, 0.6), (2, 6, 12)),
        ((0.0, 1.0, 1.0), (0, 10, 10)),
        ((1.0, 1.0, 1.0), (7, 6, 7)),
        ((0.001, 0.0, 10.0), (0, 0, 20)),
    ],
)
def test_the_bar_shares_all_its_cells_between_the_components(
    shares: tuple[float, float, float], cells: tuple[int, int, int]
) -> None:
    bar = share_bar(Shares(network_seconds=shares[0], model_seconds=shares[1], streaming_seconds=shares[2]), cells=20)
    drawn = {str(span.style): span.end - span.start for span in bar.spans}
    assert tuple(drawn.get(colour, 0) for colour in ("cyan", "magenta", "green")) == cells
    assert "".join(block * count for block, count in zip("█▓░", cells, strict=True)) == bar.plain


def test_without_components_the_bar_is_blank() -> None:
    assert share_bar(None).plain == ""
    assert share_bar(Shares()).plain == ""


@pytest.mark.parametrize(("width", "has_bar"), [(80, False), (120, True)])
def test_a_narrow_terminal_does_without_the_bar(width: int, *, has_bar: bool) -> None:
    text = rendered(view_of(NEAR), width=width)
    assert ("where it goes" in text) is has_bar
    assert "83.3" in text
    assert max(len(line) for line in text.splitlines()) <= width


def test_a_part_that_died_and_one_that_came_back_are_named() -> None:
    parts = (
        Part(name="agent", running=False, restarts=1, last_end="was killed by SIGKILL"),
        Part(name="collector", running=True, restarts=2, last_end="ended with exit code 1"),
        Part(name="postgres", running=True),
    )
    text = rendered(view_of(NEAR, parts=parts))
    assert "agent was killed by SIGKILL: starting it again" in text
    assert "collector ended with exit code 1; started again (2x)" in text
    assert "postgres" not in text


def test_before_the_first_result_and_without_a_collector_the_table_says_so() -> None:
    assert "waiting for the first results" in rendered(view_of())
    assert "does not answer" in rendered(View(summary=None, parts=(), addresses=()))


def test_fields_of_a_newer_collector_are_ignored_and_nulls_are_absent() -> None:
    data = b"""{"window_seconds": 300.0, "more": 1, "rows": [{"agent_region": "local", "endpoint": "near", "model": "m",
        "connection": null, "probes": 3, "failures": 1, "rtt_seconds": {"p50": 0.008, "p95": null, "mean": 0.008},
        "ttft_seconds": null, "tokens_per_second": {"p50": null, "p95": null, "mean": null}, "components": null,
        "floor_seconds": null, "efficiency": null, "coverage": 1.0}]}"""
    (row,) = decode_summary(data).rows
    assert row.rtt_seconds == Quantiles(p50=0.008)
    assert row.ttft_seconds is None
    assert row.failures == 1


def test_without_a_terminal_steps_are_plain_lines_and_the_table_comes_now_and_then() -> None:
    file = io.StringIO()
    screen = Screen(file)
    with screen.step("starting Postgres") as said:
        said.append("Postgres 18")
    screen.show(view_of(NEAR))
    assert re.fullmatch(r"(✓|ok) Postgres 18  \d+\.\d s\n", file.getvalue())
    assert "\x1b" not in file.getvalue()


def test_a_step_that_fails_is_not_told_as_done() -> None:
    file = io.StringIO()
    screen = Screen(file)
    with pytest.raises(OSError, match="no"), screen.step("starting Postgres"):
        raise OSError("no")
    assert file.getvalue() == ""


def test_a_reader_that_went_away_stops_the_output_and_nothing_else() -> None:
    class Gone(io.StringIO):
        def write(self, _text: str, /) -> int:
            raise BrokenPipeError

    screen = Screen(Gone())
    screen.say("one")
    screen.say("two")
    assert screen.console.quiet
