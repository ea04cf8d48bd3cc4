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
import threading
import time
import traceback
from collections import Counter, deque
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import lru_cache
from uuid import UUID

import libvirt

from guestlist import snapshot
from guestlist.errors import (
    ConnectionLost,
    GuestlistError,
    LibvirtFailure,
    NotSupported,
    NotSynced,
    one_line,
)
from guestlist.events import Pulse
from guestlist.handle import INACTIVE_ID, Stated
from guestlist.inventory import feed
from guestlist.inventory.board import Board
from guestlist.inventory.changes import Change
from guestlist.inventory.feed import Feed, Raw
from guestlist.inventory.merging import Reading, View, merge, must_pass
from guestlist.listing import Listing
from guestlist.listing.listings import Listings
from guestlist.node import Node, NodeMemory
from guestlist.records import DomainState, Instance
from guestlist.told import Event, EventKind

log = logging.getLogger(__name__)

_MOVES_STATE = EventKind.LIFECYCLE, EventKind.REBOOT

LOOK_AGAIN = 0.05
"""Seconds after which who cannot stay as it is is asked about again; doubled each time."""

SELDOM = 1.0
"""Seconds between two such looks at most."""

MOST_ASKED = 1_000
"""Domains that are asked about by name. Beyond it a list of all costs no more."""

WITHOUT_EVENTS = 5.0
"""Seconds between two lists on a driver that has no events at all."""

PULSE = 0.25
"""Seconds between two looks at whether the connection is alive. No calls."""

STALL = 1.0
"""Seconds without a turn after which the event loop counts as held up."""

BACKOFF = (0.05, 2.0)
"""Seconds before the first attempt to reconnect, doubled up to the second number; less up to half,
at random, lest all clients of a daemon that returns come at the same time."""

MOST_TOLD = 16
"""Events that are kept of a domain whose details wait to be read."""

QUIET = 0.01
"""Seconds without an event after which details are read at full speed."""

BUSY_SHARE, CATCHING_UP_SHARE = 0.03, 0.5
"""The share of its time that the thread reads details for while events keep coming: in general, and
of those that have not been read over this connection."""


@dataclass(frozen=True, slots=True)
class Drift:
    """A difference between the view and libvirt that no event had told of.

    `viewed` is what the view had, `found` what libvirt answered, twice; None: no such domain.
    `heard` are the last events of that domain.
    """

    viewed: Instance | None
    found: Instance | None
    heard: tuple[Event, ...]
    noticed_at: datetime

    def __str__(self) -> str:
        """One line for a log."""
        either = self.found or self.viewed
        assert either is not None
        heard = ", ".join(f"{event} at {event.at:%H:%M:%S.%f}" for event in self.heard)
        return (
            f"domain {either.name!r} ({either.uuid}): the view had {_short(self.viewed)}, libvirt "
            f"has {_short(self.found)}; events: {heard or 'none'}"
        )


def _short(instance: Instance | None) -> str:
    if instance is None:
        return "none"
    return f"{instance.name!r}, {instance.state} (reason {instance.reason}), id {instance.id}"


@dataclass(frozen=True, slots=True)
class _Look:
    """When (monotonic) a domain is asked about again, and whether a comparison was the reason."""

    due: float
    patience: float = LOOK_AGAIN
    suspected: bool = False
    domain: libvirt.virDomain | None = None
    """Whom to ask about where no answer has had the domain yet."""


