"""Whether libvirt can be asked now: connections are opened aside, so that no question waits long.

In: how to connect. Out: at once, or after `PATIENCE` seconds at most, whether it is done. libvirt's
open has no deadline, and takes for ever where the daemon is stopped or serves as many clients as
its `max_clients` allows. Nova then asks libvirt itself over the connection that it has, while one
attempt goes on here. Knows neither libvirt nor Nova.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial

from guestlist import threads
from guestlist.errors import ConnectionFailed, GuestlistError, without_frames
from guestlist.unpatched import threading

PATIENCE = 1.0
"""Seconds that questions wait for an attempt, all of them together."""


class Connector:
    """One way to connect, tried by one thread at a time. Threads may share it."""

    def __init__(self, connect: Callable[[], None]) -> None:
        self._connect = connect
        self._patience = PATIENCE
        self._attempt: _Attempt | None = None
        self._lock = threading.Lock()

    def connect(self) -> None:
        """Return once the attempt that is under way has connected; begin one if there is none.

        After an attempt that took longer than `PATIENCE` the next one is not waited for.

        Raises:
            GuestlistError: it failed, or has not ended yet and goes on.
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
    def __init__(self, patience: float) -> None:
        self.began = time.monotonic()
        self._until = self.began + patience
        self.over = threading.Event()
        self.failure: GuestlistError | None = None

    def wait(self) -> None:
        if not self.over.wait(max(0.0, self._until - time.monotonic())):
            raise ConnectionFailed(
                f"no connection within {PATIENCE:g} s, it is tried further: the daemon is stopped, "
                "hung, or already serves as many clients as max_clients allows"
            )
        if self.failure is not None:
            raise self.failure
