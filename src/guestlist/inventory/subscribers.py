"""The readers of a live view's changes: each with a queue of its own, which is bounded.

In: changes as they are merged, from the one thread that merges. Out: the same, to any number of
readers, in threads or under asyncio. Publishing never waits: a reader whose queue is full loses
what is in it, and is given the whole view instead.
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


class Changes(Iterator[News], AsyncIterator[News]):
    """What changes in a live view, from the moment that this was made: see `Inventory.changes`.

    Iterate over it in a thread, or asynchronously under asyncio; it ends when the inventory, or
    this, is closed. One reader at a time.

    `snapshot` is the view at that moment: with every change applied it is, at each later one, what
    the view then was. None where the view was not yet in step: then the first that comes is a
    `Resynced`, which carries it.
    """

    def __init__(
        self,
        scope: Scope,
        longest: int,
        lock: threading.RLock,
        view: Callable[[Scope], Snapshot | None],
        forget: Callable[[Changes], None],
        *,
        stale: Stale | None,
        owner: object,
    ) -> None:
        self._owner = owner  # lives as long as somebody reads its changes
        self._scope = scope
        self._longest = longest
        self._view = view
        self._forget = forget
        self._queue: deque[News] = deque()
        self._missed = 0
        self._stale = stale  # the last, until a `Resynced` ends it
        self._is_closed = False
        self._is_taking = False
        self._lock = lock
        self._moved = threads.Bell()
        self._wake: Callable[[], None] | None = None
        self.snapshot: Snapshot | None = view(scope)

    @property
    def missed(self) -> int:
        """How many changes were given up since the last `Resynced`, which says so too."""
        return self._missed

    def get(self, timeout: float | None = None) -> News | None:
        """The next; None when there will be no more.

        Raises:
            TimeoutError: nothing changed for `timeout` seconds.
            ForkedProcess: the view is kept by the process that forked this one.
        """
        process.check()
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            news, is_over = self._take()
            if news is not None or is_over:
                return news
            left = None if deadline is None else deadline - time.monotonic()
            if not self._moved.wait_for(self._has_news, left):
                raise TimeoutError(f"nothing changed for {timeout:g} s")

    def close(self) -> None:
        """End it, for its reader too; harmless twice. Nothing in a forked process."""
        if process.is_foreign():
            return
        self._forget(self)
        with self._lock:
            self.end()

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
            news, is_over = self._take()
            if news is not None:
                return news
            if is_over:
                raise StopAsyncIteration
            woken = self._await_wake()
            if not self._has_news():  # since
                await woken

    def __enter__(self) -> Changes:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # For the inventory, which holds the lock

    def put(self, news: Iterable[News]) -> None:
        """Hand on what this reader wants to see of it."""
        for each in news:
            seen = self._scope.seen(each) if isinstance(each, Change) else each
            if seen is None:
                continue
            if not isinstance(seen, Change):
                self._stale = seen if isinstance(seen, Stale) else None
            self._queue.append(seen)
            if self._missed or len(self._queue) > self._longest:
                self._missed += len(self._queue)
                self._queue.clear()
        if self._queue or self._missed:
            self._notify()

    def end(self) -> None:
        """Nothing more will come."""
        self._is_closed = True
        self._notify()

    @property
    def scope(self) -> Scope:
        """Whom its reader wants to see."""
        return self._scope

    def _has_news(self) -> bool:
        return bool(self._queue or self._missed or self._is_closed)

    def _take(self) -> tuple[News | None, bool]:
        """The next, if there is one, and whether there will be no more.

        An exception from a signal handler may lose it on the way: then it counts as missed.

        Raises:
            Reentered: a signal handler asks within a read.
        """
        if threads.is_held_here(self._lock):
            raise threads.reentered("wait for a change")
        with self._lock:
            if self._is_taking and self._view(self._scope) is not None:
                self._missed += 1 + len(self._queue)
                self._queue.clear()
            is_over = self._is_closed
            self._is_taking = True
            news = self._next()
        self._is_taking = False
        return news, is_over

    def _next(self) -> News | None:
        if self._missed:
            snapshot = self._view(self._scope)
            if snapshot is not None:
                resynced = Resynced(snapshot, self._missed, datetime.now(UTC))
                self._missed = 0
                if self._stale is not None:  # it was among them, or is no longer believed
                    self._queue.append(self._stale)
                return resynced
        return self._queue.popleft() if self._queue else None

    def _notify(self) -> None:
        self._moved.ring()
        if self._wake is not None:
            wake, self._wake = self._wake, None
            wake()

    def _await_wake(self) -> asyncio.Future[None]:
        """A future of the running loop that is done when something may have come."""
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
