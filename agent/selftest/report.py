"""A report in, the lines for a person out. Pure."""

import textwrap
from collections.abc import Sequence
from typing import Final

from agent.selftest.cells import Cell, Spread
from agent.selftest.measure import Report
from agent.selftest.verdict import fault

WIDTH: Final = 130
"""The whole table; on a narrower terminal its groups stand below each other."""
_LONGEST_LINE: Final = 110
"""Of a sentence: longer ones are hard to read."""
_NAME_WIDTH: Final = 29
_GROUP_WIDTH: Final = 25
_BOLD, _DIM, _RED, _GREEN = "1", "2", "31", "32"
_GROUPS: Final = ("TTFT error, ms", "gap error, ms", "tokens/s error, %", "RTT, ms")
_PERCENT: Final = 100.0
_MS: Final = 1000.0


def render(report: Report, *, color: bool, width: int = WIDTH) -> str:
    """Return the table and the verdict, in lines of at most `width` columns where that can be."""
    at_once = max(1, (width - _NAME_WIDTH) // _GROUP_WIDTH)
    groups = range(len(_GROUPS))
    tables = [_table(report, groups[start : start + at_once], color=color) for start in groups[::at_once]]
    notes = [f"  {cell.plan()}: {cell.failure}" for cell in report.cells if cell.failure is not None]
    lines = [line for table in tables for line in (*table, "")]
    return "\n".join([*lines[:-1], *notes, "", *_words(report, color=color, width=width)])


def _table(report: Report, groups: Sequence[int], *, color: bool) -> list[str]:
    head = "".join(f"  {_GROUPS[group]:^23}" for group in groups)
    columns = f"  {'median':>7} {'p99':>7} {'max':>7}" * len(groups)
    lines = [f"{'':{_NAME_WIDTH}}{head}".rstrip(), f"{'':6}{'core':6}{'at once':>8}{'streams':>9}{columns}"]
    rows = [_paint(_row(cell, groups), _row_color(cell), color=color) for cell in report.cells]
    return [*(_paint(line, _BOLD, color=color) for line in lines), *rows]


def _row(cell: Cell, groups: Sequence[int]) -> str:
    numbers = (
        _numbers(cell.ttft_error_seconds, _MS),
        _numbers(cell.gap_error_seconds, _MS),
        _numbers(cell.tokens_per_second_error, _PERCENT),
        _numbers(cell.rtt_seconds, _MS),
    )
    tls, core = "TLS" if cell.tls else "plain", "busy" if cell.busy else "idle"
    return f"{tls:6}{core:6}{cell.streams:>8}{cell.measured:>9}{''.join(numbers[group] for group in groups)}"


def _numbers(spread: Spread | None, factor: float) -> str:
    if spread is None:
        return f"  {'-':>7} {'-':>7} {'-':>7}"
    return "  " + " ".join(f"{value * factor:7.3f}" for value in (spread.median, spread.p99, spread.max))


def _row_color(cell: Cell) -> str | None:
    return None if fault(cell) is None else _RED


def _words(report: Report, *, color: bool, width: int) -> list[str]:
    verdict = report.verdict
    longest = min(width, _LONGEST_LINE)
    head, *rest = [textwrap.wrap(text, longest, subsequent_indent="  ") for text in verdict.words]
    painted = [_paint(line, _GREEN if verdict.can_measure_to_1_ms else _RED, color=color) for line in head]
    return [
        *painted,
        *(line for lines in rest for line in lines),
        _paint(f"Took {report.duration_seconds:.0f} s.", _DIM, color=color),
    ]


def _paint(text: str, code: str | None, *, color: bool) -> str:
    return f"\x1b[{code}m{text}\x1b[0m" if color and code is not None else text
