"""What a server says of its own time is brought to seconds, and believed only where it fits."""

import re
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent import servertiming
from agent.servertiming import (
    Told,
    better,
    judge,
    region_by_headers,
    told_by_bedrock,
    told_by_headers,
    told_by_ollama,
    told_by_openai,
)
from isochrone.marks import Marks

MARKS = Marks(request_started=0.1, first_token=0.4, end=1.1)
"""TTFT 0.3 s, whole 1.0 s."""
RTT = 0.1
PAGE = Path(__file__).parents[2] / "docs" / "reference" / "measurement.md"


def told(first: float | None = None, total: float | None = None, queue: float | None = None) -> Told:
    return Told(source="x", first_token_seconds=first, total_seconds=total, queue_seconds=queue)


@pytest.mark.parametrize(
    ("said", "trusted"),
    [
        (told(0.2), True),
        (told(0.3), True),
        (told(0.305), True),
        (told(0.306), False),
        (told(0.061), True),
        (told(0.059), False),
        (told(0.0), False),
        (told(200.0), False),
        (told(total=0.9), True),
        (told(total=1.006), False),
        (told(total=0.26), False),
        (told(0.2, 0.9), True),
        (told(0.2, 900.0), False),
        (told(0.0002, 0.9), False),
    ],
)
def test_the_rule_of_trust(said: Told, *, trusted: bool) -> None:
    verdict = judge(said, MARKS, rtt_seconds=RTT)
    assert verdict.trusted is trusted
    assert (verdict.first_token_seconds, verdict.total_seconds) == (said.first_token_seconds, said.total_seconds)


def test_an_unknown_round_trip_counts_as_none() -> None:
    assert not judge(told(0.08), MARKS, rtt_seconds=None).trusted
    assert judge(told(0.08), MARKS, rtt_seconds=RTT).trusted


def test_what_was_not_seen_from_here_cannot_be_trusted() -> None:
    assert not judge(told(0.2), Marks(), rtt_seconds=RTT).trusted


@pytest.mark.parametrize(
    ("headers", "source", "first", "total"),
    [
        ({"openai-processing-ms": "250"}, "openai-processing-ms", 0.25, None),
        ({"x-envoy-upstream-service-time": "37"}, "x-envoy-upstream-service-time", 0.037, None),
        ({"x-envoy-upstream-service-time": "37", "openai-processing-ms": "12.5"}, "openai-processing-ms", 0.0125, None),
        ({"fireworks-server-time-to-first-token": "0.25"}, "fireworks-server-time-to-first-token", 0.25, None),
        ({"x-amzn-bedrock-invocation-latency": "900"}, "x-amzn-bedrock-invocation-latency", None, 0.9),
        ({"server-timing": "x-originResponse;dur=69"}, "server-timing x-originResponse", 0.069, None),
        ({"server-timing": "gfet4t7; dur=523"}, "server-timing gfet4t7", 0.523, None),
        ({"server-timing": 'cache;desc="HIT", edge;dur=3, origin;dur="20.5"'}, "server-timing origin", 0.0205, None),
        ({"server-timing": 'cdn;desc="a, b;x=1";dur=5, o;dur=2'}, "server-timing cdn", 0.005, None),
        ({"server-timing": 'cdn;dur=5, "open;dur=9'}, "server-timing cdn", 0.005, None),
    ],
)
def test_headers(headers: dict[str, str], source: str, *, first: float | None, total: float | None) -> None:
    found = told_by_headers(headers)
    assert found is not None
    assert found.source == source
    assert found.first_token_seconds == (None if first is None else pytest.approx(first))
    assert found.total_seconds == (None if total is None else pytest.approx(total))


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"openai-processing-ms": ""},
        {"openai-processing-ms": "fast"},
        {"openai-processing-ms": "-1"},
        {"openai-processing-ms": "nan"},
        {"openai-processing-ms": "1e999"},
        {"server-timing": "miss, db;desc=x"},
        {"server-timing": ";;;,,,dur=="},
    ],
)
def test_headers_that_tell_nothing(headers: dict[str, str]) -> None:
    assert told_by_headers(headers) is None


