"""What a measurement costs: CPU time of a stream beside plain httpx, and the agent's memory with many streams."""

from collections.abc import Callable, Sequence
from statistics import median
from typing import Final

from tests.bench import agent_memory
from tests.bench.accuracy.conditions import Cell, Schedule
from tests.bench.accuracy.scores import Score
from tests.bench.accuracy.verdicts import CPU_RATIO, MEMORY_MEBIBYTES, Finding

LOAD: Final = agent_memory.Load(
    endpoints=50, interval_seconds=10, stream_seconds=8.0, run_seconds=35, streams_at_once=32
)
"""100 targets. Fifty streams of 8 s every 10 s are more than 32 at once: the limit is reached, and held."""


def cpu(schedule: Schedule, measure: Callable[[Cell], tuple[Score, Score]]) -> tuple[list[Finding], list[str]]:
    """Compare ours with plain httpx, in turns; `measure` runs both once. Return findings and troubles."""
    findings, troubles = [], []
    for cell in schedule.weighed:
        pairs = [measure(cell) for _ in range(schedule.rounds)]
        troubles += [
            f"CPU time, {cell.name}, {one.client}: {one.trouble}" for pair in pairs for one in pair if one.trouble
        ]
        if ratios := [ratio for pair in pairs if (ratio := _ratio(*pair)) is not None]:
            findings.append(_finding(cell, pairs, ratio=median(ratios)))
        else:
            troubles.append(f"CPU time, {cell.name}: no run of both gave a number")
    return findings, troubles


def _ratio(ours: Score, peer: Score) -> float | None:
    if ours.trouble or peer.trouble or ours.cpu_ms_per_stream is None or not peer.cpu_ms_per_stream:
        return None
    if ours.cpu_ms_per_stream <= 0:
        return None  # starting cost more than all of the work: the reading is too coarse
    return ours.cpu_ms_per_stream / peer.cpu_ms_per_stream


def _finding(cell: Cell, pairs: Sequence[tuple[Score, Score]], *, ratio: float) -> Finding:
    ours, peers = (
        median(one.cpu_ms_per_stream for one in side if one.cpu_ms_per_stream is not None)
        for side in zip(*pairs, strict=True)
    )
    where = f"{'TLS' if cell.tls else 'plain'}: {ours:.1f} ms, httpx {peers:.1f} ms"
    return Finding(
        what="CPU time of a stream of 32 tokens, to plain httpx",
        where=where,
        measured=round(ratio, 3),
        at_most=CPU_RATIO,
        unit="x",
    )


def memory() -> tuple[list[Finding], list[str]]:
    """Run the agent as it is installed. Return the finding, or the trouble."""
    try:
        weighed = agent_memory.weigh(agent_memory.agent_python(), LOAD)
    except agent_memory.BenchFailed as exc:
        return [], [f"memory: {exc}"]
    if weighed.streams_at_once < LOAD.streams_at_once:
        return [], [f"memory: only {weighed.streams_at_once} of {LOAD.streams_at_once} streams were in flight at once"]
    finding = Finding(
        what="agent's peak memory (RSS)",
        where=f"{LOAD.targets} targets, {weighed.streams_at_once} streams in flight, {weighed.probes} probes",
        measured=round(weighed.peak_bytes / agent_memory.MEBIBYTE, 1),
        at_most=MEMORY_MEBIBYTES,
        unit="MiB",
    )
    return [finding], []
