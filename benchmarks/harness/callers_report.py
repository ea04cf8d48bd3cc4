"""What `./dev bench callers` writes: its results as a page and as a plot.

In: `Results`. Out: Markdown and SVG. Only the figures decide whether a goal is met; a dash stands
for what was not measured.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median

from benchmarks.harness.chart import Line, Panel, chart
from benchmarks.harness.pages import paragraphs, prose, setting_list, yes
from benchmarks.harness.race import Seconds
from benchmarks.harness.tables import milliseconds, table

METHODS = (
    "list_instances",
    "list_instance_uuids",
    "get_num_instances",
    "instance_exists",
    "get_info",
    "get_all_block_devices",
    "get_vcpus_used",
    "get_memory_mb_used",
    "get_disk_over_committed_size_total",
    "get_all_volume_usage",
    "get_host_uptime",
    "get_available_resource",
)
"""The questions, in the order of the tables."""

LIMITED_METHODS = ("get_disk_over_committed_size_total", "get_available_resource")
"""The questions for which `qemu-img` is run."""

_COMPARED_ON_TEST = tuple(method for method in METHODS if method != "get_all_volume_usage")

WAYS = {
    "guestlist": "guestlist",
    "new": "a new Host",
    "per domain": "per domain",
    "limited": "as Nova runs qemu-img",
}

MOST_CALLS = 3
LEAST_OVER_TEST = 20.0
LEAST_OVER_QEMU = 50.0

_MOST_NAMES = 5
_ALL = "get_available_resource"
_PLOTTED = (
    ("limited", "qemu-img as Nova", 1),
    ("per domain", "per domain", 0),
    ("new", "a new Host", 3),
    ("guestlist", "guestlist", 2),
)

Counts = dict[str, dict[int, int]]
"""A number of calls or programs, by figure and number of domains."""


@dataclass(slots=True)
class Measured:
    """Everything measured on one hypervisor driver."""

    calls: Counts = field(default_factory=dict)
    programs: Counts = field(default_factory=dict)
    seconds: Seconds = field(default_factory=dict)

    def sizes(self) -> list[int]:
        """Return the numbers of domains, in ascending order."""
        return sorted({size for by_size in self.calls.values() for size in by_size})

    def median(self, way: str, method: str, size: int) -> float | None:
        """Return the median seconds of a question; None where it was not asked."""
        times = self.seconds.get(figure(way, method), {}).get(size)
        return median(times) if times else None

    def ratio(self, above: str, below: str, method: str, size: int) -> float | None:
        """Return how many times as long `above` takes as `below`."""
        over, under = self.median(above, method, size), self.median(below, method, size)
        return over / under if over and under else None


@dataclass(slots=True)
class Hanging:
    """What guestlist did while one guest of `guests` hung: the seconds of each turn, by method.

    `same` tells whether a method's answers were the same as before, `named` which guests the log
    named, `volumes` how many volumes each turn of `get_all_volume_usage` returned.
    """

    guests: int
    guest: str
    seconds: dict[str, list[float]] = field(default_factory=dict)
    same: dict[str, bool] = field(default_factory=dict)
    named: list[str] = field(default_factory=list)
    volumes: list[int] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Results:
    """Everything measured in one run."""

    setting: Mapping[str, str]
    rounds: int
    test: Measured
    qemu: Measured
    hanging: Hanging | None


def figure(way: str, method: str) -> str:
    """Return the name of a figure: one method, asked in one way."""
    return f"{way}: {method}"


def markdown(results: Results) -> str:
    """Return the page."""
    test, qemu = results.test, results.qemu
    most, guests = max(test.sizes()), max(qemu.sizes())
    return paragraphs(
        "# A compute driver's questions: guestlist and domain by domain, in one run",
        _READERS,
        "![The time of get_available_resource over the number of domains](callers.svg)",
        setting_list(results.setting),
        prose(_INTRODUCTION, rounds=results.rounds),
        "## Goals",
        _goals(results),
        prose(
            _GOALS,
            size=most,
            without_memory=_times(_without_memory(test, most)),
            guests=guests,
            guests_without_memory=_times(_without_memory(qemu, guests)),
        ),
        "## Calls on the wire, by number of domains",
        "### guestlist, kept",
        _calls(results, "guestlist"),
        "### guestlist, a new Host",
        _calls(results, "new"),
        "### Per domain",
        _calls(results, "per domain"),
        _CALLS,
        f"## {most:,} domains of the test driver: milliseconds",
        _milliseconds(test, most, ("guestlist", "new", "per domain"), _COMPARED_ON_TEST),
        _TEST,
        f"## {guests:,} QEMU guests with a disk each: milliseconds",
        _milliseconds(qemu, guests, tuple(WAYS)),
        _QEMU,
        "## Programs started",
        _programs(qemu, guests),
        *_hanging(results.hanging),
    )


def plot(results: Results) -> str:
    """Return the plot: medians of `get_available_resource`, which includes the other questions."""
    return chart(
        f"Time of {_ALL}",
        [
            Panel("Test driver", list(_lines(results.test))),
            Panel("QEMU guests with a disk each", list(_lines(results.qemu))),
        ],
        "domains",
        f"Medians of {results.rounds} turns. {results.setting['CPU']}; "
        f"libvirt: {results.setting['libvirt']}.",
    )


def _lines(measured: Measured) -> Iterable[Line]:
    for way, name, colour in _PLOTTED:
        points = [
            (size, took) for size in measured.sizes() if (took := measured.median(way, _ALL, size))
        ]
        if points:
            yield Line(name, colour, points)


def _goals(results: Results) -> str:
    counts = {
        method: {
            number
            for measured in (results.test, results.qemu)
            for number in measured.calls[figure("guestlist", method)].values()
        }
        for method in METHODS
    }
    calls = max(max(numbers) for numbers in counts.values())
    growing = [method for method, numbers in counts.items() if len(numbers) > 1]
    rows = [
        (
            "guestlist, kept: the most calls of any method",
            f"{calls}",
            f"at most {MOST_CALLS}",
            yes(calls <= MOST_CALLS),
        ),
        (
            "guestlist, kept: methods whose calls depend on the number of domains",
            ", ".join(growing) or "none",
            "none",
            yes(not growing),
        ),
    ]
    for measured, least, domains in (
        (results.qemu, LEAST_OVER_QEMU, "QEMU guests"),
        (results.test, LEAST_OVER_TEST, "domains of the test driver"),
    ):
        size = max(measured.sizes())
        ratio = measured.ratio("per domain", "guestlist", _ALL, size)
        what = f"{_ALL} at {size:,} {domains}: per domain / guestlist"
        rows.append(
            (what, _times(ratio), f"at least {least:g}", yes(bool(ratio and ratio >= least)))
        )
        limited = measured.ratio("limited", "guestlist", _ALL, size)
        if limited is not None:
            rows.append((f"the same, {WAYS['limited']}", _times(limited), "-", "-"))
    rows.append(("answers in which the ways differ", "none", "none", "yes"))
    return table(("", "measured", "goal", "met"), rows)


def _without_memory(measured: Measured, size: int) -> float:
    """Return the ratio without the per-domain way's questions about each domain's memory."""
    whole = measured.median("per domain", _ALL, size)
    memory = measured.median("per domain", "get_memory_mb_used", size)
    ours = measured.median("guestlist", _ALL, size)
    assert whole is not None
    assert memory is not None
    assert ours is not None
    return (whole - memory) / ours


def _calls(results: Results, way: str) -> str:
    places = [
        (measured, size, f"{size:,}{suffix}")
        for measured, suffix in ((results.test, ""), (results.qemu, " QEMU"))
        for size in measured.sizes()
    ]
    rows = [
        (
            method,
            *(f"{measured.calls[figure(way, method)][size]:,}" for measured, size, _ in places),
        )
        for method in METHODS
    ]
    return table(("", *(head for _, _, head in places)), rows)


def _milliseconds(
    measured: Measured, size: int, ways: Sequence[str], methods: Sequence[str] = METHODS
) -> str:
    rows = [
        (
            method,
            *(_time(measured.median(way, method, size)) for way in ways),
            _times(measured.ratio("per domain", "guestlist", method, size)),
        )
        for method in methods
    ]
    return table(("", *(WAYS[way] for way in ways), "per domain / guestlist"), rows)


def _programs(measured: Measured, size: int) -> str:
    rows = [
        (
            method,
            *(_count(measured.programs.get(figure(way, method), {}).get(size)) for way in WAYS),
        )
        for method in METHODS
        if any(measured.programs.get(figure(way, method), {}).get(size) for way in WAYS)
    ]
    return table((f"{size:,} QEMU guests", *WAYS.values()), rows)


def _hanging(hanging: Hanging | None) -> Iterable[str]:
    if hanging is None:
        return
    longest = max(hanging.seconds, key=lambda method: max(hanging.seconds[method]))
    rows = [
        (method, milliseconds(max(hanging.seconds[method])), yes(hanging.same[method]))
        for method in METHODS
    ]
    yield f"## One guest of {hanging.guests:,} hangs: the longest of {_turns(hanging)} turns"
    yield table(("guestlist, kept", "ms", "the same answer as before"), rows)
    yield prose(
        _HANGING,
        guest=hanging.guest,
        method=longest,
        took=milliseconds(max(hanging.seconds[longest])),
        named=_names(hanging.named),
        volumes=", ".join(map(str, hanging.volumes)),
        guests=hanging.guests,
    )


def _names(names: Sequence[str]) -> str:
    if len(names) > _MOST_NAMES:
        return f"{len(names)} guests, {names[0]} among them"
    return ", ".join(names) or "none"


def _turns(hanging: Hanging) -> int:
    return max(map(len, hanging.seconds.values()))


def _time(seconds: float | None) -> str:
    return "-" if seconds is None else milliseconds(seconds)


def _times(ratio: float | None) -> str:
    return "-" if ratio is None else f"{ratio:,.1f}"


def _count(number: int | None) -> str:
    return "-" if number is None else f"{number:,}"


_READERS = """\
This page is for operators and programmers. It compares how long a compute driver's questions take
with guestlist, and when each domain is asked about by itself."""

_INTRODUCTION = """\
A private libvirtd serves libvirt's test driver with running instances of Nova, each with a volume
on a block device. A second one runs real QEMU guests without KVM, paused, 16 MiB and one vCPU each,
with a qcow2 disk of 65 MiB and more; a few of the disks are written to. "guestlist" keeps its
`ComputeDriver`. "A new Host" makes a new `Host` and driver for each question, and connects on the
way. "Per domain" is `tests/lab/per_domain.py`: the questions as Nova's released libvirt driver
(34.0.0) asks them, written from its behaviour, over one connection. Each way is its own process.
Figures are medians of {rounds} turns; the first turn of each does not count. All ways and methods
take turns, in a new random order for each round. [callers.json](callers.json) has every single
time."""

_GOALS = """\
The first answer to each question was kept, and every later answer to it, of every way and turn, was
compared with it: lists sorted, numbers to the byte. A difference ends the run. For
`get_available_resource` the vCPUs, the memory, their use, the size of the disk and the hypervisor
are compared; the free space on the disk and the load change by themselves. The usage of volumes is
compared on QEMU alone: the test driver makes up the numbers of one volume from the time of day, and
has none in bulk.

