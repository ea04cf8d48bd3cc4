"""What a reader of the fleet has, wherever it comes from: snapshots, and the news since then.

In: news of the fleet, from the thread that keeps it. Out: the same news to each reader, by a queue
of its own. A reader that is too slow delays no other: its queue is emptied, and it gets the whole
fleet in place of the changes.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable
from typing import Protocol, Self

from guestlist import process
from guestlist.fleet.rows import FleetNews, FleetSnapshot, Relisted
from guestlist.unpatched import threading
from guestlist.waiting import Bell

LONGEST_QUEUE = 10_000
"""News that is kept for a slow reader."""


class Reader(Protocol):
    """A fleet that can be read: a live view of each host, or what hosts publish to a store."""

    def snapshot(self) -> FleetSnapshot:
        """Return the fleet as it is now: complete, or with the hosts that are not and why."""

    def watch(self) -> FleetWatch:
        """Return the news from now on. It begins with a `Relisted`: the fleet as it is."""

    def close(self) -> None:
        """End it, and every iteration over its news; harmless twice."""


class FleetWatch(Protocol):
    """The news of a fleet: an iterator, for one thread.

    While a store cannot be asked, it raises its error once; it may be asked again, and goes on.
    """

    def get(self, timeout: float | None = None) -> FleetNews | None:
        """Wait for the next news and return it; None when there will be no more.

        Raises:
            TimeoutError: nothing came for `timeout` seconds.
            GuestlistError: the reader may lag from now on, for this reason.
        """

    def close(self) -> None:
        """End it, for its reader too; harmless twice."""

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> FleetNews:
        news = self.get()
        if news is None:
            raise StopIteration
        return news

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class FleetChanges(FleetWatch):
    """The news for one reader: an iterator, in a thread. Close it when you are done."""

    def __init__(
        self,
        lock: threading.RLock,
        snapshot: Callable[[], FleetSnapshot],
        forget: Callable[[FleetChanges], None],
        longest: int = LONGEST_QUEUE,
    ) -> None:
        """Begin with the fleet as it is. The caller holds the lock, which both share."""
        self._lock = lock
        self._snapshot = snapshot
        self._forget = forget
        self._longest = longest
        self._news: deque[FleetNews] = deque([Relisted(snapshot())])
        self._missed = 0
        self._is_over = False
        self._moved = Bell()

    # For the fleet, which holds the lock

    def put(self, news: Iterable[FleetNews]) -> None:
        """Queue news; drop everything where that is too much."""
        for each in news:
            if self._missed or len(self._news) >= self._longest:
                self._missed += len(self._news) + 1
                self._news.clear()
            elif isinstance(each, Relisted):
                self._news.clear()
                self._news.append(each)
            else:
                self._news.append(each)
        self._moved.ring()

    def end(self) -> None:
        """Tell the reader that nothing more will come."""
        self._is_over = True
        self._moved.ring()

    # For its reader

    def get(self, timeout: float | None = None) -> FleetNews | None:
        """Wait for the next news and return it; None when there will be no more.

        Raises:
            TimeoutError: nothing came for `timeout` seconds.
            ForkedProcess: the fleet is kept by the process that forked this one.
        """
        process.check()
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            with self._lock:
                if self._missed:
                    why = f"{self._missed:,} changes missed: this reader was too slow"
                    self._missed = 0
                    return Relisted(self._snapshot(), why)
                if self._news:
                    return self._news.popleft()
                if self._is_over:
                    return None
            left = None if deadline is None else deadline - time.monotonic()
            if not self._moved.wait_for(self._has_news, left):
                raise TimeoutError(f"nothing changed for {timeout:g} s")

    def close(self) -> None:
        """End it, for its reader too; harmless twice. Does nothing in a forked process."""
        if not process.belongs_to_parent():
            self._forget(self)
            self.end()

    def _has_news(self) -> bool:
        return bool(self._news or self._missed or self._is_over)
