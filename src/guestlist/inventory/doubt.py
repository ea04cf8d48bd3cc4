"""Doubt: what may be missing in the view, over one connection, and what to do about it.

In: a connection, its events, lists that callers ask for. Out: whether all domains must be listed
now and the list believed at once; whether the view rests on everything that has happened; a
`ConnectionLost` where only another connection helps. Does not list.

In step, each domain is as the view has it, or an event has named it, or `rechecks` has it, or its
change sent no event (see `feed`). Five things break that, and each has its own answer:

    lost events        an unknown domain may have changed        list, as `Standing.EVENTS_LOST`
    a new connection   any domain may have changed before it     list, as `Standing.RECONNECTED`
    a stalled loop     events wait in this process, unread       list every second until it turns
    a caller's wish    `resync`                                  list
    deaf registration  no event comes, though domains change     connect again, once: `Hearing`

A stalled loop is no `Standing`: its events are late and not lost. They still come, and then each
domain that they name is asked about, and a domain that ran in between is recognised by its STOPPED
event. After a loss, and over a new connection, that event may never come: so a list counts every
domain that is shut off as one that has just run (`merging.must_pass`).
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from enum import Enum, auto

from guestlist.errors import ConnectionLost
from guestlist.event_loop import Pulse
from guestlist.inventory.board import Board
from guestlist.inventory.feed import Inbox
from guestlist.inventory.progress import Progress
from guestlist.peer import Peer
from guestlist.unpatched import threading
from guestlist.waiting import Bell

log = logging.getLogger(__name__)

FIRST_COMPARISON = 5.0
"""Seconds from a connection's first list to its first comparison, doubled each time for as long as
no event has come. libvirt (9.0) can leave a registration without events for good if the last one
before it was taken back while events were handed out."""

PULSE = 0.25
"""Seconds between two looks at whether the connection is alive. No calls."""

STALL = 1.0
"""Seconds without a turn after which the event loop counts as stalled."""


class Standing(Enum):
    """What the view rests on. Each list that is merged moves it to LISTED.

    A connection begins with one of the first two. Losses are looked for after its first list only,
    so EVENTS_LOST follows LISTED alone; an earlier loss asks for a second list then.
    """

    FIRST = auto()
    """On nothing: no list was ever merged. The details of all domains are read before the first
    list is shown, because no earlier view can stand meanwhile; and it tells of no change."""
    RECONNECTED = auto()
    """On an earlier connection. The view stays, and is stale until this connection's first list."""
    EVENTS_LOST = auto()
    """On a list after which events were lost."""
    LISTED = auto()
    """On a list over this connection, and on every event after it."""


class Hearing(Enum):
    """Whether events come. The next connection takes SILENT and REPLACED over.

    After HEARD it begins as SILENT: its registration may be dead, though the last one was not. If
    no event comes over a replacement either, the registration is not the cause, and a third
    connection would not help; so REPLACED stays until an event comes over any connection.
    """

    SILENT = auto()
    """No event has come over this connection. A drift makes it REPLACED, and ends it."""
    REPLACED = auto()
    """Nor over this one, and an earlier connection was replaced for it. A drift changes nothing."""
    HEARD = auto()
    """An event has come over this connection: its registration lives."""


class ListRequests:
    """Lists that callers ask for. Threads may share it."""

    def __init__(self, nudge: Callable[[], None]) -> None:
        self._nudge = nudge
        self._asked = self._answered = 0
        self._asking = threading.Lock()
        self._moved = Bell()

    @property
    def is_open(self) -> bool:
        """Whether a caller waits for a list that is not merged yet."""
        return self._asked != self._answered

    def ask(self, timeout: float | None, or_if: Callable[[], bool]) -> bool:
        """Wait for a list that begins after this call; whether it was merged within `timeout`.

        `or_if` ends the wait as well; call `wake` after a change of what it tells.
        """
        with self._asking:
            self._asked += 1
            number = self._asked
        self._nudge()
        self._moved.wait_for(lambda: self._answered >= number or or_if(), timeout)
        return self._answered >= number

    def begin(self) -> int:
        """Return the number to pass to `end` once the list that begins now is merged."""
        return self._asked

    def end(self, number: int) -> None:
        """Answer the callers that asked before `begin` returned this number."""
        self._answered = number
        self._moved.ring()

    def wake(self) -> None:
        """Let the callers look again at whether they wait. Takes no lock."""
        self._moved.ring()


