"""What a block of a test leaves behind: threads, open files, connections.

A process makes some of these once and keeps them: the thread of the event loop, the usher. Tests
run in random order, so these are made before anything is counted.
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
from guestlist.threads import IDLE


def own_threads() -> Counter[str]:
    """Count guestlist's threads by name; the usher may be another thread than before.

    A thread that has done its job is not counted: it waits for another one, and then ends.
    """
    names = (each.name for each in threading.enumerate() if each.name != IDLE)
    return Counter(name for name in names if name.startswith("guestlist-"))


def held() -> tuple[int, int, int]:
    """Count the threads, the open files and the open connections of this process."""
    gc.collect()
    connections = sum(
        thing._o is not None for thing in gc.get_objects() if type(thing) is libvirt.virConnect
    )
    return own_threads().total(), len(list(Path("/proc/self/fd").iterdir())), connections


@contextlib.contextmanager
def leaving_nothing() -> Iterator[None]:
    """Fail unless everything that the block opens is gone after it."""
    ensure_loop()
    with Host("test:///default") as host:  # makes what a process makes once
        host.snapshot()
    gc.collect()
    before, earlier = held(), own_threads()  # threads of an earlier test may still end
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
