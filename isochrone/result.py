"""What one probe brought, as it is spooled, sent and stored."""

from datetime import datetime
from operator import attrgetter
from typing import Annotated, Final, Literal

import msgspec

from isochrone.marks import Components, Marks
from isochrone.names import (
    NAME_PATTERN,
    Count,
    Rate,
    Seconds,
    Text,
    bounds_hold,
    check_all_seconds,
    matches,
)
from isochrone.outcome import (
    ClockSource,
    Connection,
    Flag,
    Outcome,
    Prober,
    RttMethod,
    RttSource,
    TokenSource,
)

AwareTime = Annotated[datetime, msgspec.Meta(tz=True)]
"""A moment with its offset from UTC; written in UTC."""
ADDRESS_PATTERN: Final = r"^[0-9a-fA-F:.]{0,45}\Z"
"""A literal IPv4 or IPv6 address."""
MAX_NAME: Final = 64
SHOWN: Final = 20
"""Characters of a wrong name that its refusal repeats."""


class Pings(msgspec.Struct, frozen=True, kw_only=True, gc=False, omit_defaults=True):
    """The samples of one `rtt` probe. The times are None when every sample was lost."""

    method: RttMethod
    sent: Count
    lost: Count
    min_seconds: Seconds | None = None
    median_seconds: Seconds | None = None
    mean_seconds: Seconds | None = None
    max_seconds: Seconds | None = None
    jitter_seconds: Seconds | None = None
    """Mean difference of consecutive samples, smoothed (RFC 3550 6.4.1); None with fewer than two."""


class Tokens(msgspec.Struct, frozen=True, kw_only=True, gc=False, omit_defaults=True):
    """What was counted in one stream."""

    source: TokenSource
    output: Count
    """Output tokens, reasoning included."""
    input: Count | None = None
    cached_input: Count | None = None
    """Input tokens that a prefix cache answered."""
    reasoning: Count | None = None
    """Output tokens that were thought, streamed or not."""
    arrivals: Count = 0
    """Events that carried at least one token."""


class ServerTiming(msgspec.Struct, frozen=True, kw_only=True, gc=False, omit_defaults=True):
    """What the server told of its own time, as it told it."""

    source: Text
    """The header or field that it stood in."""
    first_token_seconds: Seconds | None = None
    """From the request's arrival there to its first token, waiting included."""
    total_seconds: Seconds | None = None
    """From the request's arrival there to the end of the answer."""
    queue_seconds: Seconds | None = None
    trusted: bool
    """It fits what was seen from here; where it does not, nothing is reckoned with it."""

    def __post_init__(self) -> None:
        if bounds_hold():
            return
        values = (self.first_token_seconds, self.total_seconds, self.queue_seconds)
        check_all_seconds(values, _SERVER_DURATIONS, place="server_timing.")


_SERVER_DURATIONS = ("first_token_seconds", "total_seconds", "queue_seconds")


class Result(msgspec.Struct, frozen=True, kw_only=True, gc=False, omit_defaults=True):
    """One attempt, never retried inside. (boot id of its batch, `seq`) names it for ever."""

    seq: Annotated[int, msgspec.Meta(ge=0, le=2**62)]
    """Contiguous from 0 within one run of the agent's process: a gap is a loss."""
    endpoint: str
    module: str
    prober: Prober
    started_at: AwareTime
    """The agent's wall clock at the start: says when, never how long."""
    started_boottime_seconds: Annotated[float, msgspec.Meta(ge=0, le=1e10)]
    """CLOCK_BOOTTIME at the start, in seconds: tells the age whatever the wall clock says."""
    outcome: Outcome
    reason: Text | None = None
    """One line for a person; None when `outcome` is ok."""
    http_status: Annotated[int, msgspec.Meta(ge=100, le=999)] | None = None
    address: str | None = None
    """What was dialled."""
    ip_version: Literal[4, 6] | None = None
    connection: Connection | None = None
    clock_source: ClockSource = ClockSource.USER
    marks: Marks = Marks()
    duration_seconds: Seconds | None = None
    """From the start to `marks.end` (inference) or to the last sample (rtt)."""
    setup_seconds: Seconds | None = None
    rtt_seconds: Seconds | None = None
    """Round trip; the median of the samples in an `rtt` probe."""
    rtt_source: RttSource | None = None
    rtt_variation_seconds: Seconds | None = None
    """The kernel's mean deviation of the connection's round trips (RFC 6298 RTTVAR), at the end."""
    ttft_seconds: Seconds | None = None
    ttft_bound_seconds: Seconds | None = None
    """How much less `ttft_seconds` may be in truth: one read has one stamp, that of its last segment. 0: exact."""
    answer_ttft_seconds: Seconds | None = None
    tpot_seconds: Seconds | None = None
    tokens_per_second: Rate | None = None
    stall_seconds: Seconds | None = None
    """Longest gap between two arrivals after the first."""
    components: Components | None = None
    pings: Pings | None = None
    tokens: Tokens | None = None
    server_timing: ServerTiming | None = None
    served_region: Text | None = None
    """Where the provider says that it answered; `edge:` and an airport where only the edge is known."""
    flags: tuple[Flag, ...] = ()
    start_delay_seconds: Seconds | None = None
    """How long after its planned moment the probe started; None when nobody planned it."""
    config_revision: Count | None = None
    """Revision of the configuration that the probe followed; None when it followed none."""

    def __post_init__(self) -> None:
        # Not msgspec's patterns: it looks at the same few names and addresses anew each time, at 0.6 us each.
        _check(self.endpoint, NAME_PATTERN, field="endpoint")
        _check(self.module, NAME_PATTERN, field="module")
        if self.address is not None:
            _check(self.address, ADDRESS_PATTERN, field="address")
        if not bounds_hold():
            check_all_seconds(_durations(self), _DURATIONS)


def _check(value: str, pattern: str, *, field: str) -> None:
    """Raise ValueError unless `value` has the form; with the path, as msgspec has it."""
    if len(value) > MAX_NAME or not matches(pattern, value):
        what = "an address" if field == "address" else "a name"
        raise ValueError(f"{field}: {value[:SHOWN]!r} is not {what} ({pattern[1:-2]}) - at `$.{field}`")


_DURATIONS = (
    "duration_seconds",
    "setup_seconds",
    "rtt_seconds",
    "rtt_variation_seconds",
    "ttft_seconds",
    "ttft_bound_seconds",
    "answer_ttft_seconds",
    "tpot_seconds",
    "stall_seconds",
    "start_delay_seconds",
)
_durations = attrgetter(*_DURATIONS)
