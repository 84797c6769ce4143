"""GET /metrics: Prometheus text or OpenMetrics, from memory alone."""

import asyncio
import gzip
from typing import Final

from fastapi import APIRouter, Request, Response

from collector.api.context import Running, Scraping
from collector.api.negotiation import takes_gzip, wants_openmetrics
from collector.metrics.live import OPENMETRICS_TYPE, TEXT_TYPE, LiveMetrics

GZIP_LEVEL: Final = 1
"""Fifteen times smaller; the next levels cost twice the time for a fifth less."""

router = APIRouter(tags=["reading"], dependencies=[Scraping])


@router.get("/metrics")
async def get_metrics(request: Request, context: Running) -> Response:
    """Return every series. Written in a thread: batches come in meanwhile."""
    openmetrics = wants_openmetrics(request.headers.get("accept", ""))
    gzipped = takes_gzip(request.headers.get("accept-encoding", ""))
    async with context.scraping:
        context.metrics.expire()
        body = await asyncio.to_thread(write, context.metrics, openmetrics=openmetrics, gzipped=gzipped)
    headers = {
        "Content-Type": OPENMETRICS_TYPE if openmetrics else TEXT_TYPE,
        "Vary": "Accept, Accept-Encoding",
        **({"Content-Encoding": "gzip"} if gzipped else {}),
    }
    return Response(body, headers=headers)


def write(metrics: LiveMetrics, *, openmetrics: bool, gzipped: bool) -> bytes:
    """Return the body. Safe to call in a thread."""
    text = metrics.render(openmetrics=openmetrics)
    return gzip.compress(text, GZIP_LEVEL, mtime=0) if gzipped else text
