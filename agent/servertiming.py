"""What a server tells about its own time and place: headers and payloads in, seconds out. Pure.

    first_token   from the request's arrival there to its first token, waiting included; a header can only tell the
                  time to the answer's head, which most servers send with the first token: the rule below decides
    total         from the request's arrival there to the end of the answer
    queue         how long it waited there before anybody worked on it

A server's word is kept as it came, and trusted only where it fits what was seen from here (times in seconds):

    0 < first_token <= ttft + 0.005     and     first_token >= 0.3 (ttft - rtt)
    0 < total <= whole + 0.005          and     total >= 0.3 (whole - rtt)          whole: request to end

Of these, what is told must hold. Units differ from one provider to the next, and change: a thousandfold error fails it.
"""

import math
import re
from collections.abc import Mapping
from typing import Final

import msgspec

from isochrone.marks import Marks, ttft_seconds
from isochrone.names import MAX_SECONDS, printable
from isochrone.result import ServerTiming

SLACK_SECONDS: Final = 0.005
LEAST_SHARE: Final = 0.3
MAX_REGION: Final = 64
SECONDS: Final = 1.0
MILLISECONDS: Final = 1e-3
NANOSECONDS: Final = 1e-9

_POP: Final = re.compile(r"-([A-Z]{3})\Z")
"""The end of `cf-ray`: the airport of the Cloudflare data centre that took the request."""
_SPAN: Final = re.compile(r"(?:[^,\"]|\"[^\"]*+(?:\"|\Z))++")
"""What stands between commas; a comma in quotes parts nothing. It never looks at a byte twice, however long it is."""
_NAME: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_DURATION: Final = re.compile(r";\s*dur\s*=\s*\"?([0-9.eE+-]+)")

Payload = Mapping[str, object]


class Told(msgspec.Struct, frozen=True, kw_only=True):
    """What a server told, in seconds; nothing is judged yet."""

    source: str
    first_token_seconds: float | None = None
    total_seconds: float | None = None
    queue_seconds: float | None = None


class _Header(msgspec.Struct, frozen=True):
    name: str
    unit: float
    total: bool = False
    """It tells the whole time, not the time to the first token."""


_HEADERS: Final = (
    _Header("fireworks-server-time-to-first-token", SECONDS),
    _Header("openai-processing-ms", MILLISECONDS),
    _Header("x-litellm-response-duration-ms", MILLISECONDS),
    _Header("x-envoy-upstream-service-time", MILLISECONDS),
    _Header("x-kong-upstream-latency", MILLISECONDS),
    _Header("x-amzn-bedrock-invocation-latency", MILLISECONDS, total=True),
)
"""In this order: the nearer to the model, the better."""
_REGIONS: Final = ("x-ms-region", "x-groq-region")
_SPANS: Final = "server-timing"
WORDED: Final = frozenset({*_REGIONS, _SPANS})
"""Headers whose words, not only numbers, are kept."""


def told_by_headers(headers: Mapping[str, str]) -> Told | None:
    """Return what the head of an answer tells; names are in lower case."""
    for header in _HEADERS:
        seconds = _seconds(headers, header.name, header.unit)
        if seconds is not None and header.total:
            return Told(source=header.name, total_seconds=seconds)
        if seconds is not None:
            return Told(source=header.name, first_token_seconds=seconds)
    return _server_timing(headers.get(_SPANS, ""))


def region_by_headers(headers: Mapping[str, str]) -> str | None:
    """Return the region that the answer's head names; `edge:MIA` where only the edge's airport is known."""
    for name in _REGIONS:
        region = printable(headers.get(name, ""), limit=MAX_REGION)
        if region:
            return region
    found = _POP.search(headers.get("cf-ray", "").strip())
    return None if found is None else f"edge:{found[1]}"


_TELLING: Final = frozenset({"x_groq", "usage", "time_info", "perf_metrics", "metrics", "timings", "nvext"})
"""Most chunks have none of them."""


def told_by_openai(payload: Payload) -> Told | None:
    """Return what a chunk of a compatible server tells beside its choices."""
    if _TELLING.isdisjoint(payload):
        return None
    groq = _inner(payload.get("x_groq"), "usage") or _inner(payload, "usage")
    fireworks, dynamo = _inner(payload, "perf_metrics"), _inner(_inner(payload, "nvext"), "timing")
    for told in (
        _phases("groq usage", groq),
        _phases("cerebras time_info", _inner(payload, "time_info")),
        _direct("fireworks perf_metrics", fireworks, ("server-time-to-first-token", "server-processing-time", SECONDS)),
        _vllm(_inner(payload, "metrics")),
        _llama_cpp(_inner(payload, "timings")),
        _direct("dynamo nvext.timing", dynamo, ("ttft_ms", "total_time_ms", MILLISECONDS)),
    ):
        if told is not None:
            return told
    return None


