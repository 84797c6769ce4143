"""The tables at the end of a run. Pure."""

from collections.abc import Iterable, Sequence
from typing import Final

from tests.bench.accuracy.clients import OURS
from tests.bench.accuracy.scores import Score
from tests.bench.accuracy.verdicts import Finding, RoundTrips, worst

Row = Sequence[str]
_LEFT: Final = 1
"""Columns that are aligned to the left; numbers stand to the right."""


def table(head: Row, rows: Iterable[Row]) -> str:
    """Return rows under their heads."""
    lines = [head, *rows]
    widths = [max(len(line[place]) for line in lines) for place in range(len(head))]
    lines.insert(1, ["-" * width for width in widths])
    return "\n".join("  ".join(_cells(line, widths)).rstrip() for line in lines)


def _cells(line: Row, widths: Sequence[int]) -> list[str]:
    pairs = zip(line, widths, strict=True)
    return [cell.ljust(width) if place < _LEFT else cell.rjust(width) for place, (cell, width) in enumerate(pairs)]


def cells(scores: Sequence[Score]) -> str:
    """Return one line a cell: ours, and each other's p99 of TTFT beside it, with how many times ours it is."""
    others = list(dict.fromkeys(score.client for score in scores if score.client != OURS))
    by_cell = {(score.cell, score.client): score for score in scores}
    head = (
        "|error| p99 in ms",
        "TTFT",
        "tokens",
        "rtt off",
        "path late",
        "stalled",
        *(f"{name} TTFT" for name in others),
    )
    rows = []
    for cell in dict.fromkeys(score.cell for score in scores):
        ours = by_cell.get((cell, OURS))
        beside = [_beside(by_cell.get((cell, name)), ours) for name in others]
        rows.append((cell.name, *_ours(ours), *beside))
    return table(head, rows)


def _ours(score: Score | None) -> Row:
    if score is None:
        return ("-",) * 5
    off = _less(score.rtt_ms, score.true_rtt_ms)
    late = _less(score.true_rtt_ms, score.cell.rtt_ms)
    stalled = f"{score.stalled} of {score.stalled + score.judged}"
    return number(score.ttft_p99_ms), number(score.token_p99_ms), number(off), number(late), stalled


def _beside(score: Score | None, ours: Score | None) -> str:
    if score is None or score.ttft_p99_ms is None:
        return "-"
    if ours is None or not ours.ttft_p99_ms:
        return number(score.ttft_p99_ms)
    return f"{number(score.ttft_p99_ms)} ({score.ttft_p99_ms / ours.ttft_p99_ms:,.0f} x)"


def round_trips(rows: Sequence[RoundTrips]) -> str:
    """Return one line for each method, path and loss."""
    head = ("rtt prober", "samples", "called lost", "truly lost", "median ms", "off ms", "path late")
    return table(head, map(_round_trips, rows))


def _round_trips(row: RoundTrips) -> Row:
    least, greatest = row.truly_lost
    truly = str(least) if least == greatest else f"{least} to {greatest}"
    off, late = _less(row.median_ms, row.true_ms), _less(row.true_ms, row.rtt_ms)
    return row.where, str(row.sent), str(row.lost), truly, number(row.median_ms), number(off), number(late)


def _less(value: float | None, other: float | None) -> float | None:
    return None if value is None or other is None else value - other


def verdicts(findings: Sequence[Finding]) -> str:
    """Return one line for each expectation: the worst of what was measured."""
    head = ("expectation", "worst", "at most", "where", "met")
    return table(head, (_verdict(finding, findings) for finding, _ in worst(findings)))


def _verdict(finding: Finding, findings: Sequence[Finding]) -> Row:
    group = [one.met for one in findings if one.what == finding.what]
    unit = f" {finding.unit}" if finding.unit else ""
    met = f"{sum(group)} of {len(group)}"
    return finding.what, f"{number(finding.measured)}{unit}", f"{finding.at_most:g}{unit}", finding.where, met


def number(value: float | None) -> str:
    """Return a number with what matters of it: three decimals below ten."""
    if value is None or value == float("inf"):
        return "-"
    return f"{value:.3f}" if abs(value) < 10 else f"{value:,.1f}"
