"""The live view: who is here, always known, without asking.

In: a host. Out: snapshots that cost no call, and the changes between them. One listing, then the
lifecycle events, merged in order; work grows with the number of changes, not of domains.

    __init__      Inventory: what a user holds, and what it promises
    changes       what readers are told                                             (pure)
    merging       a view and an answer of libvirt's to the next view, and changes   (pure)
    scope         whom a reader wants to see                                        (pure)
    subscribers   the readers, each with a queue
    board         what readers read
    following     the thread that asks libvirt, and reconnects
    feed          what is to be asked about: the events of a connection
    rechecks      who is asked about again, event or not
    backlog       whose details are read again
    drift         what a comparison has brought to light                            (pure)
    facts         the host itself, beside its domains
"""

from __future__ import annotations

import sys
import time
import warnings
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from uuid import UUID

from guestlist import event_loop, process, threads
from guestlist.errors import GuestlistError, NotSynced
from guestlist.host import Host
from guestlist.inventory.board import Board
from guestlist.inventory.drift import Drift
from guestlist.inventory.following import Follower
from guestlist.inventory.scope import Scope
from guestlist.inventory.subscribers import Changes
from guestlist.launcher import LaunchedBy
from guestlist.node import Node
from guestlist.records import Instance, Snapshot

CLOSE_WAIT = 1.0
"""Seconds that closing waits for a call that is under way."""

LONGEST_NODE = 10.0
"""Seconds that `Inventory.node` waits the first time it is called."""

LONGEST_TURN = 0.1
"""Seconds that `undisputed` waits for a turn of the event loop; then libvirt must be asked."""


@dataclass(frozen=True, slots=True)
class InventoryStatistics:
    """What a live view has done since it was started.

    `events` arrived; `asks` are calls about those whom events named, or who could not stay as they
    were; `lists` are calls about everybody; `calls` are all about domains, the reading of details
    included. `changes` were merged, `drifts` of them found by comparison alone.
    `connections` were in step, `stalls` are times the event loop was held up, `losses` times events
    were lost on the way. `details_pending` domains are yet to have their XML read again.

    `stale_for` is as in a snapshot, None before the view is in step. `reaction_median` and
    `reaction_worst` are seconds from an event's arrival to the view, over the last 1,024.
    """

    stale_for: float | None
    events: int
    asks: int
    lists: int
    calls: int
    changes: int
    drifts: int
    connections: int
    stalls: int
    losses: int
    details_pending: int
    reaction_median: float | None
    reaction_worst: float | None


