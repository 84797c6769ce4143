"""Lines over time."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from math import ceil, floor, log10
from typing import Any, Final

from deploy.grafana.picture.asking import Answer, Series, Span
from deploy.grafana.picture.canvas import BLUE, DIM, FAINT, INK, Box, Canvas
from deploy.grafana.picture.fields import look_of
from deploy.grafana.picture.words import written

PALETTE: Final = (BLUE, "#3fb27f", "#a274f0", "#ef8c3b", "#e5c04b", "#4cc3d9", "#e0556a", "#b7bfcc")
TICKS: Final = 4
ROUND: Final = (1.0, 2.0, 2.5, 5.0, 10.0)
"""Steps between two lines of the axis, times a power of ten."""
PARTS: Final = (0.0, 0.25, 0.5, 0.75, 1.0)
"""Where moments are written."""
ANCHORS: Final = {0.0: "start", 1.0: "end"}


@dataclass(frozen=True, kw_only=True)
class Plot:
    """An area with values from 0 up and the time shown from left to right."""

    box: Box
    top: float
    span: Span

    def place(self, at: float, value: float) -> tuple[float, float]:
        """Return where a value stands."""
        began = self.span.until.timestamp() - self.span.seconds
        return self.box.x + self.box.w * (at - began) / self.span.seconds, self.height(value)

    def height(self, value: float) -> float:
        """Return where the line of a value is."""
        return self.box.y + self.box.h * (1 - value / self.top)


def round_top(greatest: float) -> float:
    """Return an end of the axis that lets every tick be a round number."""
    if greatest <= 0:
        return 1.0
    step = greatest / TICKS
    power = 10.0 ** floor(log10(step))
    return TICKS * power * next(one for one in ROUND if one * power >= step * (1 - 1e-9))


def paint_lines(canvas: Canvas, box: Box, answers: Sequence[Answer], *, panel: Mapping[str, Any], span: Span) -> None:
    """Paint series over the time shown, with an axis of values, moments, and a legend."""
    named = [(_legend(answer.legend, one), one) for answer in answers for one in answer.series if one.points]
    greatest = max((value for _, one in named for _, value in one.points), default=0.0)
    top = panel["fieldConfig"]["defaults"].get("max") or round_top(greatest)
    plot = Plot(box=Box(x=box.x + 52, y=box.y, w=box.w - 56, h=box.h - 40), top=top, span=span)
    _axes(canvas, plot, look_of(panel).unit)
    x = plot.box.x
    for color, (name, series) in zip(PALETTE, named, strict=False):
        canvas.line([plot.place(at, value) for at, value in series.points], stroke=color, width=2)
        canvas.circle(x + 4, box.y + box.h - 10, 4, fill=color)
        canvas.text(x + 13, box.y + box.h - 6, name, size=11, fill=INK)
        x += 30 + 6.4 * len(name)


def _axes(canvas: Canvas, plot: Plot, unit: str) -> None:
    box = plot.box
    for tick in range(TICKS + 1):
        value = plot.top * tick / TICKS
        y = plot.height(value)
        canvas.line([(box.x, y), (box.x + box.w, y)], stroke=FAINT, width=1)
        words = written(value, unit, decimals=0 if unit == "percentunit" and ceil(plot.top) == plot.top else None)
        canvas.text(box.x - 8, y + 4, words if tick else "0", size=10.5, fill=DIM, more='text-anchor="end"')
    for part in PARTS:
        moment = datetime.fromtimestamp(plot.span.until.timestamp() - plot.span.seconds * (1 - part), UTC)
        more = f'text-anchor="{ANCHORS.get(part, "middle")}"'
        canvas.text(box.x + box.w * part, box.y + box.h + 16, f"{moment:%H:%M}", size=10.5, fill=DIM, more=more)


def _legend(pattern: str, series: Series) -> str:
    return re.sub(r"\{\{(\w+)\}\}", lambda match: series.labels.get(match[1], ""), pattern)
