"""What `./dev bench callers` writes: its results as a page and as a plot.

In: `Results`. Out: Markdown and SVG. Judges the goals by the figures alone; a figure that was not
measured is a dash.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from benchmarks.harness.callers_ratios import (
    COLD,
    WARM,
    goals_of_ratios,
    parsing,
    ratios,
)
from benchmarks.harness.callers_results import (
    METHODS,
    WAYS,
    Hanging,
    Measured,
    Results,
    figure,
)
from benchmarks.harness.chart import Line, Panel, chart
from benchmarks.harness.pages import paragraphs, prose, setting_list, yes
from benchmarks.harness.tables import milliseconds, table

MOST_CALLS = 3
LEAST_OVER_TEST = 20.0
LEAST_OVER_QEMU = 50.0

_COMPARED_ON_TEST = tuple(method for method in METHODS if method != "get_all_volume_usage")
_MOST_NAMES = 5
_ALL = "get_available_resource"
_PLOTTED = (
    ("limited", "qemu-img as Nova", 1),
    ("per domain", "per domain", 0),
    ("new", "a new Host", 3),
    ("guestlist", "guestlist", 2),
)


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
        "## Each question, against asking by hand",
        prose(_RATIOS),
        "### guestlist, kept / per domain",
        ratios(results, WARM),
        "### guestlist, a new Host / per domain, a new connection",
        ratios(results, COLD),
        "## Parsing a domain's XML",
        prose(_PARSING),
        parsing(results),
        "## Calls on the wire, by number of domains",
        "### guestlist, kept",
        _calls(results, "guestlist"),
        "### guestlist, a new Host",
        _calls(results, "new"),
        "### Per domain",
        _calls(results, "per domain"),
        _CALLS,
        f"## {most:,} domains of the test driver: milliseconds",
        _milliseconds(
            test, most, ("guestlist", "new", "per domain", "new per domain"), _COMPARED_ON_TEST
        ),
        _TEST,
        f"## {guests:,} QEMU guests with a disk each: milliseconds",
        _milliseconds(qemu, guests, tuple(WAYS)),
        _QEMU,
        "## Programs started",
        _programs(qemu, guests),
        *_hanging(results.hanging),
    )


def plot(results: Results) -> str:
    """Return the plot: medians of the question that asks all the others."""
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
            for measured in _counted_on(results, method)
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
    rows += goals_of_ratios(results)
    rows.append(("answers in which the ways differ", "none", "none", "yes"))
    return table(("", "measured", "goal", "met"), rows)


def _counted_on(results: Results, method: str) -> Iterable[Measured]:
    """Return where a method has bulk calls: on both hypervisor drivers, with one exception.

    The test driver has no bulk statistics of disks: there each volume is asked about by itself.
    """
    return (results.qemu,) if method == "get_all_volume_usage" else (results.test, results.qemu)


def _without_memory(measured: Measured, size: int) -> float:
    """Return the ratio without the time that the per-domain way takes for domains' memory."""
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
on a block device; another runs real QEMU guests without KVM, paused, 16 MiB and one vCPU each, with
a qcow2 disk of 65 MiB and more, a few of them written. guestlist keeps its `ComputeDriver`, or
makes a new `Host` and driver for each question, which connects on the way. "Per domain" is
`tests/lab/per_domain.py`: the questions as Nova's released driver (34.0.0) asks them, written from
its behaviour, over one connection that stays, or over a new one for each question. Each way is a
process of its own. Figures are medians of {rounds} turns, after one that does not count; all ways
and methods take turns in a new random order for each round. Every single time is in
[callers.json](callers.json)."""

_GOALS = """\
Every answer of every turn was compared with the first one to that question, in any way: lists
sorted, numbers to the byte; a difference ends the run. Of `get_available_resource` the vCPUs, the
memory, their use, the size of the disk and the hypervisor are compared; the space on the disk and
the load change by themselves. The usage of volumes is compared on QEMU: the test driver invents the
numbers of one volume from the time of day, and has no bulk statistics of volumes.

Nova asks each guest for its memory only where guests' memory is backed by files; elsewhere it reads
/proc/meminfo. Without those look-ups `get_available_resource` per domain takes
{without_memory} times as long as guestlist's at {size:,} domains, and {guests_without_memory} times
at {guests:,} QEMU guests. "Per domain" here runs `qemu-img` once for each disk. Nova runs it twice,
each time by a Python process that first limits its memory: "as Nova runs qemu-img"."""

_RATIOS = """\
How many times as long guestlist takes as the per-domain way: below 1 it is faster. A ratio that is
above its goal stands in bold. The per-domain way does not tell which instances are Nova's;
`list_instances`, `list_instance_uuids` and `get_num_instances` do, and may take a quarter longer
for it. Of `get_all_volume_usage` on the test driver nothing is judged: that driver has no bulk
statistics of disks."""

_PARSING = """\
Nova's documents of `tests/corpus` from 3,000 to 10,000 bytes, as libvirt's test driver writes them
for active domains. Each round parses twenty copies of each with other ids, as for twenty domains:
with lxml alone, with guestlist for the first time, and with guestlist again, which remembers some
values by their text. Times are medians of the rounds, of processor time; ratios are medians of
each round's ratio."""

_CALLS = """\
A proxy in front of the socket counts the calls, in turns of their own. The calls of a new Host
include those that open and close its connection. `instance_exists` and `get_info` are asked about
one instance, `get_all_volume_usage` about a volume of each. Per domain, one call of each question
is Nova's own check whether the connection is still alive."""

_TEST = """\
There are no disk images here, and so no `qemu-img`: these are the calls alone. On a compute node
the disk images make the difference."""

_QEMU = """\
On QEMU without KVM `vcpus()` fails, after all its calls were made. Nova then counts one vCPU."""

_HANGING = """\
The QEMU of {guest} is stopped with SIGSTOP, so its monitor is silent. The longest was `{method}`
with {took} ms. guestlist's log named: {named}. Of the {guests} volumes, `get_all_volume_usage` told
of {volumes} in its turns, in their order. The per-domain way is not asked: its `blockStats` would
wait until the guest goes on."""
