"""What `./dev bench dashboards` writes: the panels, their queries and what these give, as a page.

In: `Results`. Out: Markdown.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from benchmarks.harness.board import amount
from benchmarks.harness.dashboards_results import Dashboard, Panel, Results, Series
from benchmarks.harness.pages import paragraphs, prose, setting_list
from benchmarks.harness.tables import table

_REASONS = {
    "_job_info_": "no guest migrates here",
    "_migration_": "no guest migrates here",
    "_last_fault_": "no guest had a fault",
    "_interface_stats_": "the guests have a user network, without an interface of the host",
    "_swap_": "the guests have no balloon",
    "_used_percent": "the guests have no balloon",
}
"""Why this host has no series, by a part of the metric's name."""


def markdown(results: Results) -> str:
    """Return the page."""
    return paragraphs(
        "# The dashboards: what each panel shows",
        prose(_READERS),
        setting_list(results.setting),
        prose(_INTRODUCTION),
        prose(_SCRAPES, failed=results.scrapes.count(0), all=len(results.scrapes)),
        table(
            ("what happened", "after (s)"),
            [(what, str(seconds)) for seconds, what in results.happenings],
        ),
        *(
            part
            for name, dashboard in results.dashboards.items()
            for part in _dashboard(name, dashboard)
        ),
        "## Recorded rates",
        prose(_RECORDED),
        table(
            ("rule", "series", "last values"),
            [
                (f"`{name}`", str(len(series)), "; ".join(_last(series)) or "none")
                for name, series in results.recorded.items()
            ],
        ),
    )


def _last(series: Sequence[Series]) -> Iterator[str]:
    for each in series:
        yield f"{each.legend} {each.known[-1]:.3g}"


def _dashboard(name: str, dashboard: Dashboard) -> Iterator[str]:
    title = dashboard.title.removeprefix("guestlist: ")
    yield f"## Dashboard: {title}"
    yield f"![The panels of the dashboard, as small charts]({_svg(name)})"
    yield prose(_VARIABLES, path=f"contrib/exporter/dashboards/{name}.json")
    yield table(
        ("variable", "values that Grafana offers"),
        [(f"`${variable}`", ", ".join(values)) for variable, values in dashboard.variables.items()],
    )
    for panel in dashboard.panels:
        if panel.queries:
            yield from _panel(panel)


def _svg(name: str) -> str:
    return f"dashboards-{name.removeprefix('guestlist-')}.svg"


def _panel(panel: Panel) -> Iterator[str]:
    yield f"### {panel.title}"
    yield f"{panel.description} Unit: {panel.unit}. Series: {len(panel.series)}."
    yield "```promql\n" + "\n".join(panel.queries) + "\n```"
    if panel.series:
        yield table(
            ("series", "last", "least", "most", "seconds with a value"),
            [_row(each, panel.unit) for each in panel.series],
        )
    else:
        yield f"No series: {_why(panel.queries)}."


def _row(series: Series, unit: str) -> tuple[str, ...]:
    known = series.known
    figures = (amount(value, unit) for value in (known[-1], min(known), max(known)))
    return series.legend or "(one)", *figures, f"{len(known)} of {len(series.values)}"


def _why(queries: Sequence[str]) -> str:
    """Return why a query gives nothing on this host."""
    text = " ".join(queries)
    return next((why for part, why in _REASONS.items() if part in text), "no sample matches")


_READERS = """\
This page is for operators. It shows what each panel of the dashboards in `contrib/exporter` gets
from Prometheus for a real host."""

_INTRODUCTION = """\
A private libvirtd runs three QEMU guests with Nova's metadata, a disk and an interface. A program
in each guest writes a sector of the disk and reads it, 18 times a second. Prometheus scrapes the
command `guestlist exporter` once a second; the exporter asks the guests once a second. Then
Prometheus is asked each query of each panel, with a step of a second. The variables have the
values that Grafana puts in: every choice is All, and `$__rate_interval` is 4s, four times the
interval of the scrapes.

Grafana itself did not run: it is not available where guestlist is built. The pictures have the
places, the lines and the last numbers of the panels; the colours and fonts are not those of
Grafana. A series that ends early has fewer seconds with a value, and its last value is older than
the end. [dashboards.json](dashboards.json) has every value."""

_SCRAPES = """\
A scrape failed in {failed} of {all} seconds. A scrape fails here if it takes longer than a second;
all lines have a gap then. The machine's other processes, the guests among them, took the processor
time above. The more they take, the greater is the steal, and the slower are the requests."""

_VARIABLES = """\
The file is `{path}`."""

_RECORDED = """\
Prometheus also evaluated `contrib/exporter/rules/recording.yml` once a second. The dashboards do
not need these rates. Each value is the last one of its guest."""
