"""A feed: the series of one target in one region, found once and then fed result by result."""

from collections.abc import Callable
from typing import Final

from collector.metrics.families import ProbeFamilies
from collector.registry import Assigned
from isochrone.config import Module, TokenPrice
from isochrone.marks import phase_seconds
from isochrone.outcome import Connection, Outcome, Prober, RttMethod
from isochrone.result import Pings, Result, Tokens

_OK: Final = Outcome.OK
"""An Enum's member costs 50 ns to find, five times for each result."""
FAILURES: Final = tuple(outcome for outcome in Outcome if outcome is not Outcome.OK)
PHASES: Final = ("dns", "tcp", "tls")
COMPONENTS: Final = ("network", "model", "streaming")
TOKEN_TYPES: Final = ("input", "cached_input", "output", "reasoning")


class RttFeed:
    """What an `rtt` target brings."""

    def __init__(self, families: ProbeFamilies, assigned: Assigned) -> None:
        self._pair = (assigned.agent.region.name, assigned.endpoint.name)
        self._families = families
        options = assigned.assignment.options.rtt
        self._take_method(RttMethod.TCP if options is None else options.method)
        for method in RttMethod:
            for family in (families.rtt, families.pings, families.pings_lost):
                family.keep(*self._pair, method)

    def observe(self, result: Result) -> None:
        """Count one result."""
        if result.pings is not None:
            self._observe_pings(result.pings)
        if result.outcome is _OK and result.rtt_seconds is not None:
            self._rtt.observe(result.rtt_seconds)

    def _observe_pings(self, pings: Pings) -> None:
        if pings.method is not self._method:
            self._take_method(pings.method)
        self._sent.add(pings.sent)
        self._lost.add(pings.lost)

    def _take_method(self, method: RttMethod) -> None:
        labels = (*self._pair, method.value)
        self._method = method
        self._rtt = self._families.rtt.series(*labels)
        self._sent = self._families.pings.series(*labels)
        self._lost = self._families.pings_lost.series(*labels)


class StreamFeed:
    """What an `inference` target brings on a cold or on a warm connection."""

    def __init__(self, families: ProbeFamilies, labels: tuple[str, str, str, str]) -> None:
        self._ttft = families.ttft.series(*labels)
        self._answer_ttft = families.answer_ttft.series(*labels)
        self._duration = families.duration.series(*labels)
        self._components = [families.component.series(*labels, name) for name in COMPONENTS]

    def observe(self, result: Result) -> None:
        """Count one success."""
        if result.ttft_seconds is not None:
            self._ttft.observe(result.ttft_seconds)
        if result.answer_ttft_seconds is not None:
            self._answer_ttft.observe(result.answer_ttft_seconds)
        if result.duration_seconds is not None:
            self._duration.observe(result.duration_seconds)
        parts = result.components
        if parts is not None:
            network, model, streaming = self._components
            network.observe(parts.network_seconds)
            model.observe(parts.model_seconds)
            streaming.observe(parts.streaming_seconds)


class InferenceFeed:
    """What an `inference` target brings."""

    def __init__(self, families: ProbeFamilies, assigned: Assigned) -> None:
        self._families = families
        self._labels = (assigned.agent.region.name, assigned.endpoint.name, assigned.target.model or "")
        self._tpot = families.tpot.series(*self._labels)
        self._rate = families.rate.series(*self._labels)
        self._price = assigned.assignment.price
        self._tokens = [families.tokens.series(*self._labels[1:], name) for name in TOKEN_TYPES]
        self._cost = families.cost.series(*self._labels[1:])
        self._streams: dict[int, StreamFeed] = {}
        self._stream(_planned_connection(assigned.assignment.options))
        for connection in Connection:
            self._keep(connection)

    def observe(self, result: Result) -> None:
        """Count one result."""
        if result.tokens is not None:
            self._spend(result.tokens)
        if result.outcome is not _OK:
            return
        if result.tpot_seconds is not None:
            self._tpot.observe(result.tpot_seconds)
        if result.tokens_per_second is not None:
            self._rate.observe(result.tokens_per_second)
        if result.connection is not None:
            self._stream(result.connection).observe(result)

    def _stream(self, connection: Connection) -> StreamFeed:
        feed = self._streams.get(id(connection))  # an Enum's own hash runs in Python
        if feed is None:
            feed = self._streams[id(connection)] = StreamFeed(self._families, (*self._labels, connection.value))
        return feed

    def _keep(self, connection: Connection) -> None:
        labels = (*self._labels, connection.value)
        for family in (self._families.ttft, self._families.answer_ttft, self._families.duration):
            family.keep(*labels)
        for name in COMPONENTS:
            self._families.component.keep(*labels, name)

    def _spend(self, tokens: Tokens) -> None:
        taken, cached, output, reasoning = self._tokens
        taken.value += tokens.input or 0
        cached.value += tokens.cached_input or 0
        output.value += tokens.output
        reasoning.value += tokens.reasoning or 0
        if self._price is not None:
            self._cost.value += cost_usd(self._price, tokens)


class TargetFeed:
    """All series that one target in one region feeds."""

    def __init__(self, families: ProbeFamilies, assigned: Assigned) -> None:
        region, endpoint = assigned.agent.region.name, assigned.endpoint.name
        prober = assigned.assignment.options.prober
        labels = (region, endpoint, assigned.target.model or "", prober.value)
        self._probes = families.probes.series(*labels)
        self._failures = {outcome: families.failures.series(*labels, outcome.value) for outcome in FAILURES}
        self._phases = {name: families.phase.series(region, endpoint, name) for name in PHASES}
        self._observe: Callable[[Result], None] = (
            RttFeed(families, assigned).observe if prober is Prober.RTT else InferenceFeed(families, assigned).observe
        )

    def observe(self, result: Result) -> None:
        """Count one fresh result."""
        self._probes.value += 1
        if result.outcome is not _OK:
            self._failures[result.outcome].add()
        marks = result.marks
        if marks.dns is not None or marks.tcp is not None or marks.tls is not None:
            for name, seconds in phase_seconds(marks).items():
                self._phases[name].observe(seconds)
        self._observe(result)


def cost_usd(price: TokenPrice, tokens: Tokens) -> float:
    """Return what the tokens cost; input that the provider did not count costs nothing here."""
    return (price.input_per_million * (tokens.input or 0) + price.output_per_million * tokens.output) / 1e6


def _planned_connection(module: Module) -> Connection:
    return Connection.COLD if module.inference is None else module.inference.connection
