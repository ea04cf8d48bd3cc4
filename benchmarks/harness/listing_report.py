"""What `./dev bench listing` writes: its results as a page and as a plot.

In: `Results`. Out: Markdown and SVG. Says of each figure what it is, judges the ratios against
their goals by the figures alone, and extrapolates nothing: what was not measured is a dash.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median, quantiles

from benchmarks.harness.chart import Line, Panel, chart
from benchmarks.harness.pages import paragraphs, setting_list, yes
from benchmarks.harness.tables import milliseconds, table

TEXTS = {
    "c list": "C: virConnectListAllDomains",
    "c read": "C: the same, and id and name of each",
    "python list": "libvirt-python: listAllDomains",
    "python read": "libvirt-python: the same, and id and name of each",
    "guestlist": "guestlist: list_instance_domains",
    "first": "guestlist: a new Host's first listing alone",
    "new": "guestlist: a new Host, its connection opened on the way",
    "legacy": "the legacy walk",
    "virsh": "virsh list --all --name, the whole process",
    "virsh uri": "virsh uri, the whole process, which lists nothing",
    "ls": "guestlist ls -q, the whole process",
    "bare": "libvirt-python: python -c that opens and lists, the whole process",
}
"""What was timed, in the order of the tables."""

LEAST_OVER_LEGACY = 10.0
MOST_OVER_C = 1.10
MOST_OVER_BARE = 1.7

_PLOTTED = (
    ("legacy", "legacy walk", 0),
    ("virsh", "virsh (process)", 1),
    ("guestlist", "guestlist", 2),
    ("c list", "C, bare call", 3),
)

BySize = Mapping[int, Sequence[float]]


@dataclass(frozen=True, slots=True)
class Results:
    """Everything measured in one run; seconds and calls by figure (`TEXTS`) and number of domains.

    `walk_limit` is the most domains for which the walk was raced far away, and then once only.
    """

    setting: Mapping[str, str]
    sizes: Sequence[int]
    rounds: int
    round_trip_ms: float
    walk_limit: int
    left_out: Sequence[str]
    calls: Mapping[str, Mapping[int, int]]
    socket_seconds: Mapping[str, BySize]
    far_seconds: Mapping[str, BySize]
    process_seconds: Mapping[str, Sequence[float]]
    """Of whole processes, on test:///default."""


def markdown(results: Results) -> str:
    """The page."""
    most = max(results.sizes)
    return paragraphs(
        "# Listing a host: every way in one run",
        "![The times below as lines over the number of domains](listing.svg)",
        setting_list(results.setting),
        _INTRODUCTION.format(rounds=results.rounds),
        *(f"Left out: {reason}." for reason in results.left_out),
        "## Calls on the wire, by number of domains",
        _calls(results),
        _CALLS,
        "## Over the unix socket: milliseconds",
        _times(results, results.socket_seconds),
        _SOCKET,
        f"## With {results.round_trip_ms:g} ms of added round trip: milliseconds",
        _times(results, results.far_seconds),
        _FAR.format(limit=results.walk_limit),
        "## Whole processes, on test:///default",
        _processes(results),
        _PROCESSES,
        f"## The ratios at {most:,} domains",
        _ratios(results.socket_seconds, most),
        f"## What the difference to C consists of, at {most:,} domains",
        _difference(results.socket_seconds, most),
    )


def plot(results: Results) -> str:
    """The plot: medians of the ways that a person would choose from, and C to measure them by."""
    far = f"With {results.round_trip_ms:g} ms of added round trip"
    return chart(
        "Time to list a host once",
        [
            Panel("Over the unix socket", _lines(results, results.socket_seconds)),
            Panel(far, _lines(results, results.far_seconds)),
        ],
        "domains",
        f"Medians of {results.rounds} turns (with the round trip, of one walk). "
        f"{results.setting['CPU']}; libvirt: {results.setting['libvirt']}.",
    )


def _lines(results: Results, seconds: Mapping[str, BySize]) -> list[Line]:
    lines = []
    for figure, name, colour in _PLOTTED:
        if by_size := seconds.get(figure):
            points = [(size, median(times)) for size, times in by_size.items()]
            beyond = "" if max(by_size) == max(results.sizes) else ", not run beyond"
            lines.append(Line(name + beyond, colour, points))
    return lines


def _calls(results: Results) -> str:
    rows = [
        (text, *(f"{results.calls[figure][size]:,}" for size in results.sizes))
        for figure, text in TEXTS.items()
        if figure in results.calls
    ]
    return table(_heads(results), rows)


def _times(results: Results, seconds: Mapping[str, BySize]) -> str:
    rows = [
        (text, *(_time(seconds[figure].get(size)) for size in results.sizes))
        for figure, text in TEXTS.items()
        if figure in seconds
    ]
    return table(_heads(results), rows)


def _heads(results: Results) -> list[str]:
    return ["", *(f"{size:,}" for size in results.sizes)]


def _time(seconds: Sequence[float] | None) -> str:
    return milliseconds(median(seconds)) if seconds else "-"


