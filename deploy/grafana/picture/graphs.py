"""Big numbers, lines over time, and the map."""

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from deploy.grafana.picture.asking import Answer, Series, Span
from deploy.grafana.picture.canvas import DIM, FAINT, INK, PAPER, Box, Canvas
from deploy.grafana.picture.fields import look_of
from deploy.grafana.picture.land import NORTH, SOUTH, STEP_DEGREES, dots
from deploy.grafana.picture.words import written

PALETTE: Final = ("#4c8dff", "#3fb27f", "#a274f0", "#ef8c3b", "#e5c04b", "#4cc3d9", "#e0556a", "#b7bfcc")
TICKS: Final = 3
GAP_SECONDS: Final = 900.0
"""Over a longer silence no line is drawn."""
ROOM: Final = 1.12
"""Above the greatest value."""


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


def paint_lines(canvas: Canvas, box: Box, answers: Sequence[Answer], *, panel: Mapping[str, Any], span: Span) -> None:
    """Paint series over the time shown, with an axis of values, moments, and a legend."""
    named = [(_legend(answer.legend, one), one) for answer in answers for one in answer.series if one.points]
    plot = Box(x=box.x + 52, y=box.y, w=box.w - 56, h=box.h - 40)
    least = min((value for _, one in named for _, value in one.points), default=0.0)
    top = (
        panel["fieldConfig"]["defaults"].get("max")
        or max((value for _, one in named for _, value in one.points), default=0.0) * ROOM
        or 1.0
    )
    bottom = 0.0 if least >= 0 else least
    unit = look_of(panel).unit
    for tick in range(TICKS + 1):
        value = bottom + (top - bottom) * tick / TICKS
        y = plot.y + plot.h * (1 - tick / TICKS)
        canvas.line([(plot.x, y), (plot.x + plot.w, y)], stroke=FAINT, width=1)
        canvas.text(plot.x - 8, y + 4, written(value, unit), size=10.5, fill=DIM, more='text-anchor="end"')
    began = span.until.timestamp() - span.seconds
    _moments(canvas, plot, span)

    def place(at: float, value: float) -> tuple[float, float]:
        return (
            plot.x + plot.w * (at - began) / span.seconds,
            plot.y + plot.h * (1 - (value - bottom) / (top - bottom)),
        )

    x = plot.x
    for color, (name, series) in zip(PALETTE, named, strict=False):
        points = [place(at, value) for at, value in series.points]
        canvas.line(points, stroke=color, width=2)
        canvas.circle(x + 4, plot.y + plot.h + 30, 4, fill=color)
        canvas.text(x + 13, plot.y + plot.h + 34, name, size=11, fill=INK)
        x += 30 + 6.4 * len(name)


def _moments(canvas: Canvas, plot: Box, span: Span) -> None:
    for part in (0.0, 0.25, 0.5, 0.75, 1.0):
        moment = datetime.fromtimestamp(span.until.timestamp() - span.seconds * (1 - part), UTC)
        anchor = {0.0: "start", 1.0: "end"}.get(part, "middle")
        more = f'text-anchor="{anchor}"'
        canvas.text(plot.x + plot.w * part, plot.y + plot.h + 15, f"{moment:%H:%M}", size=10.5, fill=DIM, more=more)


def _legend(pattern: str, series: Series) -> str:
    return re.sub(r"\{\{(\w+)\}\}", lambda match: series.labels.get(match[1], ""), pattern)


def paint_map(canvas: Canvas, box: Box, answers: Sequence[Answer], *, panel: Mapping[str, Any]) -> None:
    """Paint land as dots, endpoints as squares, and regions as circles in the colour of their value."""
    scale = min(box.w / 360, box.h / (NORTH - SOUTH))
    left, top = box.x + (box.w - 360 * scale) / 2, box.y + (box.h - (NORTH - SOUTH) * scale) / 2

    def place(latitude: float, longitude: float) -> tuple[float, float]:
        return left + (longitude + 180) * scale, top + (NORTH - latitude) * scale

    for spot in dots():
        canvas.circle(*place(*spot), STEP_DEGREES * scale * 0.3, fill=FAINT)
    look = look_of(panel)
    regions, endpoints = answers
    for series in endpoints.series:
        x, y = place(*_where(series))
        canvas.rectangle(Box(x=x - 5, y=y - 5, w=10, h=10), fill=PALETTE[0], radius=2, stroke=PAPER)
        _label(canvas, x, y - 11, words=series.labels["endpoint"], fill=PALETTE[0])
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
