"""A way to list a host, as a process of its own that lists when told to: `listings.py WAY URI`.

In: on standard input, a line for each listing. Out, a line for each: how many domains were found,
and nanoseconds. `list_domains.c` does the same. Opening is off the clock, except in the way that
measures it; so is freeing. Garbage collection is on the clock: it is a cost of the listing.

ways:
    python     libvirt-python's call; the call with each domain's id read and its name matched
    guestlist  `Host.list_instance_domains` over a connection that was used before
    new        a new Host each time: its first listing alone; with opening the connection
    legacy     the listing as Nova did it before it had a bulk call
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path
from time import perf_counter_ns as now

import libvirt

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests"))

from lab.legacy import legacy_walk

from guestlist import Host

Answer = tuple[int, ...]
"""How many domains were found, then nanoseconds."""

_DOM0 = 0


def python(uri: str) -> Callable[[], Answer]:
    """Make the bare call, and what guestlist does with it in the fewest words."""
    connection = libvirt.open(uri)
    fits = re.compile("instance-(?:[0-9a-f]{8}|[1-9a-f][0-9a-f]{8,})").fullmatch

    def listing() -> Answer:
        start = now()
        domains = connection.listAllDomains(libvirt.VIR_CONNECT_LIST_DOMAINS_ACTIVE)
        listed = now()
        matching = [domain for domain in domains if domain.ID() != _DOM0 and fits(domain.name())]
        end = now()
        return len(matching), listed - start, end - start

    return listing


def guestlist(uri: str) -> Callable[[], Answer]:
    """Use one Host for all listings."""
    host = Host(uri)

    def listing() -> Answer:
        start = now()
        domains = host.list_instance_domains()
        end = now()
        return len(domains), end - start

    return listing


def new(uri: str) -> Callable[[], Answer]:
    """Use a new Host each time, and open its connection in a step of its own."""

    def listing() -> Answer:
        start = now()
        with Host(uri) as host:
            host._connection.peer()
            opened = now()
            domains = host.list_instance_domains()
            end = now()
        return len(domains), end - opened, end - start

    return listing


def legacy(uri: str) -> Callable[[], Answer]:
    """Walk, over one connection."""
    connection = libvirt.open(uri)

    def listing() -> Answer:
        start = now()
        domains = legacy_walk(connection)
        end = now()
        return len(domains), end - start

    return listing


WAYS = {way.__name__: way for way in (python, guestlist, new, legacy)}


def main(way: str, uri: str) -> None:
    """List once for each line on standard input."""
    libvirt.registerErrorHandler(lambda *_: None, None)
    listing = WAYS[way](uri)
    for _ in sys.stdin:
        print(*listing(), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
