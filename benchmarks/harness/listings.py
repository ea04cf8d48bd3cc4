"""A way to list a host, as a process of its own that lists when told to: `listings.py WAY URI`.

In: on standard input, a line for each listing wanted. Out, a line for each: how many domains were
found, and nanoseconds. `list_domains.c` speaks the same. Opening is not timed, unless it is what is
measured; freeing is not timed. Garbage collection is timed: a program that lists pays for it.

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
"""The number of domains found, then nanoseconds."""

_DOM0 = 0


def python(uri: str) -> Callable[[], Answer]:
    """Return a listing by the bare call, and by the least code for guestlist's answer."""
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
    """Return a listing over one Host, which is kept."""
    host = Host(uri)

    def listing() -> Answer:
        start = now()
        domains = host.list_instance_domains()
        end = now()
        return len(domains), end - start

    return listing


def new(uri: str) -> Callable[[], Answer]:
    """Return a listing over a new Host each time.

    Its connection is opened in a step of its own, which Host does not offer.
    """

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
    """Return the walk, over one connection."""
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
