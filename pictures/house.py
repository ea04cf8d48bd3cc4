"""`./dev pictures`, docs/pictures/house.svg: the layers of the code, from the contract they keep.

In: the layers of import-linter in pyproject.toml, and the names of their groups in the map of
CONTRIBUTING.md. Out: a picture with a row for each layer, the top first. `./dev check` enforces
what it shows.
"""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path
from typing import NamedTuple
from xml.sax.saxutils import escape

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from pictures.made import ROOT, main

NAME = "house.svg"
TITLE = "The layers of guestlist: imports point down only"

_LEFT, _TOP, _ROW, _BOX, _GAP, _EDGE, _WIDTH = 84, 52, 27, 21, 8, 14, 620
_LETTER = 7.5

_STYLE = """
  text { font: 12px system-ui, -apple-system, 'Segoe UI', 'DejaVu Sans', sans-serif; fill: #1f2328 }
  .title { font-size: 15px; font-weight: 600 } .group { font-weight: 600 }
  .name { font-family: ui-monospace, 'DejaVu Sans Mono', Menlo, monospace; text-anchor: middle }
  .paper { fill: #ffffff; stroke: #d1d9e0 } .box { fill: #ddf4ff; stroke: #54aeff }
  .even { fill: #f6f8fa } .odd { fill: #ffffff } .rule { stroke: #d1d9e0 }
  @media (prefers-color-scheme: dark) {
    text { fill: #e6edf3 } .paper { fill: #0d1117; stroke: #3d444d }
    .box { fill: #0c2d4d; stroke: #388bfd } .even { fill: #161b22 } .odd { fill: #0d1117 }
    .rule { stroke: #3d444d }
  }
"""


class Group(NamedTuple):
    """Layers that CONTRIBUTING.md gives one name: faces, ground, base."""

    name: str
    layers: list[list[str]]


def layers(pyproject: str) -> list[list[str]]:
    """Return the modules of each layer, the top layer first, without the package's name."""
    contracts = tomllib.loads(pyproject)["tool"]["importlinter"]["contracts"]
    found = next(each["layers"] for each in contracts if each["type"] == "layers")
    return [
        [name.strip().removeprefix("guestlist.") for name in layer.split("|")] for layer in found
    ]


def groups(pyproject: str, contributing: str) -> list[Group]:
    """Return the layers in their groups, in order.

    Raises:
        ValueError: the map has no such module, or a group whose layers have another between them.
    """
    group_of, group = {}, ""
    map_ = contributing.partition("## The map of the code")[2].partition("```\n")[2]
    for line in map_.partition("```")[0].splitlines():
        if found := re.match(r"(\w*) +([a-z_]+)(?:\.py|/) ", line):
            group = found[1] or group
            group_of[found[2]] = group
    made: list[Group] = []
    for layer in layers(pyproject):
        names = {group_of.get(module, "") for module in layer}
        if len(names) != 1 or "" in names:
            raise ValueError(f"the map of CONTRIBUTING.md has no one group for {layer}")
        name = names.pop()
        if not made or made[-1].name != name:
            made.append(Group(name, []))
        made[-1].layers.append(layer)
    if len({each.name for each in made}) != len(made):
        raise ValueError("a group of CONTRIBUTING.md has the layers of another between its own")
    return made


def drawn() -> str:
    """Return the picture of this checkout's layers."""
    pyproject, contributing = (ROOT / name for name in ("pyproject.toml", "CONTRIBUTING.md"))
    return _picture(groups(pyproject.read_text(), contributing.read_text()))


def _picture(house: list[Group]) -> str:
    high = _TOP + sum(len(group.layers) for group in house) * _ROW + _EDGE
    told = "; ".join(
        f"{group.name}: {', '.join(' and '.join(layer) for layer in group.layers)}"
        for group in house
    )
    parts = [
        f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {_WIDTH} {high}' width='{_WIDTH}' "
        f"height='{high}' role='img' aria-labelledby='title description'>",
        f"<title id='title'>{TITLE}</title>",
        f"<desc id='description'>From the top: {escape(told)}.</desc><style>{_STYLE}</style>",
        f"<rect class='paper' x='.5' y='.5' width='{_WIDTH - 1}' height='{high - 1}' rx='6'/>",
        f"<text class='title' x='{_EDGE}' y='30'>{TITLE}</text>",
    ]
    top = _TOP
    for number, group in enumerate(house):
        tall = len(group.layers) * _ROW
        parts += [
            f"<rect class='{('even', 'odd')[number % 2]}' x='1' y='{top}' width='{_WIDTH - 2}' "
            f"height='{tall}'/>",
            f"<line class='rule' x1='1' x2='{_WIDTH - 1}' y1='{top}' y2='{top}'/>",
            f"<text class='group' x='{_EDGE}' y='{top + 18}'>{escape(group.name)}</text>",
        ]
        for place, layer in enumerate(group.layers):
            parts += _row(layer, top + place * _ROW + (_ROW - _BOX) // 2)
        top += tall
    return "\n".join([*parts, "</svg>\n"])


def _row(layer: list[str], top: int) -> list[str]:
    """Return the boxes of a layer, side by side."""
    parts, left = [], float(_LEFT)
    for module in layer:
        wide = len(module) * _LETTER + 16
        parts += [
            f"<rect class='box' x='{left}' y='{top}' width='{wide}' height='{_BOX}' rx='4'/>",
            f"<text class='name' x='{left + wide / 2}' y='{top + 15}'>{escape(module)}</text>",
        ]
        left += wide + _GAP
    return parts


if __name__ == "__main__":
    main(NAME, drawn)
