"""Pieces of SVG."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final
from xml.sax.saxutils import escape, quoteattr

FONT: Final = "Inter, 'Segoe UI', 'Helvetica Neue', Arial, sans-serif"
PAPER, PANEL, EDGE, INK, DIM, FAINT = "#0d1015", "#151a21", "#232a34", "#dfe4ec", "#8d97a8", "#2b333f"
LAND, BLUE = "#3b4656", "#4c8dff"
CHARACTER: Final = 0.56
"""Mean width of a letter, as a share of the size of the font."""


@dataclass(frozen=True, kw_only=True)
class Box:
    """A rectangle in pixels."""

    x: float
    y: float
    w: float
    h: float

    def inner(self, *, left: float = 14, top: float = 38, right: float = 14, bottom: float = 12) -> "Box":
        """Return what is left within margins."""
        return Box(x=self.x + left, y=self.y + top, w=self.w - left - right, h=self.h - top - bottom)


@dataclass
class Canvas:
    """Elements in the order in which they are painted."""

    parts: list[str] = field(default_factory=list)

    def rectangle(self, box: Box, *, fill: str, radius: float = 0, stroke: str = "none") -> None:
        """Paint a rectangle."""
        self.parts.append(
            f'<rect x="{box.x:.1f}" y="{box.y:.1f}" width="{max(box.w, 0):.1f}" height="{max(box.h, 0):.1f}"'
            f' rx="{radius:g}" fill="{fill}" stroke="{stroke}"/>'
        )

    def text(self, x: float, y: float, words: str, *, size: float = 12, fill: str = INK, more: str = "") -> None:
        """Write one line; `more` holds attributes."""
        self.parts.append(
            f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size:g}" fill="{fill}" {more}>{escape(words)}</text>'
        )

    def fitting(self, x: float, y: float, words: str, *, width: float, size: float = 12, fill: str = INK) -> None:
        """Write one line that ends before `width`."""
        room = int(width / (CHARACTER * size))
        self.text(x, y, words if len(words) <= room else f"{words[: max(room - 1, 1)]}…", size=size, fill=fill)

    def circle(self, x: float, y: float, radius: float, *, fill: str, opacity: float = 1) -> None:
        """Paint a dot."""
        self.parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius:g}" fill="{fill}" opacity="{opacity:g}"/>')

    def line(self, points: Sequence[tuple[float, float]], *, stroke: str, width: float = 2, more: str = "") -> None:
        """Draw through points."""
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        self.parts.append(
            f'<polyline points="{path}" fill="none" stroke="{stroke}" stroke-width="{width:g}"'
            f' stroke-linejoin="round" {more}/>'
        )

    def area(self, points: Sequence[tuple[float, float]], *, fill: str, opacity: float) -> None:
        """Paint what is within points."""
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        self.parts.append(f'<polygon points="{path}" fill="{fill}" opacity="{opacity:g}"/>')

    def document(self, *, width: float, height: float, title: str) -> str:
        """Return the whole picture."""
        head = (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" font-family={quoteattr(FONT)}'
            f' role="img"><title>{escape(title)}</title>'
        )
        return "\n".join([head, *self.parts, "</svg>", ""])
