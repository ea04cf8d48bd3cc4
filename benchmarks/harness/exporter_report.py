"""What `./dev bench exporter` writes: its results as a page.

In: `Results`. Out: Markdown. Only the figures decide whether a goal is met.
"""

from __future__ import annotations

from collections.abc import Iterator
from statistics import median

from benchmarks.harness.exporter_results import Duel, Results, Scrapes, Soak, Used, Writing
from benchmarks.harness.pages import paragraphs, prose, setting_list, yes
from benchmarks.harness.tables import milliseconds, table

MOST_CALLS = 6
FEWER_CALLS = 20
LESS_DAEMON_CPU = 5
LONGEST_WRITING = 0.1
LONGEST_ANSWER = 2.0
LONGEST_BESIDE_SILENT = 1.0
MOST_GROWTH = 1.1
"""Memory at the end of the churn over that at its start, which counts as flat."""

_GUEST_FAULTS = {
    "none": "no guest stopped",
    "1": "1 guest stopped",
    "6": "6 guests stopped",
    "2": "2 guests stopped",
    "stopped": "libvirtd stopped",
    "killed": "libvirtd killed",
    "again": "libvirtd started again",
}
_STUCK = "1", "2", "6"


def markdown(results: Results) -> str:
    """Return the page."""
    return paragraphs(
        "# The exporter: what a scrape costs, and what stops it",
        prose(_READERS),
        setting_list(results.setting),
        prose("Left out: {what}.", what="; ".join(results.left_out)) if results.left_out else "",
        prose(_INTRODUCTION),
        "## Goals",
        table(("", "measured", "goal", "met"), list(_goals(results))),
        "## Calls, domains and memory",
        prose(_SIZES),
        _sizes(results),
        prose(_MIGRATION, **_of_migration(results)) if results.migrating else "",
        *(_beside(results.duel) if results.duel else ()),
        *(_writing(results.writing) if results.writing else ()),
        *(_faults(results) if results.faults else ()),
        "## Clients that say nothing",
        prose(_SILENT),
        _silent(results),
        *(_soaks(results) if results.soaks else ()),
    )


def _goal(what: str, measured: str, goal: str, *, met: bool) -> tuple[str, ...]:
    return what, measured, goal, yes(met)


def _goals(results: Results) -> Iterator[tuple[str, ...]]:
    calls = [_calls(each) for each in results.sizes.values()]
    yield _goal(
        f"calls a scrape at {_list_of(results.sizes)} domains",
        _list_of(calls),
        f"at most {MOST_CALLS}, no more at more",
        met=max(calls) <= MOST_CALLS and max(calls) - min(calls) < 1,
    )
    if results.migrating:
        more = round(results.migrating[1] - results.migrating[0], 6)
        yield _goal("calls more with a guest that migrates", f"{more:g}", "1", met=more <= 1)
    missing = sum(each.missing for each in results.sizes.values())
    yield _goal("domains missing", f"{missing}", "0", met=missing == 0)
    if results.duel:
        yield from _goals_of_duel(results.duel)
    if results.writing:
        took = median(results.writing.plain_seconds)
        what = f"CPU to write {results.writing.series:,} series, uncompressed (ms)"
        yield _goal(what, milliseconds(took), "below 100", met=took < LONGEST_WRITING)
    yield from _goals_of_faults(results)
    for kind, each in results.silent.items():
        slowest, more_threads = max(each.seconds), each.threads_most - each.threads_before
        yield _goal(
            f"slowest scrape beside {each.clients} clients silent {kind} (ms)",
            milliseconds(slowest),
            "below 1,000",
            met=slowest < LONGEST_BESIDE_SILENT,
        )
        what = f"threads more with {each.clients} clients silent {kind}"
        yield _goal(what, f"{more_threads}", "0", met=more_threads <= 0)
    for name, one in results.soaks.items():
        yield from _goals_of_soak(name, one)


def _goals_of_duel(duel: Duel) -> Iterator[tuple[str, ...]]:
    ours, theirs = duel.ours, duel.theirs
    lacking = len(duel.lacking)
    what = f"of {duel.series} series of Debian's exporter, lacking"
    yield _goal(what, f"{lacking}", "0", met=lacking == 0)
    fewer = _a_scrape(theirs.calls, theirs.counted) / _a_scrape(ours.calls, ours.counted)
    yield _goal(
        "times fewer calls than Debian's exporter",
        f"{fewer:,.0f}",
        f"at least {FEWER_CALLS}",
        met=fewer >= FEWER_CALLS,
    )
    less = theirs.daemon_cpu_seconds / max(ours.daemon_cpu_seconds, 0.01)
    yield _goal(
        "times less CPU of libvirtd",
        f"{less:,.1f}",
        f"at least {LESS_DAEMON_CPU}",
        met=less >= LESS_DAEMON_CPU,
    )
    less = theirs.cpu_seconds / max(ours.cpu_seconds, 0.01)
    yield _goal("times less CPU of its own", f"{less:,.1f}", "above 1", met=less > 1)


