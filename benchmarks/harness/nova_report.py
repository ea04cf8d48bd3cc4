"""What `./dev bench nova` writes: its results as a page and as a plot.

In: `Results`. Out: Markdown and SVG. Judges the goals by the figures alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from benchmarks.harness.chart import Line, Panel, chart
from benchmarks.harness.pages import paragraphs, prose, setting_list, yes
from benchmarks.harness.tables import milliseconds, table

QUESTIONS = (
    "list_instances",
    "list_instance_uuids",
    "get_num_instances",
    "instance_exists",
    "_get_vcpu_used",
    "_get_disk_over_committed_size_total",
    "_get_all_assigned_mediated_devices",
    "mount state",
    "_host._sum_domain_memory_mb",
    "get_info",
    "get_all_volume_usage",
    "get_available_resource",
)
TOGETHER = ("get_available_resource", "get_all_volume_usage", "get_info")
"""What nova-compute does periodically: update of resources, volume usage, power states."""

_INTRODUCTION = """\
Nova's own libvirt driver and the drop-in are each loaded by Nova's own loader in a process of its
own, in {mode} mode. Both are asked the same questions over the same private daemon, in turns, each
through a proxy of its own that counts calls. Each question is asked once before it is counted, and
the two answers must be equal. `get_info` is asked about every domain, as the synchronization of
power states does; each domain has a volume. Times are those within Nova's process: medians of
{rounds} turns, and of up to 51 turns where an answer takes milliseconds. "Together" are the three
questions that nova-compute repeats: `get_available_resource`, `get_all_volume_usage` and `get_info`
of all domains. The calls of `get_info` are comparisons of the live view with a list: one before the
first answer, and one for each second (`max_list_age`) that the questions go on. Here each question
waits for the one before it, so their number grows with the time, not with the number of domains.
Every single figure is in [nova.json](nova.json).

The test driver has no bulk statistics of block devices. There each volume costs one call instead of
Nova's three, and volume usage is not judged."""


@dataclass
class Figures:
    """What each question cost, by driver and question."""

    size: int
    calls: dict[str, dict[str, int]] = field(default_factory=dict)
    processes: dict[str, dict[str, int]] = field(default_factory=dict)
    seconds: dict[str, dict[str, float]] = field(default_factory=dict)

    @property
    def questions(self) -> tuple[str, ...]:
        """All questions, in order."""
        return QUESTIONS

    def put(self, driver: str, question: str, calls: int, processes: int, seconds: float) -> None:
        """Record the cost of one question."""
        self.calls.setdefault(driver, {})[question] = calls
        self.processes.setdefault(driver, {})[question] = processes
        self.seconds.setdefault(driver, {})[question] = seconds

    def together(self, figures: Mapping[str, Mapping[str, float]], driver: str) -> float:
        """Return the sum over what nova-compute does periodically."""
        return sum(figures[driver][question] for question in TOGETHER)


@dataclass
class Results:
    """What was measured, by number of domains."""

    series: str
    mode: str
    rounds: int
    setting: dict[str, str] = field(default_factory=dict)
    test: dict[int, Figures] = field(default_factory=dict)
    guests: dict[int, Figures] = field(default_factory=dict)
    disks: Figures | None = None


def markdown(results: Results) -> str:
    """Return the page."""
    disks = results.disks
    assert disks is not None
    return paragraphs(
        f"# Nova's libvirt driver, and the drop-in: OpenStack {results.series}",
        "![Calls of get_available_resource over the number of domains](nova.svg)",
        setting_list(results.setting),
        prose(_INTRODUCTION, mode=results.mode, rounds=results.rounds),
        "## What was asked for",
        _goals(results, disks),
        "## Calls on the wire: libvirt's test driver",
        _calls(results.test),
        "## Calls on the wire: QEMU guests",
        _calls(results.guests),
        f"## {disks.size:,} QEMU guests with two qcow2 disks each",
        _costs(disks),
    )