def told_by_ollama(payload: Payload) -> Told | None:
    """Return what Ollama's last line tells: loading the model and reading the prompt come before the first token."""
    reading = _seconds(payload, "prompt_eval_duration", NANOSECONDS)
    loading = _seconds(payload, "load_duration", NANOSECONDS)
    total = _seconds(payload, "total_duration", NANOSECONDS)
    first = None if reading is None else reading + (loading or 0.0)
    return _told("ollama durations", first=first, total=total)


def told_by_bedrock(payload: Payload) -> Told | None:
    """Return what the event `metadata` tells."""
    total = _seconds(_inner(payload, "metrics"), "latencyMs", MILLISECONDS)
    return _told("bedrock metrics.latencyMs", total=total)


def better(one: Told | None, other: Told | None) -> Told | None:
    """Return the one that tells of the first token; of two such the first."""
    if one is None or (one.first_token_seconds is None and other is not None and other.first_token_seconds is not None):
        return other
    return one


def judge(told: Told, marks: Marks, *, rtt_seconds: float | None) -> ServerTiming:
    """Return what was told with the verdict of the rule above; an unknown round trip counts as 0."""
    rtt = rtt_seconds or 0.0
    pairs = (
        (told.first_token_seconds, ttft_seconds(marks)),
        (told.total_seconds, _whole_seconds(marks)),
    )
    return ServerTiming(
        source=told.source,
        first_token_seconds=told.first_token_seconds,
        total_seconds=told.total_seconds,
        queue_seconds=told.queue_seconds,
        trusted=all(_fits(said, seen, rtt) for said, seen in pairs if said is not None),
    )


def _fits(said: float, seen: float | None, rtt: float) -> bool:
    return seen is not None and 0 < said <= seen + SLACK_SECONDS and said >= LEAST_SHARE * (seen - rtt)


def _whole_seconds(marks: Marks) -> float | None:
    if marks.end is None or marks.request_started is None:
        return None
    return marks.end - marks.request_started


def _server_timing(header: str) -> Told | None:
    """Return the longest span of a `server-timing` header: the outermost."""
    spans = []
    for span in _SPAN.findall(header):
        named, duration = _NAME.match(span.lstrip()), _DURATION.search(span)
        seconds = None if duration is None else _seconds({"dur": duration[1]}, "dur", MILLISECONDS)
        if seconds is not None and named is not None:
            spans.append((seconds, named[0]))
    if not spans:
        return None
    seconds, name = max(spans)
    return Told(source=printable(f"server-timing {name}", limit=MAX_REGION), first_token_seconds=seconds)


def _phases(source: str, usage: Payload) -> Told | None:
    """Read Groq's and Cerebras's form, in seconds; Groq's total leaves the queue out."""
    queue = _seconds(usage, "queue_time", SECONDS)
    prompt = _seconds(usage, "prompt_time", SECONDS)
    if prompt is None:
        return None
    first = (queue or 0.0) + prompt
    completion = _seconds(usage, "completion_time", SECONDS)
    told_total = _seconds(usage, "total_time", SECONDS)
    parts = None if completion is None else first + completion
    totals = [total for total in (told_total, parts) if total is not None]
    return _told(source, first=first, total=max(totals, default=None), queue=queue)


def _vllm(metrics: Payload) -> Told | None:
    """Read vLLM's form: its time to the first token leaves the queue out."""
    first = _seconds(metrics, "time_to_first_token_ms", MILLISECONDS)
    queue = _seconds(metrics, "queue_time_ms", MILLISECONDS)
    return None if first is None else _told("vllm metrics", first=first + (queue or 0.0), queue=queue)


def _llama_cpp(timings: Payload) -> Told | None:
    prompt = _seconds(timings, "prompt_ms", MILLISECONDS)
    predicted = _seconds(timings, "predicted_ms", MILLISECONDS)
    total = None if prompt is None or predicted is None else prompt + predicted
    return _told("llama.cpp timings", first=prompt, total=total)


def _direct(source: str, holder: Payload, names: tuple[str, str, float]) -> Told | None:
    first, total, unit = names
    return _told(source, first=_seconds(holder, first, unit), total=_seconds(holder, total, unit))


def _told(
    source: str, *, first: float | None = None, total: float | None = None, queue: float | None = None
) -> Told | None:
    if first is None and total is None:
        return None
    return Told(source=source, first_token_seconds=first, total_seconds=total, queue_seconds=queue)


def _inner(holder: object, name: str) -> Payload:
    value = holder.get(name) if isinstance(holder, Mapping) else None
    return value if isinstance(value, dict) else {}


def _seconds(holder: Payload, name: str, unit: float) -> float | None:
    """Return a number, or text that is one, in seconds; None for what is no duration."""
    value = holder.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        seconds = float(value) * unit
    except (ValueError, OverflowError):
        return None
    return seconds if math.isfinite(seconds) and 0 <= seconds <= MAX_SECONDS / 4 else None
