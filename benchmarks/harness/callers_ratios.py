"""How each question of a driver compares with asking by hand, in ratios; and the parser's.

In: `Results`. Out: tables, and rows for the table of goals. A ratio is that of the medians of one
run, in which all ways took turns.
"""

from __future__ import annotations

from collections.abc import Iterator
from statistics import median
from typing import NamedTuple

from benchmarks.harness.callers_results import METHODS, Measured, Results
from benchmarks.harness.pages import yes
from benchmarks.harness.tables import table

MOST_WARM = 1.0
MOST_WARM_LISTS = 1.25
MOST_COLD = 1.1
MOST_OVER_LXML = 2.5

WARM = "guestlist", "per domain"
COLD = "new", "new per domain"
"""The ways that are compared: the first one's time is divided by the second one's."""

_LISTS = ("list_instances", "list_instance_uuids", "get_num_instances")
_LEAST_COLD_SIZE = 100


class _Place(NamedTuple):
    """A number of domains on one hypervisor driver; `most` is the largest number there."""

    measured: Measured
    size: int
    is_qemu: bool
    most: int

    def __str__(self) -> str:
        return f"{self.size:,}{' QEMU' if self.is_qemu else ''}"

    def goal(self, ways: tuple[str, str], method: str) -> float | None:
        """Return the largest ratio that is asked for; None where none is."""
        if self.is_qemu:
            if self.size < self.most:
                return None
        elif method == "get_all_volume_usage" or (ways == COLD and self.size < _LEAST_COLD_SIZE):
            return None
        if ways == COLD:
            return MOST_COLD
        return MOST_WARM_LISTS if method in _LISTS else MOST_WARM


def ratios(results: Results, ways: tuple[str, str]) -> str:
    """Return a table of the ratios, by method and place; those above their goal in bold."""
    places = _places(results)
    rows = [(method, *(_cell(place, ways, method) for place in places)) for method in METHODS]
    return table(("", *map(str, places)), rows)


def goals_of_ratios(results: Results) -> Iterator[tuple[str, str, str, str]]:
    """Yield a row for each goal: what, measured, goal, whether it is met."""
    for ways, what, goal in (
        (WARM, "warm", f"at most {MOST_WARM:g}, the lists {MOST_WARM_LISTS:g}"),
        (COLD, "cold", f"at most {MOST_COLD:g}"),
    ):
        judged = [
            (ratio, place.goal(ways, method) or ratio)
            for place in _places(results)
            for method in METHODS
            if (ratio := place.measured.ratio(*ways, method, place.size)) is not None
            and place.goal(ways, method) is not None
        ]
        met = sum(ratio <= most for ratio, most in judged)
        name = f"{what}: questions not slower than per domain"
        yield name, f"{met} of {len(judged)}", goal, yes(met == len(judged))
    for name, parsed in results.parsing.items():
        ratio = parsed.ratio(parsed.again)
        what = f"parsing {name} ({parsed.size:,} bytes): guestlist / lxml alone"
        yield what, f"{ratio:.2f}", f"at most {MOST_OVER_LXML:g}", yes(ratio <= MOST_OVER_LXML)


def parsing(results: Results) -> str:
    """Return a table of the parser's figures; empty where nothing was parsed."""
    rows = [
        (
            f"{name}, {parsed.size:,} bytes",
            *(f"{median(times) * 1e6:.1f}" for times in (parsed.lxml, parsed.first, parsed.again)),
            f"{parsed.ratio(parsed.first):.2f}",
            f"{parsed.ratio(parsed.again):.2f}",
        )
        for name, parsed in results.parsing.items()
    ]
    heads = ("µs", "lxml alone", "first time", "again", "first / lxml", "again / lxml")
    return table(heads, rows) if rows else ""


def _places(results: Results) -> list[_Place]:
    return [
        _Place(measured, size, is_qemu, max(measured.sizes()))
        for measured, is_qemu in ((results.test, False), (results.qemu, True))
        for size in measured.sizes()
    ]


def _cell(place: _Place, ways: tuple[str, str], method: str) -> str:
    ratio, goal = place.measured.ratio(*ways, method, place.size), place.goal(ways, method)
    if ratio is None:
        return "-"
    return f"**{ratio:.2f}**" if goal is not None and ratio > goal else f"{ratio:.2f}"
