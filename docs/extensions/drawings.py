"""Drawings: text in a page becomes SVG in the page, in its colours, in light and in dark.

In: a block `svgbob` of a Markdown page, which a reader of the repository sees as text. Out: its SVG
as a part of the page, so that it takes the colours of the theme. An image would keep its own.
"""

from __future__ import annotations

from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.transforms import SphinxTransform
from sphinxcontrib.svgbob._svgbob import to_svg
from sphinxcontrib.svgbob.node import svgbob

_LINE, _PAPER = "var(--color-foreground-primary)", "var(--color-background-primary)"


class Drawings(SphinxTransform):
    """Replace the text of drawings by SVG, before svgbob's own transform makes images of it."""

    default_priority = 9

    def apply(self, **_: Any) -> None:
        """Look at each drawing of one page."""
        for drawing in list(self.document.findall(svgbob)):
            section = drawing.parent.next_node(nodes.title)
            about = section.astext() if section else "drawing"
            svg = to_svg(
                drawing["code"],
                font_family="var(--font-stack--monospace)",
                fill_color=_LINE,
                stroke_color=_LINE,
                background_color=_PAPER,  # type: ignore[call-arg]  # its stub has another name
                stroke_width=1.5,
            )
            html = f'<div class="drawing" role="img" aria-label="{about}">{svg}</div>'
            drawing.replace_self(nodes.raw("", html, format="html"))


def setup(app: Sphinx) -> dict[str, bool]:
    """Join Sphinx."""
    app.add_transform(Drawings)
    return {"parallel_read_safe": True}
