"""The thread that follows one host: it connects, has the view kept in step, and connects again.

In: a host to ask, and a board. Out: a board that is in step, or says since when it is not. What is
done over a connection is `keeping`; here is what outlives it: when to try again, and the end.
"""

from __future__ import annotations

import logging
import random
import time
import traceback
import weakref
from typing import Any

import libvirt

from guestlist import threads
from guestlist.errors import GuestlistError, LibvirtFailure, one_line
from guestlist.inventory.board import Board
from guestlist.inventory.doubt import Doubt, Hearing, ListRequests
from guestlist.inventory.facts import Facts
from guestlist.inventory.feed import Inbox, Listener
from guestlist.inventory.keeping import Keeping
from guestlist.inventory.options import Options
from guestlist.inventory.progress import InventoryStatistics, Progress
from guestlist.session import Session, Sessions
from guestlist.unpatched import threading
from guestlist.waiting import Outcome

log = logging.getLogger(__name__)

stale = logging.getLogger(f"{__name__}.stale")
"""A separate logger for the start of staleness: mute it if your program reports `Stale` itself."""

LAST_ATTEMPT = 1.0
"""Seconds after `close` in which an attempt to connect that still begins is given up."""

BACKOFF = (0.05, 2.0)
"""Seconds before the first attempt to reconnect, doubled up to the second number. A random part of
up to half is taken off: the clients of a daemon that returns do not all come at the same time."""


