"""Facts for tests of exports, and the receivers that they end in."""

from datetime import UTC, datetime
from typing import Any

import cramjam
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import KeyValue

from collector.registry import AgentRow, EndpointRow, RegionRow, TargetRow
from collector.telemetry.facts import Fact
from collector.telemetry.prompb import write_request
from isochrone.outcome import Connection
from isochrone.result import Result
from tests.collecting import inference_result

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
NOW_NS = int(NOW.timestamp()) * 10**9
REGION = RegionRow(id=1, name="eu-central")
AGENT = AgentRow(id=1, name="agent-1", region=REGION, labels={}, created_at=NOW)
ENDPOINT = EndpointRow(id=1, name="near", url="https://api.openai.com/v1", provider="openai", model="model-1",
                       endpoint_region="us-east", latitude=None, longitude=None, simulated=False)  # fmt: skip
TARGET = TargetRow(id=7, endpoint="near", module="chat", model="model-1", connection=Connection.COLD, created_at=NOW)


def fact_of(result: Result | None = None, *, age_seconds: float = 10.0, **more: object) -> Fact:
    """Return a fact that is so old at NOW."""
    fields: dict[str, object] = {
        "result": inference_result(5) if result is None else result,
        "started_ns": NOW_NS - round(age_seconds * 1e9),
        "agent": AGENT,
        "target": TARGET,
        "endpoint": ENDPOINT,
        "boot_id": "00000000-0000-0000-0000-000000000001",
    }
    return Fact(**{**fields, **more})  # type: ignore[arg-type]


def attributes(pairs: Any) -> dict[str, str | int]:  # noqa: ANN401  a repeated field has no public type
    """Return attributes as a dict."""

    def value(pair: KeyValue) -> str | int:
        return pair.value.int_value if pair.value.HasField("int_value") else pair.value.string_value

    return {pair.key: value(pair) for pair in pairs}


def metrics_in(request: ExportMetricsServiceRequest) -> dict[str, Any]:
    """Return the metrics by name."""
    return {
        metric.name: metric
        for resource in request.resource_metrics
        for scope in resource.scope_metrics
        for metric in scope.metrics
    }


def points_in(metric: Any) -> list[Any]:  # noqa: ANN401  a message without a public base
    """Return the data points, whatever kind they are of."""
    return list(getattr(metric, metric.WhichOneof("data")).data_points)


Series = dict[tuple[tuple[str, str], ...], list[tuple[int, float]]]


def series_in(body: bytes) -> Series:
    """Return what a remote-write request brings; labels and samples as they stand."""
    request = write_request()()
    request.ParseFromString(bytes(cramjam.snappy.decompress_raw(body)))
    return {
        tuple((label.name, label.value) for label in one.labels): [(s.timestamp, s.value) for s in one.samples]
        for one in request.timeseries
    }