def _goals_of_faults(results: Results) -> Iterator[tuple[str, ...]]:
    for name, each in results.faults.items():
        slowest = max(each.seconds)
        met = slowest < LONGEST_ANSWER
        what = f"slowest answer, {_GUEST_FAULTS[name]} (ms)"
        yield _goal(what, milliseconds(slowest), "below 2,000", met=met)
    for name in _STUCK:
        if name in results.faults:
            each, count = results.faults[name], int(name)
            others = results.guests - count
            is_right = each.marked == count and not each.wrongly_marked and not each.incomplete
            yield _goal(
                f"{count} of {results.guests} guests stopped: marked, and others complete",
                f"{each.marked} and {others - each.incomplete}",
                f"{count} and {others}",
                met=is_right,
            )
    for name in ("stopped", "killed"):
        if name in results.faults:
            each = results.faults[name]
            yield _goal(
                f"{_GUEST_FAULTS[name]}: `libvirt_up`, and guests with a state",
                f"{each.is_up:g} and {each.listed}",
                f"0 and {results.guests}",
                met=each.is_up == 0 and each.listed == results.guests,
            )


def _goals_of_soak(name: str, one: Soak) -> Iterator[tuple[str, ...]]:
    assert one.start is not None
    assert one.end is not None
    head = f"under churn, {name}"
    yield _goal(f"{head}: counters that fell", f"{one.fell}", "0", met=one.fell == 0)
    yield _goal(
        f"{head}: bodies with a series twice", f"{one.duplicates}", "0", met=not one.duplicates
    )
    more = one.end.descriptors - one.start.descriptors
    yield _goal(f"{head}: descriptors more at the end", f"{more}", "0", met=more <= 0)
    more = one.end.threads - one.start.threads
    yield _goal(f"{head}: threads more at the end", f"{more}", "0", met=more <= 0)
    growth = one.end.resident_bytes / one.start.resident_bytes
    yield _goal(
        f"{head}: memory at the end, of that at the start",
        f"{growth:.0%}",
        f"at most {MOST_GROWTH:.0%}",
        met=growth <= MOST_GROWTH,
    )


def _sizes(results: Results) -> str:
    rows = [
        (
            f"{size:,}",
            f"{_calls(each):g}",
            f"{each.missing}",
            milliseconds(median(each.seconds)),
            milliseconds(each.cpu_seconds / each.scrapes),
            _mib(each.resident_bytes),
        )
        for size, each in results.sizes.items()
    ]
    heads = "domains", "calls a scrape", "missing", "scrape (ms)", "own CPU (ms)", "memory (MiB)"
    return table(heads, rows)


def _of_migration(results: Results) -> dict[str, str]:
    return {"without": f"{results.migrating[0]:g}", "beside": f"{results.migrating[1]:g}"}


def _beside(duel: Duel) -> tuple[str, ...]:
    rows = [
        (
            name,
            f"{_a_scrape(each.calls, each.counted):,.1f}",
            milliseconds(_a_scrape(each.daemon_cpu_seconds, each.scrapes)),
            milliseconds(_a_scrape(each.cpu_seconds, each.scrapes)),
            milliseconds(median(each.seconds)),
        )
        for name, each in (("guestlist", duel.ours), ("Debian's", duel.theirs))
    ]
    heads = "a scrape", "calls", "CPU of libvirtd (ms)", "own CPU (ms)", "time (ms)"
    lacking = "\n".join(f"- `{each}`" for each in duel.lacking)
    return (
        "## Beside Debian's exporter",
        prose(
            _DUEL,
            domains=f"{duel.domains:,}",
            scrapes=duel.ours.scrapes,
            families=duel.families,
            series=duel.series,
        ),
        table(heads, rows),
        lacking and f"Series that guestlist lacks:\n\n{lacking}",
    )


def _a_scrape(total: float, scrapes: int) -> float:
    return total / scrapes


def _writing(writing: Writing) -> tuple[str, ...]:
    library = writing.library_seconds
    kinds = [
        ("guestlist", writing.plain_seconds, writing.plain_bytes),
        ("guestlist, compressed", writing.gzip_seconds, writing.gzip_bytes),
        ("prometheus_client", library, writing.plain_bytes),
    ]
    rows = [
        (
            name,
            milliseconds(median(seconds)),
            f"{median(seconds) / writing.series * 1e6:.2f}",
            f"{size / 1e6:.1f}",
        )
        for name, seconds, size in kinds
    ]
    return (
        "## Writing a body",
        prose(
            _WRITING,
            guests=f"{writing.guests:,}",
            each=f"{writing.series / writing.guests:.0f}",
            memory=_mib(writing.resident_bytes),
        ),
        table(("", "CPU (ms)", "µs a series", "MB"), rows),
    )