class Follower:
    """Keeps a board in step with a host, on the thread that runs it."""

    def __init__(
        self, sessions: Sessions, board: Board, options: Options, *, owner: weakref.ref[Any]
    ) -> None:
        self._owner = owner
        self._sessions = sessions
        self._board = board
        self._options = options
        self._inbox = Inbox()
        self._requests = ListRequests(self._inbox.nudge)
        self.progress = Progress()
        self.facts = Facts(sessions.connection, self._inbox.nudge)
        """What the host is, beside its domains."""
        self.listeners: list[Listener] = []
        """What else hears events over each connection; see `lifetime.listen`."""
        self._is_closed = False
        self._running = threading.Lock()
        self._ended: Outcome[None] = Outcome()
        self._failures = 0
        self._alive_at = 0.0
        self._hearing = Hearing.SILENT
        self._keeping: Keeping | None = None
        self._leaving = threading.RLock()

    # For other threads

    @property
    def label(self) -> str:
        """The host's name in messages."""
        return self._sessions.connection.label

    @property
    def resolved_uri(self) -> str:
        """The URI as asked for or as libvirt resolved it."""
        return self._sessions.connection.resolved_uri

    def statistics(self) -> InventoryStatistics:
        """Return what was done so far. Cost: no call."""
        with self._leaving:  # the calls of a connection that ends move to `progress`
            calls = self._keeping.calls if self._keeping else 0
            pending = self._keeping.details_pending if self._keeping else 0
            return self.progress.statistics(
                stale_for=self._board.stale_for, calls=calls, details_pending=pending
            )

    def is_in_doubt(self, uuid: bytes) -> bool:
        """Whether a domain may differ from its row in the view. Cost: no call."""
        with self._leaving:  # libvirt's client may crash where one asks as another closes
            return self._keeping is None or self._keeping.is_in_doubt(uuid)

    @property
    def is_closing(self) -> bool:
        """Whether it was closed, or its owner dropped. An interrupted `__del__` does not tell."""
        return self._is_closed or self._owner() is None

    def start(self) -> None:
        """Start a thread that runs this; it does nothing where one runs already.

        Raises:
            ThreadUnavailable: no thread could be started.
        """
        threads.start(self.run, "guestlist-inventory")

    def close(self) -> None:
        """Let `run` return. Does not wait, and takes no lock."""
        self._is_closed = True
        self._inbox.nudge()
        self._requests.wake()
        threads.later(self._stop_opening, "guestlist-inventory-close")

    def _stop_opening(self) -> None:
        """Give up an attempt to connect, and one that had just not begun when this was closed."""
        connection, deadline = self._sessions.connection, time.monotonic() + LAST_ATTEMPT
        while time.monotonic() < deadline:
            connection.give_up(connection.attempt)
            if self._ended.wait(LAST_ATTEMPT / 10):
                return

    def wait_ended(self, deadline: float) -> None:
        """Wait until `run` has returned and nothing reads aside, until `deadline` (monotonic)."""
        self._ended.wait(deadline - time.monotonic())
        self.facts.wait_ended(deadline - time.monotonic())

    def list_again(self, timeout: float | None) -> bool:
        """Wait for a list that begins after this call; whether it was merged within `timeout`."""
        return self._requests.ask(timeout, or_if=lambda: self.is_closing)

    # On the thread

    def run(self) -> None:
        """Follow until closed. Never raises, and always leaves the board with an explanation."""
        if not self._running.acquire(blocking=False):
            return  # another thread runs, or has: an interrupted caller has started this again
        threads.endings[self.close] = None
        self._ended.of(self._run)
        threads.endings.pop(self.close, None)

    def _run(self) -> None:
        while not self.is_closing:
            try:
                self._sessions.ask("follow the domains", self._follow)
            except GuestlistError as error:
                self._fail(error)
            except Exception as error:
                log.exception("%s: following the domains failed", self.label)
                self._fail(LibvirtFailure(f"cannot follow the domains of {self.label}: {error!r}"))
            self._close_connection()  # lost or not: events are registered for once
            self._inbox.clear()
            if not self.is_closing:
                self._wait_before_retry()
        self._board.end()

    def _follow(self, session: Session) -> None:
        """Keep the view in step over this connection until it is lost or this is closed.

        What is kept of a connection holds handles, and they hold its socket open. No frame but
        those of `Keeping` refers to it, and those are forgotten before the connection is closed.
        """
        doubt = Doubt(
            session.peer,
            self._hearing,
            board=self._board,
            inbox=self._inbox,
            requests=self._requests,
            progress=self.progress,
        )
        self._keeping = Keeping(
            session,
            doubt,
            board=self._board,
            inbox=self._inbox,
            requests=self._requests,
            facts=self.facts,
            progress=self.progress,
            options=self._options,
        )
        try:
            self._keeping.begin(self.listeners)
            while not self.is_closing:
                self._keeping.step()
        except (libvirt.libvirtError, GuestlistError) as error:
            _forget_frames(error)
            raise
        finally:
            self.facts.lost()
            for listener in self.listeners:
                listener.end()
            with self._leaving:  # another thread may be in `is_in_doubt`
                self._keeping = None
                self.progress.counts["calls"] += session.peer.calls
            self._alive_at, self._hearing = doubt.alive_at, doubt.hearing

    def _fail(self, error: GuestlistError) -> None:
        if self.is_closing:
            return
        self._failures = 1 if self._board.is_in_step else self._failures + 1
        _forget_frames(error)
        if self._failures == 1:
            stale.warning("%s; until libvirt answers, the view stays as it is", one_line(error))
        self._board.fall_behind(self._alive_at, error)

    def _close_connection(self) -> None:
        try:
            self._sessions.close()
        except Exception:  # the system gives no thread to close it
            log.exception("%s: the connection was not closed", self.label)

    def _wait_before_retry(self) -> None:
        first, longest = BACKOFF
        delay = min(longest, first * 2.0 ** min(self._failures - 1, 16))
        deadline = time.monotonic() + delay * random.uniform(0.5, 1.0)
        while not self.is_closing and (left := deadline - time.monotonic()) > 0:
            self._inbox.take(left)


def _forget_frames(error: BaseException) -> None:
    """Let go of what the frames of an error hold: handles, and so the connection."""
    link: BaseException | None = error
    while link is not None:
        traceback.clear_frames(link.__traceback__)
        link.__traceback__ = None
        link = link.__cause__ or link.__context__
