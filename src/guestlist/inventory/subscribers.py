"""The readers of a live view's changes, each with a queue of its own, which is bounded.

In: changes as they are merged, from the one thread that merges. Out: the same, to any number of
readers, in threads or under asyncio. Publishing never waits: a reader whose queue is full loses
what is in it, and is given the whole view instead. `Changes` is what a user holds; `Queue` is what
the board fills.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from datetime import UTC, datetime

from guestlist import process, threads
from guestlist.inventory.changes import Change, News, Resynced, Stale
from guestlist.inventory.scope import Scope
from guestlist.records import Snapshot
from guestlist.unpatched import threading
from guestlist.waiting import Bell


class Changes(Iterator[News], AsyncIterator[News]):
    """The changes of a live view, from the call of `Inventory.changes` on.

    Iterate over it in a thread (`for`) or under asyncio (`async for`). The iteration ends when the
    inventory or this object is closed. One reader at a time.
    """

    def __init__(self, queue: Queue, owner: object) -> None:
        self._queue = queue
        self._owner = owner  # an Inventory lives as long as its changes are read
        self._snapshot = queue.view()

    @property
    def snapshot(self) -> Snapshot | None:
        """The view at the call of `Inventory.changes`: the starting point for the changes.

        This snapshot, with every change applied that has come since, equals the view. None if the
        view was not in step yet: then the first record is a `Resynced`, which carries the view.
        """
        return self._snapshot

    @property
    def missed(self) -> int:
        """The number of changes dropped since the last `Resynced`; the next `Resynced` says it.

        They are dropped when more than `longest_queue` changes wait for this reader.
        """
        return self._queue.missed

    def get(self, timeout: float | None = None) -> News | None:
        """Wait for the next change and return it; None when there will be no more.

        Raises:
            TimeoutError: nothing changed for `timeout` seconds.
            ForkedProcess: the view is kept by the process that forked this one.
            Reentered: a signal handler asks within a read.
        """
        process.check()
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            news, is_over = self._queue.take()
            if news is not None or is_over:
                return news
            left = None if deadline is None else deadline - time.monotonic()
            if not self._queue.wait(left):
                raise TimeoutError(f"nothing changed for {timeout:g} s")

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until `get` returns at once, `timeout` seconds at most; return whether it does."""
        return self._queue.wait(timeout)

    def close(self) -> None:
        """End it, for its reader too; harmless twice. Does nothing in a forked process."""
        if not process.belongs_to_parent():
            self._queue.close()

    def __iter__(self) -> Changes:
        return self

    def __next__(self) -> News:
        news = self.get()
        if news is None:
            raise StopIteration
        return news

    def __aiter__(self) -> Changes:
        return self

    async def __anext__(self) -> News:
        process.check()
        while True:
            news, is_over = self._queue.take()
            if news is not None:
                return news
            if is_over:
                raise StopAsyncIteration
            woken = self._queue.woken()
            if not self._queue.has_news():  # since it was taken from
                await woken

    def __enter__(self) -> Changes:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Queue:
    """What one reader has still to be told. The board fills it, under the lock that both share."""

    def __init__(
        self,
        scope: Scope,
        *,
        longest: int,
        lock: threading.RLock,
        view: Callable[[Scope], Snapshot | None],
        forget: Callable[[Queue], None],
        stale: Stale | None,
    ) -> None:
        self.scope = scope
        """The domains that the reader wants to see."""
        self.missed = 0
        self._longest = longest
        self._lock = lock
        self._view = view
        self._forget = forget
        self._news: deque[News] = deque()
        self._stale = stale  # the last one, until a `Resynced` ends it
        self._is_over = False
        self._is_taking = False
        self._moved = Bell()
        self._wake: Callable[[], None] | None = None

    # For the board, which holds the lock

    def put(self, news: Iterable[News]) -> None:
        """Queue what the reader wants to see of this; drop everything where that is too much."""
        for each in news:
            seen = self.scope.seen(each) if isinstance(each, Change) else each
            if seen is None:
                continue
            if not isinstance(seen, Change):
                self._stale = seen if isinstance(seen, Stale) else None
            self._news.append(seen)
            if self.missed or len(self._news) > self._longest:
                self.missed += len(self._news)
                self._news.clear()
        if self._news or self.missed:
            self._notify()

    def end(self) -> None:
        """Tell the reader that nothing more will come."""
        self._is_over = True
        self._notify()

    # For its reader

    def view(self) -> Snapshot | None:
        """Return the view as the reader wants to see it; None before it was in step."""
        return self._view(self.scope)

    def has_news(self) -> bool:
        """Whether `take` returns something, or that it is over."""
        return bool(self._news or self.missed or self._is_over)

    def take(self) -> tuple[News | None, bool]:
        """Return the next news, if there is any, and whether there will be no more.

        An exception from a signal handler may lose it on the way: then it counts as missed.

        Raises:
            Reentered: a signal handler asks within a read.
        """
        if threads.is_held_here(self._lock):
            raise threads.reentered("wait for a change")
        with self._lock:
            if self._is_taking and self.view() is not None:
                self.missed += 1 + len(self._news)
                self._news.clear()
            is_over = self._is_over
            self._is_taking = True
            news = self._next()
        self._is_taking = False
        return news, is_over

    def wait(self, timeout: float | None) -> bool:
        """Wait until there is news, `timeout` seconds at most; whether there is."""
        return self._moved.wait_for(self.has_news, timeout)

    def woken(self) -> asyncio.Future[None]:
        """Return a future of the running loop that is done when something may have come."""
        loop = asyncio.get_running_loop()
        woken = loop.create_future()

        def done() -> None:
            if not woken.done():
                woken.set_result(None)

        def wake() -> None:
            with contextlib.suppress(RuntimeError):  # the loop was closed, and its reader with it
                loop.call_soon_threadsafe(done)

        with self._lock:
            self._wake = wake
        return woken

    def close(self) -> None:
        """End it, and let the board forget it."""
        self._forget(self)
        with self._lock:
            self.end()

    def _next(self) -> News | None:
        if self.missed:
            snapshot = self.view()
            if snapshot is not None:
                resynced = Resynced(snapshot, self.missed, datetime.now(UTC))
                self.missed = 0
                if self._stale is not None:  # it was dropped, or `resynced` seems to end it
                    self._news.append(self._stale)
                return resynced
        return self._news.popleft() if self._news else None

    def _notify(self) -> None:
        self._moved.ring()
        if self._wake is not None:
            wake, self._wake = self._wake, None
            wake()