class Inventory:
    """A libvirt host's domains, kept in step with it.

    G1  After quiet the view equals the list: when nothing changes any more, `snapshot` is soon
        what `Host.snapshot` of the same options gives, details included.
    G2  The states of one domain are seen in order, and never go back in time: only libvirt's
        answers move the view, in the order in which they were asked for. States between two
        answers are skipped. There is no order between two domains.
    G3  `Changes.snapshot` with every change applied (`after` put in the place of `before`) is, at
        each moment, what `snapshot(include_inactive=True)` then was, exactly.
    G4  Nothing is invented, and nothing is silent: a domain that is gone arrives as `Undefined` or
        `Stopped` if libvirt said so, else as `Gone`, with what it last was. One that comes and goes
        between two answers was never there.
    G5  Without libvirt the view is stale: it stays as it last was, its `stale_for` tells for how
        long libvirt has not confirmed it, and a `Stale` arrives. It is never empty, but for a
        host without domains. Before it first is in step there is none: `NotSynced`.
    G6  Once libvirt is back, all that has changed meanwhile arrives, and then a `Resynced`; what is
        new in details follows, when they are read again.
    G7  Each change tells when libvirt last said something of it (`told_at`, None if it did not) and
        when it answered (`learned_at`).
    G8  Readers are independent: one that is slow holds up nobody, holds a bounded number of
        changes, and is told that it missed some by the `Resynced` that replaces them.
    G9  `snapshot`, `changes` and `statistics` make no call and never wait for one. A signal handler
        may call `snapshot`, `instance`, `undisputed`, `statistics` and `close` at any point; where
        `wait_synced`, `resync`, `changes` or `Changes.get` would wait for the read that it has
        interrupted, they raise `Reentered`.
    G10 `close` comes back within 1 s whatever the daemon does, from any thread.

    What libvirt tells nobody of is seen when the list is next compared, `resync_every` seconds at
    most (an event that was lost), or when the XML is read again, with the first comparison after
    `details_max_age` (vCPUs plugged by hand, an external snapshot).

    It has one connection and one thread of its own, for a moment two of each where `node` is asked
    for, and shares libvirt's event loop. Opens nothing
    before it is started: by `with`, or by the first `wait_synced` or `changes`. Threads may share
    it. Close it when you are done, or use `with`. It lives for as long as you hold it or one of its
    `Changes`; dropped without `close` it is closed, with a ResourceWarning. A child that was forked
    after its parent's first question gets `ForkedProcess` from all that reads or starts it, and
    from its `Changes`; `close` does nothing there.

    Args:
        host: whom to follow: a URI, None for libvirt's default, or a `Host`, whose options it then
            has but for `details_max_age`; the Host's connection is left alone.
        readonly, launched_by: as for `Host`; not beside a Host, which has its own.
        details: without, `Instance.details` is None, and no XML is read but to tell whose a domain
            is.
        resync_every: seconds after which everybody is listed and compared. 1 call, and 2 about the
            host itself once `node` was called.
        verify_every: the same, and each difference that no event told of goes to the log, with what
            is known of it; also in `drifts`. None: it goes to `drifts` only.
        details_max_age: seconds for which details are believed that no event has contradicted; a
            comparison has those read again that are older.
        longest_queue: changes that are kept for a slow reader.
    """

    def __init__(
        self,
        host: Host | str | None = None,
        *,
        readonly: bool | None = None,
        launched_by: LaunchedBy | None = None,
        details: bool = True,
        resync_every: float = 300.0,
        verify_every: float | None = None,
        details_max_age: float = 3_600.0,
        longest_queue: int = 10_000,
    ) -> None:
        if isinstance(host, Host):
            if readonly is not None or launched_by is not None:
                raise ValueError("readonly and launched_by are the Host's: give them to it")
            self._host, self._owns_host = host, False
        else:
            self._host = Host(host, readonly=bool(readonly), launched_by=launched_by)
            self._owns_host = True
        for name, seconds in {
            "resync_every": resync_every,
            "verify_every": verify_every,
            "details_max_age": details_max_age,
        }.items():
            if seconds is not None and not seconds > 0:
                raise ValueError(f"{name} is {seconds!r}: it must be a number of seconds above 0")
        if not longest_queue >= 1:
            raise ValueError(f"longest_queue is {longest_queue!r}: it must be at least 1")
        self._board = Board(longest_queue)
        self._follower = Follower(
            self._host.listings_apart(details_max_age),
            self._board,
            details=details,
            resync_every=resync_every,
            verify_every=verify_every,
            owner=weakref.ref(self),
        )
        self._is_started = False

    # To read

    def wait_synced(self, timeout: float | None = None) -> None:
        """Return when the view is in step with libvirt, now; starts the inventory.

        In step means `stale_for` 0.0: connected, listed, and no event and no question has been
        without an answer for more than 1 s. So the view is at most 1 s behind what libvirt has
        told. A daemon that hangs while nothing is asked of it is noticed by keepalive alone,
        after 6 s; `resync` asks.

        Raises:
            GuestlistError: it is not after `timeout` seconds. The error that stands in the way, as
                a Host would raise it; `NotSynced` where there is none, or it was closed.

        Cost: no call.
        """
        self._board.refuse_within_read("wait for the view")
        self.start()
        self._board.wait_synced(timeout)

    def snapshot(
        self,
        *,
        include_inactive: bool = False,
        include_foreign: bool = False,
        include_dom0: bool = False,
    ) -> Snapshot:
        """One instant of the view, with the options of `Host.snapshot`. It never changes.

        `Snapshot.stale_for` is 0.0 while the view is in step; else the view is so many seconds old.
        A change is in it about a millisecond after libvirt tells of it; details may take longer
        while much is going on: `statistics().details_pending`.

        Raises:
            NotSynced: the view has not been in step yet.

        Cost: no call. The same object again while nothing changes.
        """
        if process.is_foreign():  # a tenth of what `check` takes
            process.check()
        return self._board.snapshot(Scope(include_inactive, include_foreign, include_dom0))

    def changes(self, *, include_foreign: bool = False, include_dom0: bool = False) -> Changes:
        """What changes from now on, of domains in whatever state; starts the inventory.

        An iterator, in a thread or under asyncio (`async for`), of `Started`, `Stopped`, `Defined`,
        `Undefined`, `Changed`, `Gone`, `Resynced` and `Stale`. Its `snapshot` is what the first
        change is to be applied to. Ends when either is closed; close it when you are done.

        Cost: no call.
        """
        process.check()
        self.start()
        return self._board.subscribe(Scope(True, include_foreign, include_dom0), self)

    def instance(self, uuid: UUID | str) -> Instance:
        """One domain by its UUID, whoever launched it and whatever its state.

        A domain that the view does not have is asked for: nobody is declared absent from memory.

        Raises:
            DomainGone: libvirt has none.
            GuestlistError: the view does not have it, and libvirt could not be asked; `NotSynced`
                where there is no view yet.
            ValueError: that is no UUID.

        Cost: no call for one that is in the view, else 2 of `Host.instance`.
        """
        process.check()
        uuid = uuid if isinstance(uuid, UUID) else UUID(uuid)
        known = self._board.snapshot(Scope(True, True, True)).get(uuid)
        return known if known is not None else self._host.instance(uuid)

    def undisputed(self, uuid: UUID) -> Instance | None:
        """One domain, if nothing speaks against the view: for callers that would else ask libvirt.

        Takes in the events that this process has received, and the end of a connection, first.
        None where the view does not have the domain or is not in step, where the connection is
        dead, where an event has named the domain and is not answered yet, where the domain is in a
        state that must pass, where the event loop does not turn within `LONGEST_TURN`, and in a
        forked process. What remains: an event that is still under way to this process; a daemon
        that is stopped, until keepalive gives it up. `seconds_since_list` bounds both.

        Cost: no call; some 0.1 ms.
        """
        if process.is_foreign() or self._board.stale_for != 0 or not event_loop.drain(LONGEST_TURN):
            return None
        if self._follower.is_in_doubt(uuid.bytes):  # before the view is read: it may move on
            return None
        return self._board.row(uuid)

    def node(self, timeout: float | None = LONGEST_NODE) -> Node:
        """The host itself, as it was when everybody was last compared.

        Read once this was called, and from then on with each comparison and new connection. So the
        first call waits, unless `timeout` is 0; every later one returns what is known.

        Args:
            timeout: seconds to wait where nothing is known yet. None: no bound.

        Raises:
            NotSynced: the view has not been in step yet; or libvirt has not told in time.
            GuestlistError: nothing is known yet, and this stands in the way.
            NotSupported: this libvirt does not tell.

        Cost: no call; the first time 6, over a connection that is closed again, where a second one
        reaches the same libvirt and needs no password.
        """
        process.check()
        try:
            return self._follower.facts.node(timeout)
        except NotSynced:
            if self._board.stale_for is None or self._board.failure is None:
                raise
            self._board.wait_synced(0)
            raise

    def statistics(self) -> InventoryStatistics:
        """What it has done so far. Cost: no call."""
        process.check()
        counts, reactions = self._follower.counts, sorted(self._follower.reactions)
        return InventoryStatistics(
            stale_for=self._board.stale_for,
            events=counts["events"],
            asks=counts["asks"],
            lists=counts["lists"],
            calls=self._follower.calls,
            changes=counts["changes"],
            drifts=counts["drifts"],
            connections=counts["connections"],
            stalls=counts["stalls"],
            losses=counts["losses"],
            details_pending=self._follower.details_pending,
            reaction_median=reactions[len(reactions) // 2] if reactions else None,
            reaction_worst=reactions[-1] if reactions else None,
        )

    @property
    def seconds_since_list(self) -> float:
        """Seconds since the list began that the view was last held against; `resync` makes one.

        Infinite before the first. Cost: no call, and no lock.
        """
        process.check()
        return time.monotonic() - self._follower.listed_at

    @property
    def stale_for(self) -> float | None:
        """As `Snapshot.stale_for`; None before the view is in step. Cost: none."""
        process.check()
        return self._board.stale_for

    @property
    def drifts(self) -> Sequence[Drift]:
        """The last differences, 64 at most, that only a comparison brought to light."""
        process.check()
        return tuple(self._follower.drifts)

    @property
    def failure(self) -> GuestlistError | None:
        """Why the view is stale, or not yet in step; None where it is, or nothing is known."""
        return self._board.failure

    @property
    def host(self) -> Host:
        """Whom to ask for what a view cannot know; over another connection than the view's."""
        return self._host

    @property
    def label(self) -> str:
        """The host's name in messages, as `Host.label`."""
        return self._follower.label

    @property
    def resolved_uri(self) -> str:
        """The URI as asked for or as libvirt resolved it; in words where it has not done so yet."""
        return self._follower.resolved_uri

    @property
    def is_local(self) -> bool:
        """Whether this libvirt is on this machine, as its URI tells; see `Host.is_local`.

        Raises:
            NotSynced: the view has not been in step yet.

        Cost: no call.
        """
        return self._follower.facts.is_local

    # Its life

    def start(self) -> None:
        """Start to follow the host, on a thread of its own; harmless twice.

        Raises:
            ForkedProcess: this process was forked after its parent had asked libvirt.
            ThreadUnavailable: the system gives no thread; the next call tries again.
        """
        process.claim()
        if not self._is_started and not self._follower.is_closing:
            self._follower.start()
            self._is_started = True

    def resync(self, timeout: float | None = None) -> None:
        """List everybody now, whatever the view has; return when that is in the view.

        Raises:
            GuestlistError: it is not after `timeout` seconds.

        Cost: 1 call.
        """
        self._board.refuse_within_read("list anew")
        self.start()
        if not self._follower.list_anew(timeout):
            self._board.wait_synced(0)
            why = "it was closed" if self._follower.is_closing else f"not within {timeout:g} s"
            raise NotSynced(f"{self.label} was not listed anew: {why}")

    def close(self) -> None:
        """End it, and every iteration over its changes; harmless twice, and from any thread.

        Does not wait for a daemon that hangs: a call that is under way ends by itself, when
        keepalive gives it up, and with it the thread and the connection. The last view can still be
        read, and gets old.
        """
        if process.is_foreign():
            return
        self._follower.close()
        self._board.end()
        deadline = time.monotonic() + CLOSE_WAIT
        may_wait = not (event_loop.is_on_loop() or threads.is_over() or self._board.is_read_here())
        if self._owns_host:  # somebody may be asking it, and wait for an answer
            closed: threads.Outcome[None] = threads.Outcome()
            threads.later(partial(closed.of, self._host.close), "guestlist-inventory-close")
            if may_wait:
                closed.wait(CLOSE_WAIT)
        if self._is_started and may_wait:
            self._follower.wait_ended(deadline)

    def __del__(self, _is_finalizing: Callable[[], bool] = sys.is_finalizing) -> None:
        """Close what was left running, with a ResourceWarning."""
        if _is_finalizing() or not hasattr(self, "_is_started") or threads.is_over():
            return  # in the first case this module's names may be gone
        if not (self._follower.is_closing or process.is_foreign()):
            self._follower.close()
            if not self._is_started:
                return
            text = f"unclosed {self!r}: it is closed now; close() it, or use 'with'"
            warnings.warn(text, ResourceWarning, stacklevel=2, source=self)

    def __enter__(self) -> Inventory:
        """Start."""
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Close."""
        self.close()

    def __repr__(self) -> str:
        return f"<Inventory of {self.label}>"
