"""The hosts that the command line names, each followed by a live view of its own.

In: hosts. Out: what each view tells, in its order, in one inbox: whoever prints does so in one
place. One thread for each host takes its changes, and waits while the inbox is full; meanwhile the
view keeps what it can, and tells how much that was not (`Resynced.missed`).
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Generic, NamedTuple, TypeVar

from guestlist.cli import ending, hosts
from guestlist.errors import GuestlistError, NotSynced
from guestlist.host import Host
from guestlist.inventory import Inventory
from guestlist.inventory.changes import News, Resynced

T = TypeVar("T")

_MOST = 64
"""News in the inbox that are not taken yet; the views keep the rest."""

_LOOK = 0.1
"""Seconds between two looks at why a view is not in step, until it is or one is found."""


class Inbox(Generic[T]):
    """What the main thread waits for. Ctrl-C interrupts the wait."""

    def __init__(self) -> None:
        # No other queue can be put into by a signal handler of the thread that waits for it.
        self._queue: queue.SimpleQueue[tuple[T | Exception, bool]] = queue.SimpleQueue()  # noqa: TID251
        self._room = threading.Semaphore(_MOST)

    def put(self, item: T) -> None:
        """Put it there as soon as there is room."""
        self._room.acquire()
        self._queue.put((item, True))

    def poke(self, item: T | Exception) -> None:
        """Put it there at once, from a signal handler too; an exception is raised by `get`."""
        self._queue.put((item, False))

    def get(self, timeout: float | None = None) -> T:
        """The next.

        Raises:
            queue.Empty: there was none for `timeout` seconds.
            Exception: what was put there to be raised.
        """
        try:
            item, took_room = self._queue.get_nowait()
        except queue.Empty:  # this way it forgets no timeout
            item, took_room = self._queue.get(timeout=timeout)
        if took_room:
            self._room.release()
        if isinstance(item, Exception):
            raise item
        return item


class View:
    """One host and its live view. `name` is its URI, as given or as libvirt resolved it."""

    def __init__(self, host: Host, *, details: bool) -> None:
        self.live = Inventory(host, details=details)
        self._uri = host.uri
        self.name = host.resolved_uri
        ending.on_end(self.live.close)

    def reached(self) -> None:
        """Take the name that libvirt gave its default URI, which is known while it is connected."""
        self.name = self._uri or self.live.resolved_uri


class Told(NamedTuple):
    """What a view told; an error where it does not come in step at the start."""

    view: View
    news: News | GuestlistError


def quieten(*, verbose: bool) -> None:
    """Keep what the views tell their readers out of the log, where it would be said again."""
    if not verbose:
        logging.getLogger("guestlist.inventory.following.stale").setLevel(logging.ERROR)


def follow(
    views: Iterable[View],
    timeout: float,
    *,
    tell: Callable[[Told], None],
    fail: Callable[[Exception], None],
    include_foreign: bool,
    include_dom0: bool,
) -> None:
    """Have each view `tell` what is new, on a thread of its own, for as long as the process lives.

    The first that comes of a host is a `Resynced`; or, where it takes longer than `timeout` seconds
    or something stands in the way, an error, once. It is tried again without end. What nobody
    foresaw is handed to `fail`.
    """

    def attend(view: View) -> None:
        try:
            changes = view.live.changes(include_foreign=include_foreign, include_dom0=include_dom0)
            try:
                await_step(view.live, timeout)
            except GuestlistError as error:
                tell(Told(view, error))
            if changes.snapshot is not None:  # in step before it was asked for its changes
                view.reached()
                tell(Told(view, Resynced(changes.snapshot, 0, datetime.now(UTC))))
            for news in changes:
                if isinstance(news, Resynced):
                    view.reached()
                tell(Told(view, news))
        except Exception as error:
            fail(error)

    for view in views:
        threading.Thread(target=attend, args=(view,), daemon=True).start()


def await_step(live: Inventory, timeout: float) -> None:
    """Return when the view is in step for the first time.

    Raises:
        GuestlistError: it is not, and this is why: as soon as that is known, and after `timeout`
            seconds in any case.
    """
    deadline = time.monotonic() + timeout
    while True:
        try:
            live.wait_synced(min(_LOOK, timeout))
        except NotSynced:
            if time.monotonic() >= deadline:
                raise hosts.silent(live.label, timeout) from None
        else:
            return
