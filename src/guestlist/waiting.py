"""To wait for another thread so that nothing that a signal does breaks the wait.

In: a condition, or the job of another thread. Out: true, or the job's result. Starts no thread.
Takes no lock. `threads` says where an exception from a signal handler can come.

**A signal can miss a wait.** Python's C handler only notes a signal; the main thread runs the
Python handler at its next step, or when the signal interrupts the wait for a lock. A signal that
comes after the last step and before the wait, or that the kernel delivers to another thread,
interrupts nothing: Ctrl-C would be heard only when the wait ends by itself. Under load a thread
can be stopped for long between the two. So the main thread waits in turns of `LONGEST_DEAF`.

Source: CPython Modules/_threadmodule.c (acquire_timed), Modules/signalmodule.c (trip_signal).
"""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

from guestlist.unpatched import threading, time

T = TypeVar("T")

LONGEST_DEAF = 0.5
"""Seconds that the main thread waits at a time. No other thread runs signal handlers."""


class Bell:
    """A way to wake threads that wait for a change. Takes no lock: a signal handler may ring it.

    Change something, then ring: each waiting thread checks its condition again.
    """

    def __init__(self) -> None:
        self._waiting: deque[threading.Lock] = deque()

    def ring(self) -> None:
        """Wake every waiting thread, so that it checks its condition again."""
        while self._waiting:
            try:
                waiting = self._waiting[0]
                waiting.release()
            except IndexError:  # another thread rings at the same time
                return
            except RuntimeError:  # another ring released it, or one that was interrupted
                pass
            self._forget(waiting)

    def wait_for(self, is_so: Callable[[], object], timeout: float | None = None) -> bool:
        """Wait until `is_so` returns true, `timeout` seconds at most; return whether it did."""
        deadline = None if timeout is None else time.monotonic() + timeout
        longest = threading.TIMEOUT_MAX
        if threading.get_ident() == threading.main_thread().ident:
            longest = LONGEST_DEAF
        while not is_so():
            left = longest if deadline is None else min(deadline - time.monotonic(), longest)
            if left <= 0:
                return False
            waiting = threading.Lock()
            waiting.acquire()
            self._waiting.append(waiting)
            try:
                if is_so():  # it became so before this thread was on the list
                    return True
                waiting.acquire(timeout=left)
            finally:
                self._forget(waiting)
        return True

    def _forget(self, waiting: threading.Lock) -> None:
        with contextlib.suppress(ValueError):  # a ring has removed it
            self._waiting.remove(waiting)


class Outcome(Generic[T]):
    """The result of a job on another thread: one value or one error."""

    def __init__(self) -> None:
        self.is_there = False
        self._value: T | None = None
        self._error: BaseException | None = None
        self._bell = Bell()

    def of(self, job: Callable[[], T]) -> None:
        """Run the job on this thread and keep its result."""
        try:
            self._value = job()
        except BaseException as error:  # `get` raises this error
            self._error = error
        self.is_there = True
        self._bell.ring()

    def wait(
        self, timeout: float | None = None, *, or_if: Callable[[], bool] | None = None
    ) -> bool:
        """Wait until the result is there, `timeout` seconds at most; return whether it is.

        The wait also ends when `or_if` returns true: call `nudge` after its answer has changed.
        """
        self._bell.wait_for(lambda: self.is_there or (or_if is not None and or_if()), timeout)
        return self.is_there

    def nudge(self) -> None:
        """Let the waiting threads check their conditions again."""
        self._bell.ring()

    def get(self) -> T:
        """Wait for the result; return the job's value or raise its error."""
        self.wait()
        error, self._error = self._error, None  # the error's frames hold this object and more
        if error is not None:
            try:
                raise error
            finally:
                del error
        return self._value  # type: ignore[return-value]
