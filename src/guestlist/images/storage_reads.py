"""Many looks at storage that may hang, within one deadline.

In: items, and a function that looks at one. Out: what the function returned for each item in time.
Looks run in threads: a stat on NFS without its server does not return, and only the kernel ends it.
The caller goes on without it; its thread stays behind, and its item is not looked at again until
that thread is back. At most `_MOST_LEFT` threads stay behind: then nothing is looked at.

One thread looks at one item after the other. Others join when it takes long; items on the same
mount as a slow look come last.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Generic, TypeVar

from guestlist import threads
from guestlist.errors import ThreadUnavailable
from guestlist.unpatched import threading, time
from guestlist.waiting import Bell

_ALONE = 0.05
"""Seconds for which the first thread is alone."""

_AT_ONCE = 4
_SLOW = 0.5
"""Seconds after which a look is slow, and another thread joins."""

_GRACE = 0.5
"""Seconds past the deadline in which a look that knows the deadline may still return."""

_MOST_LEFT = 16

T = TypeVar("T")
R = TypeVar("R")


class StorageReads(Generic[T, R]):
    """Looks at items, and remembers which looks have not come back. Threads may share one.

    Args:
        path_of: returns the path of an item.
    """

    def __init__(self, path_of: Callable[[T], str]) -> None:
        self._path_of = path_of
        self._reset()

    def _reset(self) -> None:
        """Forget the looks that have not come back: threads do not survive a fork."""
        self._process = os.getpid()
        self._left: list[_Round[T, R]] = []
        self._lock = threading.Lock()

    def each(
        self, items: Iterable[T], look: Callable[[T, float], R], seconds: float
    ) -> tuple[dict[T, R], frozenset[T]]:
        """Return what `look` says of each item, and the items that it has not come back from.

        An item whose turn did not come in time is in neither. `look` also gets the seconds that are
        left. What it raises is raised here.

        Cost: a thread; more threads only where it takes longer than 50 ms.
        """
        if self._process != os.getpid():
            self._reset()
        with self._lock:
            self._left = [left for left in self._left if left.items_in_work()]
            left_behind = {item for left in self._left for item in left.items_in_work()}
        this = _Round([item for item in items if item not in left_behind], look, seconds)
        try:
            if len(left_behind) < _MOST_LEFT:
                self._run(this, _MOST_LEFT - len(left_behind))
        finally:
            this.over = True
            in_work = this.items_in_work()
            with self._lock:
                self._left.append(this)
        results = dict(this.results)
        if this.error is not None:
            raise this.error
        return results, frozenset((*left_behind, *in_work)) - results.keys()

    def _run(self, this: _Round[T, R], most: int) -> None:
        """Wait for the round's end, or its deadline; until then keep threads at work on it."""
        if not this.start_thread():
            this.work()
            return
        this.wait(min(_ALONE, this.seconds_left()))
        slow: set[T] = set()
        while not this.is_finished and (left := this.seconds_left()) > 0:
            before, slow = slow, this.slow()
            if slow - before:
                this.put_last(self._on_their_mounts(slow, this.waiting))
            while (
                this.waiting
                and len(this.doing) < min(_AT_ONCE + len(slow), most)
                and this.start_thread()
            ):
                pass
            this.wait(min(_SLOW / 5, left))
        this.wait(_GRACE)

    def _on_their_mounts(self, slow: Iterable[T], waiting: Iterable[T]) -> set[T]:
        mounts = _mounts()
        theirs = {_mount(self._path_of(item), mounts) for item in slow}
        return {item for item in tuple(waiting) if _mount(self._path_of(item), mounts) in theirs}


class _Round(Generic[T, R]):
    """The looks of one call."""

    def __init__(self, items: list[T], look: Callable[[T, float], R], seconds: float) -> None:
        self.waiting = deque(items)
        self.results: dict[T, R] = {}
        self.doing: dict[object, tuple[T, float] | None] = {}
        self.error: BaseException | None = None
        self.over = False
        self.is_finished = not items
        self._moved = Bell()
        self._look = look
        self._count = len(items)
        self._until = time.monotonic() + seconds

    def finish(self) -> None:
        """End the round: nothing is left to look at, or a look has failed."""
        self.is_finished = True
        self._moved.ring()

    def wait(self, seconds: float) -> None:
        """Wait until the round is finished, that many seconds at most."""
        self._moved.wait_for(lambda: self.is_finished, seconds)

    def seconds_left(self) -> float:
        return max(0.0, self._until - time.monotonic())

    def items_in_work(self) -> list[T]:
        return [at_work[0] for at_work in tuple(self.doing.values()) if at_work is not None]

    def slow(self) -> set[T]:
        """Return the items that a thread has looked at for long."""
        since = time.monotonic() - _SLOW
        at_work = [each for each in tuple(self.doing.values()) if each is not None]
        return {item for item, start in at_work if start < since}

    def put_last(self, items: set[T]) -> None:
        """Move items that still wait to the end."""
        for item in items:
            try:
                self.waiting.remove(item)
            except (ValueError, IndexError):  # gone, or the queue moved meanwhile
                continue
            self.waiting.append(item)

    def start_thread(self) -> bool:
        """Put another thread to work; return False where no thread can be started any more."""
        me = object()
        self.doing[me] = None
        try:
            threads.start(partial(self.work, me), "guestlist-images")
        except ThreadUnavailable:
            del self.doing[me]
            return False
        return True

    def work(self, me: object = None) -> None:
        """Look at the items that wait, one after the other."""
        try:
            for item in self._turns():
                self.doing[me] = item, time.monotonic()
                self.results[item] = self._look(item, self.seconds_left())
                self.doing[me] = None
                if len(self.results) == self._count:
                    self.finish()
        except BaseException as error:
            self.error = error
            self.finish()
        finally:
            self.doing.pop(me, None)

    def _turns(self) -> Iterator[T]:
        while not self.over:
            try:
                yield self.waiting.popleft()
            except IndexError:
                return


def _mounts() -> list[str]:
    """Return the mount points of this process, the longest first; none without /proc."""
    try:
        lines = Path("/proc/self/mountinfo").read_text(errors="surrogateescape").splitlines()
    except OSError:
        return []
    points = (line.split(" ")[4].replace("\\040", " ") for line in lines)
    return sorted(points, key=len, reverse=True)


def _mount(path: str, mounts: list[str]) -> str:
    """Return the mount point of a path, by its text alone: to follow a link may hang."""
    path = os.path.normpath(path)
    inside = (
        point for point in mounts if path == point or path.startswith(point.rstrip("/") + "/")
    )
    return next(inside, "/")
