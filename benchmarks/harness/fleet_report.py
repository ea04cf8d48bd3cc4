"""What `./dev bench fleet` writes: its results as a page. Judges the goals by the figures alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from statistics import median

from benchmarks.harness.fleet_results import WAYS, Results, Sized
from benchmarks.harness.pages import paragraphs, prose, setting_list, yes
from benchmarks.harness.tables import milliseconds, table

MOST_OVER_BARE = 2.0
MOST_OVER_LINEAR = 2.0
MOST_OF_ETCD = 2.0
LONGEST_MEDIAN, LONGEST_P99 = 0.050, 0.500


def markdown(results: Results) -> str:
    """Return the page."""
    return paragraphs(
        "# A fleet in etcd: what a list costs, and how far behind a reader is",
        _READERS,
        setting_list(results.setting),
        "## Goals",
        table(("", "goal", "measured", "met"), list(_goals(results))),
        "## Lists",
        prose(_LISTS, rounds=results.rounds),
        _lists(results),
        prose(_PROCESSOR),
        _processor(results),
        prose(_MEMORY),
        _memory(results),
        "## From a change to a reader",
        _followed(results),
        "## An agent",
        _agents(results),
        _costs(results),
    )


def p99(times: Sequence[float]) -> float:
    """Return the 99th percentile."""
    return sorted(times)[int(len(times) * 0.99)]


def _ratio(sized: Sized, way: str) -> float:
    """Return how many times as long as the bare reading a way takes: medians of one run."""
    return median(sized.read[way].seconds) / median(sized.read["bare"].seconds)


def _goals(results: Results) -> Iterator[tuple[str, str, str, str]]:
    sizes = results.sizes
    if sizes:
        most = max(sizes)
        ratio = _ratio(sizes[most], "snapshot")
        yield (
            f"{most:,} domains listed, checked and folded: times the bare reading",
            f"{MOST_OVER_BARE:g}",
            f"{ratio:.2f}",
            yes(ratio <= MOST_OVER_BARE),
        )
        least = min(sizes)
        per_domain = {
            size: median(sizes[size].read["snapshot"].seconds) / size for size in (least, most)
        }
        growth = per_domain[most] / per_domain[least]
        yield (
            f"time for a domain at {most:,}: times that at {least:,}",
            f"{MOST_OVER_LINEAR:g}",
            f"{growth:.2f}",
            yes(growth <= MOST_OVER_LINEAR),
        )
        grown = sizes[most].etcd_most / sizes[most].etcd_before
        yield (
            f"etcd's memory while {most:,} are read: times that before",
            f"{MOST_OF_ETCD:g}",
            f"{grown:.2f}",
            yes(grown <= MOST_OF_ETCD),
        )
    if lags := results.followed.lags:
        for name, value, goal in (
            ("median", median(lags), LONGEST_MEDIAN),
            ("99th percentile", p99(lags), LONGEST_P99),
        ):
            yield (
                f"from a change to a reader, {name}, ms",
                milliseconds(goal),
                milliseconds(value),
                yes(value <= goal),
            )


def _lists(results: Results) -> str:
    heads = ("domains", "hosts", *(f"{way}, s" for way in WAYS), "snapshot / bare", "rows / bare")
    return table(
        heads,
        [
            (
                f"{size:,}",
                f"{each.hosts:,}",
                *(f"{median(each.read[way].seconds):.2f}" for way in WAYS),
                *(f"{_ratio(each, way):.2f}" for way in WAYS[1:]),
            )
            for size, each in results.sizes.items()
        ],
    )


def _processor(results: Results) -> str:
    def spent(sized: Sized, way: str) -> float:
        return median(sized.read[way].processor)

    heads = ("domains", *(f"{way}, s" for way in WAYS), "snapshot / bare", "rows / bare")
    return table(
        heads,
        [
            (
                f"{size:,}",
                *(f"{spent(each, way):.2f}" for way in WAYS),
                *(f"{spent(each, way) / spent(each, 'bare'):.2f}" for way in WAYS[1:]),
            )
            for size, each in results.sizes.items()
        ],
    )


def _memory(results: Results) -> str:
    heads = ("domains", "etcd's file", "etcd before", "etcd at most", *WAYS)
    return table(
        heads,
        [
            (
                f"{size:,}",
                _mib(each.file),
                _mib(each.etcd_before),
                _mib(each.etcd_most),
                *(_mib(max(each.read[way].memory)) for way in WAYS),
            )
            for size, each in results.sizes.items()
        ],
    )


def _followed(results: Results) -> str:
    followed = results.followed
    if not followed.lags:
        return "Not measured."
    return prose(
        _FOLLOWED,
        domains=results.agents.domains,
        rate=f"{followed.rate:.0f}",
        median=milliseconds(median(followed.lags)),
        p99=milliseconds(p99(followed.lags)),
        most=milliseconds(max(followed.lags)),
        changes=f"{followed.changes:,}",
        missed=f"{followed.missed:,}",
    )


def _agents(results: Results) -> str:
    agents = results.agents
    if not agents.memory:
        return "Not measured."
    return table(
        ("", "idle", "busy"),
        [
            ("agent's share of a core", f"{agents.idle_share:.2%}", f"{agents.busy_share:.1%}"),
            (
                "etcd's share of a core",
                f"{agents.etcd_idle_share:.2%}",
                f"{agents.etcd_busy_share:.1%}",
            ),
            (
                "transactions that write, a minute",
                f"{60 * agents.idle_revisions / agents.idle_seconds:.1f}",
                f"{60 * agents.busy_revisions / agents.busy_seconds:,.0f}",
            ),
            ("agent's resident memory", _mib(agents.memory), ""),
        ],
    )


def _costs(results: Results) -> str:
    costs = results.costs
    if not costs.check:
        return ""
    return prose(
        _COSTS,
        check=f"{costs.check * 1e6:,.0f}",
        keep=f"{costs.keep * 1e6:,.0f}",
        write=f"{costs.write * 1e6:,.0f}",
        connection=f"{costs.connection / 1024:,.0f}",
    )


def _mib(size: int) -> str:
    return f"{size / 2**20:,.0f} MiB"


_READERS = """\
This page is for operators who want to know what size of fleet one etcd serves.
[scale.md](../scale.md) draws the conclusions."""

_LISTS = """\
Each host publishes 100 domains; one guest of 200 migrates, so that two hosts publish it, and one
of 400 has left a tombstone. Each reading is a process of its own, from its first call on; the
ways take turns, {rounds} times each, and the figures are medians. `bare` reads every key at one
revision, by the same pages, and decodes nothing. `snapshot` is `Fleet.snapshot()`: every value is
decoded and checked, and every guest is found by its UUID. `rows` then makes the row of every
guest in the order of names, as a list on paper does. The machine was busy: compare within a
line."""

_PROCESSOR = """\
In time of a processor, of the reader and the etcd together, which other work on the machine touches
less:"""

_MEMORY = """\
The etcd was started again before the first reading. Its memory is what is resident, pages of its
file included; `at most` is the most that was seen during all readings. The last columns are the
largest resident memory of each reading process."""

_FOLLOWED = """\
One host with {domains} domains of libvirt's test driver, its agent and a reader, each in a
process of its own; a further process starts and stops domains, {rate} changes a second. From the
call that makes the change to the row in the reader's hands: median {median} ms, 99th percentile
{p99} ms, at most {most} ms, of {changes} changes. The agent skipped {missed} of them, since the
domain had changed again before it was published."""

_COSTS = """\
An etcd of one member spends, in processor time, {check} µs on a check of fence and chain, {keep} µs
on keeping a lease, and {write} µs on a transaction that writes one domain. A connection takes
{connection} KiB of its memory."""
