"""What a block of a test leaves behind: threads, open files, connections.

A process makes some of them once and keeps them: the thread of the event loop, the usher. Which
test comes first in its process is chance, so they are made before anything is counted.
"""

from __future__ import annotations

import contextlib
import gc
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import libvirt
from lab.waiting import wait_until

from guestlist import Host
from guestlist.event_loop import ensure_loop


def own_threads() -> Counter[str]:
    """guestlist's threads by name; the usher may be another one by now."""
    names = (each.name for each in threading.enumerate())
    return Counter(name for name in names if name.startswith("guestlist-"))


def held() -> tuple[int, int, int]:
    """What this process has of threads, of open files and of connections that are not closed."""
    gc.collect()
    connections = sum(
        thing._o is not None for thing in gc.get_objects() if type(thing) is libvirt.virConnect
    )
    return own_threads().total(), len(list(Path("/proc/self/fd").iterdir())), connections


@contextlib.contextmanager
def leaving_nothing() -> Iterator[None]:
    """After the block nothing is left of what it opened."""
    ensure_loop()
    with Host("test:///default") as host:  # what is made once in a process is made now
        host.snapshot()
    gc.collect()
    before, earlier = held(), own_threads()  # of which an earlier test's may yet end
    yield
    try:
        wait_until(
            lambda: (
                own_threads() <= earlier
                and all(now <= then for now, then in zip(held()[1:], before[1:], strict=True))
            )
        )
    except TimeoutError:
        raise AssertionError(
            f"(threads, files, connections): {before}, then {held()}: {threading.enumerate()}"
        ) from None
