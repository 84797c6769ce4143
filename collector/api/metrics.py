"""GET /metrics: Prometheus text, from memory alone."""

import asyncio

from fastapi import APIRouter, Response

from collector.api.context import Running, Scraping
from collector.metrics.live import CONTENT_TYPE

router = APIRouter(tags=["reading"], dependencies=[Scraping])


@router.get("/metrics")
async def get_metrics(context: Running) -> Response:
    """Return every series. Written in a thread: batches come in meanwhile."""
    text = await asyncio.to_thread(context.metrics.render)
    return Response(text, headers={"Content-Type": CONTENT_TYPE})
