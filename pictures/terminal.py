"""A terminal as a picture, in SVG: text stays text, readable on light and dark paper.

In: what a command writes to a terminal, colours included. Out: the text of an SVG file. The
background is part of it and follows the reader's colour scheme. Of the control sequences it knows
those for colours alone, and refuses all others.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from xml.sax.saxutils import escape

_CELL, _LINE, _SIZE = 7.8, 18, 13
_EDGE, _BAR = 16, 34

_STYLE = """
  text { font: 13px ui-monospace, 'DejaVu Sans Mono', Menlo, Consolas, monospace; fill: #1f2328;
         white-space: pre }
  .bold { font-weight: 700 } .faint { fill: #6e7781 } .prompt { fill: #0757b5; font-weight: 700 }
  .red { fill: #b3261e } .green { fill: #116329 } .yellow { fill: #7d4e00 } .cyan { fill: #0b6b75 }
  .purple { fill: #7440d0 }
  .paper { fill: #ffffff; stroke: #d1d9e0 } .bar { fill: #d1d9e0 }
  @media (prefers-color-scheme: dark) {
    text { fill: #e6edf3 } .faint { fill: #9198a1 } .prompt { fill: #79b8ff }
    .red { fill: #ff8a80 } .green { fill: #7ee787 } .yellow { fill: #f2cc60 }
    .cyan { fill: #76e3ea } .purple { fill: #c2a8f5 }
    .paper { fill: #0d1117; stroke: #3d444d } .bar { fill: #3d444d }
  }
"""

_CLASSES = {
    "1": "bold",
    "2": "faint",
    "31": "red",
    "32": "green",
    "33": "yellow",
    "35": "purple",
    "36": "cyan",
}
"""The class of each SGR attribute that the command uses."""

_PART = re.compile(r"\x1b\[([\d;]*)m|([^\x1b]+)")


def picture(text: str, *, title: str, description: str, width: int) -> str:
    """Return the SVG of a terminal of so many cells in a line.

    A line that begins with `$ ` is one that a person types.

    Raises:
        ValueError: the text has a control sequence that is no colour, or a line that is too long.
    """
    lines = text.rstrip("\n").split("\n")
    wide, high = round(width * _CELL) + 2 * _EDGE, len(lines) * _LINE + _BAR + _EDGE
    parts = [
        f"<svg xmlns='http://www.w3.org/2000/svg' xml:space='preserve' viewBox='0 0 {wide} {high}' "
        f"width='{wide}' height='{high}' role='img' aria-labelledby='title description'>",
        f"<title id='title'>{escape(title)}</title>",
        f"<desc id='description'>{escape(description)}</desc><style>{_STYLE}</style>",
        f"<rect class='paper' x='.5' y='.5' width='{wide - 1}' height='{high - 1}' rx='8'/>",
        *(f"<circle class='bar' cx='{_EDGE + 4 + 16 * n}' cy='17' r='5'/>" for n in range(3)),
    ]
    for number, line in enumerate(lines):
        spans = list(_spans(line))
        length = sum(len(shown) for shown, _ in spans)
        if length > width:
            raise ValueError(f"a line of {length} cells: {line!r}")
        if length:
            y = _BAR + number * _LINE + _SIZE
            parts.append(
                f"<text x='{_EDGE}' y='{y}' textLength='{length * _CELL:.1f}'>"
                f"{''.join(map(_drawn, spans))}</text>"
            )
    return "\n".join([*parts, "</svg>\n"])


def words(svg: str) -> list[str]:
    """Return the lines of text in such a picture."""
    lines = re.findall(r"<text[^>]*>(.*?)</text>", svg)
    plain = (re.sub(r"<[^>]+>", "", line) for line in lines)
    return [line.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&") for line in plain]


def _spans(line: str) -> Iterator[tuple[str, str]]:
    """Yield the pieces of a line, each with its class."""
    if line.startswith("$ "):
        yield "$", "prompt"
        yield line[1:], "bold"
        return
    at, style = 0, ""
    while at < len(line):
        part = _PART.match(line, at)
        if part is None:
            raise ValueError(f"no colour: {line[at : at + 20]!r}")
        at = part.end()
        if part[2]:
            yield part[2], style
        else:
            attributes = [each for each in part[1].split(";") if each not in ("", "0")]
            style = " ".join(_CLASSES[each] for each in attributes)


def _drawn(span: tuple[str, str]) -> str:
    text, style = span
    return f"<tspan class='{style}'>{escape(text)}</tspan>" if style else escape(text)
