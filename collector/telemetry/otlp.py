"""Facts as OTLP metrics (opentelemetry-proto, OTLP 1.9 over HTTP, binary protobuf, gzip). Pure.

Every number of every result is a data point of its own: delta temporality, from the probe's start to its end, count 1
and min = max = sum, so that nothing of it is lost, late results keep their time, and collectors need not agree on a
running total. Histograms, because the conventions' instruments are; a backend that takes no deltas gets them through an
OpenTelemetry collector (`deltatocumulative`). An exemplar names the result.
"""

import gzip
from bisect import bisect_left
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Final

from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
    ExportMetricsServiceResponse,
)
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.metrics.v1.metrics_pb2 import (
    AGGREGATION_TEMPORALITY_DELTA,
    Exemplar,
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
_SHORTEST_NS: Final = 1_000_000
"""A delta covers a span: of what took no time, a millisecond."""


class Otlp:
    """The dialect of OTLP receivers."""

    name = "otlp"
    headers: Mapping[str, str] = {"Content-Type": "application/x-protobuf", "Content-Encoding": "gzip"}
    results_per_request = RESULTS_PER_REQUEST

    def __init__(self, version: str) -> None:
        self._version = version

    def encode(self, facts: list[Fact], now: datetime) -> Encoded:  # noqa: ARG002  results of any age keep their time
        """Return the request."""
        body = gzip.compress(request_of(facts, self._version).SerializeToString(), compresslevel=5)
        return Encoded(body=body, results=len(facts))

    def judge(self, answer: Answer, now: datetime) -> Verdict:
        """Return what the answer means; partial success is success, and is told."""
        verdict = judge_status(answer, again=AGAIN, now=now)
        return _partial(answer.body) if verdict.fate is Fate.TAKEN else verdict


def request_of(facts: Iterable[Fact], version: str) -> ExportMetricsServiceRequest:
    """Return the message."""
    request = ExportMetricsServiceRequest()
    by_resource = request.resource_metrics.add()
    by_resource.resource.attributes.extend(_attributes({"service.name": "isochrone", "service.version": version}))
    by_scope = by_resource.scope_metrics.add()
    by_scope.scope.name, by_scope.scope.version = "isochrone", version
    metrics: dict[str, Metric] = {}
    for fact in facts:
        common = _attributes(attributes_of(fact))
        for value in values_of(fact):
            instrument = value.instrument
            metric = metrics.get(instrument.name)
            if metric is None:
                metric = metrics[instrument.name] = by_scope.metrics.add()
                _describe(metric, instrument)
            _add_point(metric, value, fact=fact, common=common)
    return request


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


def _add_point(metric: Metric, value: Value, *, fact: Fact, common: list[KeyValue]) -> None:
    bounds, number = value.instrument.bounds, value.number
    point: HistogramDataPoint | NumberDataPoint
    if bounds:
        point = metric.histogram.data_points.add(count=1, sum=number, min=number, max=number, explicit_bounds=bounds)
        counts = [0] * (len(bounds) + 1)
        counts[bisect_left(bounds, number)] = 1
        point.bucket_counts.extend(counts)
    else:
        point = metric.sum.data_points.add(as_int=int(number))
    lasted = round((fact.result.duration_seconds or 0.0) * 1e9)
    point.start_time_unix_nano = fact.started_ns
    point.time_unix_nano = fact.started_ns + max(lasted, _SHORTEST_NS)
    point.attributes.extend(common)
    if value.attribute is not None:
        point.attributes.append(_attribute(*value.attribute))
    if value.instrument is PROBES and fact.result.outcome is not Outcome.OK:
        point.attributes.append(_attribute("error.type", fact.result.outcome.value))
    named = [_attribute("isochrone.result_id", fact.result_id)]
    point.exemplars.append(Exemplar(time_unix_nano=point.time_unix_nano, as_double=number, filtered_attributes=named))


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
