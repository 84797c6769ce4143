"""Results as OTLP: the conventions' names and units, each number at its own time, failures without latency."""

import gzip
from typing import Any

import msgspec
import pytest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
    ExportMetricsServiceResponse,
)
from opentelemetry.proto.metrics.v1.metrics_pb2 import AGGREGATION_TEMPORALITY_DELTA

from collector.telemetry import genai
from collector.telemetry.answers import Answer, Fate, retry_after_seconds
from collector.telemetry.facts import Fact
from collector.telemetry.otlp import Otlp
from collector.telemetry.values import INSTRUMENTS
from isochrone.config import Provider
from isochrone.marks import Marks
from isochrone.outcome import Outcome, TokenSource
from isochrone.result import Tokens
from tests.collecting import inference_result, rtt_result
from tests.telemetry import ENDPOINT, NOW, NOW_NS, TARGET, attributes, fact_of, metrics_in, points_in

OTLP = Otlp("1.2.3")
SITE = msgspec.structs.replace(ENDPOINT, provider=None, model=None, url="http://site-1:8080/")


def decoded(*facts: Fact) -> ExportMetricsServiceRequest:
    body = OTLP.encode(list(facts), NOW).body
    assert body is not None
    request = ExportMetricsServiceRequest()
    request.ParseFromString(gzip.decompress(body))
    return request


def numbers(*facts: Fact) -> dict[str, list[float]]:
    def number(point: Any) -> float:  # noqa: ANN401  one of two kinds of points
        return point.sum if hasattr(point, "sum") else point.as_int

    return {name: [number(one) for one in points_in(metric)] for name, metric in metrics_in(decoded(*facts)).items()}


def test_a_success_brings_all_its_numbers() -> None:
    assert numbers(fact_of()) == {
        "isochrone.probes": [1],
        "gen_ai.client.token.usage": [20, 32],
        "gen_ai.client.operation.duration": [1.0],
        "gen_ai.client.operation.time_to_first_chunk": [pytest.approx(0.3)],
        "isochrone.time_to_first_token": [0.3],
        "isochrone.time_to_first_answer_token": [0.3],
        "isochrone.time_per_output_token": [0.02],
        "isochrone.output_token.rate": [50.0],
        "isochrone.latency.component": [pytest.approx(0.04), pytest.approx(0.29), pytest.approx(0.67)],
    }


def test_an_rtt_probe_brings_round_trips_and_no_words_of_models() -> None:
    fact = fact_of(rtt_result(), endpoint=SITE, target=msgspec.structs.replace(TARGET, module="rtt"))
    assert numbers(fact) == {
        "isochrone.probes": [1],
        "isochrone.network.pings": [5],
        "isochrone.network.pings.lost": [1],
        "isochrone.network.rtt": [0.1],
    }
    (point,) = points_in(metrics_in(decoded(fact))["isochrone.network.rtt"])
    found = attributes(point.attributes)
    assert (found["server.address"], found["server.port"]) == ("site-1", 8080)
    assert found["isochrone.network.method"] == "tcp"
    assert not [name for name in found if name.startswith("gen_ai.")]


def test_a_point_stands_at_the_time_of_its_result_and_holds_the_number_exactly() -> None:
    for age in (0.5, 10.0, 6 * 86_400.0):
        metric = metrics_in(decoded(fact_of(age_seconds=age)))["isochrone.time_to_first_token"]
        assert metric.unit == "s"
        assert metric.histogram.aggregation_temporality == AGGREGATION_TEMPORALITY_DELTA
        (point,) = metric.histogram.data_points
        started = NOW_NS - round(age * 1e9)
        assert (point.start_time_unix_nano, point.time_unix_nano) == (started, started + 10**9)
        assert (point.count, point.sum, point.min, point.max) == (1, 0.3, 0.3, 0.3)
        within = list(point.bucket_counts).index(1)
        assert sum(point.bucket_counts) == 1
        assert len(point.bucket_counts) == len(point.explicit_bounds) + 1
        assert point.explicit_bounds[within - 1] < 0.3 <= point.explicit_bounds[within]
        (exemplar,) = point.exemplars
        named = "00000000-0000-0000-0000-000000000001:5"
        assert attributes(exemplar.filtered_attributes) == {"isochrone.result_id": named}


def test_a_point_says_who_measured_what() -> None:
    request = decoded(fact_of())
    (point,) = points_in(metrics_in(request)["gen_ai.client.operation.time_to_first_chunk"])
    assert attributes(point.attributes) == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "model-1",
        "server.address": "api.openai.com",
        "server.port": 443,
        "isochrone.agent": "agent-1",
        "isochrone.agent_region": "eu-central",
        "isochrone.endpoint": "near",
        "isochrone.endpoint_region": "us-east",
        "isochrone.module": "chat",
        "isochrone.connection": "cold",
    }
    resource = attributes(request.resource_metrics[0].resource.attributes)
    assert resource == {"service.name": "isochrone", "service.version": "1.2.3"}


def test_the_first_chunk_is_the_first_event_though_its_token_comes_later() -> None:
    marks = Marks(request_started=0.1, first_event=0.2, first_token=0.5, end=1.0)
    found = numbers(fact_of(inference_result(marks=marks, ttft_seconds=0.4)))
    assert found["gen_ai.client.operation.time_to_first_chunk"] == [pytest.approx(0.1)]
    assert found["isochrone.time_to_first_token"] == [0.4]


