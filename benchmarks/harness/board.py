"""A dashboard as a picture, in SVG: its panels where Grafana puts them, each a small chart.

In: a `Dashboard`. Out: the text of an SVG file. It is no picture of Grafana, whose colours and
fonts differ; the places, the lines and the numbers are those that Grafana is given. A line has a
gap where there is no value.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from xml.sax.saxutils import escape

from benchmarks.harness.chart import STYLE
from benchmarks.harness.dashboards_results import Dashboard, Panel, Series

_COLUMN, _ROW, _TOP, _EDGE = 42, 30, 48, 12
_COLOURS = 4
_LEGENDS = 4
"""The most names below a chart."""


def amount(value: float, unit: str) -> str:
    """Return a value with its unit, much as Grafana writes it."""
    if unit == "percentunit":
        return f"{value:.1%}"
    if unit == "percent":
        return f"{value:.1f}%"
    if unit == "s":
        return f"{value:.3g} s" if value >= 1 or value == 0 else f"{value * 1e3:.3g} ms"
    if unit in ("bytes", "Bps"):
        step = 1024 if unit == "bytes" else 1000
        names = ("B", "KiB", "MiB", "GiB") if unit == "bytes" else ("B/s", "kB/s", "MB/s", "GB/s")
        power = 0
        while abs(value) >= step and power < len(names) - 1:
            value, power = value / step, power + 1
        return f"{value:.3g} {names[power]}" if value < 1000 else f"{value:.0f} {names[power]}"
    name = {"iops": " io/s", "pps": " p/s"}.get(unit, "")
    return f"{value:.3g}{name}"


def picture(dashboard: Dashboard, seconds: int) -> str:
    """Return the SVG of a dashboard; its lines are over so many seconds."""
    rows = max(top + height for _, top, _, height in (each.place for each in dashboard.panels))
    width, height = 24 * _COLUMN + 2 * _EDGE, rows * _ROW + _TOP + _EDGE
    parts = [
        f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {width} {height}' "
        f"width='{width}' height='{height}' role='img'>",
        f"<title>{escape(dashboard.title)}</title><style>{STYLE}"
        "  .big { font-size: 24px } .tight { font-size: 10px }"
        "  .line { stroke-width: 1.5 }</style>",
        f"<rect class='paper' x='.5' y='.5' width='{width - 1}' height='{height - 1}' rx='6'/>",
        f"<text class='title' x='20' y='30'>{escape(dashboard.title)}</text>",
    ]
    for panel in dashboard.panels:
        left, top, wide, high = panel.place
        at = f"translate({left * _COLUMN + _EDGE} {top * _ROW + _TOP})"
        parts.append(f"<g transform='{at}'>")
        parts += _drawn(panel, wide * _COLUMN, high * _ROW, seconds)
        parts.append("</g>")
    return "\n".join([*parts, "</svg>\n"])


def _drawn(panel: Panel, width: int, height: int, seconds: int) -> Iterable[str]:
    """Yield a panel of this size."""
    if panel.kind == "row":
        yield f"<text class='title' x='4' y='20'>{escape(panel.title)}</text>"
        return
    yield f"<rect class='paper' x='3' y='3' width='{width - 6}' height='{height - 6}' rx='4'/>"
    tight = " tight" if panel.kind == "stat" else ""
    yield f"<text class='head{tight}' x='10' y='22'>{escape(panel.title)}</text>"
    if not panel.series:
        yield f"<text class='small middle' x='{width / 2}' y='{height / 2 + 8}'>No data</text>"
    elif panel.kind == "stat":
        last = amount(panel.series[0].known[-1], panel.unit)
        yield f"<text class='big f2 middle' x='{width / 2}' y='{height / 2 + 18}'>{last}</text>"
    elif panel.kind == "table":
        for number, series in enumerate(panel.series):
            y = 48 + number * 20
            yield f"<text class='small' x='12' y='{y}'>{escape(series.legend)}</text>"
    else:
        names = min(len(panel.series), _LEGENDS)
        yield from _lines(panel, width - 92, height - 74 - 15 * names, seconds)
        yield from _names(panel, height - 15 * names)


def _lines(panel: Panel, width: int, height: int, seconds: int) -> Iterable[str]:
    """Yield the axes and the lines of a panel, over a field of this size."""
    known = [value for series in panel.series for value in series.known]
    most = max(*known, 0.0) * 1.05 or 1.0
    yield "<g transform='translate(78 36)'>"
    for share in (0.0, 0.5, 1.0):
        y = height * (1 - share)
        yield f"<path class='grid' d='M0 {y:.1f}h{width}'/>"
        text = amount(most * share, panel.unit)
        yield f"<text class='small end' x='-6' y='{y + 4:.1f}'>{text}</text>"
    for share, anchor in ((0.0, ""), (0.5, " middle"), (1.0, " end")):
        text = f"{seconds * share:.0f} s"
        yield f"<text class='small{anchor}' x='{width * share:.0f}' y='{height + 14}'>{text}</text>"
    for number, series in enumerate(panel.series):
        path = _path(series, width / seconds, height, most)
        yield f"<path class='line s{number % _COLOURS}' d='{path}'/>"
    yield "</g>"


def _path(series: Series, step: float, height: int, most: float) -> str:
    """Return the path of a line, in parts where it has gaps."""
    places = enumerate(series.values)
    return "".join(
        "M"
        + "L".join(
            f"{x * step:.1f} {height * (1 - y / most):.1f}" for x, y in part if y is not None
        )
        for there, part in itertools.groupby(places, lambda place: place[1] is not None)
        if there
    )


def _names(panel: Panel, top: int) -> Iterable[str]:
    """Yield the names of the lines, below the chart; the last stands for all that have no room."""
    more = len(panel.series) - _LEGENDS
    for number, series in enumerate(panel.series[:_LEGENDS]):
        last = series.values[-1]
        text = f"{series.legend}: {'ended' if last is None else amount(last, panel.unit)}"
        if more > 0 and number == _LEGENDS - 1:
            text += f" (and {more} more)"
        at = f"x='12' y='{top + number * 15 - 8}'"
        yield f"<text class='f{number % _COLOURS}' {at}>{escape(text)}</text>"