def _faults(results: Results) -> tuple[str, ...]:
    rows = [
        (
            _GUEST_FAULTS[name],
            milliseconds(median(each.seconds)),
            milliseconds(max(each.seconds)),
            f"{each.is_up:g}",
            f"{each.listed}",
            f"{each.marked}",
        )
        for name, each in results.faults.items()
    ]
    heads = "", "median (ms)", "slowest (ms)", "`libvirt_up`", "guests told of", "marked"
    return (
        "## What does not answer",
        prose(_FAULTS, guests=results.guests),
        table(heads, rows),
    )


def _silent(results: Results) -> str:
    rows = [
        (
            f"{each.clients}, {kind}",
            milliseconds(median(each.seconds)),
            milliseconds(max(each.seconds)),
            f"{each.threads_before}",
            f"{each.threads_most}",
        )
        for kind, each in results.silent.items()
    ]
    heads = "clients", "median (ms)", "slowest (ms)", "threads before", "threads beside them"
    return table(heads, rows)


def _soaks(results: Results) -> tuple[str, ...]:
    rows = []
    for name, one in results.soaks.items():
        assert one.start is not None
        assert one.end is not None
        rows += [
            (f"{name}, at the start", *_cells(one.start)),
            (f"{name}, at the end", *_cells(one.end)),
        ]
    first, second = results.soaks.values()
    return (
        "## Under churn",
        prose(
            _SOAK,
            minutes=f"{results.minutes:g}",
            scrapes=f"{first.scrapes:,} and {second.scrapes:,}",
            changes=f"{first.changes:,} and {second.changes:,}",
            compared=f"{first.compared:,} and {second.compared:,}",
            down=f"{first.down} and {second.down}",
            slowest=f"{milliseconds(first.slowest)} and {milliseconds(second.slowest)}",
        ),
        table(("", "descriptors", "threads", "memory (MiB)"), rows),
    )


def _cells(used: Used) -> tuple[str, str, str]:
    return f"{used.descriptors}", f"{used.threads}", _mib(used.resident_bytes)


def _calls(each: Scrapes) -> float:
    return sum(each.calls.values()) / each.scrapes


def _mib(size: int) -> str:
    return f"{size / (1 << 20):.0f}"


def _list_of(numbers: object) -> str:
    return ", ".join(f"{number:,g}" for number in numbers)  # type: ignore[attr-defined]


_READERS = """\
This page is for operators. It says how many calls a scrape makes, what it costs libvirtd and the
exporter, and how long it takes when a guest, the daemon or a client does not answer."""

_INTRODUCTION = """\
The exporter is the command `guestlist exporter` with its default collectors, on loopback, over the
socket of a private libvirtd. It is scraped once a second and asks the guests once a second, so each
scrape has a round of statistics with it. The default is a round in 15 s.
[exporter.json](exporter.json) has every single time."""

_SIZES = """\
The domains are those of libvirt's test driver. A proxy in front of the socket counted the calls,
rounds of statistics included; time and CPU have the proxy in them. The test driver tells little of
a domain, so a body is smaller than that of a compute host with as many guests."""

_MIGRATION = """\
On a host with QEMU, without rounds of statistics: {without} calls a scrape without a migration,
{beside} beside a guest that migrates."""

_DUEL = """\
Debian's package prometheus-libvirt-exporter has kumina's exporter 0.2.0. Both exporters had
{domains} domains of the test driver and took turns; the process that waits for its turn is stopped.
guestlist ran with `--compat kumina --libvirt.export-nova-metadata`. Figures are means of {scrapes}
scrapes of each, over the socket; calls were counted in turns of their own. The metrics were
compared on a QEMU guest with a disk, since the test driver tells no usage: Debian's exporter has
{series} series of {families} families there, without those of Go."""

_WRITING = """\
{guests} guests with {each} series each, as libvirt 9.0 tells of a guest with a disk, a network
interface and two vCPUs. The test driver has no such guests, so their statistics are made up, and
every number changes before each body. This measures the writing alone: neither the call to libvirt
nor HTTP. Made-up numbers compress better than real ones. prometheus_client writes the same samples,
as its collectors do. The process with the records, the statistics and the kept labels of all these
guests occupied {memory} MiB."""

_FAULTS = """\
{guests} QEMU guests without KVM, paused. A guest is stopped by SIGSTOP to its process: its monitor
does not answer. libvirtd is stopped in the same way. A guest is marked by
`libvirt_domain_timed_out`. The last scrape of each line was also read: "told of" are the guests
whose state it has."""

_SILENT = """\
Clients that connect to the TLS port and send nothing, or end the handshake and send nothing. A
scrape opens a connection of its own."""

_SOAK = """\
Two hosts, each scraped at most once a second for {minutes} minutes: {scrapes} scrapes. On the test
driver 200 domains change their state or their name, and others come and go; of 8 QEMU guests four
are started and destroyed: {changes} changes. A counter of a domain may fall only with a new id of
the domain; {compared} pairs of values were compared. The slowest scrapes took {slowest} ms, and
{down} had `libvirt_up` 0: libvirt did not answer within a second. The start is when the first tenth
of the time had passed. At the start and at the end the churn rests for 5 s. Descriptors and threads
are the fewest seen then: a round of statistics has some of its own."""
