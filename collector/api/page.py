"""GET /: a small page that shows the summary and where everything else is."""

from importlib.resources import files
from typing import Final

from fastapi import APIRouter, Response

router = APIRouter(include_in_schema=False)

SAFETY: Final = {
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'"
    ),
    "X-Content-Type-Options": "nosniff",
}


@router.get("/")
async def get_page() -> Response:
    """Return the page; its script asks /v1/summary."""
    html = files("collector.api").joinpath("page.html").read_bytes()
    return Response(html, media_type="text/html", headers=SAFETY)
