"""What was measured beside what was true, and the errors of many streams in few numbers. Pure."""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from statistics import median

import msgspec

from agent.simulator import Seen
from agent.timeline import TokenArrival
from isochrone.outcome import ClockSource, Outcome
from isochrone.result import Result


class Spread(msgspec.Struct, frozen=True, kw_only=True):
    """Many numbers in three."""

    median: float
    p99: float
    """By nearest rank: of fewer than a hundred, the greatest."""
    max: float


class Stream(msgspec.Struct, frozen=True, kw_only=True):
    """One stream as the agent measured it."""

    result: Result
    arrivals: tuple[TokenArrival, ...]


class Errors(msgspec.Struct, frozen=True, kw_only=True):
    """What one stream measured, less what was true."""

    ttft_seconds: float
    ttft_untold_seconds: float
    """What of it lies outside of the width that the result itself gives (`ttft_bound_seconds`)."""
    gaps_seconds: tuple[float, ...]
    rate: float | None
    """Of tokens/s, as a share of the true ones; None where the agent told none (a stream that looked gathered)."""


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """The conditions of one cell of the table."""

    tls: bool
    busy: bool
    """A busy loop runs on the agent's core."""
    streams: int
    """At once."""

    def __str__(self) -> str:
        """Return its name."""
        return f"{'TLS' if self.tls else 'plain'}, {'busy core' if self.busy else 'idle'}, {self.streams} at once"


class Cell(msgspec.Struct, frozen=True, kw_only=True):
    """One row: what came out under its conditions. Spreads are of absolute errors; None: nothing was measured."""

    tls: bool
    busy: bool
    streams: int
    measured: int
    """Streams that could be compared."""
    failed: int = 0
    failure: str | None = None
    """Why the first of them failed, or why nothing was measured."""
    ttft_error_seconds: Spread | None = None
    ttft_untold_error_seconds: Spread | None = None
    """What of it the results do not tell by their own `ttft_bound_seconds`."""
    gap_error_seconds: Spread | None = None
    tokens_per_second_error: Spread | None = None
    """As a share of the true value."""
    rtt_seconds: Spread | None = None
    """On the streams' own connections; on loopback the truth is next to 0."""
    tcp_rtt_seconds: float | None = None
    """Median of the `rtt` prober's handshakes meanwhile."""
    clock_sources: dict[str, int] = {}
    """Streams by `clock_source`."""
    truth_clocks: dict[str, int] = {}
    """Streams by the clock that the simulator's moments were told by."""
    bounded_tokens: int = 0
    """Tokens whose moment the agent itself calls uncertain: others came in the same read."""
    loop_lag_seconds: float = 0.0
    throttled: bool = False

    def plan(self) -> Plan:
        """Return its conditions."""
        return Plan(tls=self.tls, busy=self.busy, streams=self.streams)


def spread(values: Iterable[float]) -> Spread | None:
    """Return median, p99 and greatest of the absolute `values`; None of none."""
    ordered = sorted(abs(value) for value in values)
    if not ordered:
        return None
    return Spread(median=median(ordered), p99=ordered[math.ceil(0.99 * len(ordered)) - 1], max=ordered[-1])


def compare(stream: Stream, seen: Seen | None) -> Errors | str:
    """Return the errors of one stream, or why there are none."""
    result = stream.result
    if result.outcome is not Outcome.OK or result.ttft_seconds is None:
        return f"{result.outcome}: {result.reason}"
    if seen is None:
        return "the simulator tells nothing of the stream"
    if len(stream.arrivals) != len(seen.sent_ns):
        return f"{len(stream.arrivals)} tokens came of {len(seen.sent_ns)}"
    ttft_error_seconds = result.ttft_seconds - (seen.sent_ns[0] - seen.received_ns) / 1e9
    came_ns = [arrival.at_ns for arrival in stream.arrivals]
    gaps = zip(pairwise(came_ns), pairwise(seen.sent_ns), strict=True)
    true_rate = (len(seen.sent_ns) - 1) * 1e9 / max(1, seen.sent_ns[-1] - seen.sent_ns[0])
    measured_rate = result.tokens_per_second
    return Errors(
        ttft_seconds=ttft_error_seconds,
        ttft_untold_seconds=untold(ttft_error_seconds, bound_seconds=result.ttft_bound_seconds or 0.0),
        gaps_seconds=tuple(((later - earlier) - (left - before)) / 1e9 for (earlier, later), (before, left) in gaps),
        rate=None if measured_rate is None else measured_rate / true_rate - 1,
    )


def untold(error_seconds: float, *, bound_seconds: float) -> float:
    """Return what is left of an error when the truth may be `bound_seconds` below what was measured."""
    return min(error_seconds, 0.0) or max(0.0, error_seconds - bound_seconds)


def summarize(plan: Plan, streams: Sequence[Stream], seen: Mapping[str, Seen]) -> Cell:
    """Return the row of `streams`; `seen` is by model, which names a stream."""
    compared = {name: compare(stream, seen.get(name)) for name, stream in _by_name(streams).items()}
    errors = [found for found in compared.values() if isinstance(found, Errors)]
    failures = [found for found in compared.values() if isinstance(found, str)]
    results = [stream.result for stream in streams]
    return Cell(
        tls=plan.tls,
        busy=plan.busy,
        streams=plan.streams,
        measured=len(errors),
        failed=len(failures),
        failure=failures[0] if failures else None,
        ttft_error_seconds=spread(one.ttft_seconds for one in errors),
        ttft_untold_error_seconds=spread(one.ttft_untold_seconds for one in errors),
        gap_error_seconds=spread(gap for one in errors for gap in one.gaps_seconds),
        tokens_per_second_error=spread(one.rate for one in errors if one.rate is not None),
        rtt_seconds=spread(result.rtt_seconds for result in results if result.rtt_seconds is not None),
        clock_sources=_count(result.clock_source for result in results if result.outcome is Outcome.OK),
        truth_clocks=_count(seen[name].clock for name in compared if name in seen),
        bounded_tokens=sum(arrival.bound_ns > 0 for stream in streams for arrival in stream.arrivals),
    )


def _by_name(streams: Sequence[Stream]) -> dict[str, Stream]:
    return {stream.result.endpoint: stream for stream in streams}


def _count(clocks: Iterable[ClockSource]) -> dict[str, int]:
    return dict(sorted(Counter(clock.value for clock in clocks).items()))
