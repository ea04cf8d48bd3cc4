"""What `./dev bench inventory` writes: its results as a page and as a plot.

In: `Results`. Out: Markdown and SVG. Judges what was asked for by the figures alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import mean, median

from benchmarks.harness.chart import Line, Panel, chart
from benchmarks.harness.pages import paragraphs, prose, setting_list, yes
from benchmarks.harness.tables import milliseconds, table

LONGEST_SNAPSHOT = 1e-3
LONGEST_MEDIAN = 1e-3
LONGEST_P99 = 5e-3
LARGEST_SHARE = 0.25
LARGEST_IDLE_SHARE = 0.005
RESYNC_EVERY = 300.0

_WAYS = {"live": "guestlist", "bare": "the barest view"}


@dataclass(slots=True)
class Followed:
    """One view at one rate. Seconds from a change to the view: since the call returned, and since
    it was made, which the change lies between.
    """

    after_return: list[float] = field(default_factory=list)
    after_call: list[float] = field(default_factory=list)
    missed: int = 0
    changes: int = 0
    calls: int = 0
    rates: list[float] = field(default_factory=list)
    shares: list[float] = field(default_factory=list)


@dataclass(slots=True)
class Results:
    """Everything that was measured."""

    sizes: list[int]
    domains: int
    rounds: int
    seconds: float = 0.0
    idle_seconds: float = 0.0
    setting: dict[str, str] = field(default_factory=dict)
    followed: dict[str, dict[int, Followed]] = field(default_factory=dict)
    snapshot_calls: dict[int, int] = field(default_factory=dict)
    snapshot_seconds: dict[int, float] = field(default_factory=dict)
    first_snapshot_seconds: dict[int, float] = field(default_factory=dict)
    synced_seconds: dict[int, float] = field(default_factory=dict)
    idle_share: float = 0.0
    resync_cpu_seconds: float = 0.0


def markdown(results: Results) -> str:
    """Return the page."""
    return paragraphs(
        "# The live view: what it costs, and how far behind it is",
        "![Staleness over the rate of changes](inventory.svg)",
        setting_list(results.setting),
        prose(
            _INTRODUCTION,
            domains=f"{results.domains:,}",
            rounds=results.rounds,
            seconds=f"{results.seconds:g}",
            idle=f"{results.idle_seconds:g}",
        ),
        "## What was asked for",
        _goals(results),
        "## Following changes",
        _following(results),
        prose(_FOLLOWING),
        "## Observation",
        _reading(results),
        prose(
            _IDLING,
            size=f"{max(results.sizes):,}",
            share=_percent(results.idle_share),
            list=milliseconds(results.resync_cpu_seconds),
            every=f"{RESYNC_EVERY:g}",
            more=_percent(results.resync_cpu_seconds / RESYNC_EVERY),
        ),
    )


def plot(results: Results) -> str:
    """Return the plot: median and 99th percentile of both views over the rate."""
    panels = [
        Panel(
            title,
            [
                Line(
                    name,
                    number,
                    [
                        (rate, max(1e-5, of(each.after_return)))
                        for rate, each in results.followed[way].items()
                    ],
                )
                for number, (way, name) in enumerate(_WAYS.items())
                if way in results.followed
            ],
        )
        for title, of in (("median", median), ("99th percentile", p99))
    ]
    return chart("Staleness of a live view", panels, "changes a second", "from change to view")


def p99(times: Sequence[float]) -> float:
    """Return the 99th percentile."""
    return sorted(times)[int(len(times) * 0.99)]


_INTRODUCTION = """\
A private libvirtd serves libvirt's test driver with running instances of Nova. One process starts
and stops {domains} of them in turn, at a rate, and writes down when. Another process has only the
view: guestlist's `Inventory` with its details, or the smallest view that can be written, which
marks each domain that an event names and asks about the marked domains in one call
(`benchmarks/harness/viewers.py`). The smallest view has no keepalive, no details, no readers and no
names for changes: it shows what libvirt's client and Python take for the events and calls alone.
The two take turns, {rounds} each of {seconds} s. Staleness is the time from a change to the view
that has it. The change happens between the call that makes it and its return: both are given.
Idling was watched for {idle} s. Every single time is in [inventory.json](inventory.json)."""

_FOLLOWING = """\
The share is that of one core, for the whole process of the view. Missed are changes that the view
never showed: a domain that changes again before the view asked about it is seen once."""

_IDLING = """\
At {size} domains an idle view takes {share} of a core. A list of all domains, made every {every} s,
takes {list} ms of processor time: {more} more."""


def _goals(results: Results) -> str:
    largest = max(results.sizes)
    rows = [
        _goal(
            f"calls for {1_000:,} snapshots at {largest:,} domains",
            f"{results.snapshot_calls[largest]}",
            "0",
            met=results.snapshot_calls[largest] == 0,
        ),
        _goal(
            f"a snapshot at {largest:,} domains (ms)",
            _small(results.snapshot_seconds[largest]),
            "below 1",
            met=results.snapshot_seconds[largest] < LONGEST_SNAPSHOT,
        ),
    ]
    for rate, each in results.followed["live"].items():
        middle, worst = median(each.after_return), p99(each.after_return)
        rows += [
            _goal(
                f"staleness at {rate:,} changes a second: median (ms)",
                milliseconds(middle),
                "below 1",
                met=middle < LONGEST_MEDIAN,
            ),
            _goal(
                f"staleness at {rate:,} changes a second: 99th percentile (ms)",
                milliseconds(worst),
                "below 5",
                met=worst < LONGEST_P99,
            ),
        ]
    fastest = max(results.followed["live"])
    share = mean(results.followed["live"][fastest].shares)
    idle = results.idle_share + results.resync_cpu_seconds / RESYNC_EVERY
    rows += [
        _goal(
            f"share of a core at {fastest:,} changes a second",
            _percent(share),
            "at most 25 %",
            met=share <= LARGEST_SHARE,
        ),
        _goal(
            f"share of a core, idle at {largest:,} domains, lists included",
            _percent(idle),
            "below 0.5 %",
            met=idle < LARGEST_IDLE_SHARE,
        ),
    ]
    return table(["", "measured", "goal", "met"], rows)


def _goal(what: str, measured: str, goal: str, *, met: bool) -> list[str]:
    return [what, measured, goal, yes(met)]


def _following(results: Results) -> str:
    heads = [
        *("", "changes/s", "median", "p99", "worst"),
        *("median since the call", "p99 since the call", "share of a core", "calls", "missed"),
    ]
    rows = [
        [
            name,
            f"{mean(each.rates):,.0f}",
            milliseconds(median(each.after_return)),
            milliseconds(p99(each.after_return)),
            milliseconds(max(each.after_return)),
            milliseconds(median(each.after_call)),
            milliseconds(p99(each.after_call)),
            _percent(mean(each.shares)),
            f"{each.calls / each.changes:.2f} a change",
            f"{each.missed} of {each.changes:,}",
        ]
        for rate in results.followed["live"]
        for way, name in _WAYS.items()
        for each in [results.followed[way][rate]]
    ]
    return table(heads, rows) + "\n\nIn ms."


def _reading(results: Results) -> str:
    rows = [
        [
            f"{size:,}",
            f"{results.snapshot_calls[size]}",
            _small(results.snapshot_seconds[size]),
            _small(results.first_snapshot_seconds[size]),
            milliseconds(results.synced_seconds[size]),
        ]
        for size in results.sizes
    ]
    heads = ["domains", "calls", "snapshot", "after a change", "first in step, details read"]
    return table(heads, rows) + "\n\nIn ms."


def _small(seconds: float) -> str:
    return f"{seconds * 1e3:.4f}"


def _percent(share: float) -> str:
    return f"{share * 100:.{1 if share >= 0.01 else 2}f} %"
