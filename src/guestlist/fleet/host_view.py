"""One host of a fleet without an engine: its live view, and what is published of it.

In: a host. Out: its publications and its state, on the board of the fleet. Its methods are called
on guestlist's own threads; what is published of one host is published by one thread at a time.
"""

from __future__ import annotations

import logging
import math
import time
from contextlib import suppress
from datetime import UTC, datetime, timedelta

from guestlist import threads
from guestlist.errors import AccessDenied, one_line
from guestlist.fleet.board import Board
from guestlist.fleet.endings import Endings
from guestlist.fleet.phases import Phases, Update
from guestlist.fleet.rows import HostState
from guestlist.host import Host
from guestlist.inventory import Inventory
from guestlist.inventory.changes import News, Resynced
from guestlist.inventory.subscribers import Changes
from guestlist.several import doubles
from guestlist.several.following import await_step
from guestlist.unpatched import threading

log = logging.getLogger(__name__)

NOT_YET = "the host has not answered yet"
_LATE = "libvirt has left a question of the live view without an answer for more than 1 s"


class HostView:
    """A host, its live view, and what is published of it."""

    def __init__(self, name: str, host: Host, *, details: bool, hold: float) -> None:
        self.name, self.host = name, host
        self.view = Inventory(host, details=details)
        self.state = HostState(name, live=False, synced=False, failure=NOT_YET)
        """The state that was published last."""
        self.identity: doubles.Identity = None
        self.is_identified = False
        """Whether the host has answered what its identity is."""
        self._identify_began = -math.inf
        self._phases = Phases(name, hold=hold)
        self._endings = Endings.of(self.view)
        self._changes: Changes | None = None
        self._failure: Exception | None = None
        self._same_as: str | None = None
        self._is_listed = False
        self._lock = threading.Lock()

    def begin(self, board: Board, timeout: float) -> None:
        """Start the view, and return when its first list is published.

        Raises:
            GuestlistError: the view is not in step after `timeout` seconds. It tries again.
        """
        self._changes = self.view.changes(include_foreign=True)
        if self._changes.snapshot is not None:
            with self._lock:
                self._take(board, Resynced(self._changes.snapshot, 0, datetime.now(UTC)))
        threads.start(lambda: self._follow(board), "guestlist-fleet-host")
        await_step(self.view, timeout)
        self.drain(board)

    def drain(self, board: Board) -> bool:
        """Publish all news that has come; return whether more may come."""
        assert self._changes is not None
        with self._lock, suppress(TimeoutError):
            while (news := self._changes.get(timeout=0)) is not None:
                self._take(board, news)
            return False
        return True

    def list_again(self, board: Board, timeout: float) -> None:
        """Return when a list that began after this call is published. Cost: 1 call.

        Raises:
            GuestlistError: it is not after `timeout` seconds.
        """
        self.view.resync(timeout)
        self.drain(board)

    def tick(self, board: Board) -> None:
        """Publish what time alone has changed. Cost: no call."""
        with self._lock:
            self._hear(board)
            self._publish(board, self._phases.expire())
            self._see(board)

    def fail(self, board: Board, error: Exception) -> None:
        """Publish why the host has not answered."""
        self._failure = error
        with self._lock:
            self._see(board)

    @property
    def may_identify(self) -> bool:
        """Whether to ask for the identity: not known, and the host was listed since the last try.

        So a host that refuses is asked once for each list that it answers. Cost: no call.
        """
        since_try = time.monotonic() - self._identify_began
        return not self.is_identified and self.view.seconds_since_list < since_try

    def identify(self) -> None:
        """Ask the host for its identity. Cost: 5 calls, over the connection of its `Host`.

        Raises:
            GuestlistError: the host refuses, or does not answer.
        """
        self._identify_began = time.monotonic()
        was_open = self.host.is_open
        try:
            self.identity = doubles.identity(self.host)
            self.is_identified = True
        finally:
            if not was_open:
                self.host.close()

    def drop(self, board: Board, earlier: str) -> None:
        """Publish nothing any more: the host is another host of the fleet."""
        log.warning("%s is the same host as %s: its domains are listed there", self.name, earlier)
        with self._lock:
            self._same_as = earlier
            board.withdraw(self.name)
            self._see(board)
        threads.later(self.view.close, "guestlist-fleet-close")

    # How it is done

    def _follow(self, board: Board) -> None:
        """Publish the news of the view until it is closed."""
        assert self._changes is not None
        try:
            while self.drain(board):
                self._changes.wait()
        except Exception as error:
            log.exception("%s: following the host failed", self.name)
            self.fail(board, error)

    def _take(self, board: Board, news: News) -> None:
        self._hear(board)
        self._is_listed = self._is_listed or isinstance(news, Resynced)
        self._publish(board, self._phases.take(news))
        self._see(board)

    def _hear(self, board: Board) -> None:
        """Publish what events tell of domains that the view knew to be gone before."""
        for event in self._endings.take():
            self._publish(board, self._phases.hear(event))

    def _publish(self, board: Board, updates: list[Update]) -> None:
        if self._same_as is None:
            board.publish(self.name, self._phases, updates)

    def _see(self, board: Board) -> None:
        state = self._state_now()
        if state != self.state:
            self.state = state
            board.see(state)

    def _state_now(self) -> HostState:
        """Return the state of the host, by its view. Cost: no call."""
        if self._same_as is not None:
            return HostState(self.name, same_as=self._same_as)
        stale_for, since = self.view.stale_for, self.state.since
        if stale_for == 0 and self._is_listed:
            return HostState(self.name)
        error = self.view.failure or (None if self._is_listed else self._failure)
        why = in_a_line(error) if error else (_LATE if self._is_listed else NOT_YET)
        if self.state.live and stale_for is not None:
            since = datetime.now(UTC) - timedelta(seconds=stale_for)
        denied = isinstance(error, AccessDenied)
        return HostState(self.name, False, self._is_listed, why, since, denied=denied)


def in_a_line(error: Exception) -> str:
    """Return why a host has failed, on one line."""
    return one_line(str(error)) or repr(error)