def _ratios(seconds: Mapping[str, BySize], size: int) -> str:
    ours = median(seconds["guestlist"][size])
    over = median(seconds["legacy"][size]) / ours
    goal, met = f"at least {LEAST_OVER_LEGACY:g}", over >= LEAST_OVER_LEGACY
    rows = [(_ratio("legacy", "guestlist"), f"{over:,.1f}", goal, yes(met))]
    for figure in ("c list", "c read"):
        if figure in seconds:
            over = ours / median(seconds[figure][size])
            goal, met = f"at most {MOST_OVER_C:.2f}", over <= MOST_OVER_C
            rows.append((_ratio("guestlist", figure), f"{over:.2f}", goal, yes(met)))
    return table(("ratio of medians, over the socket", "measured", "goal", "met"), rows)


def _processes(results: Results) -> str:
    """Return the command beside the shortest program: on libvirt's host, and over the socket."""
    few = min(results.sizes)
    over_socket = {name: results.socket_seconds[name][few] for name in ("ls", "bare")}
    hosts = {"test:///default": results.process_seconds, f"{few:,} domains": over_socket}
    rows = []
    for host, seconds in hosts.items():
        ls, bare = median(seconds["ls"]), median(seconds["bare"])
        goal, met = f"at most {MOST_OVER_BARE:g}", ls / bare <= MOST_OVER_BARE
        rows.append(
            (host, milliseconds(ls), milliseconds(bare), f"{ls / bare:.2f}", goal, yes(met))
        )
    return table(("host", "guestlist ls -q", "python -c", "ratio", "goal", "met"), rows)


def _ratio(above: str, below: str) -> str:
    return f"{TEXTS[above]} / {TEXTS[below]}"


def _difference(seconds: Mapping[str, BySize], size: int) -> str:
    if "c list" not in seconds:
        return "There was no C program to compare with."
    times = {figure: median(by_size[size]) for figure, by_size in seconds.items()}
    steps = [
        ("libvirt itself: the bare call from C", times["c list"]),
        (
            "libvirt-python: a Python object for each domain",
            times["python list"] - times["c list"],
        ),
        (
            "libvirt-python: id and name of each asked for and matched",
            times["python read"] - times["python list"],
        ),
        ("guestlist: everything else", times["guestlist"] - times["python read"]),
        ("guestlist: list_instance_domains", times["guestlist"]),
    ]
    rows = [
        (
            what,
            milliseconds(took),
            f"{took / size * 1e6:z.2f}",
            f"{took / times['guestlist']:z.0%}",
        )
        for what, took in steps
    ]
    low, _, high = quantiles(seconds["guestlist"][size], method="inclusive")
    return "\n\n".join(
        [
            table(("the step", "ms", "µs a domain", "share"), rows),
            _DIFFERENCE.format(
                reading=milliseconds(times["c read"] - times["c list"]),
                low=milliseconds(low),
                high=milliseconds(high),
            ),
        ]
    )


_INTRODUCTION = """\
A private libvirtd serves libvirt's test driver with running domains, all named as Nova names them,
so that every way gives the same answer; one that does not find them all ends the run. Figures are
medians of {rounds} turns. The entrants take turns in an order drawn anew for each round, after one
turn that does not count. Each is a process of its own that keeps its connection, unless it says
otherwise, and only the listing is on the clock: neither opening, where not named, nor freeing the
result. Every single time is in [listing.json](listing.json)."""

_CALLS = """\
Counted by a proxy in front of the socket, in turns of their own. The calls of a new Host and of
virsh include those that open and close the connection. The walk asks for each count twice:
libvirt-python's lists ask for their own length first."""

_SOCKET = """\
The bare calls list the active domains (VIR_CONNECT_LIST_DOMAINS_ACTIVE), as guestlist does by
default; the walk and virsh list all, which here are the same ones. "And id and name of each" is
guestlist's answer in the fewest words: each domain whose id is not 0 and whose name is of the shape
that Nova's default template makes. A new Host's first listing alone has its connection opened just
before, off the clock, and so starts with its process and the daemon awake; nothing is remembered
from any listing before. virsh is timed from outside: starting a process, connecting and printing
included, which `virsh uri` shows by itself.

The walk's time grows faster than its calls: all domains are active here, each is looked up by id,
and libvirt finds an id by trying one domain after another (virDomainObjListFindByID). It finds a
name at once, so a walk of a host whose domains are shut off is faster than this one."""

_PROCESSES = """\
Milliseconds from the start of a process to its end, medians. The other program is
`python -c "import libvirt; print(*[d.name() for d in libvirt.open(uri).listAllDomains()])"`. Both
have their bytecode, as installed packages have. The one domain of test:///default does not say by
its name who launched it, so guestlist reads its XML there; the domains of the other host are named
as Nova names them."""

_FAR = """\
The same through the proxy, which lets everything from the daemon arrive that much later; what the
proxy itself costs is in these figures. The walk was raced this way once, not more often, and not
beyond {limit:,} domains, where it would take minutes: a dash is "not measured"."""

_DIFFERENCE = """\
Each step is a difference of two medians of this run; a small one may be noise. The same ids and
names, read and matched in C, cost {reading} ms: not nothing there either, as virDomainGetID formats
the domain's UUID for a debug message, wanted or not. The middle half of guestlist's turns took
{low} to {high} ms."""
