"""The bell: how threads wait for a change, and how another thread or a signal handler wakes them.

In: conditions, and rings. Out: waits that end when a condition is true. Takes no lock, and neither
an exception from a signal handler nor a signal that comes at the wrong moment can break it.

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

from guestlist.unpatched import threading, time

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
