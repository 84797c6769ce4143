"""Big numbers, and the map."""

from collections.abc import Mapping, Sequence
from typing import Any

from deploy.grafana.picture.asking import Answer, Series
from deploy.grafana.picture.canvas import BLUE, DIM, INK, LAND, PAPER, Box, Canvas
from deploy.grafana.picture.fields import look_of
from deploy.grafana.picture.land import NORTH, SOUTH, STEP_DEGREES, dots
from deploy.grafana.picture.words import written


def paint_number(canvas: Canvas, box: Box, answers: Sequence[Answer], *, panel: Mapping[str, Any]) -> None:
    """Paint one value, in the colour that thresholds give it."""
    values = [series.points[-1][1] for answer in answers for series in answer.series if series.points]
    look = look_of(panel)
    words = written(values[0], look.unit, decimals=look.decimals) if values else "no data"
    fill = look.color(values[0]) if values else DIM
    canvas.text(
        box.x + box.w / 2, box.y + box.h * 0.62, words, size=28, fill=fill,
        more='text-anchor="middle" font-weight="600"',
    )  # fmt: skip


def paint_map(canvas: Canvas, box: Box, answers: Sequence[Answer], *, panel: Mapping[str, Any]) -> None:
    """Paint land as dots, endpoints as squares, and regions as circles in the colour of their value."""
    scale = min(box.w / 360, box.h / (NORTH - SOUTH))
    left, top = box.x + (box.w - 360 * scale) / 2, box.y + (box.h - (NORTH - SOUTH) * scale) / 2

    def place(latitude: float, longitude: float) -> tuple[float, float]:
        return left + (longitude + 180) * scale, top + (NORTH - latitude) * scale

    for spot in dots():
        canvas.circle(*place(*spot), STEP_DEGREES * scale * 0.32, fill=LAND)
    look = look_of(panel)
    regions, endpoints = answers
    for series in endpoints.series:
        x, y = place(*_where(series))
        canvas.rectangle(Box(x=x - 5, y=y - 5, w=10, h=10), fill=BLUE, radius=2, stroke=PAPER)
        _label(canvas, x, y - 11, words=series.labels["endpoint"], fill=BLUE)
    for series in regions.series:
        x, y = place(*_where(series))
        value = series.points[-1][1]
        color = look.color(value)
        for radius, opacity in ((18, 0.16), (11, 0.3), (6, 1.0)):
            canvas.circle(x, y, radius, fill=color, opacity=opacity)
        words = f"{series.labels['agent_region']}  {written(value, look.unit, decimals=look.decimals)}"
        _label(canvas, x, y + 26, words=words, fill=INK)


def _label(canvas: Canvas, x: float, y: float, *, words: str, fill: str) -> None:
    around = f'text-anchor="middle" font-weight="600" stroke="{PAPER}" stroke-width="3" paint-order="stroke"'
    canvas.text(x, y, words, size=11, fill=fill, more=around)


def _where(series: Series) -> tuple[float, float]:
    return float(series.labels["latitude"]), float(series.labels["longitude"])
