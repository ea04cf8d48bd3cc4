"""`./dev torture snapshot`: snapshots under full churn, compared with themselves and the host.

One process changes the domains of a real daemon's test driver as fast as it can. This process takes
snapshots of them with their details: by the bulk statistics, and domain by domain through a proxy
that answers as libvirt 1.2.7 does. A snapshot is wrong if it lacks a domain that existed
throughout, or if an id contradicts a state. Once per line the changes pause, and what is remembered
by then must equal what a new connection reads. Prints a line per way; exits 1 if one was wrong.
"""

from __future__ import annotations

import argparse
import logging
import sys
import time
from pathlib import Path

import libvirt

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from lab.churn import Churner, Mode, populated, starts_active
from lab.daemon import Daemon
from lab.losses import Tally, count_contradictions
from lab.nodes import nova_instance
from lab.proxy import as_of

from guestlist import Host, Snapshot

MODES: tuple[Mode, ...] = ("switch", "rename", "redefine", "kind", "come-and-go")
SETTLE = 5.0
"""Seconds that a view may take to become right once nothing changes."""


def main() -> int:
    """Run the ways asked for; return the exit code."""
    options = _options()
    libvirt.registerErrorHandler(lambda *_: None, None)
    logging.getLogger("guestlist").setLevel(logging.ERROR)
    print(
        f"{'way':11} {'churn':12} {'conn.':5} {'snapshots':>9} {'per s':>6} {'changes/s':>9}",
        end=" ",
    )
    print(f"{'calls':>6} {'lost':>5} {'contradicted':>12} {'unstable':>8} {'stale':>5}")
    right = True
    with Daemon() as daemon:
        for way in ("bulk", "one by one"):
            total = options.bulk if way == "bulk" else options.one_by_one
            runs = [(mode, cold) for mode in options.modes for cold in (False, True)]
            for mode, cold in runs:
                with as_of(daemon, None if way == "bulk" else "1.2.7") as uri:
                    right &= _run(
                        daemon,
                        uri,
                        way,
                        mode,
                        cold=cold,
                        domains=options.domains,
                        snapshots=max(1, total // len(runs)),
                    )
    return 0 if right else 1


def _run(
    daemon: Daemon, uri: str, way: str, mode: Mode, *, cold: bool, domains: int, snapshots: int
) -> bool:
    """Print a line: snapshots in one way under one kind of churn; return if all were right."""
    churned = [nova_instance(n, active=starts_active(mode, n)) for n in range(domains)]
    uuids = [domain.uuid for domain in churned]
    with (
        populated(daemon.uri(), churned),
        Churner(daemon.uri(), uuids, mode) as churner,
        Host(uri) as host,
    ):
        host.snapshot(include_inactive=True)
        before, start = churner.changes, time.monotonic()
        tally = count_contradictions(lambda: Host(uri), uuids, snapshots, cold=cold)
        took = time.monotonic() - start
        rate = (churner.changes - before) / took
        host.snapshot(include_inactive=True)
        churner.pause()
        stale = not _comes_right(host, uri)
    print(
        f"{way:11} {mode:12} {'new' if cold else 'same':5} {tally.listings:9,} "
        f"{tally.listings / took:6,.0f} {rate:9,.0f} {_calls(tally):6.1f} {tally.lost:5} "
        f"{tally.contradicted:12} {tally.unstable:8} {'yes' if stale else 'no':>5}",
        flush=True,
    )
    return tally.right and not stale


def _calls(tally: Tally) -> float:
    return tally.calls / (tally.listings - tally.unstable or 1)


def _comes_right(host: Host, uri: str) -> bool:
    """Return whether `host` soon remembers what a new connection reads."""
    with Host(uri) as other:
        truth = _everything(other)
    deadline = time.monotonic() + SETTLE
    while _everything(host) != truth:
        if time.monotonic() > deadline:
            return False
    return True


def _everything(host: Host) -> Snapshot:
    return host.snapshot(include_inactive=True, include_foreign=True)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="./dev torture snapshot", description=__doc__)
    parser.add_argument("--bulk", type=int, default=10_000, help="bulk snapshots in all")
    parser.add_argument(
        "--one-by-one", type=int, default=500, help="snapshots domain by domain, in all"
    )
    parser.add_argument("--domains", type=int, default=20, help="domains that change")
    parser.add_argument("--modes", nargs="+", choices=MODES, default=MODES, help="kinds of churn")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
