"""A row of `agents list`, in words. Pure."""

from collections.abc import Iterable
from datetime import datetime
from typing import Final

from collector.fleet import FleetRow
from isochrone.durations import format_duration

ABSENT: Final = "-"
_UNITS: Final = (86_400.0, 3_600.0, 60.0)


def agent_cells(row: FleetRow, now: datetime) -> tuple[str, ...]:
    """Return the cells of one agent, in the order of the table's columns."""
    return (
        row.agent,
        row.agent_region,
        _words((row.state, *(f"{warning}!" for warning in row.warnings))),
        _ago(row.last_report_at, now),
        row.version or ABSENT,
        _config(row),
        _queue(row),
        _lost(row),
        _clock(row),
        ABSENT if row.coverage is None else f"{row.coverage:.1%}",
    )


def _config(row: FleetRow) -> str:
    """Return what runs and what is given; and what became of another that came, and is not what runs."""
    if row.config_revision is None and row.received_revision is None:
        return ABSENT
    running = ABSENT if row.config_revision is None else row.config_revision
    words = f"{running}/{row.assigned_revision}"
    if row.failed_revision is not None:
        return f"{words} failed {row.failed_revision}"
    came = row.received_revision not in (None, row.config_revision)
    return f"{words} received {row.received_revision}" if came else words


def _words(words: Iterable[str]) -> str:
    return " ".join(words)


def _ago(moment: datetime | None, now: datetime) -> str:
    if moment is None:
        return "never"
    return f"{_seconds(max(0.0, (now - moment).total_seconds()))} ago"


def _seconds(seconds: float) -> str:
    """Return a duration to one unit: nobody looks for the second of yesterday."""
    unit = next((unit for unit in _UNITS if seconds >= 2 * unit), 1.0)
    return format_duration(seconds // unit * unit) if seconds >= 1 else "0s"


def _queue(row: FleetRow) -> str:
    if row.queued_results is None:
        return ABSENT
    if row.queued_results == 0 or row.oldest_queued_seconds is None:
        return str(row.queued_results)
    return f"{row.queued_results} ({_seconds(row.oldest_queued_seconds)})"


def _lost(row: FleetRow) -> str:
    told = [f"{reason} {count}" for reason, count in sorted(row.lost_results.items()) if count]
    if row.unexplained_lost_results:
        told.append(f"unexplained {row.unexplained_lost_results}")
    return _words(told) or "0"


def _clock(row: FleetRow) -> str:
    """Return the offset and how wrong it may be, in seconds."""
    if row.clock_offset_seconds is None or row.clock_error_seconds is None:
        return ABSENT
    return f"{row.clock_offset_seconds:+.3f} \u00b1 {row.clock_error_seconds:.3f} s"
