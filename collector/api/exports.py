"""GET /v1/export: results as a file, written while it is read; never whole in memory."""

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from datetime import timedelta
from typing import Annotated, Final, Literal

from fastapi import APIRouter, Query, Request, Response
from starlette.types import Receive, Scope, Send

from collector.api.asking import AskedSpan, Bounds, OnlyKnown, ResultFilters, Span
from collector.api.context import Context, Reading, Running
from collector.errors import CollectorError, DatabaseUnavailable, Refused
from collector.export import FORMATS, Writer
from collector.store.export import Piece, StartPlace, Values, export_rows, place_behind

router = APIRouter(tags=["reading"], dependencies=[Reading, OnlyKnown])

PIECE_ROWS: Final = 1_000
"""Read and written at once: some 20 ms of the event loop."""
FIRST_STRETCH: Final = timedelta(minutes=1)
SHORTEST_STRETCH: Final = timedelta(seconds=1)
LONGEST_STRETCH: Final = timedelta(days=1)
GROWTH: Final = 4
SHRINK: Final = GROWTH**3
"""After a look that was too much for the database: results lie closer there."""
QUICK_SECONDS: Final = 0.2
"""After a quicker look that found little the next is longer."""
TAKE_SECONDS = 60.0
"""How long a reader may take over a chunk; then the connection is closed."""
PATIENCE_SECONDS = 60.0
"""How long a file that was begun waits for a turn, or for a database that went away."""
RETRY_SECONDS: Final = 1.0
BOUNDS: Final = Bounds(default_seconds=3_600.0)

_log = logging.getLogger(__name__)


@router.get("/v1/export")
async def get_export(
    context: Running,
    filters: ResultFilters,
    asked: AskedSpan,
    *,
    format: Annotated[Literal["csv", "parquet"], Query()],  # noqa: A002  the name in the query
) -> Response:
    """Return the results that started in a span (default: the last hour; at most 31 days), by their start.

    The file is written while it is read, so its length is not known ahead. One that cannot be finished ends without its
    last chunk, so that every client sees that something is missing.
    """
    span = asked.span(context.utc_now(), BOUNDS)
    known = await filters.known()
    chosen = FORMATS[format]
    writer = await asyncio.to_thread(chosen.writer)
    name = f"isochrone-{span.since:%Y%m%dT%H%M%SZ}-{span.until:%Y%m%dT%H%M%SZ}.{format}"
    return Download(context, file_of(pieces_of(context, known, span), writer), media_type=chosen.media_type, name=name)


class Download(Response):
    """A file in chunks. Takes a place among the exports while it lasts; raises Refused without one.

    What fails before the first chunk is answered as a problem.
    """

    def __init__(self, context: Context, chunks: AsyncGenerator[bytes], *, media_type: str, name: str) -> None:
        super().__init__(media_type=media_type, headers={"Content-Disposition": f'attachment; filename="{name}"'})
        del self.headers["content-length"]
        self._context = context
        self._chunks = chunks

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the file, as fast as it is read."""
        request = Request(scope, receive)
        with self._context.exports.slot():
            async with aclosing(self._chunks) as chunks:
                chunk: bytes | None = await anext(chunks)
                await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
                try:
                    while chunk is not None and not await request.is_disconnected():
                        await _give(send, chunk)
                        chunk = await anext(chunks, None)
                except CollectorError as exc:
                    _log.error("an export ended early: %s", exc)
                    return
                except TimeoutError:
                    _log.warning("an export ended early: its reader took nothing for %g s", TAKE_SECONDS)
                    return
            await send({"type": "http.response.body", "body": b""})


async def file_of(pieces: AsyncIterator[list[Values]], writer: Writer) -> AsyncGenerator[bytes]:
    """Yield the file in chunks; written in a thread, so that batches come in meanwhile. Raise what `pieces` raises."""
    async for rows in pieces:
        chunk = await asyncio.to_thread(writer.add, rows)
        if chunk:
            yield chunk
    yield await asyncio.to_thread(writer.end)


async def pieces_of(context: Context, filters: dict[str, str], span: Span) -> AsyncGenerator[list[Values]]:
    """Yield the results of a span, each once; raise Refused and DatabaseUnavailable.

    Looks at a stretch at a time: it grows where there is little, and shrinks where there is more than a piece, or more
    than the database finds in time.
    """
    since, stretch, place = span.since, FIRST_STRETCH, StartPlace(started_at=span.since)
    begun = False
    while since < span.until:
        until = min(since + stretch, span.until)
        piece = Piece(since=since, until=until, place=place, limit=PIECE_ROWS)
        asked_at = context.monotonic()
        try:
            rows = await _read(context, filters, piece, begun=begun)
        except Refused as exc:
            if exc.kind != "too_much" or stretch <= SHORTEST_STRETCH:
                raise
            stretch = max(stretch / SHRINK, SHORTEST_STRETCH)
            continue
        quick = context.monotonic() - asked_at < QUICK_SECONDS
        if rows:
            begun = True
            yield rows
        if len(rows) == PIECE_ROWS:
            place = place_behind(rows[-1])
            since, stretch = place.started_at, max(stretch / GROWTH, SHORTEST_STRETCH)
            continue
        since, place = until, StartPlace(started_at=until)
        if quick and len(rows) < PIECE_ROWS / GROWTH:
            stretch = min(stretch * GROWTH, LONGEST_STRETCH)


async def _read(context: Context, filters: dict[str, str], piece: Piece, *, begun: bool) -> list[Values]:
    """Read a piece; a file that was begun waits for its turn and for the database."""
    give_up_at = context.monotonic() + (PATIENCE_SECONDS if begun else 0.0)
    while True:
        try:
            return await context.readers.read(export_rows, filters, piece)
        except (Refused, DatabaseUnavailable) as exc:
            passing = isinstance(exc, DatabaseUnavailable) or exc.kind == "busy"
            if not passing or context.monotonic() >= give_up_at:
                raise
        await asyncio.sleep(RETRY_SECONDS)


async def _give(send: Send, chunk: bytes) -> None:
    """Raise TimeoutError when the reader takes nothing."""
    async with asyncio.timeout(TAKE_SECONDS):
        await send({"type": "http.response.body", "body": chunk, "more_body": True})
