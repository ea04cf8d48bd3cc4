"""Lines over logarithmic axes, in SVG: no library, no script, readable on light and dark paper.

In: panels of lines, all over the same axes. Out: the text of an SVG file. The background is part of
it and follows the reader's colour scheme, so it is never dark on dark. Each line carries its name
at its end; names that would touch are moved apart.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape

_PANEL, _HEIGHT = 300, 270
_LEFT, _TOP, _BOTTOM, _NAMES = 62, 84, 62, 128
_LINE_HEIGHT = 15

STYLE = """
  text { font: 12px system-ui, -apple-system, 'Segoe UI', 'DejaVu Sans', sans-serif; fill: #1f2328 }
  .title { font-size: 15px; font-weight: 600 } .head { font-weight: 600 } .small { fill: #59636e }
  .end { text-anchor: end } .middle { text-anchor: middle }
  .paper { fill: #ffffff; stroke: #d1d9e0 }
  .grid { stroke: #e4e8ec } .axis { stroke: #8c959f }
  .line { fill: none; stroke-width: 2.25; stroke-linejoin: round }
  .s0 { stroke: #cf4a12 } .f0 { fill: #b03c0b } .s1 { stroke: #8250df } .f1 { fill: #7440d0 }
  .s2 { stroke: #0969da } .f2 { fill: #0757b5 } .s3 { stroke: #59636e } .f3 { fill: #59636e }
  .s3.line { stroke-dasharray: 5 4 }
  @media (prefers-color-scheme: dark) {
    text { fill: #e6edf3 } .small { fill: #9198a1 }
    .paper { fill: #0d1117; stroke: #3d444d } .grid { stroke: #21262d } .axis { stroke: #656c76 }
    .s0 { stroke: #ff8a4c } .f0 { fill: #ff9d66 } .s1 { stroke: #b392f0 } .f1 { fill: #c2a8f5 }
    .s2 { stroke: #58a6ff } .f2 { fill: #79b8ff } .s3 { stroke: #9198a1 } .f3 { fill: #9198a1 }
  }
"""


@dataclass(frozen=True, slots=True)
class Line:
    """One line. `colour` is 0 to 3; 3 is dashed and pale, for a line to compare others with."""

    name: str
    colour: int
    points: Sequence[tuple[float, float]]


@dataclass(frozen=True, slots=True)
class Panel:
    """One of several pictures that share their axes."""

    title: str
    lines: Sequence[Line]


def chart(title: str, panels: Sequence[Panel], across: str, caption: str) -> str:
    """Return the SVG. x counts something, named `across`; y is in seconds."""
    points = [point for panel in panels for line in panel.lines for point in line.points]
    axes = _Axes([x for x, _ in points], [y for _, y in points])
    width = _LEFT + len(panels) * (_PANEL + _NAMES) + (len(panels) - 1) * _LEFT
    height = _TOP + _HEIGHT + _BOTTOM
    parts = [
        f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {width} {height}' "
        f"width='{width}' height='{height}' role='img'>",
        f"<title>{escape(title)}</title><style>{STYLE}</style>",
        f"<rect class='paper' x='.5' y='.5' width='{width - 1}' height='{height - 1}' rx='6'/>",
        f"<text class='title' x='20' y='30'>{escape(title)}</text>",
    ]
    for number, panel in enumerate(panels):
        left = _LEFT + number * (_PANEL + _NAMES + _LEFT)
        parts += [f"<g transform='translate({left} {_TOP})'>", *_panel(panel, axes, across), "</g>"]
    parts += [f"<text class='small' x='20' y='{height - 14}'>{escape(caption)}</text>", "</svg>\n"]
    return "\n".join(parts)


class _Axes:
    """The place of a value in a panel. The y axis ends at powers of ten, the x axis at the data."""

    def __init__(self, xs: Sequence[float], ys: Sequence[float]) -> None:
        self.xs = sorted(set(xs))
        self.lowest = math.floor(math.log10(min(ys)))
        self.highest = max(math.ceil(math.log10(max(ys))), self.lowest + 1)

    def x(self, value: float) -> float:
        low, high = math.log10(self.xs[0]), math.log10(self.xs[-1])
        share = (math.log10(value) - low) / (high - low) if high > low else 0.5
        return 12 + share * (_PANEL - 24)

    def y(self, value: float) -> float:
        share = (math.log10(value) - self.lowest) / (self.highest - self.lowest)
        return _HEIGHT * (1 - share)


def _panel(panel: Panel, axes: _Axes, across: str) -> Iterable[str]:
    yield f"<text x='0' y='-16' class='head'>{escape(panel.title)}</text>"
    for power in range(axes.lowest, axes.highest + 1):
        y = axes.y(10**power)
        yield f"<path class='grid' d='M0 {y:.1f}h{_PANEL}'/>"
        yield f"<text class='small end' x='-8' y='{y + 4:.1f}'>{_duration(power)}</text>"
    yield f"<path class='axis' d='M0 {_HEIGHT}h{_PANEL}'/>"
    for value in axes.xs:
        x = axes.x(value)
        yield f"<path class='axis' d='M{x:.1f} {_HEIGHT}v5'/>"
        yield f"<text class='small middle' x='{x:.1f}' y='{_HEIGHT + 19}'>{value:,.0f}</text>"
    yield (
        f"<text class='small end' x='{_PANEL + _NAMES - 14}' y='{_HEIGHT + 19}'>"
        f"{escape(across)}</text>"
    )
    for line in panel.lines:
        yield from _curve(line, axes)
    yield from _names(panel.lines, axes)


def _curve(line: Line, axes: _Axes) -> Iterable[str]:
    places = [(axes.x(x), axes.y(y)) for x, y in line.points]
    path = "L".join(f"{x:.1f} {y:.1f}" for x, y in places)
    yield f"<path class='line s{line.colour}' d='M{path}'/>"
    for x, y in places:
        yield f"<circle class='f{line.colour}' cx='{x:.1f}' cy='{y:.1f}' r='3.2'/>"


def _names(lines: Sequence[Line], axes: _Axes) -> Iterable[str]:
    """Return each line's name beside its last point; names that would touch are moved down."""
    ends = [(axes.x(line.points[-1][0]), axes.y(line.points[-1][1]), line) for line in lines]
    floor: dict[float, float] = {}
    for x, y, line in sorted(ends, key=lambda end: end[1]):
        place = max(y + 4, floor.get(x, -math.inf))
        floor[x] = place + _LINE_HEIGHT
        at = f"x='{x + 9:.1f}' y='{place:.1f}'"
        yield f"<text class='f{line.colour}' {at}>{escape(line.name)}</text>"


def _duration(power: int) -> str:
    """Return a power of ten seconds in words."""
    for unit, name in ((0, "s"), (-3, "ms"), (-6, "µs")):
        if power >= unit:
            return f"{10 ** (power - unit):,} {name}"
    return f"1e{power} s"
