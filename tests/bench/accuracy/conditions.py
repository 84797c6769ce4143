"""Under what a client is measured: the path, how many streams at once, and how busy the machine is."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

TOKENS: Final = 32
TIMELINE: Final[Mapping[str, Any]] = {"ttft_s": 0.2, "ttft_spread_s": 0.05, "tokens": TOKENS, "gap_s": 0.025}
"""What the server plays: a stream of a second. The spread keeps streams from marching in step."""
PATHS_MS: Final = (20, 180)
STREAMS: Final = (1, 8, 32, 128)
LOSSES_PERCENT: Final = (0, 1, 3)
_PER_LANE: Final[Mapping[int, int]] = {1: 20, 8: 8, 32: 4, 128: 3}
"""Requests one after the other: enough for a p99 of tokens in every cell, few enough for a short run."""


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One condition. Loss is that of each direction."""

    rtt_ms: int
    streams: int
    tls: bool = False
    http2: bool = False
    """Over TLS."""
    loss_percent: int = 0
    hogs: int = 1
    """Busy loops on the client's core."""

    @property
    def per_lane(self) -> int:
        """Return how many requests each connection makes after its first."""
        return _PER_LANE[self.streams]

    @property
    def requests(self) -> int:
        """Return how many requests are measured."""
        return self.streams * self.per_lane

    @property
    def name(self) -> str:
        """Return the condition in words."""
        loss = f", {self.loss_percent} % loss" if self.loss_percent else ""
        plural = "" if self.streams == 1 else "s"
        return f"{self.rtt_ms} ms{loss}, {self.streams} stream{plural}, {self.carrier}"

    @property
    def carrier(self) -> str:
        """Return what carries the stream, in a word."""
        if self.http2:
            return "HTTP/2"
        return "TLS" if self.tls else "plain"


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """What one run measures."""

    cells: Sequence[Cell]
    beside: frozenset[Cell]
    """The cells in which the other clients are measured too."""
    lossy: Sequence[Cell]
    weighed: Sequence[Cell]
    """Where the CPU time of a stream is measured."""
    rounds: int
    """Of the two clients whose CPU time is compared, taking turns."""
    paths_ms: Sequence[int]
    losses_percent: Sequence[int]


WHOLE: Final = Schedule(
    cells=[
        *(Cell(rtt_ms=path, streams=n, tls=tls) for path in PATHS_MS for tls in (False, True) for n in STREAMS),
        *(Cell(rtt_ms=20, streams=n, tls=True, http2=True) for n in (1, 32)),
    ],
    beside=frozenset(
        {
            *(Cell(rtt_ms=20, streams=n) for n in STREAMS),
            *(Cell(rtt_ms=20, streams=n, tls=True) for n in (32, 128)),
            *(Cell(rtt_ms=180, streams=32, tls=tls) for tls in (False, True)),
        }
    ),
    lossy=[Cell(rtt_ms=path, streams=8, loss_percent=loss) for path in PATHS_MS for loss in (1, 3)],
    weighed=[Cell(rtt_ms=20, streams=32, tls=tls, hogs=0) for tls in (False, True)],
    rounds=3,
    paths_ms=PATHS_MS,
    losses_percent=LOSSES_PERCENT,
)
QUICK: Final = Schedule(
    cells=[Cell(rtt_ms=20, streams=8), Cell(rtt_ms=20, streams=128), Cell(rtt_ms=180, streams=32, tls=True)],
    beside=frozenset({Cell(rtt_ms=20, streams=128)}),
    lossy=[Cell(rtt_ms=20, streams=8, loss_percent=3)],
    weighed=[Cell(rtt_ms=20, streams=32, hogs=0)],
    rounds=1,
    paths_ms=(20,),
    losses_percent=(0, 3),
)
