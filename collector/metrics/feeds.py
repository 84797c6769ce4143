"""A feed: the series of one target in one region, found once and then fed result by result."""

from collections.abc import Callable
from typing import Final

from collector.metrics.families import COMPONENTS, FAILURES, PHASES, TOKEN_TYPES, ProbeFamilies
from collector.metrics.series import Family, Histogram, Number, Origin, S
from collector.registry import Assigned
from isochrone.config import Module, TokenPrice
from isochrone.marks import phase_seconds
from isochrone.outcome import Connection, Outcome, Prober, RttMethod
from isochrone.result import Result, Tokens

_OK: Final = Outcome.OK
"""An Enum's member costs 50 ns to find, five times for each result."""

RoomFor = Callable[[int], bool]
"""Tells whether so many lines more may be exposed, and counts them as refused if not."""


class Holding:
    """The series that one feed has taken."""

    def __init__(self, families: ProbeFamilies, room_for: RoomFor) -> None:
        self.families = families
        self.room_for = room_for
        self._given_back: list[tuple[Callable[[tuple[str, ...]], None], tuple[str, ...]]] = []

    def take(self, family: Family[S], *values: str) -> S:
        """Return the series, there until this is released."""
        series = family.take(values)
        self._given_back.append((family.give_back, values))
        return series

    def release(self) -> None:
        """Give all series back."""
        for give_back, values in self._given_back:
            give_back(values)
        self._given_back.clear()


class RttFeed:
    """What an `rtt` target brings."""

    def __init__(self, holding: Holding, assigned: Assigned) -> None:
        self._pair = (assigned.agent.region.name, assigned.endpoint.name)
        self._holding = holding
        self._methods: dict[RttMethod, tuple[Histogram, Number, Number] | None] = {}
        self._planned = RttMethod.TCP
        self.renew(assigned)

    def renew(self, assigned: Assigned) -> None:
        """Let the series of the planned method stand; those of others stay."""
        options = assigned.assignment.options.rtt
        method = self._planned = RttMethod.TCP if options is None else options.method
        if self._methods.get(method) is None:
            self._methods[method] = self._take(method)

    def observe(self, result: Result, origin: Origin | None) -> None:
        """Count one result."""
        pings = result.pings
        series = self._series(self._planned if pings is None else pings.method)
        if series is None:
            return
        rtt, sent, lost = series
        if pings is not None:
            sent.value += pings.sent
            lost.value += pings.lost
        if result.outcome is _OK and result.rtt_seconds is not None:
            rtt.observe(result.rtt_seconds, origin)

    def _series(self, method: RttMethod) -> tuple[Histogram, Number, Number] | None:
        """Return the series of what was measured, whatever was planned; None: there is no room."""
        if method not in self._methods:
            lines = lines_of_method(self._holding.families)
            self._methods[method] = self._take(method) if self._holding.room_for(lines) else None
        return self._methods[method]

    def _take(self, method: RttMethod) -> tuple[Histogram, Number, Number]:
        families, take, labels = self._holding.families, self._holding.take, (*self._pair, method.value)
        return take(families.rtt, *labels), take(families.pings, *labels), take(families.pings_lost, *labels)


class StreamFeed:
    """What an `inference` target brings on a cold or on a warm connection."""

    def __init__(self, holding: Holding, labels: tuple[str, str, str, str]) -> None:
        families, take = holding.families, holding.take
        self._ttft = take(families.ttft, *labels)
        self._answer_ttft = take(families.answer_ttft, *labels)
        self._duration = take(families.duration, *labels)
        self._components = [take(families.component, *labels, name) for name in COMPONENTS]

    def observe(self, result: Result, origin: Origin | None) -> None:
        """Count one success."""
        if result.ttft_seconds is not None:
            self._ttft.observe(result.ttft_seconds, origin)
        if result.answer_ttft_seconds is not None:
            self._answer_ttft.observe(result.answer_ttft_seconds, origin)
        if result.duration_seconds is not None:
            self._duration.observe(result.duration_seconds, origin)
        parts = result.components
        if parts is not None:
            network, model, streaming = self._components
            network.observe(parts.network_seconds)
            model.observe(parts.model_seconds)
            streaming.observe(parts.streaming_seconds)