def test_a_failure_is_counted_by_its_kind_and_brings_no_latency() -> None:
    fact = fact_of(inference_result(outcome=Outcome.TIMEOUT_STALL, reason="no token"))
    assert set(numbers(fact)) == {"isochrone.probes", "gen_ai.client.token.usage"}
    (point,) = points_in(metrics_in(decoded(fact))["isochrone.probes"])
    assert attributes(point.attributes)["error.type"] == "timeout_stall"
    (good,) = points_in(metrics_in(decoded(fact_of()))["isochrone.probes"])
    assert "error.type" not in attributes(good.attributes)


def test_tokens_that_nobody_billed_are_no_usage() -> None:
    tokens = Tokens(source=TokenSource.ARRIVALS, output=32, arrivals=32)
    assert "gen_ai.client.token.usage" not in numbers(fact_of(inference_result(tokens=tokens)))


def test_an_endpoint_that_no_file_names_any_more_is_told_without_its_place() -> None:
    (point,) = points_in(metrics_in(decoded(fact_of(endpoint=None)))["isochrone.probes"])
    found = attributes(point.attributes)
    assert found["isochrone.endpoint"] == "near"
    assert not {"server.address", "gen_ai.provider.name"} & set(found)


def test_every_metric_has_one_kind_and_bounds_that_grow() -> None:
    metrics = metrics_in(decoded(fact_of(), fact_of(rtt_result())))
    assert set(metrics) == {one.name for one in INSTRUMENTS}
    for one in INSTRUMENTS:
        assert metrics[one.name].WhichOneof("data") == ("histogram" if one.bounds else "sum")
        assert list(one.bounds) == sorted(set(one.bounds))


def test_every_provider_has_a_name() -> None:
    assert set(genai.PROVIDER_NAMES) == set(Provider)


@pytest.mark.parametrize(
    ("provider", "url", "name", "operation"),
    [
        ("openai", "http://10.0.0.7:8000/v1", "openai", "chat"),
        ("openai", "https://api.groq.com/openai/v1", "groq", "chat"),
        ("openai-completions", "http://vllm/v1", "openai", "text_completion"),
        ("azure-openai", "https://x.openai.azure.com/", "azure.ai.openai", "chat"),
        ("bedrock", "https://bedrock-runtime.eu-central-1.amazonaws.com", "aws.bedrock", "chat"),
        ("gemini", "https://generativelanguage.googleapis.com/v1beta", "gcp.gemini", "generate_content"),
        ("gemini", "https://europe-west4-aiplatform.googleapis.com/v1", "gcp.vertex_ai", "generate_content"),
        ("openai", "https://notapi.x.ai.example/v1", "openai", "chat"),
        ("of-tomorrow", "https://h/v1", "of-tomorrow", "chat"),
    ],
)
def test_providers_and_operations_have_the_words_of_the_conventions(
    provider: str, url: str, *, name: str, operation: str
) -> None:
    server = genai.server_of(url)
    assert server is not None
    assert (genai.provider_name(provider, server[0]), genai.operation_name(provider)) == (name, operation)


def answer(status: int, body: bytes = b"", **headers: str) -> Answer:
    return Answer(status=status, headers={name.replace("_", "-"): value for name, value in headers.items()}, body=body)


@pytest.mark.parametrize("status", [429, 502, 503, 504])
def test_what_the_specification_says_is_sent_again(status: int) -> None:
    verdict = OTLP.judge(answer(status, retry_after="7"), NOW)
    assert (verdict.fate, verdict.retry_after_seconds) == (Fate.AGAIN, 7.0)


@pytest.mark.parametrize("status", [301, 400, 401, 404, 413, 500, 501])
def test_everything_else_is_refused_for_good(status: int) -> None:
    verdict = OTLP.judge(answer(status, b"bad\nthing"), NOW)
    assert (verdict.fate, verdict.words) == (Fate.REFUSED, f"HTTP {status}: bad thing")


def test_partial_success_is_success_that_is_told() -> None:
    response = ExportMetricsServiceResponse()
    response.partial_success.rejected_data_points = 3
    response.partial_success.error_message = "too old"
    verdict = OTLP.judge(answer(200, response.SerializeToString()), NOW)
    assert (verdict.fate, verdict.rejected, verdict.words) == (Fate.TAKEN, 3, "3 data points refused: too old")


@pytest.mark.parametrize("body", [b"", b"{}", b"\xff\xff\xff"])
def test_a_success_without_a_readable_word_is_a_success(body: bytes) -> None:
    verdict = OTLP.judge(answer(200, body), NOW)
    assert (verdict.fate, verdict.rejected, verdict.words) == (Fate.TAKEN, 0, "")


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("20", 20.0),
        ("Sun, 01 Mar 2026 12:00:30 GMT", 30.0),
        ("Sun, 01 Mar 2026 11:00:00 GMT", 0.0),
        ("999999999", 3_600.0),
        ("-1", None),
        ("soon", None),
        ("", None),
        (None, None),
    ],
)
def test_retry_after_is_seconds_or_a_date(value: str | None, seconds: float | None) -> None:
    assert retry_after_seconds(value, now=NOW) == seconds