class Follower:
    """Keeps a board in step with a host, on the thread that runs it."""

    def __init__(
        self,
        listings: Listings,
        board: Board,
        *,
        details: bool,
        resync_every: float,
        verify_every: float | None,
    ) -> None:
        self.counts: Counter[str] = Counter()
        self.reactions: deque[float] = deque(maxlen=1_024)
        self.drifts: deque[Drift] = deque(maxlen=64)
        self._listings = listings
        self._board = board
        self._details = details
        self._resync_every = resync_every
        self._verify_every = verify_every
        self._bell = threading.Event()
        self._closing = False
        self._wants_list = 0
        self._lists = 0
        self._listed = threading.Condition()
        self._view: View = {}
        self._heard: deque[Event] = deque(maxlen=512)
        self._has_view = False
        self._is_here: bool | None = None
        self._node: Node | str | None = None
        self._failures = 0
        self._next_list = 0.0
        self._let_go()

    def _let_go(self) -> None:
        """Forget what belongs to a connection: whoever holds a handle holds its socket open."""
        self._feed: Feed | None = None
        self._has_lost = False
        self._stated: dict[bytes, Stated] = {}
        self._looks: dict[bytes, _Look] = {}
        self._stale_details: dict[bytes, tuple[Event, ...]] = {}
        self._never_read: set[bytes] = set()
        self._last_event = 0.0
        self._details_due = 0.0
        self._alive_at = self._turned_at = time.monotonic()
        self._pulse = Pulse()
        self._memory: NodeMemory | None = None

    # For other threads

    @property
    def whom(self) -> str:
        """The host's name in messages."""
        return self._listings.connection.whom

    @property
    def is_here(self) -> bool:
        """Whether this libvirt is on this machine."""
        if self._is_here is None:
            raise NotSynced(f"{self.whom} has not been reached yet; call wait_synced() first")
        return self._is_here

    @property
    def node(self) -> Node:
        """The host itself at the time of the last list."""
        if isinstance(self._node, Node):
            return self._node
        if self._node is None:
            raise NotSynced(f"{self.whom} has not been reached yet; call wait_synced() first")
        raise NotSupported(f"{self.whom} does not tell what it is: {self._node}")

    @property
    def calls(self) -> int:
        """Calls made for answers, over all connections."""
        listing = self._listings.current
        return self.counts["calls"] + (listing.peer.calls if listing else 0)

    @property
    def details_pending(self) -> int:
        """Domains whose details may have changed and are not read again yet."""
        return len(self._stale_details)

    def close(self) -> None:
        """Have `run` return. Does not wait."""
        self._closing = True
        self._bell.set()
        with self._listed:
            self._listed.notify_all()

    def list_anew(self, timeout: float | None) -> bool:
        """Have a list taken that begins after this call; whether that was done in time."""
        with self._listed:
            self._wants_list += 1
            wanted = self._wants_list
            self._bell.set()
            self._listed.wait_for(lambda: self._lists >= wanted or self._closing, timeout)
            return self._lists >= wanted

    # On the thread

    def run(self) -> None:
        """Follow until closed. Never raises, and never leaves the board without a word."""
        while not self._closing:
            self._alive_at = time.monotonic()
            try:
                with self._listings.asking("follow the domains") as listing:
                    try:
                        self._follow(listing)
                    finally:
                        self._let_go()
                        self.counts["calls"] += listing.peer.calls
            except GuestlistError as error:
                self._fail(error)
            except Exception as error:
                log.exception("%s: following the domains failed", self.whom)
                self._listings.connection.close()
                self._fail(LibvirtFailure(f"cannot follow the domains of {self.whom}: {error!r}"))
            if not self._closing:
                self._wait_before_retry()
        self._listings.connection.close()
        self._board.end()

    def _follow(self, listing: Listing) -> None:
        feed.register(listing.peer)
        if self._details:
            listing.details.watch()
        self._feed = Feed(listing.peer, self._bell)
        if not self._feed.has_lifecycle:
            log.warning(
                "%s has no lifecycle events: its domains are listed every %g s instead",
                self.whom,
                min(WITHOUT_EVENTS, self._resync_every),
            )
        self._read_node(listing)
        self._list(listing)
        self._has_view = True
        self._failures = 0
        self.counts["connections"] += 1
        self._board.in_step()
        while not self._closing:
            self._step(listing)

    def _step(self, listing: Listing) -> None:
        """Do what is most urgent, or wait for something to be."""
        assert self._feed is not None
        self._bell.clear()
        now = time.monotonic()
        raw = self._take()
        stalled = self._is_stalled(listing, now)
        if self._has_lost or self._wants_list != self._lists or stalled:
            self._list(listing, raw)
            return
        looks = [uuid for uuid, look in self._looks.items() if look.due <= now]
        if raw or looks:
            self._ask(listing, raw, looks)
        elif now >= self._next_list:
            self._compare(listing)
        elif self._stale_details and now >= self._next_reading():
            self._read_details(listing)
        else:
            self._bell.wait(max(0.0, self._next_due() - now))

    def _take(self) -> list[Raw]:
        """The events since the last time. Where some were lost, everybody is to be listed."""
        assert self._feed is not None
        raw, lost = self._feed.take()
        if lost:
            log.warning("%s: events were lost (%s); listing anew", self.whom, lost)
            self.counts["losses"] += 1
            self._has_lost = True
        return raw

    def _next_due(self) -> float:
        due = [self._alive_at + PULSE, self._next_list]
        due += [look.due for look in self._looks.values()]
        if self._stale_details:
            due.append(self._next_reading())
        return min(due)

    # Whether all is well

    def _is_stalled(self, listing: Listing, now: float) -> bool:
        """Whether the event loop is held up, so that events may wait. Cost: none.

        Raises:
            ConnectionLost: the connection is dead.
        """
        if now < self._alive_at + PULSE:
            return False
        if not listing.peer.alive():
            raise ConnectionLost(f"the connection to {self.whom} is lost")
        self._alive_at = now
        if self._pulse.beat():
            self._turned_at = now
        elif now - self._turned_at > STALL:
            self._turned_at = now
            self.counts["stalls"] += 1
            return True
        return False

    def _fail(self, error: GuestlistError) -> None:
        self._failures += 1
        _forget_frames(error)
        if self._failures == 1:
            log.warning("%s; the view is stale until it can be asked again", one_line(error))
        self._board.fall_behind(self._alive_at, error)

    def _wait_before_retry(self) -> None:
        first, longest = BACKOFF
        delay = min(longest, first * 2.0 ** min(self._failures - 1, 16))
        deadline = time.monotonic() + delay * random.uniform(0.5, 1.0)
        while not self._closing and (left := deadline - time.monotonic()) > 0:
            self._bell.clear()
            if not self._closing:
                self._bell.wait(left)

    # Asking

    def _list(self, listing: Listing, raw: Iterable[Raw] = ()) -> None:
        """List everybody and believe it, whatever was known.

        Cost: 1 call; the first time 1 more for each domain, for its details.
        """
        wanted = self._wants_list
        self._has_lost = False
        stated = self._states(listing)
        if self._details and not self._has_view:
            listing.details.read(stated)
        elif self._details:
            self._never_read = {one.uuid for one in stated if listing.details.believed(one) is None}
        late = self._take()
        self._stated = {one.uuid: one for one in stated}
        self._merge(listing, None, stated, [*raw, *late])
        for uuid in {*self._looks, *self._stale_details} - self._stated.keys():
            self._looks.pop(uuid, None)  # it came and went between two comparisons
            self._stale_details.pop(uuid, None)
        now = time.monotonic()
        for one in late:  # what they tell of may have come after the list was made
            self._looks[one.domain.UUID()] = _Look(now, domain=one.domain)
        with self._listed:
            self._lists = wanted
            self._listed.notify_all()

    def _compare(self, listing: Listing) -> None:
        """List everybody, and look again at who is not as the view has it.

        Cost: 1 call, and 2 for the host itself.
        """
        self._read_node(listing)
        found = {}
        for one in self._states(listing):
            self._stated[one.uuid] = one
            instance = self._instance(listing, one)
            if instance is not None:
                found[instance.uuid] = instance
            if self._details and listing.details.believed(one) is None:
                self._stale_details.setdefault(one.uuid, ())
        look_at = time.monotonic() + LOOK_AGAIN
        for uuid in {**self._view, **found}:
            if self._view.get(uuid) != found.get(uuid):
                self._looks[uuid.bytes] = _Look(look_at, suspected=True)
        self._board.await_answer(None)

    def _states(self, listing: Listing) -> list[Stated]:
        began = time.monotonic()
        self._next_list = began + self._interval() * random.uniform(0.9, 1.0)
        self._board.await_answer(began)
        self.counts["lists"] += 1
        return snapshot.states(listing, include_inactive=True)

    def _read_node(self, listing: Listing) -> None:
        """The host itself. Cost: 2 calls; 4 more the first time."""
        peer = listing.peer
        self._is_here = peer.location().here
        if self._memory is None or self._memory.peer is not peer:
            self._memory = NodeMemory(peer)
        try:
            self._node = self._memory.now()
        except libvirt.libvirtError as error:
            if peer.lost(error):
                raise
            self._node = one_line(error)

    def _interval(self) -> float:
        assert self._feed is not None
        longest = math.inf if self._feed.has_lifecycle else WITHOUT_EVENTS
        return min(self._resync_every, self._verify_every or math.inf, longest)

    def _ask(self, listing: Listing, raw: list[Raw], looks: Iterable[bytes]) -> None:
        """Ask about those whom events named, and those who are due. Cost: 1 call."""
        domains = {uuid: self._looks[uuid].domain or self._stated[uuid].domain for uuid in looks}
        for one in raw:
            if one.kind in _MOVES_STATE:
                domains[one.domain.UUID()] = one.domain
        if len(domains) > MOST_ASKED:
            self._list(listing, raw)
            return
        stated = []
        if domains:
            self._board.await_answer(raw[0].arrived if raw else time.monotonic())
            self.counts["asks"] += 1
            stated = snapshot.states_of(listing, list(domains.values()))
        for one_of in stated:
            self._stated[one_of.uuid] = one_of
        self._merge(listing, domains, stated, raw)

    def _merge(
        self,
        listing: Listing,
        asked: Iterable[bytes] | None,
        stated: Iterable[Stated],
        raw: list[Raw],
    ) -> None:
        """Merge an answer, tell the readers, and see who is to be asked again."""
        before, now = self._view, time.monotonic()
        found = {}
        for one in stated:
            instance = self._instance(listing, one)
            if instance is not None:
                found[instance.uuid] = instance
        events = [one.of(_uuid(one.domain.UUID())) for one in raw]
        keys = None if asked is None else [_uuid(uuid) for uuid in asked]
        changes = self._publish(Reading(keys, found, datetime.now(UTC)), events)
        self._board.await_answer(None)
        self._note(raw, events)
        self._find_drift(changes)
        for key in {**before, **found} if keys is None else keys:
            self._look_again(key.bytes, before.get(key), found.get(key), now)
            if key not in found:
                self._stated.pop(key.bytes, None)
                self._stale_details.pop(key.bytes, None)
                listing.details.forget(key.bytes)
        self._expire_details(listing, stated, events)

    def _publish(self, reading: Reading, events: Iterable[Event]) -> tuple[Change, ...]:
        self._view, changes = merge(self._view, reading, events)
        self._board.publish(self._view, changes)
        self.counts["changes"] += len(changes)
        return changes

    def _note(self, raw: list[Raw], events: list[Event]) -> None:
        if raw:
            now = time.monotonic()
            self.reactions.extend(now - one.arrived for one in raw)
            self.counts["events"] += len(raw)
            self._heard.extend(events)
            self._last_event = raw[-1].arrived

    def _look_again(
        self, uuid: bytes, before: Instance | None, after: Instance | None, now: float
    ) -> None:
        last = self._looks.pop(uuid, None)
        if must_pass(before, after):
            patience = min(SELDOM, last.patience * 2) if last else LOOK_AGAIN
            self._looks[uuid] = _Look(now + patience, patience)

    def _find_drift(self, changes: Iterable[Change]) -> None:
        """Report what only a comparison has brought to light."""
        for change in changes:
            look = self._looks.get(change.uuid.bytes)
            if look is None or not look.suspected or change.events:
                continue
            heard = tuple(event for event in self._heard if event.uuid == change.uuid)
            drift = Drift(change.before, change.after, heard, change.learned_at)
            self.drifts.append(drift)
            self.counts["drifts"] += 1
            if self._verify_every:
                log.warning("%s: the view had drifted: %s", self.whom, drift)

    def _instance(self, listing: Listing, one: Stated) -> Instance | None:
        """The domain as it was found; None where it is gone before it was known whose it is.

        Whose it is stays as it was under the same name until its XML is read again.
        """
        before = self._view.get(_uuid(one.uuid))
        details = None
        if self._details:
            details = listing.details.believed(one) or (before.details if before else None)
        id = None if one.id == INACTIVE_ID else one.id
        if before is None or before.name != one.name or 0 in (before.id, id):
            made = snapshot.instance(listing, one, details)
            read = listing.details.believed(one) if made and self._details else None
            if made and read and read is not made.details:  # the XML has told whose it is
                return replace(made, details=read)
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

    # Details

    def _expire_details(
        self, listing: Listing, stated: Iterable[Stated], events: Iterable[Event]
    ) -> None:
        """Note whose details are to be read again, and what was said of them."""
        if not self._details:
            return
        due = {one.uuid for one in stated if listing.details.believed(one) is None}
        told: dict[bytes, tuple[Event, ...]] = {}
        for event in events:
            uuid = event.uuid.bytes
            if event.kind is not EventKind.REBOOT and uuid in self._stated:
                told[uuid] = (*told.get(uuid, ()), event)
                if event.kind is not EventKind.LIFECYCLE:
                    due.add(uuid)
        for uuid in due:
            before = self._stale_details.get(uuid, ())
            self._stale_details[uuid] = (*before, *told.get(uuid, ()))[-MOST_TOLD:]

    def _read_details(self, listing: Listing) -> None:
        """Read the details of the one that has waited longest. Cost: 1 call."""
        began = time.monotonic()
        uuid = next(iter(self._stale_details))
        events = self._stale_details.pop(uuid)
        one = self._stated[uuid]
        read = listing.details.read([one]).get(uuid)
        launcher = listing.launcher(one) if read else None
        before = self._view.get(_uuid(uuid))
        if launcher is None or before is None or listing.details.believed(one) is None:
            self._looks[uuid] = _Look(began)  # it is gone, or has moved on meanwhile
        if launcher is not None and before is not None:
            after = replace(before, details=read, launcher=launcher, ours=listing.is_ours(one))
            told = [event for event in events if event.kind is not EventKind.REBOOT]
            self._publish(Reading([after.uuid], {after.uuid: after}, datetime.now(UTC)), told)
        now = time.monotonic()
        share = CATCHING_UP_SHARE if uuid in self._never_read else BUSY_SHARE
        self._never_read.discard(uuid)
        self._details_due = now + (now - began) * (1 / share - 1)

    def _next_reading(self) -> float:
        """When the next details may be read: soon, but for a host where much is going on."""
        return min(self._details_due, self._last_event + QUIET)


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