class Doubt:
    """What speaks against the view, over one connection.

    One thread changes it. Other threads read `standing`, which is written in one step.
    """

    def __init__(
        self,
        peer: Peer,
        last: Hearing,
        *,
        board: Board,
        inbox: Inbox,
        requests: ListRequests,
        progress: Progress,
    ) -> None:
        is_first = board.stale_for is None
        self.standing: Standing = Standing.FIRST if is_first else Standing.RECONNECTED
        self.hearing: Hearing = Hearing.SILENT if last is Hearing.HEARD else last
        self.has_events = True
        """Whether this driver has lifecycle events."""
        self.alive_at = time.monotonic()
        """When (monotonic) the connection was last known to be alive."""
        self._beat_at = 0.0
        self._pulse = Pulse()
        self._first_comparison = FIRST_COMPARISON
        self._peer = peer
        self._board = board
        self._inbox = inbox
        self._requests = requests
        self._progress = progress

    @property
    def is_whole(self) -> bool:
        """Whether all that has happened is in the view, or named by an event."""
        return self.standing is Standing.LISTED

    @property
    def next_look(self) -> float:
        """When (monotonic) `demands_list` must be called again, at the latest."""
        return self.alive_at + PULSE

    def demands_list(self, now: float) -> bool:
        """Whether all domains must be listed now, and the list believed. Cost: none.

        Raises:
            ConnectionLost: the connection is dead.
        """
        if lost := self._inbox.lost:
            self.standing = Standing.EVENTS_LOST  # before `lost` goes: other threads read both
            self._inbox.lost = None
            log.warning("%s: events were lost (%s); listing all domains", self._peer.label, lost)
            self._progress.counts["losses"] += 1  # who sees the count finds the line in the log
        stalled = now >= self.next_look and self._is_stalled(now)
        return self.standing is Standing.EVENTS_LOST or stalled or self._requests.is_open

    def listed(self) -> None:
        """Note that a list of all domains was merged.

        What is lost while the list is made is in `Inbox.lost`, and asks for another one.
        """
        self.standing = Standing.LISTED

    def heard(self) -> None:
        """Note that an event has come."""
        self.hearing = Hearing.HEARD

    def drifted(self) -> None:
        """Note that a comparison has found a change of which no event told.

        Raises:
            ConnectionLost: no event has come over this connection; raised once, until one comes.
        """
        if self.has_events and self.hearing is Hearing.SILENT:
            self.hearing = Hearing.REPLACED
            raise ConnectionLost(
                f"no events come from {self._peer.label}, though its domains change"
            )

    def until_comparison(self, longest: float) -> float:
        """Return the seconds from a list to the next one: `longest`, or less while all is silent.

        Call it once for each list: the answer doubles while no event comes.
        """
        if self.hearing is Hearing.HEARD:
            return longest
        seconds = min(longest, self._first_comparison)
        self._first_comparison *= 2
        return seconds

    def _is_stalled(self, now: float) -> bool:
        """Whether the event loop does not turn, so that events may wait; raises for a dead peer."""
        if not self._peer.alive():
            raise ConnectionLost(
                f"the connection to {self._peer.label} is lost; guestlist tries to open it again"
            )
        self.alive_at = now
        if now < self._beat_at + STALL:
            return False
        self._beat_at = now
        self._board.await_answer(now)
        self._peer.prove_alive()
        self._board.await_answer(None)
        if self._pulse.beat():
            return False
        if not self._progress.counts["stalls"]:
            log.warning(
                "%s: the event loop does not turn; listing all domains until it does",
                self._peer.label,
            )
        self._progress.counts["stalls"] += 1
        return True
