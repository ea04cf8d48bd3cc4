"""Following one host: subscribe, list, replay; ask again about whoever was named; reconnect.

In: listings over a connection, and a board. Out: a board that is in step, or says since when it is
not. All calls are made by one thread over one connection, one after the other, so that each answer
is newer than the last; what an answer means is decided in `merging`.

libvirt has no resource version: "list, then watch from there" does not exist. So events are kept
from before the list is taken, and whoever they name is asked again after it. An event can come
before its change can be seen nowhere, but long after; so asking after the last one is enough, save
for what sends none: `merging.must_pass`, and what only a new list brings to light.

Source: libvirt src/conf/virdomainobjlist.c (virDomainObjListConvert skips who is gone).
"""

from __future__ import annotations

import logging
import math
import random
import time
import traceback
import weakref
from collections import Counter, deque
from collections.abc import Container, Iterable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any
from uuid import UUID

import libvirt

from guestlist import snapshot, threads
from guestlist.errors import ConnectionLost, GuestlistError, LibvirtFailure, one_line
from guestlist.event import Event, EventKind, Lifecycle
from guestlist.event_loop import Pulse, wake
from guestlist.handle import INACTIVE_ID, Stated
from guestlist.inventory import feed
from guestlist.inventory.backlog import Backlog
from guestlist.inventory.board import Board
from guestlist.inventory.changes import Change
from guestlist.inventory.drift import Drift
from guestlist.inventory.facts import Facts
from guestlist.inventory.feed import Feed, Inbox, Raw
from guestlist.inventory.merging import Observation, View, merge
from guestlist.inventory.rechecks import RECHECK_AFTER, Rechecks
from guestlist.peer import Peer
from guestlist.records import DomainState, Instance
from guestlist.session import Session, Sessions
from guestlist.unpatched import threading

log = logging.getLogger(__name__)

stale = logging.getLogger(f"{__name__}.stale")
"""For who tells its reader of a `Stale` in another way, and can do without this one."""

_MOVES_STATE = EventKind.LIFECYCLE, EventKind.REBOOT

MOST_ASKED = 1_000
"""Domains that are asked about by name. Beyond it a list of all costs no more."""

WITHOUT_EVENTS = 5.0
"""Seconds between two lists on a driver that has no events at all."""

FIRST_COMPARISON = 5.0
"""Seconds from a connection's first list to its first comparison, doubled each time for as long as
no event has come. libvirt (9.0) can leave a registration without events for good if the last one
before it was taken back while events were handed out."""

PULSE = 0.25
"""Seconds between two looks at whether the connection is alive. No calls."""

STALL = 1.0
"""Seconds without a turn after which the event loop counts as held up."""

LAST_ATTEMPT = 1.0
"""Seconds after `close` in which an attempt to connect that still begins is given up."""

BACKOFF = (0.05, 2.0)
"""Seconds before the first attempt to reconnect, doubled up to the second number; less up to half,
at random, lest all clients of a daemon that returns come at the same time."""