Nova asks each guest for its memory only where guests' memory is backed by files; elsewhere it reads
/proc/meminfo. Without those look-ups `get_available_resource` per domain takes
{without_memory} times as long as guestlist's at {size:,} domains, and {guests_without_memory} times
at {guests:,} QEMU guests. "Per domain" runs `qemu-img` once for each disk. Nova runs it twice, each
time by a Python process that first limits its memory: that is "as Nova runs qemu-img"."""

_CALLS = """\
A proxy in front of the socket counted these, in turns of their own. The calls of a new Host include
those that open and close its connection. `instance_exists` and `get_info` asked about one instance,
`get_all_volume_usage` about one volume of each instance. Per domain, each question makes one call
to check that the connection is alive: this is Nova's own check."""

_TEST = """\
There are no disk images here, and so no `qemu-img`: these are the calls alone. On a compute node
the disk images make the difference."""

_QEMU = """\
On QEMU without KVM `vcpus()` fails, after all its calls were made. Nova then counts one vCPU."""

_HANGING = """\
The QEMU of {guest} is stopped with SIGSTOP, so its monitor does not answer. The longest was
`{method}` with {took} ms. guestlist's log named: {named}. In its turns, in order,
`get_all_volume_usage` returned {volumes} of the {guests} volumes. The per-domain way is not asked:
its `blockStats` would wait until the guest goes on."""
