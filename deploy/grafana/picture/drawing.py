"""A whole dashboard: panels at their places on the grid."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from deploy.grafana.picture.asking import Answer, Span
from deploy.grafana.picture.canvas import DIM, EDGE, INK, PANEL, PAPER, Box, Canvas
from deploy.grafana.picture.courses import paint_lines
from deploy.grafana.picture.frames import frame_of
from deploy.grafana.picture.graphs import paint_map, paint_number
from deploy.grafana.picture.tables import paint_matrix, paint_table

WIDTH: Final = 1_248.0
COLUMNS: Final = 24
LINE: Final = 27.0
"""Pixels of one line of the grid."""
MARGIN: Final = 20.0
HEADER: Final = 64.0
GAP: Final = 8.0
NOTE: Final = "drawn from the dashboard's own queries, not by Grafana"

Answers = Mapping[int, Sequence[Answer]]


def draw(document: Mapping[str, Any], answers: Answers, span: Span) -> str:
    """Return the picture of a dashboard; `answers` by the id of the panel."""
    canvas = Canvas()
    lines = max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in document["panels"])
    width, height = WIDTH + 2 * MARGIN, HEADER + lines * LINE + MARGIN
    canvas.rectangle(Box(x=0, y=0, w=width, h=height), fill=PAPER, radius=10)
    canvas.text(MARGIN + 4, 40, document["title"], size=20, more='font-weight="600"')
    told = f"{span.seconds // 60} minutes until {span.until:%Y-%m-%d %H:%M} UTC · {NOTE}"
    canvas.text(width - MARGIN - 4, 40, told, size=12, fill=DIM, more='text-anchor="end"')
    for panel in document["panels"]:
        box = _box(panel["gridPos"])
        if panel["type"] == "row":
            canvas.text(box.x + 4, box.y + 19, panel["title"], size=14, fill=INK, more='font-weight="600"')
        else:
            _paint(canvas, box, panel, answers=answers[panel["id"]], span=span)
    return canvas.document(width=width, height=height, title=document["title"])


def _box(place: Mapping[str, int]) -> Box:
    column = WIDTH / COLUMNS
    return Box(
        x=MARGIN + place["x"] * column + GAP / 2,
        y=HEADER + place["y"] * LINE + GAP / 2,
        w=place["w"] * column - GAP,
        h=place["h"] * LINE - GAP,
    )


def _paint(canvas: Canvas, box: Box, panel: Mapping[str, Any], *, answers: Sequence[Answer], span: Span) -> None:
    canvas.rectangle(box, fill=PANEL, radius=6, stroke=EDGE)
    canvas.text(box.x + 14, box.y + 23, panel["title"], size=12.5, fill=INK, more='font-weight="600"')
    _INSIDE[panel["type"]](canvas, box.inner(), panel, answers, span)


def _table(canvas: Canvas, box: Box, panel: Mapping[str, Any], answers: Sequence[Answer], span: Span) -> None:  # noqa: PLR0917  one shape for all
    frame = frame_of(panel, answers)
    if any("groupingToMatrix" in step["id"] for step in panel["transformations"]):
        paint_matrix(canvas, box, frame, panel=panel)
    else:
        paint_table(canvas, box, frame, panel=panel, span=span)


_INSIDE: Final[Mapping[str, Callable[[Canvas, Box, Mapping[str, Any], Sequence[Answer], Span], None]]] = {
    "stat": lambda canvas, box, panel, answers, _: paint_number(canvas, box, answers, panel=panel),
    "table": _table,
    "geomap": lambda canvas, box, panel, answers, _: paint_map(canvas, box, answers, panel=panel),
    "timeseries": lambda canvas, box, panel, answers, span: paint_lines(canvas, box, answers, panel=panel, span=span),
}
"""Kinds of panels that can be drawn."""
