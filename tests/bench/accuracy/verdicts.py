"""What is expected of our agent, and what came of it. Pure."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Final

from tests.bench.accuracy.scores import Score

TTFT_P99_MS: Final = 0.02
TOKEN_P99_MS: Final = 0.2
RTT_MS: Final = 0.2
CPU_RATIO: Final = 1.3
"""CPU time of a stream, of ours to plain httpx."""
MEMORY_MEBIBYTES: Final = 55.0


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One measurement held against the most that it may be."""

    what: str
    where: str
    measured: float
    at_most: float
    unit: str

    @property
    def met(self) -> bool:
        """Tell whether it is within its limit."""
        return self.measured <= self.at_most

    def fields(self) -> dict[str, object]:
        """Return everything for `--json`."""
        return {**asdict(self), "met": self.met}


@dataclass(frozen=True, kw_only=True)
class RoundTrips:
    """What our `rtt` prober said of one path, and what became of its packets."""

    method: str
    rtt_ms: int
    loss_percent: int
    sent: int
    lost: int
    median_ms: float | None
    """None: every sample was lost."""
    true_ms: float | None
    """What the packets themselves took, median; None: it is not known for this method, or none came back."""
    truly_lost: tuple[int, int]
    """Least and greatest number of samples that the path can have lost."""
    trouble: str | None = None

    @property
    def miscounted(self) -> int:
        """Return how many samples are wrongly called lost or answered."""
        least, greatest = self.truly_lost
        return max(least - self.lost, self.lost - greatest, 0)

    @property
    def where(self) -> str:
        """Return the condition in words."""
        return f"{self.method}, {self.rtt_ms} ms, {self.loss_percent} % loss"


SERVERS_TIME_WITHIN: Final = frozenset({"tls"})
"""Methods whose round trip has the server's own work in it: shown, not held against the packets."""


def of_scores(scores: Iterable[Score]) -> Iterator[Finding]:
    """Yield what each measured cell of ours is held to."""
    for one in scores:
        if one.trouble is None:
            yield from _of_score(one)


def missed(one: Score) -> bool:
    """Tell whether a cell of ours is to be measured again."""
    return one.trouble is not None or not all(finding.met for finding in _of_score(one))


def _of_score(one: Score) -> Iterator[Finding]:
    name = one.cell.name
    if one.cell.loss_percent == 0:
        yield _finding("TTFT |error| p99", name, one.ttft_p99_ms, at_most=TTFT_P99_MS)
        yield _finding("token arrival |error| p99", name, one.token_p99_ms, at_most=TOKEN_P99_MS)
    error = off(one.rtt_ms, one.true_rtt_ms)
    yield _finding("round trip of inference connections, |error|", name, error, at_most=RTT_MS)


def off(said_ms: float | None, true_ms: float | None) -> float | None:
    """Return by how much a round trip is off, without its sign; None: one of the two is not known."""
    return None if said_ms is None or true_ms is None else abs(said_ms - true_ms)


def _finding(what: str, where: str, measured: float | None, *, at_most: float) -> Finding:
    """Return a finding in milliseconds; what was not reported is not within any limit."""
    value = float("inf") if measured is None else round(measured, 4)
    return Finding(what=what, where=where, measured=value, at_most=at_most, unit="ms")


def of_round_trips(rows: Iterable[RoundTrips]) -> Iterator[Finding]:
    """Yield what each path and method is held to."""
    for row in rows:
        if row.trouble is not None:
            continue
        if row.method not in SERVERS_TIME_WITHIN:
            error = off(row.median_ms, row.true_ms)
            yield _finding("round trip of the rtt prober, |error|", row.where, error, at_most=RTT_MS)
        yield Finding(
            what="samples miscounted as lost or not", where=row.where, measured=row.miscounted, at_most=0, unit=""
        )


def worst(findings: Sequence[Finding]) -> list[tuple[Finding, int]]:
    """Return of each expectation the finding nearest to, or furthest beyond, its limit, and how many there are."""
    found: dict[str, list[Finding]] = {}
    for finding in findings:
        found.setdefault(finding.what, []).append(finding)
    return [(max(group, key=lambda one: one.measured), len(group)) for group in found.values()]
