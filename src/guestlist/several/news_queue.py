"""The bounded queue in which the news of several live views arrive, for one reader.

In: items, from any thread and from signal handlers. Out: the same items, in the order in which they
came. A thread that puts an item waits while the queue is full. So a slow reader delays the threads
that read the views; each view keeps a bounded number of changes for its thread meanwhile, and
counts those that it gave up (`Resynced.missed`).
"""

from __future__ import annotations

from collections import deque
from typing import Generic, TypeVar

from guestlist.unpatched import threading
from guestlist.waiting import Bell

MOST_WAITING = 64
"""Items in the queue that the reader has not taken yet."""

T = TypeVar("T")


class NewsQueue(Generic[T]):
    """Items that wait for one reader. Ctrl-C interrupts the reader's wait."""

    def __init__(self, most: int = MOST_WAITING) -> None:
        self._most = most
        self._items: deque[T | Exception] = deque()
        self._is_closed = False
        self._lock = threading.Lock()
        self._came = Bell()
        self._room = Bell()

    def put(self, item: T) -> None:
        """Add an item as soon as there is room. After `close` the item is dropped."""
        while not self._added(item):
            self._room.wait_for(lambda: self._is_closed or len(self._items) < self._most)
        self._came.ring()

    def put_now(self, item: T | Exception) -> None:
        """Add an item even if the queue is full; `get` raises an exception that was added so.

        Takes no lock and does not wait, so signal handlers and finalizers may call it.
        """
        self._items.append(item)
        self._came.ring()

    def get(self, timeout: float | None = None) -> T:
        """Return the next item.

        Raises:
            TimeoutError: none came within `timeout` seconds.
            Exception: the exception that was added in the place of an item.
        """
        if not self._came.wait_for(lambda: self._items, timeout):
            raise TimeoutError(f"nothing came for {timeout:g} s")
        item = self._items.popleft()
        self._room.ring()
        if isinstance(item, Exception):
            raise item
        return item

    def close(self) -> None:
        """Let no thread wait for room any more: the reader has left."""
        self._is_closed = True
        self._room.ring()

    def _added(self, item: T) -> bool:
        with self._lock:
            if self._is_closed:
                return True
            if len(self._items) >= self._most:
                return False
            self._items.append(item)
        return True
