"""`./dev torture fleet`: migrations and faults, and readers that look at every step.

told        fleets that are told, not run (`lab.fleet_story`): hosts publish late, while guests
            migrate in libvirt's order, some migrations fail, and, in the second line, agents and
            hosts die and return
moved       guests that migrate between hosts in memory, published to a real etcd by real agents,
            each call of which is late (`lab.fleet_moves`); then the same without any engine, while
            hosts go down
faults      real libvirtds under churn, an agent process for each, a real etcd of three members:
            one fault after the other (`lab.fleet_faults`)
QEMU        real migrations between two private QEMU daemons (`lab.migration`)

A list is wrong if it says that it is complete and misses a guest, has one twice, or one that never
was there; if it calls a migration a double run; or if the changes of a watch do not add up. After a
fault the store and the readers must have what the hosts have within ten seconds. Prints a line per
kind; exits 1 if anything was wrong.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from random import Random

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from lab import fleet_moved, fleet_real
from lab.etcd import RELEASES, etcd_available, etcd_version
from lab.fleet_faults import FAULTS, GUARDED, WITHIN, Fault, Suffered, suffer, unavailable
from lab.fleet_site import Site
from lab.fleet_story import play
from lab.qemu import qemu_available

from guestlist import quiet

PARTS = ("told", "moved", "faults", "QEMU")
QUOTA = 64 << 20

_TOLD = (
    f"{'told':24} {'migrations':>10} {'lists':>9} {'complete':>9} {'rows':>11} {'wrong':>6} "
    f"{'lingering':>9} {'missed without the rule':>24} {'doubled':>9}"
)
_LISTS = (
    f"{'':36} {'migrations':>10} {'lists':>9} {'complete':>9} {'rows':>11} {'news':>7} "
    f"{'missed':>7} {'doubled':>8} {'invented':>9} {'told':>5} {'wrong':>6}"
)
_FAULTS = (
    f"{'':30} {'times':>5} {'in step':>7} {'worst s':>8} {'changes':>8} {'lists':>6} "
    f"{'complete':>8} {'failed':>6} {'relists':>7} {'missed':>7} {'doubled':>8} {'invented':>9} "
    f"{'wrong':>6}"
)


def main() -> int:
    """Run the parts that are asked for; return the exit code."""
    options = _options()
    quiet()
    logging.getLogger("guestlist").addHandler(logging.NullHandler())
    logging.getLogger("guestlist").propagate = False
    releases = [each for each in options.releases if _is_there(each)]
    wrong: list[str] = []
    if "told" in options.parts:
        print(_TOLD, flush=True)
        wrong += _told("lags", options, faults=False)
        wrong += _told("and deaths", options, faults=True)
    if "moved" in options.parts:
        wrong += _moved(releases, options)
    if "faults" in options.parts:
        for release in releases:
            wrong += _faults(release, options)
    if "QEMU" in options.parts:
        wrong += _real(releases, options.real)
    for complaint in wrong[:10]:
        print(complaint[:300], file=sys.stderr)
    return 1 if wrong else 0


def _is_there(release: str) -> bool:
    if reason := etcd_available(release):
        print(f"left out: {reason}")
    return not reason


def _name(release: str) -> str:
    return "etcd " + ".".join(map(str, etcd_version(release)))


def _told(name: str, options: argparse.Namespace, *, faults: bool) -> list[str]:
    counts: Counter[str] = Counter()
    wrong: list[str] = []
    seed = options.seed
    while counts["migrations"] < options.told:
        story = play(Random(seed), hosts=options.hosts, steps=150, faults=faults)
        counts["migrations"] += story.migrations
        counts["looks"] += story.looks
        counts["complete"] += story.complete_looks
        counts["rows"] += story.rows_seen
        counts["lingering"] += story.lingering
        counts["missed"] += story.missed_without_rule
        counts["doubled"] += story.doubled_without_rule
        wrong += [f"seed {seed}: {complaint}" for complaint in story.wrong]
        seed += 1
    print(
        f"{name:24} {counts['migrations']:10,} {counts['looks']:9,} {counts['complete']:9,} "
        f"{counts['rows']:11,} {len(wrong):6} {counts['lingering']:9,} {counts['missed']:24,} "
        f"{counts['doubled']:9,}",
        flush=True,
    )
    return wrong


def _moved(releases: Sequence[str], options: argparse.Namespace) -> list[str]:
    print("moved" + _LISTS[5:], flush=True)
    wrong: list[str] = []
    for release in releases:
        for line in fleet_moved.published(release, options.migrations, options.hosts, options.seed):
            wrong += _line(f"{_name(release)}, {line.what}", line)
    for line in fleet_moved.unpublished(options.migrations, options.hosts, options.seed):
        wrong += _line(line.what, line)
    return wrong


def _real(releases: Sequence[str], migrations: int) -> list[str]:
    print("QEMU" + _LISTS[4:], flush=True)
    if reason := qemu_available():
        print(f"no real migrations: {reason}")
        return []
    wrong: list[str] = []
    for line in fleet_real.migrated(releases[-1] if releases else None, migrations):
        wrong += _line(line.what, line)
    return wrong


def _line(what: str, line: fleet_moved.Moved) -> list[str]:
    counts = line.counts
    print(
        f"{what:36} {line.migrations:10,} {counts['lists']:9,} {counts['complete']:9,} "
        f"{counts['rows']:11,} {counts['news']:7,} {counts['missed']:7,} {counts['doubled']:8,} "
        f"{counts['invented']:9,} {counts['missed and said so']:5,} {len(line.wrong):6}",
        flush=True,
    )
    return [f"{what}: {each}" for each in line.wrong]


def _faults(release: str, options: argparse.Namespace) -> list[str]:
    print(f"{_name(release):30}{_FAULTS[30:]}", flush=True)
    wrong: list[str] = []
    for faults, has_tls in ((FAULTS, False), (GUARDED, True)):
        chosen = {name: each for name, each in faults.items() if options.only in name}
        if not chosen:
            continue
        with Site(release, ttl=options.ttl, tls=has_tls, quota=QUOTA) as site:
            for name, fault in chosen.items():
                if reason := unavailable(name):
                    print(f"{name:30} left out: {reason}")
                    continue
                wrong += _suffered(site, name, fault, options.rounds)
    return wrong


def _suffered(site: Site, name: str, fault: Fault, rounds: int) -> list[str]:
    each: list[Suffered] = [suffer(site, fault) for _ in range(rounds)]
    counts: Counter[str] = sum((one.counts for one in each), Counter())
    took = [one.took for one in each if one.took is not None]
    wrong = [f"{name}: {complaint}" for one in each for complaint in one.wrong]
    wrong += [f"{name}: in step after {one:.1f} s" for one in took if one > WITHIN]
    print(
        f"{name:30} {rounds:5} {sum(one <= WITHIN for one in took):7} {max(took, default=0):8.2f} "
        f"{sum(one.changes for one in each):8,} {counts['lists']:6,} {counts['complete']:8,} "
        f"{counts['failed']:6,} {counts['relists']:7} {counts['missed']:7} {counts['doubled']:8} "
        f"{counts['invented']:9} {len(wrong):6}",
        flush=True,
    )
    return wrong


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="./dev torture fleet",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--parts", nargs="+", choices=PARTS, default=PARTS, help="what to run (default: all)")
    add(
        "--releases", nargs="+", choices=RELEASES, default=RELEASES, help="etcds, by Debian's names"
    )
    add("--told", type=int, default=5_000, help="migrations of each kind that is told")
    add("--migrations", type=int, default=1_000, help="migrations that are moved, of each kind")
    add("--hosts", type=int, default=6, help="hosts of a fleet that is told or moved")
    add("--real", type=int, default=6, help="migrations of real guests")
    add("--rounds", type=int, default=1, help="times that each fault happens")
    add("--ttl", type=int, default=10, help="seconds that the lease of an agent lives, in faults")
    add("--only", default="", help="a part of the names of the faults to run")
    add("--seed", type=int, default=0, help="of the first story")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
