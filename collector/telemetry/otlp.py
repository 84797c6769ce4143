"""Facts as OTLP metrics (opentelemetry-proto, OTLP 1.9 over HTTP, binary protobuf, gzip). Pure.

Every number of every result is a data point of its own: delta temporality, from the probe's start to its end, count 1
and min = max = sum, so that nothing of it is lost, late results keep their time, and collectors need not agree on a
running total. Histograms, because the conventions' instruments are; a backend that takes no deltas gets them through an
OpenTelemetry collector (`deltatocumulative`). An exemplar names the result.
"""

import gzip
from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import Final

import msgspec
from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
    ExportMetricsServiceResponse,
)
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.metrics.v1.metrics_pb2 import (
    AGGREGATION_TEMPORALITY_DELTA,
    HistogramDataPoint,
    Metric,
    NumberDataPoint,
)

from collector.registry import EndpointRow, TargetRow
from collector.telemetry import genai
from collector.telemetry.answers import Answer, Encoded, Fate, Verdict, judge_status
from collector.telemetry.facts import Fact
from collector.telemetry.values import PROBES, Instrument, Value, values_of
from isochrone.names import printable
from isochrone.outcome import Outcome, Prober

AGAIN: Final = frozenset({429, 502, 503, 504})
"""Retryable by the specification; everything else is not."""
RESULTS_PER_REQUEST: Final = 200
"""About 2,000 data points, 1 MB before gzip: collectors take 20 MB."""
KEPT_COMMONS: Final = 10_000
"""Each about 1 KB."""
_SHORTEST_NS: Final = 1_000_000
"""A delta covers a span: of what took no time, a millisecond."""


class Common(msgspec.Struct, frozen=True):
    """The attributes that all points of a series' results share, as points in bytes: one step to merge, not twelve."""

    number: bytes
    histogram: bytes


class Otlp:
    """The dialect of OTLP receivers."""

    name = "otlp"
    headers: Mapping[str, str] = {"Content-Type": "application/x-protobuf", "Content-Encoding": "gzip"}
    results_per_request = RESULTS_PER_REQUEST

    def __init__(self, version: str) -> None:
        self._version = version
        self._commons: dict[tuple[object, ...], Common] = {}

    def encode(self, facts: list[Fact], now: datetime) -> Encoded:  # noqa: ARG002  results of any age keep their time
        """Return the request."""
        body = gzip.compress(self._request(facts).SerializeToString(), compresslevel=1)
        return Encoded(body=body, results=len(facts))

    def judge(self, answer: Answer, now: datetime) -> Verdict:
        """Return what the answer means; partial success is success, and is told."""
        verdict = judge_status(answer, again=AGAIN, now=now)
        return _partial(answer.body) if verdict.fate is Fate.TAKEN else verdict

    def _request(self, facts: Iterable[Fact]) -> ExportMetricsServiceRequest:
        request = ExportMetricsServiceRequest()
        by_resource = request.resource_metrics.add()
        about = {"service.name": "isochrone", "service.version": self._version}
        by_resource.resource.attributes.extend(_attributes(about))
        by_scope = by_resource.scope_metrics.add()
        by_scope.scope.name, by_scope.scope.version = "isochrone", self._version
        metrics: dict[str, Metric] = {}
        for fact in facts:
            add = _adder(fact, self._common(fact))
            for value in values_of(fact):
                metric = metrics.get(value.instrument.name)
                if metric is None:
                    metric = metrics[value.instrument.name] = by_scope.metrics.add()
                    _describe(metric, value.instrument)
                add(metric, value)
        return request

    def _common(self, fact: Fact) -> Common:
        result = fact.result
        who = (fact.agent.name, fact.agent.region.name)
        key = (*who, fact.target, fact.endpoint, result.connection, result.prober)
        found = self._commons.get(key)
        if found is None:
            if len(self._commons) >= KEPT_COMMONS:
                self._commons.clear()
            pairs = _attributes(attributes_of(fact))
            found = self._commons[key] = Common(
                NumberDataPoint(attributes=pairs).SerializeToString(),
                HistogramDataPoint(attributes=pairs).SerializeToString(),
            )
        return found


