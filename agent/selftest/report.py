"""A report in, the lines for a person out. Pure."""

import textwrap
from collections.abc import Sequence
from typing import Final

from agent.selftest.cells import Cell, Spread
from agent.selftest.measure import Report
from agent.selftest.verdict import fault

WIDTH: Final = 110
_BOLD, _DIM, _RED, _GREEN = "1", "2", "31", "32"
_GROUPS: Final = ("TTFT error, ms", "gap error, ms", "tokens/s error, %", "RTT, ms")
_PERCENT: Final = 100.0
_MS: Final = 1000.0


def render(report: Report, *, color: bool) -> str:
    """Return the table and the verdict."""
    table = [_paint(line, _BOLD if number < 2 else None, color=color) for number, line in enumerate(_head())]  # noqa: PLR2004  the head's lines
    rows = [_paint(_row(cell), _row_color(cell), color=color) for cell in report.cells]
    notes = [f"  {cell.plan()}: {cell.failure}" for cell in report.cells if cell.failure is not None]
    return "\n".join([*table, *rows, *notes, "", *_words(report, color=color)])


def _head() -> list[str]:
    groups = "".join(f"  {group:^23}" for group in _GROUPS)
    columns = f"  {'median':>7} {'p99':>7} {'max':>7}" * len(_GROUPS)
    return [f"{'':29}{groups}".rstrip(), f"{'':6}{'core':6}{'at once':>8}{'streams':>9}{columns}"]


def _row(cell: Cell) -> str:
    numbers = (
        _numbers(cell.ttft_error_seconds, _MS),
        _numbers(cell.gap_error_seconds, _MS),
        _numbers(cell.tokens_per_second_error, _PERCENT),
        _numbers(cell.rtt_seconds, _MS),
    )
    tls, core = "TLS" if cell.tls else "plain", "busy" if cell.busy else "idle"
    return f"{tls:6}{core:6}{cell.streams:>8}{cell.measured:>9}{''.join(numbers)}"


def _numbers(spread: Spread | None, factor: float) -> str:
    if spread is None:
        return f"  {'-':>7} {'-':>7} {'-':>7}"
    return "  " + " ".join(f"{value * factor:7.3f}" for value in (spread.median, spread.p99, spread.max))


def _row_color(cell: Cell) -> str | None:
    return None if fault(cell) is None else _RED


def _words(report: Report, *, color: bool) -> list[str]:
    verdict = report.verdict
    head, *rest = verdict.words
    painted = _paint(head, _GREEN if verdict.can_measure_to_1_ms else _RED, color=color)
    wrapped: Sequence[str] = [line for text in rest for line in textwrap.wrap(text, WIDTH, subsequent_indent="  ")]
    return [painted, *wrapped, _paint(f"Took {report.duration_seconds:.0f} s.", _DIM, color=color)]


def _paint(text: str, code: str | None, *, color: bool) -> str:
    return f"\x1b[{code}m{text}\x1b[0m" if color and code is not None else text
