"""The verdict of a self-test, and the words in it."""

import msgspec
import pytest

from agent.selftest.cells import Cell, Spread
from agent.selftest.measure import STREAMS, Report, plans
from agent.selftest.report import render
from agent.selftest.streams import rounds
from agent.selftest.verdict import Facts, Verdict, fault, judge, judged_cells

FACTS = Facts(cpus=2, load_per_cpu=0.1, throttled=False, clock_synchronized=True, pinned=True)


def even(value: float) -> Spread:
    return Spread(median=value, p99=value, max=value)


def cell(  # each argument is one thing that can be wrong
    streams: int = 8,
    *,
    tls: bool = False,
    busy: bool = False,
    ttft: float | None = 1e-5,
    rtt: float | None = 2e-5,
    **more: object,
) -> Cell:
    good = Cell(
        tls=tls,
        busy=busy,
        streams=streams,
        measured=streams,
        ttft_error_seconds=None if ttft is None else even(ttft),
        ttft_untold_error_seconds=None if ttft is None else even(ttft),
        rtt_seconds=None if rtt is None else even(rtt),
        clock_sources={"kernel": streams},
        truth_clocks={"kernel": streams},
    )
    return msgspec.structs.replace(good, **more)


def words(*cells: Cell, facts: Facts = FACTS) -> str:
    return "\n".join(judge(cells, facts).words)


@pytest.mark.parametrize(
    ("cells", "can"),
    [
        ([cell()], True),
        ([cell(ttft=0.001), cell(tls=True, ttft=0.001)], True),
        ([cell(ttft=0.00101)], False),
        ([cell(), cell(tls=True, ttft=0.002)], False),
        ([cell(rtt=0.0011)], False),
        ([cell(rtt=None)], False),
        ([cell(ttft=None)], False),
        ([cell(failed=1, failure="truncated: cut")], False),
        ([cell(), cell(busy=True, ttft=0.5)], True),
        ([cell(32), cell(128, ttft=0.5)], True),
        ([cell(128, ttft=0.5)], False),
        ([cell(128)], True),
        ([cell(clock_sources={"user": 8})], True),
        ([cell(busy=True)], False),
        ([], False),
    ],
)
def test_a_host_can_when_every_idle_cell_of_up_to_32_streams_is_true_to_1_ms(cells: list[Cell], *, can: bool) -> None:
    verdict = judge(cells, FACTS)
    assert verdict.can_measure_to_1_ms is can
    assert ("cannot" in verdict.words[0]) is not can


def test_the_verdict_names_the_cells_that_failed_and_why() -> None:
    verdict = judge([cell(8), cell(32, tls=True, ttft=0.0042)], FACTS)
    assert verdict.failed_cells == ("TLS, idle, 32 at once",)
    assert "TLS, idle, 32 at once: the p99 of the TTFT's error is 4.200 ms." in "\n".join(verdict.words)


def test_the_words_name_the_cells_that_show_where_the_limit_lies() -> None:
    verdict = judge([cell(32), cell(128, ttft=0.02), cell(8, busy=True), cell(32, busy=True, ttft=0.002)], FACTS)
    assert verdict.can_measure_to_1_ms
    wanted = "Not within 1 ms, and not judged: plain, idle, 128 at once; plain, busy core, 32 at once."
    assert wanted in verdict.words
    assert "not judged" not in words(cell(32), cell(8, busy=True))


def test_with_more_than_32_streams_alone_the_idle_cells_of_them_are_judged() -> None:
    assert judged_cells([cell(128), cell(128, busy=True)]) == [cell(128)]


@pytest.mark.parametrize(
    ("one", "said"),
    [
        (cell(), None),
        (cell(failed=1, failure="connect: refused"), "1 of 9 streams failed (connect: refused)"),
        (cell(ttft=None, failure="no time was left"), "nothing was measured (no time was left)"),
        (cell(rtt=None), "nothing was measured (no round trip)"),
        (cell(rtt=0.0021), "the p99 of the round trip over loopback is 2.100 ms"),
    ],
)
def test_a_fault_says_what_is_wrong(one: Cell, said: str | None) -> None:
    assert fault(one) == said