class InferenceFeed:
    """What an `inference` target brings."""

    def __init__(self, holding: Holding, assigned: Assigned) -> None:
        families, take = holding.families, holding.take
        self._holding = holding
        self._labels = (assigned.agent.region.name, assigned.endpoint.name, assigned.target.model or "")
        self._tpot = take(families.tpot, *self._labels)
        self._rate = take(families.rate, *self._labels)
        self._tokens = [take(families.tokens, *self._labels[1:], name) for name in TOKEN_TYPES]
        self._cost = take(families.cost, *self._labels[1:])
        self._streams: dict[int, StreamFeed | None] = {}
        self.renew(assigned)

    def renew(self, assigned: Assigned) -> None:
        """Take over the price, and let the series of the planned connection stand; those of others stay."""
        self._price = assigned.assignment.price
        connection = _planned_connection(assigned.assignment.options)
        if self._streams.get(id(connection)) is None:
            self._streams[id(connection)] = StreamFeed(self._holding, (*self._labels, connection.value))

    def observe(self, result: Result, origin: Origin | None) -> None:
        """Count one result."""
        if result.tokens is not None:
            self._spend(result.tokens)
        if result.outcome is not _OK:
            return
        if result.tpot_seconds is not None:
            self._tpot.observe(result.tpot_seconds, origin)
        if result.tokens_per_second is not None:
            self._rate.observe(result.tokens_per_second, origin)
        if result.connection is not None:
            stream = self._stream(result.connection)
            if stream is not None:
                stream.observe(result, origin)

    def _stream(self, connection: Connection) -> StreamFeed | None:
        """Return the series of what happened, whatever was planned; None: there is no room."""
        key = id(connection)  # an Enum's own hash runs in Python
        if key not in self._streams:
            fits = self._holding.room_for(lines_of_stream(self._holding.families))
            self._streams[key] = StreamFeed(self._holding, (*self._labels, connection.value)) if fits else None
        return self._streams[key]

    def _spend(self, tokens: Tokens) -> None:
        taken, cached, output, reasoning = self._tokens
        taken.value += tokens.input or 0
        cached.value += tokens.cached_input or 0
        output.value += tokens.output
        reasoning.value += tokens.reasoning or 0
        if self._price is not None:
            self._cost.value += cost_usd(self._price, tokens)


class TargetFeed:
    """All series that one target in one region feeds, from `__init__` to `close`."""

    def __init__(self, families: ProbeFamilies, assigned: Assigned, *, room_for: RoomFor) -> None:
        self._holding = Holding(families, room_for)
        take = self._holding.take
        region, endpoint, prober = (
            assigned.agent.region.name,
            assigned.endpoint.name,
            assigned.assignment.options.prober,
        )
        labels = (region, endpoint, assigned.target.model or "", prober.value)
        self._probes = take(families.probes, *labels)
        self._failures = {outcome: take(families.failures, *labels, outcome.value) for outcome in FAILURES}
        self._phases = {name: take(families.phase, region, endpoint, name) for name in PHASES}
        of_prober: type[RttFeed | InferenceFeed] = RttFeed if prober is Prober.RTT else InferenceFeed
        self._of_prober = of_prober(self._holding, assigned)
        self._observe = self._of_prober.observe

    def renew(self, assigned: Assigned) -> None:
        """Go on by other options of the same target and prober; what was counted stays."""
        self._of_prober.renew(assigned)

    def observe(self, result: Result, origin: Origin | None = None) -> None:
        """Count one fresh result."""
        self._probes.value += 1
        if result.outcome is not _OK:
            self._failures[result.outcome].add()
        marks = result.marks
        if marks.dns is not None or marks.tcp is not None or marks.tls is not None:
            for name, seconds in phase_seconds(marks).items():
                self._phases[name].observe(seconds)
        self._observe(result, origin)

    def close(self) -> None:
        """Give the series back; those that no other feed has are gone."""
        self._holding.release()


def lines_of_method(families: ProbeFamilies) -> int:
    """Return how many lines round trips of one method take."""
    return sum(one.definition.lines_each for one in (families.rtt, families.pings, families.pings_lost))


def lines_of_stream(families: ProbeFamilies) -> int:
    """Return how many lines streams on one kind of connection take."""
    histograms = (families.ttft, families.answer_ttft, families.duration)
    return sum(one.definition.lines_each for one in histograms) + len(COMPONENTS) * 2


def lines_of(families: ProbeFamilies, prober: Prober) -> int:
    """Return how many lines a target takes at most when it is opened: fewer where others share its series."""
    shared = 1 + len(FAILURES) + len(PHASES) * families.phase.definition.lines_each
    if prober is Prober.RTT:
        return shared + lines_of_method(families)
    rates = families.tpot.definition.lines_each + families.rate.definition.lines_each
    return shared + rates + len(TOKEN_TYPES) + 1 + lines_of_stream(families)


def cost_usd(price: TokenPrice, tokens: Tokens) -> float:
    """Return what the tokens cost; input that the provider did not count costs nothing here."""
    return (price.input_per_million * (tokens.input or 0) + price.output_per_million * tokens.output) / 1e6


def _planned_connection(module: Module) -> Connection:
    return Connection.COLD if module.inference is None else module.inference.connection
