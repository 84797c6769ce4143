"""Tables and matrices of colours."""

from collections.abc import Mapping
from typing import Any, Final

from deploy.grafana.picture.asking import Span
from deploy.grafana.picture.canvas import DIM, FAINT, INK, PAPER, Box, Canvas
from deploy.grafana.picture.fields import Look, look_of
from deploy.grafana.picture.frames import Cell, Frame
from deploy.grafana.picture.words import ago, written

HEAD: Final = 22.0
TALLEST: Final = 34.0
LOWEST: Final = 23.0
"""Of a row; what has no room is counted."""
AGO: Final = "dateTimeFromNow"
NAMED: Final = {"red": "#e0556a", "orange": "#ef8c3b", "blue": "#4c8dff"}
"""Grafana's names for colours, in ours."""


def paint_table(canvas: Canvas, box: Box, frame: Frame, *, panel: Mapping[str, Any], span: Span) -> None:
    """Paint a table: a line for each row, columns as wide as their words."""
    if not frame.rows:
        canvas.text(box.x, box.y + 24, panel["fieldConfig"]["defaults"].get("noValue") or "no data", fill=DIM)
        return
    looks = {name: look_of(panel, name) for name in frame.columns}
    room = int((box.h - HEAD) / LOWEST)
    if len(frame.rows) > room:
        canvas.text(box.x, box.y + box.h + 6, f"and {len(frame.rows) - room} more", size=11, fill=DIM)
    rows = frame.rows[:room]
    cells = [[_words(row.get(name), looks[name], span) for name in frame.columns] for row in rows]
    widths = [max(len(name), *(len(row[place]) for row in cells)) + 2 for place, name in enumerate(frame.columns)]
    scale = box.w / sum(widths)
    height = min(TALLEST, (box.h - HEAD) / len(cells))
    x = box.x
    for place, name in enumerate(frame.columns):
        width = widths[place] * scale
        canvas.fitting(x, box.y + 12, name, width=width, size=11, fill=DIM)
        for number, row in enumerate(rows):
            y = box.y + HEAD + number * height
            cell = Box(x=x, y=y, w=width, h=height)
            _paint_cell(canvas, cell, row.get(name), look=looks[name], words=cells[number][place])
        x += width
    for number in range(len(cells)):
        y = box.y + HEAD + number * height
        canvas.line([(box.x, y), (box.x + box.w, y)], stroke=FAINT, width=1)


def _words(value: Cell, look: Look, span: Span) -> str:
    if value is None:
        return "-"
    if isinstance(value, str):
        return value
    if look.unit == AGO:
        return ago(span.until.timestamp() - value / 1_000)
    return written(value, look.unit, decimals=look.decimals)


def _paint_cell(canvas: Canvas, box: Box, value: Cell, *, look: Look, words: str) -> None:
    middle = box.y + box.h / 2 + 4
    if isinstance(value, str) and look.words is not None:
        color = NAMED.get(look.words.get(value, ""), DIM)
        canvas.rectangle(Box(x=box.x, y=middle - 14, w=min(box.w - 8, 70), h=20), fill=color, radius=4)
        canvas.text(box.x + 8, middle, words, size=11, fill=PAPER, more='font-weight="600"')
        return
    fill = look.color(value) if isinstance(value, float) and look.is_colored else INK
    canvas.fitting(box.x, middle, words, width=box.w, size=12.5, fill=fill)


def paint_matrix(canvas: Canvas, box: Box, frame: Frame, *, panel: Mapping[str, Any]) -> None:
    """Paint a cell for each pair, with the colour of its value."""
    look, names = look_of(panel), frame.columns[1:]
    left = 10 + 7.2 * max((len(str(row[frame.columns[0]])) for row in frame.rows), default=1)
    width, height = (box.w - left) / max(len(names), 1), min(TALLEST, (box.h - HEAD) / max(len(frame.rows), 1))
    for place, name in enumerate(names):
        canvas.fitting(box.x + left + place * width + 6, box.y + 12, name, width=width - 6, size=11, fill=DIM)
    for number, row in enumerate(frame.rows):
        y = box.y + HEAD + number * height
        canvas.text(box.x, y + height / 2 + 4, str(row[frame.columns[0]]), size=12.5)
        for place, name in enumerate(names):
            value = row.get(name)
            cell = Box(x=box.x + left + place * width + 1.5, y=y + 1.5, w=width - 3, h=height - 3)
            is_number = isinstance(value, float)
            canvas.rectangle(cell, fill=look.color(value) if isinstance(value, float) else FAINT, radius=3)
            words = written(value, look.unit, decimals=look.decimals) if isinstance(value, float) else "-"
            ink = PAPER if is_number else DIM
            canvas.text(
                cell.x + cell.w / 2, cell.y + cell.h / 2 + 4, words, size=12, fill=ink,
                more='text-anchor="middle" font-weight="600"',
            )  # fmt: skip
