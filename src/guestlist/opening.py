"""Opening a libvirt connection on a thread that the caller can give up.

In: a function that opens a connection. Out: the connection. The thread that opened it hands it over
itself, so an interrupted caller cannot lose it. Does not translate errors.

libvirt's `open()` has no deadline and cannot be interrupted. An attempt that is given up goes on,
and if it succeeds its connection is closed. While such an attempt goes on, each further attempt
beside it begins only after twice the last waiting time. Otherwise a live view of a daemon that
hangs for days would collect thousands of threads.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Generic, TypeVar

from guestlist import threads
from guestlist.tunnel import Tunnel
from guestlist.unpatched import threading
from guestlist.waiting import Outcome

T = TypeVar("T")


class Abandoned(Exception):
    """The connection is no longer wanted; the attempt goes on without its caller."""


class Attempt:
    """One attempt to open a connection."""

    def __init__(self) -> None:
        self.has_begun = False
        self.outcome: Outcome[None] = Outcome()
        self.tunnel = Tunnel()

    @property
    def is_under_way(self) -> bool:
        """Whether the attempt has begun and not yet ended."""
        return self.has_begun and not self.outcome.is_there


class Opening(Generic[T]):
    """The attempts to open one connection. One thread at a time makes them; any may abandon them.

    Args:
        open: opens a connection, through a tunnel if its URI says so.
        keep: takes a connection that is still wanted; returns False if another one is open already.
        drop: closes a connection that was not taken.

    All three are called on guestlist's threads.
    """

    def __init__(
        self, open: Callable[[Tunnel], T], keep: Callable[[T], bool], drop: Callable[[T], object]
    ) -> None:
        self._open = open
        self._keep = keep
        self._drop = drop
        self.wanted: Attempt | None = None
        """The last attempt, until it is given up."""
        self._given_up: list[Attempt] = []
        self._next = 0.0
        self._settling = threading.Lock()

    @property
    def is_under_way(self) -> bool:
        """Whether a connection that is wanted may still arrive."""
        return self.wanted is not None and self.wanted.is_under_way

    def attempt(self, timeout: float | None) -> None:
        """Open a connection; return when it was kept, or after `timeout` seconds.

        Joins the attempt of an interrupted caller, if one is under way, and begins none.

        Raises:
            Exception: the error of `open`.
            Abandoned: another thread called `abandon` meanwhile.
            ThreadUnavailable, InterpreterEnding: see `threads.start`.
        """
        attempt = self.wanted
        is_anothers = attempt is not None and attempt.is_under_way
        if attempt is None or not is_anothers:
            if not self._may_begin(timeout):
                return
            attempt = Attempt()
            self.wanted = attempt
            threads.start(lambda: self._run(attempt), "guestlist-open")
        attempt.outcome.wait(timeout, or_if=lambda: self.wanted is not attempt)
        if self.wanted is attempt and attempt.outcome.is_there:
            attempt.outcome.get()
            return
        self._given_up.append(attempt)
        if self.wanted is not attempt:
            if not is_anothers:
                raise Abandoned
            self.attempt(timeout)  # the joined attempt was given up; this caller still wants one
            return
        self.abandon(attempt)
        self._next = time.monotonic() + (timeout or 0.0) * 2 ** len(self._given_up)

    def abandon(self, attempt: Attempt | None = None) -> None:
        """Give up an attempt: the connection that it may still open is dropped.

        Ends the program that carries the connection (ssh, for example), and with it the attempt.

        Args:
            attempt: the attempt to give up, if it is still wanted; None: any that is under way.
        """
        with self._settling:
            if attempt not in (None, self.wanted):
                return
            attempt, self.wanted = self.wanted, None
        if attempt is not None and attempt.is_under_way:
            attempt.outcome.nudge()
            end = partial(attempt.tunnel.end, attempt.outcome.wait)
            threads.finish(end, "guestlist-tunnel-end", wait=True)

    def _run(self, attempt: Attempt) -> None:
        attempt.has_begun = True
        attempt.outcome.of(lambda: self._make(attempt))

    def _make(self, attempt: Attempt) -> None:
        if self.wanted is not attempt:  # its caller was interrupted and has begun another since
            return
        opened = self._open(attempt.tunnel)
        with self._settling:
            is_kept = self.wanted is attempt and self._keep(opened)
        if not is_kept:
            self._drop(opened)

    def _may_begin(self, timeout: float | None) -> bool:
        """Return whether to begin an attempt; wait for an earlier one where it is too early."""
        self._given_up = [attempt for attempt in self._given_up if attempt.is_under_way]
        if not self._given_up or time.monotonic() >= self._next:
            return True
        return self._given_up[-1].outcome.wait(timeout)