def attributes_of(fact: Fact) -> dict[str, str | int]:
    """Return what tells one series from another; bounded by the target file and the fleet."""
    result, target, endpoint = fact.result, fact.target, fact.endpoint
    found: dict[str, str | int] = {
        "isochrone.agent": fact.agent.name,
        "isochrone.agent_region": fact.agent.region.name,
        "isochrone.endpoint": target.endpoint,
        "isochrone.module": target.module,
    }
    if result.connection is not None:
        found["isochrone.connection"] = result.connection.value
    if endpoint is not None:
        found |= _of_endpoint(endpoint)
    if result.prober is Prober.INFERENCE:
        found |= _of_model(target, endpoint)
    return found


def _of_endpoint(endpoint: EndpointRow) -> dict[str, str | int]:
    server, region = genai.server_of(endpoint.url), endpoint.endpoint_region
    found: dict[str, str | int] = {} if region is None else {"isochrone.endpoint_region": region}
    if server is not None:
        found["server.address"], found["server.port"] = server
    return found


def _of_model(target: TargetRow, endpoint: EndpointRow | None) -> dict[str, str | int]:
    found: dict[str, str | int] = {} if target.model is None else {"gen_ai.request.model": target.model}
    if endpoint is not None and endpoint.provider is not None:
        server = genai.server_of(endpoint.url)
        found["gen_ai.operation.name"] = genai.operation_name(endpoint.provider)
        found["gen_ai.provider.name"] = genai.provider_name(endpoint.provider, None if server is None else server[0])
    return found


def _describe(metric: Metric, instrument: Instrument) -> None:
    metric.name, metric.unit, metric.description = instrument.name, instrument.unit, instrument.text
    if instrument.bounds:
        metric.histogram.aggregation_temporality = AGGREGATION_TEMPORALITY_DELTA
    else:
        metric.sum.aggregation_temporality = AGGREGATION_TEMPORALITY_DELTA
        metric.sum.is_monotonic = True


def _adder(fact: Fact, common: Common) -> Callable[[Metric, Value], None]:
    """Return what adds one number of a fact to its metric."""
    started = fact.started_ns
    ended = started + max(round((fact.result.duration_seconds or 0.0) * 1e9), _SHORTEST_NS)
    named = [_attribute("isochrone.result_id", fact.result_id)]

    def add(metric: Metric, value: Value) -> None:
        point = _new_point(metric, value, common)
        point.start_time_unix_nano, point.time_unix_nano = started, ended
        if value.attribute is not None:
            point.attributes.append(_attribute(*value.attribute))
        if value.instrument is PROBES and fact.result.outcome is not Outcome.OK:
            point.attributes.append(_attribute("error.type", fact.result.outcome.value))
        point.exemplars.add(time_unix_nano=ended, as_double=value.number, filtered_attributes=named)

    return add


def _new_point(metric: Metric, value: Value, common: Common) -> HistogramDataPoint | NumberDataPoint:
    bounds, number = value.instrument.bounds, value.number
    if not bounds:
        total = metric.sum.data_points.add(as_int=int(number))
        total.MergeFromString(common.number)
        return total
    counts = [0] * (len(bounds) + 1)
    counts[bisect_left(bounds, number)] = 1
    point = metric.histogram.data_points.add(
        count=1, sum=number, min=number, max=number, explicit_bounds=bounds, bucket_counts=counts
    )
    point.MergeFromString(common.histogram)
    return point


def _attributes(values: Mapping[str, str | int]) -> list[KeyValue]:
    return [_attribute(key, value) for key, value in values.items()]


def _attribute(key: str, value: str | int) -> KeyValue:
    some = AnyValue(int_value=value) if isinstance(value, int) else AnyValue(string_value=value)
    return KeyValue(key=key, value=some)


def _partial(body: bytes) -> Verdict:
    response = ExportMetricsServiceResponse()
    try:
        response.ParseFromString(body)
    except DecodeError:  # the status says that all is well
        return Verdict(fate=Fate.TAKEN)
    rejected, message = response.partial_success.rejected_data_points, response.partial_success.error_message
    if not rejected and not message:
        return Verdict(fate=Fate.TAKEN)
    words = (
        f"{rejected} data points refused: {printable(message) or 'without a word'}" if rejected else printable(message)
    )
    return Verdict(fate=Fate.TAKEN, words=words, rejected=max(0, rejected))
