"""What a result says in numbers: the metrics of the OTLP export, each with its unit and its bounds. Pure.

A failure has no latency: it brings a count with its `error.type`, and the tokens that it used.
"""

from collections.abc import Iterator
from typing import Final

import msgspec

from collector.telemetry.facts import Fact
from isochrone.outcome import Outcome, TokenSource
from isochrone.result import Pings, Result, Tokens

SECONDS_BOUNDS: Final = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)
"""As the conventions have them for operations."""
TOKEN_BOUNDS: Final = tuple(float(4**power) for power in range(14))
"""As the conventions have them for `gen_ai.client.token.usage`."""
SHORT_BOUNDS: Final = tuple(0.0005 * 2**power for power in range(15))
"""Seconds, 0.5 ms to 8 s: round trips and gaps between tokens."""
RATE_BOUNDS: Final = tuple(float(2**power) for power in range(13))


class Instrument(msgspec.Struct, frozen=True):
    """One metric. Without bounds it is a sum."""

    name: str
    unit: str
    text: str
    bounds: tuple[float, ...] = ()


class Value(msgspec.Struct, frozen=True, gc=False):
    """One number of one result, with the attribute that tells it from the others of its metric."""

    instrument: Instrument
    number: float
    attribute: tuple[str, str] | None = None


DURATION: Final = Instrument(
    "gen_ai.client.operation.duration",
    "s",
    "From the start of a probe to the end of its stream, opening the connection included.",
    SECONDS_BOUNDS,
)
FIRST_CHUNK: Final = Instrument(
    "gen_ai.client.operation.time_to_first_chunk",
    "s",
    "From the start of the request on an open connection to the first event of the stream.",
    SECONDS_BOUNDS,
)
TOKEN_USAGE: Final = Instrument(
    "gen_ai.client.token.usage", "{token}", "Tokens of a probe, as the provider counted them.", TOKEN_BOUNDS
)
FIRST_TOKEN: Final = Instrument(
    "isochrone.time_to_first_token",
    "s",
    "From the start of the request on an open connection to the first token of any channel.",
    SECONDS_BOUNDS,
)
FIRST_ANSWER: Final = Instrument(
    "isochrone.time_to_first_answer_token",
    "s",
    "As isochrone.time_to_first_token, to the first visible token of the answer.",
    SECONDS_BOUNDS,
)
TIME_PER_TOKEN: Final = Instrument(
    "isochrone.time_per_output_token", "s", "Mean time per output token after the first.", SHORT_BOUNDS
)
TOKEN_RATE: Final = Instrument(
    "isochrone.output_token.rate", "{token}/s", "Output tokens per second after the first.", RATE_BOUNDS
)
COMPONENT: Final = Instrument(
    "isochrone.latency.component", "s", "Where the duration went: network, model, streaming.", SECONDS_BOUNDS
)
RTT: Final = Instrument(
    "isochrone.network.rtt", "s", "Round trip between agent and endpoint: the median of an rtt probe.", SHORT_BOUNDS
)
PROBES: Final = Instrument("isochrone.probes", "{probe}", "Probes that ended; error.type tells how they failed.")
PINGS: Final = Instrument("isochrone.network.pings", "{ping}", "Round trips tried by rtt probes.")
PINGS_LOST: Final = Instrument("isochrone.network.pings.lost", "{ping}", "Round trips of rtt probes that were lost.")

INSTRUMENTS: Final = (
    *(DURATION, FIRST_CHUNK, TOKEN_USAGE, FIRST_TOKEN, FIRST_ANSWER, TIME_PER_TOKEN, TOKEN_RATE, COMPONENT),
    *(RTT, PROBES, PINGS, PINGS_LOST),
)


def values_of(fact: Fact) -> Iterator[Value]:
    """Yield the numbers of one result."""
    result = fact.result
    yield Value(PROBES, 1.0)
    if result.pings is not None:
        yield from _pings(result.pings)
    # By the conventions usage is what was billed: what we counted ourselves is none.
    if result.tokens is not None and result.tokens.source is TokenSource.USAGE:
        yield from _tokens(result.tokens)
    if result.outcome is Outcome.OK:
        yield from _stream(result) if result.pings is None else _rtt(result, result.pings)


def _stream(result: Result) -> Iterator[Value]:
    for instrument, number in (
        (DURATION, result.duration_seconds),
        (FIRST_CHUNK, _first_chunk_seconds(result)),
        (FIRST_TOKEN, result.ttft_seconds),
        (FIRST_ANSWER, result.answer_ttft_seconds),
        (TIME_PER_TOKEN, result.tpot_seconds),
        (TOKEN_RATE, result.tokens_per_second),
    ):
        if number is not None:
            yield Value(instrument, number)
    parts = result.components
    if parts is not None:
        yield Value(COMPONENT, parts.network_seconds, ("isochrone.component", "network"))
        yield Value(COMPONENT, parts.model_seconds, ("isochrone.component", "model"))
        yield Value(COMPONENT, parts.streaming_seconds, ("isochrone.component", "streaming"))


def _first_chunk_seconds(result: Result) -> float | None:
    marks = result.marks
    if marks.first_event is None or marks.request_started is None:
        return None
    return max(0.0, marks.first_event - marks.request_started)


def _pings(pings: Pings) -> Iterator[Value]:
    method = ("isochrone.network.method", pings.method.value)
    yield Value(PINGS, float(pings.sent), method)
    yield Value(PINGS_LOST, float(pings.lost), method)


def _rtt(result: Result, pings: Pings) -> Iterator[Value]:
    if result.rtt_seconds is not None:
        yield Value(RTT, result.rtt_seconds, ("isochrone.network.method", pings.method.value))


def _tokens(tokens: Tokens) -> Iterator[Value]:
    if tokens.input is not None:
        yield Value(TOKEN_USAGE, float(tokens.input), ("gen_ai.token.type", "input"))
    yield Value(TOKEN_USAGE, float(tokens.output), ("gen_ai.token.type", "output"))
