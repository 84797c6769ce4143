"""Finds servers that hold small writes back (Nagle's algorithm against a delayed acknowledgement). Pure.

A server without TCP_NODELAY sends the head of its answer, and keeps what it writes next until the head is acknowledged.
On a connection that just carried an answer, Linux as the client acknowledges after 40 ms (TCP_DELACK_MIN; RFC 1122
4.2.3.2 allows 500): what was held comes 40 ms and one round trip after the head. On a fresh connection it acknowledges
at once, and what was held comes one round trip after the head.

Measured against such a server, first token 1 ms after the head. Over loopback: 1.1 ms on a fresh connection, 40.4 to
43.7 ms on each reused one; with TCP_NODELAY 1.1 ms on all. Over a path of 93.5 ms: 93.4 ms on a fresh connection, 134
to 139 ms on reused ones; and the tokens, one each 18 ms, come in bursts one round trip apart on all, which looks
buffered.

So the fresh connections of a run are the control, and a model whose own time is 40 ms is not mistaken: it has that wait
on them too. The rule: at least three results on reused connections, three quarters of them with a wait on the plateau,
and at least one on a fresh connection, none of them with such a wait. The plateau is 38 to 44 ms over the round trip,
and 5 % of that more: it is the least one, and the way may have been slower. What can be held is the first event, the
first token, or behind a proxy the head itself, whose wait is known only where the server's own time is trusted.

Over a long way one result can show it: a buffered stream whose longest gap is one round trip, and whose first event or
token was held for one round trip too, or for 40 ms more. Both within 5 %: no proxy knows the round trip.
"""

from collections.abc import Sequence
from typing import Final

from isochrone.outcome import Connection, Flag, Outcome, Prober
from isochrone.result import Result

PLATEAU_SECONDS: Final = (0.038, 0.044)
MIN_REUSED: Final = 3
MIN_SHARE: Final = 0.75
LONG_WAY_SECONDS: Final = 0.010
"""Over a shorter one a model's own pace is as long as the round trip."""
LIKE_ROUND_TRIP: Final = 0.05


def holds_writes_back(results: Sequence[Result]) -> bool:
    """Return whether the server does: `results` are those of one run, in order, one connection after the other."""
    good = [result for result in results if result.outcome is Outcome.OK and result.prober is Prober.INFERENCE]
    pairs = list(zip(_reused(good), map(on_plateau, good), strict=True))
    fresh = [held for reused, held in pairs if not reused]
    again = [held for reused, held in pairs if reused]
    if not fresh or any(fresh) or len(again) < MIN_REUSED:
        return False
    return sum(again) >= MIN_SHARE * len(again)


def on_plateau(result: Result) -> bool:
    """Return whether one wait of the answer is 40 ms longer than the round trip."""
    least, most = PLATEAU_SECONDS
    rtt = result.rtt_seconds
    return rtt is not None and any(least <= wait - rtt <= most + LIKE_ROUND_TRIP * rtt for wait in _waits(result))


def comes_by_round_trips(result: Result) -> bool:
    """Return whether each burst of the stream waited for the acknowledgement of the one before."""
    rtt, longest = result.rtt_seconds, result.stall_seconds
    if Flag.BUFFERED not in result.flags or rtt is None or longest is None or rtt < LONG_WAY_SECONDS:
        return False
    held = on_plateau(result) or any(_is_like(wait, rtt) for wait in _waits(result))
    return held and _is_like(longest, rtt)


def _is_like(seconds: float, rtt: float) -> bool:
    return abs(seconds - rtt) <= LIKE_ROUND_TRIP * rtt


def _reused(results: Sequence[Result]) -> list[bool]:
    """Tell of each whether its connection carried an answer before: the first warm one was opened for it."""
    warm = [result.connection is Connection.WARM for result in results]
    return [is_warm and any(warm[:index]) for index, is_warm in enumerate(warm)]


def _waits(result: Result) -> list[float]:
    marks, told = result.marks, result.server_timing
    steps = [(marks.headers, marks.first_event), (marks.first_event, marks.first_token)]
    waits = [later - earlier for earlier, later in steps if earlier is not None and later is not None]
    if told is not None and told.trusted and told.first_token_seconds is not None and marks.headers is not None:
        waits.append(marks.headers - (marks.request_started or 0.0) - told.first_token_seconds)
    return waits