class Follower:
    """Keeps a board in step with a host, on the thread that runs it."""

    def __init__(
        self,
        listings: Sessions,
        board: Board,
        *,
        details: bool,
        resync_every: float,
        verify_every: float | None,
        owner: weakref.ref[Any],
    ) -> None:
        self._owner = owner
        self.counts: Counter[str] = Counter()
        self.reactions: deque[float] = deque(maxlen=1_024)
        self.drifts: deque[Drift] = deque(maxlen=64)
        self._listings = listings
        self._board = board
        self._details = details
        self._resync_every = resync_every
        self._verify_every = verify_every
        self._inbox = Inbox()
        self.facts = Facts(listings.connection, self._inbox.nudge)
        """What the host is, beside its domains."""
        self._closing = False
        self._wants_list = 0
        self._lists = 0
        self.listed_at = -math.inf
        """When (monotonic) the list was begun that the view was last held against."""
        self._wanting = threading.Lock()
        self._moved = threads.Bell()
        self._running = threading.Lock()
        self._ended: threads.Outcome[None] = threads.Outcome()
        self._view: View = View()
        self._heard: deque[Event] = deque(maxlen=512)
        self._has_view = False
        self._was_deaf = False
        self._is_missing_events = False
        self._failures = 0
        self._peer: Peer | None = None
        self._leaving = threading.RLock()
        self._next_list = self._list_began = self._alive_at = self._beat_at = 0.0
        self._let_go()

    def _let_go(self) -> None:
        """Forget what belongs to a connection: whoever holds a handle holds its socket open."""
        with self._leaving:  # libvirt's client may crash where one asks as another closes
            self._peer = None
        self._is_in_step = False
        self._has_events = True
        self._has_heard = False
        self._distrust = FIRST_COMPARISON
        self._stated: dict[bytes, Stated] = {}
        self._rechecks = Rechecks()
        self._backlog = Backlog(time.monotonic())
        self._pulse = Pulse()

    # For other threads

    @property
    def label(self) -> str:
        """The host's name in messages."""
        return self._listings.connection.label

    @property
    def resolved_uri(self) -> str:
        """The URI as asked for or as libvirt resolved it."""
        return self._listings.connection.resolved_uri

    @property
    def calls(self) -> int:
        """Calls made for answers, over all connections."""
        listing = self._listings.current
        return self.counts["calls"] + (listing.peer.calls if listing else 0)

    @property
    def details_pending(self) -> int:
        """Domains whose details may have changed and are not read again yet."""
        return len(self._backlog)

    def is_in_doubt(self, uuid: bytes) -> bool:
        """Whether a domain may be another than the view has it. Cost: no call."""
        with self._leaving:
            if self._peer is None or not self._peer.alive():
                return True
        return self._is_missing_events or self._inbox.names(uuid) or uuid in self._rechecks

    @property
    def is_closing(self) -> bool:
        """Whether it was closed, or its owner dropped. An interrupted `__del__` tells nobody."""
        return self._closing or self._owner() is None

    def start(self) -> None:
        """Have a thread run; it does nothing where one does already.

        Raises:
            ThreadUnavailable: no thread could be started.
        """
        threads.start(self.run, "guestlist-inventory")

    def close(self) -> None:
        """Have `run` return. Does not wait, and takes no lock."""
        self._closing = True
        self._inbox.nudge()
        self._moved.ring()
        threads.later(self._stop_opening, "guestlist-inventory-close")

    def _stop_opening(self) -> None:
        """Give up an attempt to connect, and one that had just not begun when this was closed."""
        connection, deadline = self._listings.connection, time.monotonic() + LAST_ATTEMPT
        while time.monotonic() < deadline:
            connection.give_up(connection.attempt)
            if self._ended.wait(LAST_ATTEMPT / 10):
                return

    def wait_ended(self, deadline: float) -> None:
        """Wait until `run` has returned and nothing reads aside, until `deadline` (monotonic)."""
        self._ended.wait(deadline - time.monotonic())
        self.facts.wait_ended(deadline - time.monotonic())

    def list_anew(self, timeout: float | None) -> bool:
        """Have a list taken that begins after this call; whether that was done in time."""
        with self._wanting:
            self._wants_list += 1
            wanted = self._wants_list
        self._inbox.nudge()
        self._moved.wait_for(lambda: self._lists >= wanted or self.is_closing, timeout)
        return self._lists >= wanted

    # On the thread

    def run(self) -> None:
        """Follow until closed. Never raises, and never leaves the board without a word."""
        if not self._running.acquire(blocking=False):
            return  # another thread runs, or has: who started it was interrupted, and did it again
        threads.endings[self.close] = None
        self._ended.of(self._run)
        threads.endings.pop(self.close, None)

    def _run(self) -> None:
        while not self.is_closing:
            self._alive_at = time.monotonic()
            try:
                self._listings.ask("follow the domains", self._follow_all)
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

    def _follow_all(self, listing: Session) -> None:
        try:
            self._follow(listing)
        finally:
            self.facts.lost()
            self._let_go()
            self.counts["calls"] += listing.peer.calls

    def _follow(self, listing: Session) -> None:
        self._peer = listing.peer
        feed.register(listing.peer)
        listing.details.watch()
        self._has_events = Feed(listing.peer, self._inbox).has_lifecycle
        if not self._has_events:
            log.warning(
                "%s has no lifecycle events: its domains are listed every %g s instead",
                self.label,
                min(WITHOUT_EVENTS, self._resync_every),
            )
        self._list(listing)
        while not self.is_closing:
            self._step(listing)

    def _step(self, listing: Session) -> None:
        """Wait until something is to be done, and do what is most urgent."""
        now = time.monotonic()
        raw = self._inbox.take(self._next_due() - now)
        now = time.monotonic()
        if self._is_in_doubt(listing, now):
            self._list(listing, raw)
            self._inbox.done(raw)
            return
        due = self._rechecks.due(now, shared=bool(raw))
        if raw or due:
            self._ask(listing, raw, due)
            self._inbox.done(raw)
            wake()  # for what came with the answer
        if now >= self._next_list:
            self._compare(listing)
        elif self.facts.is_due:
            self._read_facts(listing)
        elif self._backlog and now >= self._backlog.next():
            self._read_details(listing)

    def _next_due(self) -> float:
        if self.facts.is_due:
            return 0.0
        due = min(self._alive_at + PULSE, self._next_list, self._rechecks.next())
        return min(due, self._backlog.next()) if self._backlog else due

    # Whether all is well

    def _is_in_doubt(self, listing: Session, now: float) -> bool:
        """Whether something may have been missed, or somebody wants to be sure. Cost: none.

        Raises:
            ConnectionLost: the connection is dead.
        """
        lost = self._inbox.lost
        if lost:
            self._is_missing_events = True
            self._inbox.lost = None
            log.warning("%s: events were lost (%s); listing anew", self.label, lost)
            self.counts["losses"] += 1
        stalled = now >= self._alive_at + PULSE and self._is_stalled(listing, now)
        return bool(lost) or stalled or self._wants_list != self._lists

    def _is_stalled(self, listing: Session, now: float) -> bool:
        """Whether the event loop is held up, so that events may wait."""
        if not listing.peer.alive():
            raise ConnectionLost(f"the connection to {self.label} is lost; it is opened again")
        self._alive_at = now
        if now < self._beat_at + STALL:
            return False
        self._beat_at = now
        self._board.await_answer(now)
        listing.peer.prove_alive()
        self._board.await_answer(None)
        if self._pulse.beat():
            return False
        if not self.counts["stalls"]:
            log.warning("%s: the event loop is held up; listing meanwhile", self.label)
        self.counts["stalls"] += 1
        return True

    def _fail(self, error: GuestlistError) -> None:
        if self.is_closing:
            return
        self._failures += 1
        _forget_frames(error)
        if self._failures == 1:
            stale.warning("%s; what is known stays as it is until then", one_line(error))
        self._board.fall_behind(self._alive_at, error)

    def _close_connection(self) -> None:
        try:
            self._listings.close()
        except Exception:  # no thread is to be had for the farewell
            log.exception("%s: the connection was not closed", self.label)

    def _wait_before_retry(self) -> None:
        first, longest = BACKOFF
        delay = min(longest, first * 2.0 ** min(self._failures - 1, 16))
        deadline = time.monotonic() + delay * random.uniform(0.5, 1.0)
        while not self.is_closing and (left := deadline - time.monotonic()) > 0:
            self._inbox.take(left)

    # Asking

    def _list(self, listing: Session, raw: Sequence[Raw] = ()) -> None:
        """List everybody and believe it, whatever was known.

        Cost: 1 call; the first time 1 more for each domain, for its details.
        """
        wanted = self._wants_list
        stated = self._states(listing, raw)
        if self._details and not self._has_view:
            listing.details.read(stated)
        late = self._inbox.take()
        self._stated.clear()
        self._merge(listing, None, stated, [*raw, *late])
        now = time.monotonic()
        for one in late:  # what they tell of may have come after the list was made
            self._rechecks.put(one.uuid, one.domain, now)
        self._inbox.done(late)
        self._is_missing_events = False
        self.listed_at = self._list_began
        if not self._is_in_step:
            self._backlog.catch_up()
            self._has_view = self._is_in_step = True
            self._failures = 0
            self.counts["connections"] += 1
            self.facts.connected(listing.peer)
            self._board.in_step()
        self._lists = wanted
        self._moved.ring()

    def _compare(self, listing: Session) -> None:
        """List everybody, and look again at who is not as the view has it. Cost: 1 call."""
        self.facts.compared()
        found = {}
        for one in self._states(listing):
            uuid = _uuid(one.uuid)
            self._stated[one.uuid] = one
            found[uuid] = self._instance(listing, one, self._view.get(uuid))
        look_at = time.monotonic() + RECHECK_AFTER
        for uuid in {*self._view, *found}:
            if self._view.get(uuid) != found.get(uuid):
                self._rechecks.suspect(self._stated[uuid.bytes], look_at)
        self.listed_at = self._list_began
        self._answered()

    def _states(self, listing: Session, raw: Sequence[Raw] = ()) -> list[Stated]:
        self._list_began = began = time.monotonic()
        interval = self._interval()
        if not self._has_heard:
            interval, self._distrust = min(interval, self._distrust), self._distrust * 2
        self._next_list = began + interval * random.uniform(0.9, 1.0)
        self._board.await_answer(raw[0].arrived if raw else began)
        self.counts["lists"] += 1
        return snapshot.states(listing, include_inactive=True)

    def _read_facts(self, listing: Session) -> None:
        """Read what the host is. Cost: 2 calls; 4 more the first time."""
        self._board.await_answer(time.monotonic())
        self.facts.read(listing.peer)
        self._answered()

    def _answered(self) -> None:
        """The call is answered; events that came meanwhile are not."""
        self._board.await_answer(self._inbox.waiting_since)

    def _interval(self) -> float:
        longest = math.inf if self._has_events else WITHOUT_EVENTS
        return min(self._resync_every, self._verify_every or math.inf, longest)

    def _ask(self, listing: Session, raw: list[Raw], due: dict[bytes, libvirt.virDomain]) -> None:
        """Ask about those whom events named, and those who are due. Cost: 1 call."""
        for one in raw:
            if one.kind in _MOVES_STATE:
                due[one.uuid] = one.domain
        if len(due) > MOST_ASKED:
            self._list(listing, raw)
        elif due:
            self._board.await_answer(raw[0].arrived if raw else time.monotonic())
            self.counts["asks"] += 1
            self._merge(listing, due, snapshot.states_of(listing, list(due.values())), raw)
        else:
            self._merge(listing, due, (), raw)

    def _merge(
        self,
        listing: Session,
        asked: dict[bytes, libvirt.virDomain] | None,
        stated: Iterable[Stated],
        raw: list[Raw],
    ) -> None:
        """Merge an answer, tell the readers, and see who is to be asked again."""
        suspects = self._rechecks.suspects
        ran = {one.uuid for one in raw if one.event == Lifecycle.STOPPED}
        found = self._found(listing, stated, ran)
        events = [one.of(_uuid(one.uuid)) for one in raw]
        if asked is None:
            keys = None
            self._forget(listing, [key.bytes for key in self._view if key not in found])
        else:
            keys = [_uuid(uuid) for uuid in asked]
            if len(found) < len(keys):
                self._forget(listing, [key.bytes for key in keys if key not in found])
        changes = self._publish(Observation(keys, found, datetime.now(UTC)), events)
        self._answered()
        self._note(listing, raw, events)
        if suspects:
            self._find_drift(changes, suspects)

    def _found(
        self, listing: Session, stated: Iterable[Stated], ran: Container[bytes]
    ) -> dict[UUID, Instance]:
        """Who was found, and when each of them is to be looked at again.

        Those who `ran` meanwhile have stopped, though they may have been shut off before, too; and
        where events are missing that may be anybody.
        """
        found = {}
        now = time.monotonic()
        unsure = self._is_missing_events or not self._is_in_step
        for one in stated:
            uuid = _uuid(one.uuid)
            before = self._view.get(uuid)
            instance = self._instance(listing, one, before)
            if instance is not None:
                found[uuid] = instance
                self._stated[one.uuid] = one
                if not self._has_view:
                    before = instance  # a first list tells of no change
                elif unsure or one.uuid in ran:
                    before = None
                self._rechecks.settle(one, before, instance, now)
        return found

    def _forget(self, listing: Session, uuids: Iterable[bytes]) -> None:
        """Forget those that are gone."""
        for uuid in uuids:
            self._rechecks.drop(uuid)
            self._backlog.drop(uuid)
            self._stated.pop(uuid, None)
            listing.details.discard(uuid)

    def _publish(self, reading: Observation, events: Iterable[Event]) -> tuple[Change, ...]:
        self._view, changes = merge(self._view, reading, events)
        if changes:
            self._board.publish(self._view, changes)
            self.counts["changes"] += len(changes)
        return changes

    def _note(self, listing: Session, raw: list[Raw], events: list[Event]) -> None:
        """Keep what events tell beside the states."""
        now = time.monotonic()
        for one, event in zip(raw, events, strict=True):
            self.reactions.append(now - one.arrived)
            self._heard.append(event)
            known = self._stated.get(one.uuid)
            if known is not None and self._reads(listing, known):
                self._backlog.tell(one.uuid, event, one.arrived)
        if raw:
            self.counts["events"] += len(raw)
            self._has_heard, self._was_deaf = True, False

    def _find_drift(self, changes: Iterable[Change], suspects: Container[bytes]) -> None:
        """Report what only a comparison has brought to light.

        Raises:
            ConnectionLost: not one event has come over this connection. Once, until one has.
        """
        before = self.counts["drifts"]
        for change in changes:
            if change.events or change.uuid.bytes not in suspects:
                continue
            heard = tuple(event for event in self._heard if event.uuid == change.uuid)
            drift = Drift(change.before, change.after, heard, change.learned_at)
            if self._verify_every:
                log.warning("%s: the view had drifted: %s", self.label, drift)
            self.counts["drifts"] += 1
            self.drifts.append(drift)
        deaf = self._has_events and not self._has_heard and self.counts["drifts"] > before
        if deaf and not self._was_deaf:
            self._was_deaf = True
            raise ConnectionLost(f"no events come from {self.label}, though its domains change")

    def _instance(self, listing: Session, one: Stated, before: Instance | None) -> Instance | None:
        """The domain as it was found; None where it is gone before it was known whose it is.

        Whose it is stays as it was under the same name until its XML is read again.
        """
        details = None
        if self._reads(listing, one):
            details = listing.details.believed(one)
            if details is None:
                self._backlog.add(one.uuid)
        if not self._details:
            details = None
        elif details is None and before is not None:
            details = before.details
        id = None if one.id == INACTIVE_ID else one.id
        if before is None or before.name != one.name or 0 in (before.id, id):
            made = snapshot.instance(listing, one, details)
            if made is not None and self._details:  # its XML may have told whose it is
                return replace(made, details=listing.details.believed(one) or details)
            return made
        if (
            before.id == id
            and before.state == one.state
            and before.reason == one.reason
            and before.details is details
        ):
            return before
        return Instance(
            uuid=before.uuid,
            name=before.name,
            id=id,
            state=DomainState(one.state),
            reason=one.reason,
            launcher=before.launcher,
            details=details,
            ours=before.ours,
        )

    def _reads(self, listing: Session, one: Stated) -> bool:
        """Whether its XML is read: for its details, or to tell whose it is."""
        return self._details or not listing.ownership.is_told_by_name(one.name)

    def _read_details(self, listing: Session) -> None:
        """Read the details of the one that has waited longest. Cost: 1 call."""
        began = time.monotonic()
        uuid, told = self._backlog.take()
        one, before = self._stated.get(uuid), self._view.get(_uuid(uuid))
        if one is None or before is None:  # found by a comparison, and not believed yet
            return
        self._board.await_answer(began)
        read = listing.details.read([one]).get(uuid)
        verdict = listing.ownership.of(one) if read else None
        self._answered()
        if verdict is None or listing.details.believed(one) is None:
            self._rechecks.put(uuid, one.domain, began)  # it is gone, or has moved on meanwhile
        if verdict is not None:
            details = read if self._details else None
            after = replace(before, details=details, launcher=verdict.launcher, ours=verdict.ours)
            self._publish(Observation([after.uuid], {after.uuid: after}, datetime.now(UTC)), told)
        now = time.monotonic()
        self._backlog.took(uuid, now - began, now)


@lru_cache(maxsize=65_536)
def _uuid(uuid: bytes) -> UUID:
    return UUID(bytes=uuid)


def _forget_frames(error: BaseException) -> None:
    """Let go of what the frames of an error that is kept hold: handles, and so the connection."""
    link: BaseException | None = error
    while link is not None:
        traceback.clear_frames(link.__traceback__)
        link.__traceback__ = None
        link = link.__cause__ or link.__context__
