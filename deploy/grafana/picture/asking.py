"""Asks Prometheus what a dashboard's panels ask, with every variable at "All"."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import httpx

ALL: Final = ".+"
POINTS: Final = 120
"""Of a graph."""
TIMEOUT_SECONDS: Final = 20.0


@dataclass(frozen=True, kw_only=True)
class Span:
    """The time shown."""

    until: datetime
    seconds: int
    rate_seconds: int = 120
    """What `$__rate_interval` stands for."""


@dataclass(frozen=True, kw_only=True)
class Series:
    """One line of a graph, or one value of now: moments as Unix time."""

    labels: Mapping[str, str]
    points: tuple[tuple[float, float], ...]


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What came back for one query."""

    ref: str
    legend: str
    series: tuple[Series, ...]


def expanded(text: str, *, rate_seconds: int, range_seconds: int) -> str:
    """Return a query with Grafana's words filled in and all values of every variable chosen."""
    fixed = {
        "$__rate_interval": f"{rate_seconds}s",
        "$__range_s": str(range_seconds),
        "$__range": f"{range_seconds}s",
    }
    for name, value in fixed.items():
        text = text.replace(name, value)
    return re.sub(r"\$[a-z_]+", ALL, text)


class Prometheus:
    """A server to ask. Raises httpx.HTTPError when it does not answer."""

    def __init__(self, url: str, span: Span) -> None:
        self._url = url.rstrip("/")
        self._span = span

    def ask(self, target: Mapping[str, Any]) -> Answer:
        """Return the answer to one query of a panel; a NaN is no answer."""
        span = self._span
        query = expanded(target["expr"], rate_seconds=span.rate_seconds, range_seconds=span.seconds)
        until = span.until.timestamp()
        if target.get("range"):
            step = max(1, span.seconds // POINTS)
            more = {"start": until - span.seconds, "end": until, "step": step}
            found = self._get("query_range", query, more)
        else:
            found = self._get("query", query, {"time": until})
        return Answer(
            ref=target["refId"], legend=target.get("legendFormat", ""), series=tuple(_series(one) for one in found)
        )

    def _get(self, call: str, query: str, more: Mapping[str, float]) -> list[dict[str, Any]]:
        answer = httpx.get(
            f"{self._url}/api/v1/{call}", params={"query": query, **more}, trust_env=False, timeout=TIMEOUT_SECONDS
        )
        result = answer.raise_for_status().json()["data"]["result"]
        return list(result)


def _series(found: Mapping[str, Any]) -> Series:
    pairs = found["values"] if "values" in found else [found["value"]]
    points = tuple((float(at), float(value)) for at, value in pairs)
    return Series(labels=found["metric"], points=tuple(point for point in points if not math.isnan(point[1])))