def plot(results: Results) -> str:
    """Return the plot: calls of the question that asks all the others."""
    question = "get_available_resource"
    lines = [
        Line(
            driver,
            colour,
            [(size, figures.calls[driver][question]) for size, figures in results.test.items()],
        )
        for colour, driver in enumerate(("Nova", "guestlist"))
    ]
    return chart(
        f"Calls of {question}",
        [Panel("libvirt's test driver", lines)],
        "domains",
        "calls on the wire, warm",
    )


def _goals(results: Results, disks: Figures) -> str:
    most = max(results.guests)
    guests = results.guests[most]
    by_time = "get_info"
    constant = _constant(results.test, without=(by_time, "get_all_volume_usage")) and _constant(
        results.guests, without=(by_time,)
    )
    resource = max(
        figures.calls["guestlist"]["get_available_resource"]
        for figures in (*results.test.values(), *results.guests.values(), disks)
    )
    processes = disks.processes["guestlist"]["get_available_resource"]
    fewer = guests.together(guests.calls, "Nova") / guests.together(guests.calls, "guestlist")
    faster = disks.together(disks.seconds, "Nova") / disks.together(disks.seconds, "guestlist")
    return table(
        ["", "measured", "goal", "met"],
        [
            _goal(
                "calls of the drop-in are the same at any size; `get_info`: one a second",
                yes(constant),
                "yes",
                constant,
            ),
            _goal("calls of `get_available_resource`", str(resource), "at most 25", resource <= 25),
            _goal("qemu-img processes while no image changes", str(processes), "0", processes == 0),
            _goal(f"together, {most:,} guests: fewer calls", _times(fewer), "30 x", fewer >= 30),
            _goal(
                f"together, {disks.size:,} guests with two qcow2 disks: faster",
                _times(faster),
                "20 x",
                faster >= 20,
            ),
        ],
    )


def _goal(what: str, measured: str, goal: str, met: bool) -> list[str]:
    return [what, measured, goal, yes(met)]


def _times(ratio: float) -> str:
    return f"{ratio:.1f} x"


def _constant(measured: Mapping[int, Figures], without: Iterable[str]) -> bool:
    return all(
        len({figures.calls["guestlist"][question] for figures in measured.values()}) == 1
        for question in QUESTIONS
        if question not in without
    )


def _calls(measured: Mapping[int, Figures]) -> str:
    rows = [
        [
            f"`{question}`",
            *(
                f"{figures.calls[driver][question]:,}"
                for driver in ("Nova", "guestlist")
                for figures in measured.values()
            ),
        ]
        for question in QUESTIONS
    ]
    together = [
        "together",
        *(
            f"{figures.together(figures.calls, driver):,.0f}"
            for driver in ("Nova", "guestlist")
            for figures in measured.values()
        ),
    ]
    heads = [f"{driver}, {size:,}" for driver in ("Nova", "guestlist") for size in measured]
    return table(["", *heads], [*rows, together])


def _costs(figures: Figures) -> str:
    def row(name: str, questions: Iterable[str]) -> list[str]:
        questions = tuple(questions)
        seconds = {
            driver: sum(figures.seconds[driver][each] for each in questions)
            for driver in ("Nova", "guestlist")
        }
        return [
            name,
            *(str(sum(figures.calls[driver][each] for each in questions)) for driver in seconds),
            *(
                str(sum(figures.processes[driver][each] for each in questions))
                for driver in seconds
            ),
            *(milliseconds(each) for each in seconds.values()),
            f"{seconds['Nova'] / seconds['guestlist']:.1f}",
        ]

    return table(
        [
            "",
            "calls: Nova",
            "guestlist",
            "qemu-img: Nova",
            "guestlist",
            "ms: Nova",
            "guestlist",
            "times faster",
        ],
        [*(row(f"`{each}`", [each]) for each in QUESTIONS), row("together", TOGETHER)],
    )
