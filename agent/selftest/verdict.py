"""The rows of a self-test in, a verdict in words out. Pure.

A host can measure to 1 ms when, on an idle core and with up to 32 streams at once, plain and over TLS, the p99 of the
TTFT's error is at most 1 ms, no stream failed, and a round trip over loopback takes no longer. Whose clock stamped what
does not decide it: it says why. Cells with a busy core, or with more streams, show where the limit lies.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Final

import msgspec

from agent.selftest.cells import Cell
from isochrone.outcome import ClockSource

LIMIT_SECONDS: Final = 0.001
JUDGED_STREAMS: Final = 32
"""An agent runs 16 at once unless told otherwise."""

IDLE_LOAD: Final = 0.5
"""For each core: beyond it, a process waits for its turn now and then."""


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """What the host tells of itself; None where it tells nothing."""

    cpus: int
    load_per_cpu: float | None
    """How many processes wanted a core, in the minute before."""
    throttled: bool | None
    clock_synchronized: bool | None
    pinned: bool
    """The busy loop shared the agent's one core; False: the platform cannot hold it there."""


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """Can it, and why."""

    can_measure_to_1_ms: bool
    failed_cells: tuple[str, ...]
    words: tuple[str, ...]
    """A sentence each."""


def judge(cells: Sequence[Cell], facts: Facts) -> Verdict:
    """Return the verdict of `cells` on this host."""
    judged = judged_cells(cells)
    faults = {str(cell.plan()): why for cell in judged if (why := fault(cell)) is not None}
    good = bool(judged) and not faults
    return Verdict(
        can_measure_to_1_ms=good,
        failed_cells=tuple(faults),
        words=(
            _headline(judged, good=good),
            *(f"Not so in the cell {name}: {why}." for name, why in faults.items()),
            *_beyond(cells, judged),
            *_untold(cells),
            *_stamps(cells),
            *_loop(cells, facts),
            *_load(facts),
            _throttled(facts.throttled),
            _clock(facts.clock_synchronized),
        ),
    )


def judged_cells(cells: Sequence[Cell]) -> list[Cell]:
    """Return those that the verdict rests on: idle ones, of up to 32 streams where there are such."""
    idle = [cell for cell in cells if not cell.busy]
    return [cell for cell in idle if cell.streams <= JUDGED_STREAMS] or idle


def fault(cell: Cell) -> str | None:
    """Return what keeps a cell from 1 ms; None: nothing does."""
    if cell.failed:
        return f"{cell.failed} of {cell.failed + cell.measured} streams failed ({cell.failure})"
    if cell.ttft_error_seconds is None or cell.rtt_seconds is None:
        return f"nothing was measured ({cell.failure or 'no round trip'})"
    if cell.ttft_error_seconds.p99 > LIMIT_SECONDS:
        return f"the p99 of the TTFT's error is {ms(cell.ttft_error_seconds.p99)}"
    if cell.rtt_seconds.p99 > LIMIT_SECONDS:
        return f"the p99 of the round trip over loopback is {ms(cell.rtt_seconds.p99)}"
    return None


def ms(seconds: float) -> str:
    """Return milliseconds with three digits after the point."""
    return f"{seconds * 1000:.3f} ms"


def _headline(judged: Sequence[Cell], *, good: bool) -> str:
    if not good:
        return "This host cannot measure to 1 ms."
    worst = max(cell.ttft_error_seconds.p99 for cell in judged if cell.ttft_error_seconds is not None)
    most = max(cell.streams for cell in judged)
    at_once = "one stream" if most == 1 else f"up to {most} streams at once"
    return f"This host can measure to 1 ms: idle, with {at_once}, the p99 of the TTFT's error is at most {ms(worst)}."


def _beyond(cells: Sequence[Cell], judged: Sequence[Cell]) -> Iterable[str]:
    names = [str(cell.plan()) for cell in cells if cell not in judged and fault(cell) is not None]
    if names:
        yield f"Not within 1 ms, and not judged: {'; '.join(names)}."


def _untold(cells: Sequence[Cell]) -> Iterable[str]:
    found = [cell.ttft_untold_error_seconds for cell in cells if cell.ttft_untold_error_seconds is not None]
    if found:
        worst = max(found, key=lambda spread: spread.p99)
        yield (
            f"What results do not tell of themselves (`ttft_bound_seconds`): in any cell a p99 of {ms(worst.p99)} "
            f"at most, and {ms(max(spread.max for spread in found))} once."
        )


def _stamps(cells: Sequence[Cell]) -> Iterable[str]:
    clocks = _total(cell.clock_sources for cell in cells)
    every = clocks.total()
    if not every:
        return
    arrivals = clocks[ClockSource.KERNEL] + clocks[ClockSource.KERNEL_RECEIVE]
    yield f"Arrivals: {_share(arrivals, every)}."
    yield f"Departures: {_share(clocks[ClockSource.KERNEL], every)}."
    truth = _total(cell.truth_clocks for cell in cells)
    if truth[ClockSource.USER]:
        yield (
            f"Truth: the simulator's own clock in {truth[ClockSource.USER]} of {truth.total()} streams, "
            "so its lateness is part of these errors."
        )
    else:
        yield "Truth: the kernel's stamps at the simulator's end."


def _share(stamped: int, every: int) -> str:
    if stamped == every:
        return f"stamped by the kernel, in all {every} streams"
    if not stamped:
        return "timed by the agent's own clock: the kernel gives no stamps"
    return f"stamped by the kernel in {stamped} of {every} streams, timed by the agent's own clock in the others"


def _loop(cells: Sequence[Cell], facts: Facts) -> Iterable[str]:
    idle = max((cell.loop_lag_seconds for cell in cells if not cell.busy), default=0.0)
    busy = max((cell.loop_lag_seconds for cell in cells if cell.busy), default=0.0)
    yield f"Event loop: at most {ms(idle)} late when idle, {ms(busy)} with a busy core."
    if not facts.pinned:
        yield "Busy core: this platform cannot hold it on the agent's core, so it may have run beside."


def _load(facts: Facts) -> Iterable[str]:
    if facts.load_per_cpu is not None and facts.load_per_cpu > IDLE_LOAD:
        yield (
            f"Load: {facts.load_per_cpu:.1f} for each core in the minute before: "
            "what else ran here may have disturbed the idle cells."
        )


def _throttled(throttled: bool | None) -> str:  # noqa: FBT001  a pure word for one fact
    if throttled is None:
        return "Processor: the system does not tell whether it was denied."
    if throttled:
        return "Processor: the control group was denied it meanwhile; raise its limit."
    return "Processor: not throttled."


def _clock(synchronized: bool | None) -> str:  # noqa: FBT001  as above
    if synchronized is None:
        return "Wall clock: the system does not tell whether it is synchronised."
    if synchronized:
        return "Wall clock: synchronised."
    return "Wall clock: the kernel does not vouch for it; it says when a result was, never how long anything took."


def _total(counts: Iterable[dict[str, int]]) -> Counter[str]:
    total: Counter[str] = Counter()
    for count in counts:
        total.update(count)
    return total
