"""What `./dev bench listing` writes: its results as a page and as a plot.

In: `Results`. Out: Markdown and SVG. Says what each figure is. Only the figures decide whether a
ratio meets its goal. Nothing is extrapolated: a dash stands for what was not measured.
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

    `walk_limit` is the most domains for which the walk ran with the added round trip; it ran once.
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
    """Return the page."""
    most = max(results.sizes)
    return paragraphs(
        "# Listing a host: every way in one run",
        _READERS,
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
        f"## Where the difference to C comes from, at {most:,} domains",
        _difference(results.socket_seconds, most),
    )


def plot(results: Results) -> str:
    """Return the plot: medians of the ways that a person would choose from, and of C to compare."""
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


_READERS = """\
This page is for operators and programmers. It says how long each way to list a host takes, and how
many calls it makes."""

_INTRODUCTION = """\
A private libvirtd serves libvirt's test driver with running domains, all named as Nova names them,
so that every way gives the same answer. A way that does not find them all ends the run. Figures are
medians of {rounds} turns. The ways take turns, in a new random order for each round, after one turn
that does not count. Each is a process of its own that keeps its connection, unless it says
otherwise. Only the listing is timed: neither opening the connection, unless the name says so, nor
freeing the result. [listing.json](listing.json) has every single time."""

_CALLS = """\
A proxy in front of the socket counted these, in turns of their own. The calls of a new Host and of
virsh include those that open and close the connection. The walk asks for each count twice:
libvirt-python's lists ask for their own length first."""

_SOCKET = """\
The bare calls list the active domains (VIR_CONNECT_LIST_DOMAINS_ACTIVE), as guestlist does by
default; the walk and virsh list all domains, which are the same ones here. "And id and name of
each" is the least code for guestlist's answer: each domain whose id is not 0 and whose name has the
shape of Nova's default template. For "a new Host's first listing alone" the connection is opened
just before, untimed, so its process and the daemon are awake; nothing is remembered from an earlier
listing. virsh is timed from outside: starting a process, connecting and printing are included;
`virsh uri` shows that part by itself.

The walk's time grows faster than its calls. All domains are active here, each is looked up by id,
and libvirt finds an id by trying one domain after another (virDomainObjListFindByID). It finds a
name at once, so a walk of a host whose domains are shut off is faster than this one."""

_PROCESSES = """\
Milliseconds from the start of a process to its end, medians. The other program is
`python -c "import libvirt; print(*[d.name() for d in libvirt.open(uri).listAllDomains()])"`. Both
have their bytecode, as installed packages have. The one domain of test:///default does not say by
its name who launched it, so guestlist reads its XML there; the domains of the other host are named
as Nova names them."""

_FAR = """\
The same through the proxy, which delays everything from the daemon by that time; the cost of the
proxy itself is in these figures. The walk ran only once here, and not beyond {limit:,} domains,
where it would take minutes. A dash means "not measured"."""

_DIFFERENCE = """\
Each step is a difference of two medians of this run; a small one may be noise. In C, reading and
matching the same ids and names costs {reading} ms. It is not free there either: virDomainGetID
formats the domain's UUID for a debug message, even if no one reads it. The middle half of
guestlist's turns took {low} to {high} ms."""
