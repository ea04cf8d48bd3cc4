"""`./dev torture listing`: listings under full churn, counted.

One process changes the domains of a real daemon's test driver as fast as it can. This process lists
them, by the bulk call and by the walk (a proxy in front of the daemon then answers as libvirt
0.9.12 does), over a warm connection and over a new one each time. Prints a line per way; exits 1 if
one listing lost a domain, doubled one or gave up.
"""

from __future__ import annotations

import argparse
import logging
import sys
import time
from pathlib import Path

import libvirt

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from lab.churn import Churner, Mode, populated
from lab.daemon import Daemon
from lab.losses import count_losses
from lab.nodes import nova_instance
from lab.proxy import as_of

from guestlist import Host

MODES: tuple[Mode, ...] = ("switch", "rename", "redefine", "kind", "come-and-go")
ALWAYS_ACTIVE = 3
"""The number of domains that are left alone; they must be in every list of running domains."""


def main() -> int:
    """Run the ways asked for; return the exit code."""
    options = _options()
    libvirt.registerErrorHandler(lambda *_: None, None)
    logging.getLogger("guestlist").setLevel(logging.ERROR)
    print(f"{'way':9} {'churn':12} {'list':9} {'conn.':5} {'listings':>8} {'per s':>6}", end=" ")
    print(f"{'changes/s':>9} {'lost':>5} {'doubled':>7} {'unstable':>8}")
    right = True
    with Daemon() as daemon:
        for way in ("bulk", "walk"):
            total = options.bulk if way == "bulk" else options.walk
            runs = [
                (mode, cold, running)
                for mode in options.modes
                for cold in (False, True)
                for running in (False, True)
            ]
            for mode, cold, running in runs:
                with as_of(daemon, None if way == "bulk" else "0.9.12") as uri:
                    right &= _run(
                        daemon,
                        uri,
                        way,
                        mode,
                        cold=cold,
                        running=running,
                        domains=options.domains,
                        listings=max(1, total // len(runs)),
                    )
    return 0 if right else 1


def _run(
    daemon: Daemon,
    uri: str,
    way: str,
    mode: Mode,
    *,
    cold: bool,
    running: bool,
    domains: int,
    listings: int,
) -> bool:
    """Print a line: listings in one way under one kind of churn; return if all were right."""
    active = mode in ("kind", "redefine")
    churned = [nova_instance(n, active=active) for n in range(domains)]
    calm = [nova_instance(domains + n) for n in range(ALWAYS_ACTIVE)]
    with (
        populated(daemon.uri(), churned + calm),
        Churner(daemon.uri(), [domain.uuid for domain in churned], mode) as churner,
    ):
        before, start = churner.changes, time.monotonic()
        tally = count_losses(
            lambda: Host(uri),
            [domain.uuid for domain in (calm if running else churned + calm)],
            listings,
            cold=cold,
            include_inactive=not running,
        )
        took = time.monotonic() - start
        rate = (churner.changes - before) / took
    print(
        f"{way:9} {mode:12} {'running' if running else 'all':9} {'new' if cold else 'same':5} "
        f"{tally.listings:8,} {tally.listings / took:6,.0f} {rate:9,.0f} "
        f"{tally.lost:5} {tally.doubled:7} {tally.unstable:8}",
        flush=True,
    )
    return tally.right


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="./dev torture listing", description=__doc__)
    parser.add_argument("--bulk", type=int, default=100_000, help="bulk listings in all")
    parser.add_argument("--walk", type=int, default=2_000, help="walks in all")
    parser.add_argument("--domains", type=int, default=20, help="domains that change")
    parser.add_argument("--modes", nargs="+", choices=MODES, default=MODES, help="kinds of churn")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
