"""What a result gives to think about, in words, and what to do about it. Pure: no terminal, no colour."""

from collections.abc import Sequence
from typing import Final

from agent.floor import Floor, Source
from agent.plateau import comes_by_round_trips, holds_writes_back
from isochrone import catalogue
from isochrone.outcome import ClockSource, Flag, Outcome, Prober, RttMethod
from isochrone.physics import FIBRE_FRACTION
from isochrone.result import Result

EDGE: Final = "edge:"
"""Begins a `served_region` that tells of an edge alone."""
UNEXPLAINED_SECONDS: Final = 0.02
"""Less is not worth a word: servers tell whole milliseconds, and begin to count at different moments."""
WIDE_SECONDS: Final = 0.001
"""A TTFT that is too long by no more than this at most is as good as exact."""

_NOTES: Final = {
    Flag.BUFFERED: "somebody on the way gathered the stream: it tells no tokens/s. Turn buffering off in the proxy "
    "(nginx: proxy_buffering off), or probe the server behind it",
    Flag.RETRANSMITS: "packets were lost and sent again, and the waits for them are in these times: probe again, "
    "and count with --count 10 how often",
    Flag.LATE_START: "the probe started late: this machine is busy",
    Flag.LOOP_LAG: "this machine was too busy to measure well: probe again when it is idle",
    Flag.THROTTLED: "this machine's processor was throttled: give the container more CPU",
    Flag.CLOCK_UNSYNCHRONIZED: "this machine's clock is not synchronized: durations are right, the date may not be",
    Flag.BELOW_FLOOR: "faster than light: an edge answered, or a location is wrong",
}
_SAMPLES_LOST: Final = (
    "packets were lost and sent again: those samples count as lost, and are not in these times. Count with --count 10 "
    "how often"
)
_USER_CLOCK: Final = (
    "arrivals were stamped by this process, not by the kernel: when the machine is busy they read late, "
    "by milliseconds. Linux has the kernel's stamps, but for what waited for a lost packet"
)
_BURSTS: Final = (
    "the stream comes in bursts one round trip apart, and so tells no tokens/s: so it looks when a server or proxy "
    "without TCP_NODELAY holds small writes back until the ones before are acknowledged. Set TCP_NODELAY there"
)
_PLATEAU: Final = (
    "reused connections wait some 40 ms that fresh ones do not: so it looks when a server or proxy without "
    "TCP_NODELAY holds small writes back until they are acknowledged. Set TCP_NODELAY there, or write the head and "
    "the first event at once; --cold shows the times without it"
)


def findings(result: Result, *, floor: Floor | None = None) -> list[str]:
    """Return the notes on one result that ended well."""
    notes = [_note(flag, result) for flag in result.flags if flag is not Flag.BELOW_FLOOR or floor is None]
    if floor is not None and floor.below:
        notes.append(_below(floor))
    if result.clock_source is ClockSource.USER and has_arrivals(result):
        notes.append(_USER_CLOCK)
    return [*notes, *_wide(result), *_edge(result), *_cached(result), *_unexplained(result)]


def findings_of_all(results: Sequence[Result]) -> list[str]:
    """Return the notes that only several results together allow."""
    return [_PLATEAU] if holds_writes_back(results) else []


def milliseconds(seconds: float) -> str:
    """Return a duration for a person, with three digits or more."""
    value = seconds * 1000
    if value >= 100:  # noqa: PLR2004  three digits say enough
        return f"{value:,.0f} ms"
    return f"{value:.1f} ms" if value >= 1 else f"{value:.3f} ms"


def _note(flag: Flag, result: Result) -> str:
    if flag is Flag.BUFFERED and comes_by_round_trips(result):
        return _BURSTS
    if flag is Flag.RETRANSMITS and result.prober is Prober.RTT:
        return _SAMPLES_LOST
    return _NOTES[flag]


def _below(floor: Floor) -> str:
    if floor.there is None or floor.floor_seconds is None or floor.rtt_seconds is None:
        return _NOTES[Flag.BELOW_FLOOR]
    least, rtt = milliseconds(floor.floor_seconds), milliseconds(floor.rtt_seconds)
    even = ", even in a vacuum," if floor.rtt_seconds < floor.floor_seconds * FIBRE_FRACTION else " in fibre"
    cure = {
        Source.GIVEN: "check --location and --endpoint-location",
        Source.HOST: "its place was guessed from the host name, --endpoint-location tells it",
        Source.SERVED_REGION: "its place is the provider's word, --endpoint-location tells it better",
    }[floor.source or Source.GIVEN]
    beyond = milliseconds(floor.floor_seconds - floor.rtt_seconds)
    return (
        f"RTT {rtt} is less than light{even} takes to {floor.there.words} and back ({least} in fibre): an edge near "
        f"you ended the connection, or a location is wrong ({cure}). If it was an edge, the way on from it, "
        f"{beyond} or more, counts as model"
    )


def has_arrivals(result: Result) -> bool:
    """Tell whether data came: a handshake has no arrival that anybody could stamp."""
    return result.prober is Prober.INFERENCE or (result.pings is not None and result.pings.method is not RttMethod.TCP)


def _wide(result: Result) -> list[str]:
    bound = result.ttft_bound_seconds
    if bound is None or bound <= WIDE_SECONDS:
        return []
    note = (
        f"TTFT may be up to {milliseconds(bound)} less: the first token was read together with packets that came "
        "after it, and the kernel stamps the last alone. This machine was busy, or packets were lost: probe again"
    )
    return [note]


def _edge(result: Result) -> list[str]:
    served = result.served_region
    if served is None or not served.startswith(EDGE):
        return []
    airport = served.removeprefix(EDGE)
    city = catalogue.edge(airport)
    where = airport if city is None else f"{airport} ({city.city}, {city.country})"
    note = (
        f"a Cloudflare edge took the request, {where}: the RTT reaches no further, "
        "and the way on from there to the model counts as model"
    )
    return [note]


def _cached(result: Result) -> list[str]:
    tokens = result.tokens
    if tokens is None or not tokens.cached_input:
        return []
    whole = "" if tokens.input is None else f" of {tokens.input}"
    note = (
        f"a prefix cache answered {tokens.cached_input}{whole} input tokens, though each prompt begins with a nonce: "
        "somebody puts text before it (a gateway's system prompt, a template). The TTFT of a new prompt is longer"
    )
    return [note]


def _unexplained(result: Result) -> list[str]:
    """Tell of a wait that is neither the way nor the server's; small ones are measuring errors of either."""
    told, ttft, rtt = result.server_timing, result.ttft_seconds, result.rtt_seconds
    if told is None or not told.trusted or told.first_token_seconds is None or ttft is None or rtt is None:
        return []
    rest = ttft - rtt - told.first_token_seconds
    if result.outcome is not Outcome.OK or rest <= max(UNEXPLAINED_SECONDS, rtt):
        return []
    note = (
        f"{milliseconds(rest)} of the TTFT are neither the RTT nor what the server tells of itself: a proxy or an "
        "edge stands between, or the server does not count all that it does"
    )
    return [note]
