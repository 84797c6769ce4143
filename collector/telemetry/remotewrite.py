"""Facts as samples of Prometheus remote write 1.0 (protobuf, snappy), each at the time of its result.

A receiver refuses what is too old, and what lies behind the newest of its series, and with it the whole request: such
results are left out here and counted. State is kept of the newest time by agent and target, for as long as it matters.
"""

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Final

import cramjam

from collector.receivers import RemoteWrite
from collector.telemetry.answers import Answer, Encoded, Verdict, judge_status
from collector.telemetry.facts import Fact, Skip
from collector.telemetry.prompb import Labels, Sample, serialize
from isochrone.outcome import Outcome
from isochrone.result import Result

AGAIN: Final = frozenset({429, *range(500, 600)})
"""By the specification: 5xx must be sent again, 429 may be, other 4xx must not."""
RESULTS_PER_REQUEST: Final = 250
"""About 2,000 samples, as Prometheus itself sends."""
KEPT_TIMES: Final = 100_000
"""Newest times that are kept without a look at which are of use."""

METRICS: Final = {
    "isochrone_result_success": "1 if the probe succeeded, else 0",
    "isochrone_result_rtt_seconds": "round trip",
    "isochrone_result_ttft_seconds": "time to first token",
    "isochrone_result_answer_ttft_seconds": "time to first visible token of the answer",
    "isochrone_result_duration_seconds": "the whole probe",
    "isochrone_result_time_per_output_token_seconds": "mean time per output token after the first",
    "isochrone_result_output_tokens_per_second": "output tokens per second after the first",
    "isochrone_result_component_seconds": "where the duration went; label component",
}
"""Other names than `/metrics` has: both may end in one Prometheus."""


class RemoteWriteDialect:
    """The dialect of remote-write receivers."""

    name = "remote_write"
    headers: Mapping[str, str] = {
        "Content-Type": "application/x-protobuf",
        "Content-Encoding": "snappy",
        "X-Prometheus-Remote-Write-Version": "0.1.0",
    }
    results_per_request = RESULTS_PER_REQUEST

    def __init__(self, settings: RemoteWrite) -> None:
        self._max_age_ms = round(settings.max_age_seconds * 1e3)
        self._window_ms = round(settings.out_of_order_seconds * 1e3)
        self._newest: dict[tuple[int, int], int] = {}

    def encode(self, facts: list[Fact], now: datetime) -> Encoded:
        """Return the request, its samples in order."""
        now_ms = round(now.timestamp() * 1e3)
        skipped = {Skip.TOO_OLD.value: 0, Skip.OUT_OF_ORDER.value: 0}
        series: dict[Labels, dict[int, float]] = {}
        taken = 0
        for fact in sorted(facts, key=lambda one: one.started_ns):
            reason = self._reason_against(fact, now_ms)
            if reason is not None:
                skipped[reason] += 1
                continue
            taken += 1
            for labels, (moment, number) in samples_of(fact):
                series.setdefault(labels, {})[moment] = number
        self._forget(now_ms)
        if not taken:
            return Encoded(body=None, results=0, skipped=skipped)
        data = serialize((labels, sorted(samples.items())) for labels, samples in series.items())
        return Encoded(body=bytes(cramjam.snappy.compress_raw(data)), results=taken, skipped=skipped)

    def judge(self, answer: Answer, now: datetime) -> Verdict:
        """Return what the answer means."""
        return judge_status(answer, again=AGAIN, now=now)

    def _reason_against(self, fact: Fact, now_ms: int) -> str | None:
        moment = _milliseconds(fact)
        if now_ms - moment > self._max_age_ms:
            return Skip.TOO_OLD.value
        key = (fact.agent.id, fact.target.id)
        newest = self._newest.get(key)
        if newest is not None and (moment == newest or moment < newest - self._window_ms):
            return Skip.OUT_OF_ORDER.value
        self._newest[key] = moment if newest is None else max(newest, moment)
        return None

    def _forget(self, now_ms: int) -> None:
        """Forget times that are older than the age bound, which holds for them."""
        if len(self._newest) > KEPT_TIMES:
            oldest = now_ms - self._max_age_ms
            self._newest = {key: moment for key, moment in self._newest.items() if moment >= oldest}


def samples_of(fact: Fact) -> Iterator[tuple[Labels, Sample]]:
    """Yield the series and the sample of each number of a result."""
    moment, result = _milliseconds(fact), fact.result
    labels = _labels(fact)
    yield _named("success", labels), (moment, float(result.outcome is Outcome.OK))
    if result.outcome is not Outcome.OK:
        return
    for name, number in _numbers(result):
        if number is not None:
            yield _named(name, labels), (moment, number)
    parts = result.components
    if parts is not None:
        for component in ("network", "model", "streaming"):
            more = {**labels, "component": component}
            yield _named("component_seconds", more), (moment, getattr(parts, f"{component}_seconds"))


def _numbers(result: Result) -> tuple[tuple[str, float | None], ...]:
    return (
        ("rtt_seconds", result.rtt_seconds),
        ("ttft_seconds", result.ttft_seconds),
        ("answer_ttft_seconds", result.answer_ttft_seconds),
        ("duration_seconds", result.duration_seconds),
        ("time_per_output_token_seconds", result.tpot_seconds),
        ("output_tokens_per_second", result.tokens_per_second),
    )


def _labels(fact: Fact) -> dict[str, str]:
    """Return the labels of all series of a result; an empty one is none to Prometheus."""
    result, endpoint = fact.result, fact.endpoint
    found = {
        "agent": fact.agent.name,
        "agent_region": fact.agent.region.name,
        "endpoint": fact.target.endpoint,
        "endpoint_region": None if endpoint is None else endpoint.endpoint_region,
        "module": fact.target.module,
        "model": fact.target.model,
        "probe": result.prober.value,
        "connection": None if result.connection is None else result.connection.value,
    }
    return {name: value for name, value in found.items() if value}


def _named(name: str, labels: Mapping[str, str]) -> Labels:
    return tuple(sorted({**labels, "__name__": f"isochrone_result_{name}"}.items()))


def _milliseconds(fact: Fact) -> int:
    return fact.started_ns // 1_000_000