@pytest.mark.parametrize(
    ("clocks", "arrivals", "departures"),
    [
        ({"kernel": 8}, "Arrivals: stamped by the kernel, in all 8", "Departures: stamped by the kernel, in all 8"),
        ({"kernel_receive": 8}, "Arrivals: stamped by the kernel, in all 8", "Departures: timed by the agent's own"),
        (
            {"user": 8},
            "Arrivals: timed by the agent's own clock: the kernel gives no",
            "Departures: timed by the agent",
        ),
        (
            {"kernel": 6, "user": 2},
            "Arrivals: stamped by the kernel in 6 of 8",
            "Departures: stamped by the kernel in 6",
        ),
    ],
)
def test_the_words_say_whose_clock_it_was(clocks: dict[str, int], arrivals: str, departures: str) -> None:
    said = words(cell(clock_sources=clocks))
    assert arrivals in said
    assert departures in said


def test_the_words_say_when_the_truth_itself_is_less_sure() -> None:
    assert "Truth: the kernel's stamps" in words(cell())
    assert "the simulator's own clock in 3 of 8 streams" in words(cell(truth_clocks={"kernel": 5, "user": 3}))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"throttled": True}, "the control group was denied it"),
        ({"throttled": False}, "Processor: not throttled."),
        ({"throttled": None}, "does not tell whether it was denied"),
        ({"clock_synchronized": True}, "Wall clock: synchronised."),
        ({"clock_synchronized": False}, "the kernel does not vouch for it"),
        ({"clock_synchronized": None}, "does not tell whether it is synchronised"),
        ({"pinned": False}, "cannot hold it on the agent's core"),
        ({"load_per_cpu": 1.2}, "Load: 1.2 for each core"),
    ],
)
def test_the_words_say_what_the_host_tells(change: dict[str, object], said: str) -> None:
    assert said in words(cell(), facts=msgspec.structs.replace(FACTS, **change))


def test_a_quiet_host_hears_nothing_of_load() -> None:
    assert "Load" not in words(cell())


def test_the_words_tell_the_loops_lag_idle_and_busy() -> None:
    said = words(cell(loop_lag_seconds=0.002), cell(busy=True, loop_lag_seconds=0.03))
    assert "at most 2.000 ms late when idle, 30.000 ms with a busy core" in said


def test_all_sixteen_cells_are_planned_each_once() -> None:
    made = plans(STREAMS)
    assert len(made) == len({str(plan) for plan in made}) == 16


@pytest.mark.parametrize(("streams", "wanted"), [(1, 8), (8, 8), (32, 4), (128, 2), (256, 2)])
def test_few_streams_at_once_are_begun_oftener(streams: int, wanted: int) -> None:
    assert rounds(streams) == wanted


def report(*cells: Cell) -> Report:
    return Report(verdict=judge(cells, FACTS), host=FACTS, cells=cells, duration_seconds=12.3)


def test_the_table_has_a_row_for_each_cell_in_milliseconds_and_percent() -> None:
    one = cell(8, ttft=0.0123, tokens_per_second_error=Spread(median=0.01, p99=0.02, max=0.03))
    lines = render(report(one, cell(32, tls=True, busy=True)), color=False).splitlines()
    assert lines[2].split() == [
        "plain",
        "idle",
        "8",
        "8",
        *["12.300"] * 3,
        *"---",
        *["1.000", "2.000", "3.000"],
        *["0.020"] * 3,
    ]
    assert lines[3].startswith("TLS   busy")


def test_the_table_says_what_failed_below_itself() -> None:
    assert "  plain, idle, 8 at once: truncated: cut" in render(
        report(cell(failed=1, failure="truncated: cut")), color=False
    )


@pytest.mark.parametrize("color", [True, False])
def test_colours_are_there_when_asked_for(*, color: bool) -> None:
    assert ("\x1b[" in render(report(cell()), color=color)) is color


def test_a_verdict_without_any_cell_is_words_still() -> None:
    verdict = judge([], FACTS)
    assert isinstance(verdict, Verdict)
    assert render(report(), color=False).count("cannot") == 1


@pytest.mark.parametrize("width", [60, 80, 100, 132])
def test_on_a_narrow_terminal_the_groups_stand_below_each_other_and_nothing_is_wider(width: int) -> None:
    text = render(report(cell(32, tls=True, busy=True)), color=False, width=width)
    assert max(len(line) for line in text.splitlines()) <= width
    for group in ("TTFT error, ms", "gap error, ms", "tokens/s error, %", "RTT, ms"):
        assert text.count(group) == 1
    assert text.count("median") == 4
