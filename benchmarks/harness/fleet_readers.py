"""A process that reads a fleet once, in one way, and says what that took.

In: a way, the address of an etcd. Out: one line of JSON: seconds, seconds of a processor, rows,
whether all was there, the largest resident memory in bytes. The ways:

    bare       every key of the fleet at one revision, by guestlist's pages, and nothing decoded
    snapshot   `Fleet.snapshot()`: every value checked, every guest found
    rows       the same, and then the row of every guest made, as a list that prints all does
"""

from __future__ import annotations

import json
import resource
import sys
import time
from contextlib import closing

from guestlist.fleet.etcd.connection import Etcd
from guestlist.fleet.layout import Layout
from guestlist.fleet.paging import read_all, read_small
from guestlist.fleet.reading import Fleet

_TIMEOUT = 60.0


def main(way: str, endpoint: str, fleet: str) -> None:
    """Read, and print."""
    before = time.process_time()
    rows, complete, seconds = (
        _bare(endpoint, fleet) if way == "bare" else _fleet(way, endpoint, fleet)
    )
    processor = time.process_time() - before
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    said = {
        "seconds": seconds,
        "processor": processor,
        "rows": rows,
        "complete": complete,
        "memory": memory,
    }
    print(json.dumps(said))


def _bare(endpoint: str, fleet: str) -> tuple[int, bool, float]:
    layout = Layout(fleet)
    with closing(Etcd([endpoint], timeout=_TIMEOUT)) as etcd:
        start = time.perf_counter()
        revision, found = read_small(etcd, layout.summary)
        places = (layout.host_of(row.key) for row in found)
        hosts = [place[1] for place in places if place is not None and place[0] == "host"]
        rows = 0
        for spans in (layout.pages_of_domains(hosts), layout.pages_of_tombstones(hosts)):
            with closing(read_all(etcd, spans, revision)) as pages:
                for page in pages:
                    rows += len(page)
        return rows, True, time.perf_counter() - start


def _fleet(way: str, endpoint: str, fleet: str) -> tuple[int, bool, float]:
    with Fleet([endpoint], fleet=fleet, timeout=_TIMEOUT) as reader:
        start = time.perf_counter()
        snapshot = reader.snapshot()
        rows = len(snapshot)
        if way == "rows":
            rows = sum(row is not None for row in snapshot.values())
        return rows, snapshot.complete, time.perf_counter() - start


if __name__ == "__main__":
    main(*sys.argv[1:])
