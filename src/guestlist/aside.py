"""Calls that may hang, made aside: each on a thread and a connection of its own.

In: a connection to open others like, and what to ask. Out: what was answered, told on the thread
that asked. A call that hangs is left to itself, with its connection and one of the daemon's
workers, until it returns. How many may be under way at a time is bounded; one connection that is
idle is kept for the next call.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from guestlist.connection import Connection, Peer
from guestlist.errors import GuestlistError
from guestlist.native import threading

T = TypeVar("T")


class Aside:
    """Calls beside those of one connection, `most` at a time. Threads may share it."""

    def __init__(self, connection: Connection, most: int) -> None:
        self._like = connection
        self._most = most
        self._idle: list[Connection] = []
        self._under_way = 0
        self._closed = 0
        self._changed = threading.Condition()

    @property
    def whom(self) -> str:
        """The host's name in messages."""
        return self._like.whom

    def start(
        self,
        what: str,
        ask: Callable[[Peer], T],
        done: Callable[[T | GuestlistError | None], object],
        *,
        patience: float = 0.0,
    ) -> bool:
        """Start a thread that asks; False where none was free within `patience` seconds.

        Args:
            what: completes "cannot …" in an error.
            ask: makes the calls, on that thread.
            done: is told there what `ask` returned, or why nothing was; None where `ask` raised
                anything else, which is raised on.
            patience: seconds to wait for one of the calls under way to return.
        """
        with self._changed:
            if not self._changed.wait_for(lambda: self._under_way < self._most, patience):
                return False
            self._under_way += 1
            connection = self._idle.pop() if self._idle else self._like.like_this()
            closed = self._closed
        threading.Thread(
            target=self._run,
            args=(connection, closed, what, ask, done),
            name="guestlist-aside",
            daemon=True,
        ).start()
        return True

    def close(self) -> None:
        """Close what is idle; a call under way closes its own connection when it returns."""
        with self._changed:
            idle, self._idle = self._idle, []
            self._closed += 1
        for connection in idle:
            connection.close()

    def _run(
        self,
        connection: Connection,
        closed: int,
        what: str,
        ask: Callable[[Peer], T],
        done: Callable[[T | GuestlistError | None], object],
    ) -> None:
        """Ask, and keep the connection for the next call unless `close` was called since."""
        outcome: T | GuestlistError | None = None
        is_well = False
        try:
            with connection.asking(what) as peer:
                outcome = ask(peer)
            is_well = True
        except GuestlistError as error:
            outcome = type(error)(str(error))  # its frames hold the connection
        finally:
            with self._changed:
                self._under_way -= 1
                self._changed.notify()
                kept = is_well and not self._idle and closed == self._closed
                if kept:
                    self._idle.append(connection)
            done(outcome)
            if not kept:
                connection.close()
