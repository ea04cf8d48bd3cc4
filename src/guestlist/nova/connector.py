"""Connections are opened on threads of their own, so that no question waits long.

In: a function that connects. Out: after `PATIENCE` seconds at most, success or an error. libvirt's
open has no deadline: it never returns where the daemon is stopped, or serves as many clients as its
`max_clients` allows. Nova then asks libvirt itself over its own connection, while one attempt goes
on here. Knows neither libvirt nor Nova.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial

from guestlist import threads
from guestlist.errors import ConnectionFailed, GuestlistError, without_frames
from guestlist.unpatched import threading

PATIENCE = 1.0
"""Seconds after the start of an attempt for which questions wait for it."""


class Connector:
    """One way to connect; one thread at a time tries it. Threads may share it."""

    def __init__(self, connect: Callable[[], None]) -> None:
        self._connect = connect
        self._patience = PATIENCE
        self._attempt: _Attempt | None = None
        self._lock = threading.Lock()

    def connect(self) -> None:
        """Return when the attempt that is under way has connected; begin one if there is none.

        If an attempt failed after more than `PATIENCE`, callers do not wait for the next one.

        Raises:
            GuestlistError: the attempt failed, or has not ended in time and goes on.
        """
        with self._lock:
            attempt = self._attempt
            if attempt is None:
                attempt = _Attempt(self._patience)
                threads.start(partial(self._run, attempt), "guestlist-nova-connect")
                self._attempt = attempt
        attempt.wait()

    def _run(self, attempt: _Attempt) -> None:
        try:
            self._connect()
        except GuestlistError as error:
            attempt.failure = without_frames(error)
        except Exception as error:
            attempt.failure = ConnectionFailed(f"cannot connect: {error!r}")
        with self._lock:
            self._attempt = None
            was_slow = time.monotonic() >= attempt.began + PATIENCE
            self._patience = 0.0 if attempt.failure is not None and was_slow else PATIENCE
        attempt.over.set()


class _Attempt:
    """One attempt to connect, and how it ended."""

    def __init__(self, patience: float) -> None:
        self.began = time.monotonic()
        self._until = self.began + patience
        self.over = threading.Event()
        self.failure: GuestlistError | None = None

    def wait(self) -> None:
        """Return when the attempt has succeeded; see `Connector.connect`."""
        if not self.over.wait(max(0.0, self._until - time.monotonic())):
            raise ConnectionFailed(
                f"no connection within {PATIENCE:g} s, the attempt goes on: the daemon is stopped, "
                "hangs, or already serves as many clients as max_clients allows"
            )
        if self.failure is not None:
            raise self.failure
