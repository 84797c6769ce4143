"""The table at the end of the run: what was measured, by hand and by the agent, in milliseconds."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from statistics import median
from typing import Any, Final

COLUMNS: Final = ("endpoint", "measured by", "probes", "failed", "rtt ms", "ttft ms", "tokens/s")


def print_table(probed: Mapping[str, Sequence[Mapping[str, Any]]], summary: Iterable[Mapping[str, Any]]) -> None:
    """Print one row for each endpoint and way of measuring; medians."""
    rows = [_probe_row(name, results) for name, results in probed.items()]
    agent_rows = [_summary_row(row) for row in summary if row.get("model") is not None]
    rows += sorted(agent_rows)
    widths = [max(len(row[column]) for row in (COLUMNS, *rows)) for column in range(len(COLUMNS))]
    print()
    for row in (COLUMNS, tuple("-" * width for width in widths), *rows):
        cells = (
            cell.ljust(w) if place < 2 else cell.rjust(w)
            for place, (cell, w) in enumerate(zip(row, widths, strict=True))
        )
        print("  " + "  ".join(cells))
    print(flush=True)


def _probe_row(name: str, results: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    def middle(field: str) -> float | None:
        values = [result[field] for result in results if result[field] is not None]
        return median(values) if values else None

    failed = sum(result["outcome"] != "ok" for result in results)
    return (name, "probe, cold", str(len(results)), str(failed), *_numbers(middle))


def _summary_row(row: Mapping[str, Any]) -> tuple[str, ...]:
    def middle(field: str) -> float | None:
        found: float | None = (row.get(field) or {}).get("p50")
        return found

    how = f"agent, {row['connection'] or '-'}"
    return (row["endpoint"], how, str(row["probes"]), str(row["failures"]), *_numbers(middle))


def _numbers(middle: Callable[[str], float | None]) -> tuple[str, str, str]:
    return (
        _cell(middle("rtt_seconds"), scale=1e3, digits=3),
        _cell(middle("ttft_seconds"), scale=1e3, digits=1),
        _cell(middle("tokens_per_second"), scale=1, digits=1),
    )


def _cell(value: float | None, *, scale: float, digits: int) -> str:
    return "-" if value is None else f"{value * scale:.{digits}f}"