@pytest.mark.parametrize("piece", [" ", "a", '"', ",", ";", "dur", ";dur", ";dur=", '"a", ', "1"])
@pytest.mark.parametrize("around", ["", "a;dur=1", "a,", '"'])
def test_a_long_header_takes_no_longer_than_its_length(piece: str, around: str) -> None:
    """Read byte by byte again and again, 100 kB took a minute, in which the agent did nothing else."""
    began = time.process_time()
    told_by_headers({"server-timing": around + piece * (100_000 // len(piece)) + around})
    assert time.process_time() - began < 2


@pytest.mark.parametrize(
    ("headers", "region"),
    [
        ({"x-ms-region": "Sweden Central", "cf-ray": "8f-ARN"}, "Sweden Central"),
        ({"x-groq-region": "us-east-1"}, "us-east-1"),
        ({"cf-ray": "8f2a1b3c4d5e6f70-MIA"}, "edge:MIA"),
        ({"cf-ray": "8f2a1b3c4d5e6f70"}, None),
        ({"x-ms-region": "  "}, None),
        ({"x-ms-region": "a\x1b[31m" + "b" * 100}, "a [31m" + "b" * 57 + "…"),
        ({}, None),
    ],
)
def test_regions(headers: dict[str, str], region: str | None) -> None:
    assert region_by_headers(headers) == region


GROQ = {"queue_time": 0.02, "prompt_time": 0.01, "completion_time": 0.1, "total_time": 0.11}


@pytest.mark.parametrize(
    ("payload", "source", "seconds"),
    [
        ({"usage": GROQ}, "groq usage", (0.03, 0.13, 0.02)),
        ({"x_groq": {"usage": GROQ}}, "groq usage", (0.03, 0.13, 0.02)),
        ({"usage": {**GROQ, "queue_time": -1}}, "groq usage", (0.01, 0.11, None)),
        ({"time_info": {**GROQ, "total_time": 0.2}}, "cerebras time_info", (0.03, 0.2, 0.02)),
        ({"metrics": {"time_to_first_token_ms": 80, "queue_time_ms": 5}}, "vllm metrics", (0.085, None, 0.005)),
        ({"timings": {"prompt_ms": 50, "predicted_ms": 200.5}}, "llama.cpp timings", (0.05, 0.2505, None)),
        ({"perf_metrics": {"server-time-to-first-token": "0.25"}}, "fireworks perf_metrics", (0.25, None, None)),
        ({"nvext": {"timing": {"ttft_ms": 9, "total_time_ms": 90}}}, "dynamo nvext.timing", (0.009, 0.09, None)),
    ],
)
def test_chunks_of_compatible_servers(
    payload: dict[str, object], source: str, seconds: tuple[float | None, float | None, float | None]
) -> None:
    found = told_by_openai(payload)
    assert found is not None
    assert found.source == source
    values = (found.first_token_seconds, found.total_seconds, found.queue_seconds)
    assert values == tuple(None if value is None else pytest.approx(value) for value in seconds)


def test_nanoseconds_of_ollama_and_milliseconds_of_bedrock() -> None:
    durations = {"total_duration": 5_000_000_000, "load_duration": 2_000_000_000, "prompt_eval_duration": 500_000_000}
    assert told_by_ollama(durations) == Told(source="ollama durations", first_token_seconds=2.5, total_seconds=5.0)
    found = told_by_bedrock({"metrics": {"latencyMs": 1250}})
    assert found is not None
    assert found.total_seconds == pytest.approx(1.25)


def test_of_two_words_the_one_that_tells_of_the_first_token_is_better() -> None:
    whole, first = told(total=1.0), told(0.1)
    assert better(None, None) is None
    assert better(whole, first) == better(first, whole) == better(None, first) == better(first, None) == first
    assert better(whole, None) == whole
    assert better(told(0.2), first) == told(0.2)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(["usage", "x_groq", "prompt_time", "time_info", "metrics", "prompt_ms", "latencyMs"]),
                inner,
            )
        ),
    )
)
def test_no_payload_breaks_the_reading_or_the_contract(payload: object) -> None:
    holder = payload if isinstance(payload, dict) else {"metrics": payload}
    for found in (told_by_openai(holder), told_by_ollama(holder), told_by_bedrock(holder)):
        if found is not None:
            assert not judge(found, Marks(), rtt_seconds=None).trusted


def test_every_source_stands_in_the_reference() -> None:
    code = Path(servertiming.__file__).read_text(encoding="utf-8")
    sources = set(re.findall(r'(?:_direct|_phases|_told)\("([^"]+)"', code)) | set(
        re.findall(r'_Header\("([^"]+)"', code)
    )
    page = PAGE.read_text(encoding="utf-8")
    assert len(sources) >= 12
    assert [source for source in sorted(sources) if f"`{source}`" not in page] == []
