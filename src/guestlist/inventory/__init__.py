"""The live view: the domains of a host, always known, without asking.

In: a host. Out: snapshots that cost no call, and the changes between them. One listing, then the
lifecycle events, merged in order; work grows with the number of changes, not of domains.

    __init__      Inventory: what a user holds, what it promises, what is read from it
    lifetime      how it starts, is waited for, and ends
    options       its options, checked                                              (pure)
    changes       what readers are told                                             (pure)
    merging       a view and an answer of libvirt's to the next view, and changes   (pure)
    scope         the domains that a reader wants to see                            (pure)
    subscribers   the readers, each with a queue
    board         what readers read
    following     the thread: it connects, and connects again
    keeping       one connection: lists, questions, comparisons, details
    ledger        answers entered into the view
    instances     the domains of one connection: handles, and their records
    doubt         what may be missing in the view, and what to do about it
    feed          the events of one connection, and when they come
    rechecks      domains that are asked about again, event or not
    backlog       domains whose details are read again                              (pure)
    facts         the host itself, beside its domains
    progress      what was done so far: InventoryStatistics
    drift         a difference that only a comparison has found                     (pure)
    evidence      what speaks for the view's record of one domain                  (pure)
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from uuid import UUID

from guestlist import event_loop, process
from guestlist.errors import GuestlistError, NotSynced
from guestlist.host import Host
from guestlist.inventory.drift import Drift
from guestlist.inventory.evidence import Evidence
from guestlist.inventory.lifetime import Lifetime
from guestlist.inventory.options import Options
from guestlist.inventory.progress import InventoryStatistics
from guestlist.inventory.scope import Scope
from guestlist.inventory.subscribers import Changes
from guestlist.launcher import LaunchedBy
from guestlist.lookup import as_uuid
from guestlist.node import Node
from guestlist.records import Instance, Snapshot

__all__ = ["LONGEST_NODE", "LONGEST_TURN", "Inventory", "InventoryStatistics"]

LONGEST_NODE = 10.0
"""Seconds that `Inventory.node` waits the first time it is called."""

LONGEST_TURN = 0.1
"""Seconds that `undisputed` waits for a turn of the event loop; then libvirt must be asked."""


class Inventory(Lifetime):
    """A libvirt host's domains, kept in step with it.

    G1  After quiet the view equals the list: when nothing changes any more, `snapshot` is soon
        what `Host.snapshot` of the same options gives, details included.
    G2  The states of one domain are seen in order, and never go back in time: only libvirt's
        answers move the view, in the order in which they were asked for. States between two
        answers are skipped. There is no order between two domains.
    G3  `Changes.snapshot` with every change applied (`after` put in the place of `before`) is, at
        each moment, what `snapshot(include_inactive=True)` then was, exactly.
    G4  Nothing is invented, and nothing is silent: a domain that is gone arrives as `Undefined` or
        `Stopped` if libvirt said so, else as `Gone`, with its last record. A domain that comes and
        goes between two answers was never there.
    G5  Without libvirt the view is stale: it stays as it last was, its `stale_for` tells for how
        long libvirt has not confirmed it, and a `Stale` arrives. It is empty only if the host has
        no domains. Before it is in step for the first time there is no view: `NotSynced`.
    G6  Once libvirt is back, all that has changed meanwhile arrives, and then a `Resynced`; what is
        new in details follows, when they are read again.
    G7  Each change tells when libvirt last sent an event of it (`told_at`, None if it did not) and
        when it answered (`learned_at`).
    G8  Readers are independent: a slow reader delays no other, keeps a bounded number of changes,
        and is told that it missed some by the `Resynced` that replaces them.
    G9  `snapshot`, `changes` and `statistics` make no call and never wait for one. A signal handler
        may call `snapshot`, `instance`, `undisputed`, `statistics` and `close` at any point; where
        `wait_synced`, `resync`, `changes` or `Changes.get` would wait for the read that it has
        interrupted, they raise `Reentered`.
    G10 `close` comes back within 1 s whatever the daemon does, from any thread.

    A change without an event is seen when the list is next compared, `resync_every` seconds at most
    (an event that was lost), or when the XML is read again, with the first comparison after
    `details_max_age` (vCPUs plugged by hand, an external snapshot).

    It has one connection and one thread of its own, for a moment two of each where `node` is called
    for the first time, and shares libvirt's event loop. It opens nothing before it is started: by
    `with`, or by the first `wait_synced` or `changes`. Threads may share it. Close it when you are
    done, or use `with`. It lives for as long as you hold it or one of its `Changes`; dropped
    without `close` it is closed, with a ResourceWarning. A child that was forked after its parent's
    first question gets `ForkedProcess` from all that reads or starts it, and from its `Changes`;
    `close` does nothing there.

    Args:
        host: the host to follow: a URI, None for libvirt's default, or a `Host`. A Host lends all
            its options except `details_max_age`; its connection is left alone.
        readonly, launched_by: as for `Host`; not beside a Host, which has its own.
        details: False: `Instance.details` is None, and XML is read only to tell who launched a
            domain.
        resync_every: seconds after which all domains are listed and compared. 1 call, and 2 about
            the host itself once `node` was called.
        verify_every: seconds, as `resync_every`; the view then also logs each drift, with what is
            known of it. None: a drift is in `drifts` only.
        details_max_age: seconds after which details are read again, at the next comparison, even if
            no event has contradicted them.
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
        owns_host = not isinstance(host, Host)
        if not isinstance(host, Host):
            host = Host(host, readonly=bool(readonly), launched_by=launched_by)
        elif readonly is not None or launched_by is not None:
            raise ValueError("readonly and launched_by are the Host's: give them to it")
        options = Options(details, resync_every, verify_every, details_max_age, longest_queue)
        super().__init__(host, options, owns_host=owns_host)

    def snapshot(
        self,
        *,
        include_inactive: bool = False,
        include_foreign: bool = False,
        include_dom0: bool = False,
    ) -> Snapshot:
        """Return one instant of the view, with the options of `Host.snapshot`. It never changes.

        `Snapshot.stale_for` says for how many seconds the view has been stale; 0.0 in step.
        A change is in it about a millisecond after libvirt tells of it; details may take longer
        while much is going on: `statistics().details_pending`.

        Raises:
            NotSynced: the view has not been in step yet.

        Cost: no call. The same object again while nothing changes.
        """
        if process.belongs_to_parent():  # a tenth of what `check` takes
            process.check()
        return self._board.snapshot(Scope(include_inactive, include_foreign, include_dom0))

    def changes(self, *, include_foreign: bool = False, include_dom0: bool = False) -> Changes:
        """Return the changes from now on, of domains in every state; starts the inventory.

        An iterator, in a thread or under asyncio (`async for`), of `Started`, `Stopped`, `Defined`,
        `Undefined`, `Changed`, `Gone`, `Resynced` and `Stale`. `Changes.snapshot` is the starting
        point: apply the changes to it, in order. The iteration ends when the inventory or the
        `Changes` is closed; close the `Changes` when you are done.

        Cost: no call.
        """
        process.check()
        self.start()
        return self._board.subscribe(Scope(True, include_foreign, include_dom0), self)

    def instance(self, uuid: UUID | str) -> Instance:
        """Return one domain by its UUID, of any launcher and in any state.

        Asks libvirt for a domain that the view does not have before it says that it is gone.

        Raises:
            DomainGone: libvirt has no such domain.
            GuestlistError: the view lacks the domain, and libvirt could not be asked; `NotSynced`
                where there is no view yet.
            ValueError: that is no UUID.

        Cost: no call for a domain that is in the view, else 2 of `Host.instance`.
        """
        process.check()
        uuid = as_uuid(uuid)
        known = self._board.snapshot(Scope(True, True, True)).get(uuid)
        return known if known is not None else self._host.instance(uuid)

    def undisputed(self, uuid: UUID) -> Instance | None:
        """Return one domain, if nothing speaks against the view: a caller need not ask libvirt.

        Takes in the events that this process has received, and the end of a connection, first.
        None where the view does not have the domain or is not in step, where the connection is
        dead, where an event has named the domain and is not answered yet, where the domain is in a
        state that must pass, where the event loop does not turn within `LONGEST_TURN`, and in a
        forked process. What remains: an event that is still under way to this process; a daemon
        that is stopped, until keepalive gives it up. `seconds_since_list` bounds both.

        Cost: no call; some 0.1 ms.
        """
        evidence = self.evidence(uuid)
        return evidence.instance if evidence.is_undisputed else None

    def evidence(self, uuid: UUID) -> Evidence:
        """Return the facts by which `undisputed` decides. Cost: as `undisputed`."""
        if process.belongs_to_parent() or self._board.stale_for != 0:
            return Evidence()
        if not event_loop.drain(LONGEST_TURN):
            return Evidence(is_in_step=True)
        in_doubt = self._follower.is_in_doubt(uuid.bytes)  # before the view is read: it may move on
        return Evidence(True, True, in_doubt, self._board.row(uuid))

    def node(self, timeout: float | None = LONGEST_NODE) -> Node:
        """Return the host itself, as it was at the last comparison of all domains.

        Read once this was called, and from then on with each comparison and new connection. So the
        first call waits, unless `timeout` is 0; every later one returns what is known.

        Args:
            timeout: seconds to wait where nothing is known yet. None: no bound.

        Raises:
            NotSynced: the view has not been in step yet; or libvirt has not told in time.
            GuestlistError: nothing is known yet, and this is the reason.
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
        """Return what it has done so far. Cost: no call."""
        process.check()
        return self._follower.statistics()

    @property
    def seconds_since_list(self) -> float:
        """Seconds since the list began that the view was last compared with; `resync` makes one.

        Infinite before the first. Cost: no call, and no lock.
        """
        process.check()
        return time.monotonic() - self._follower.progress.listed_at

    @property
    def stale_for(self) -> float | None:
        """As `Snapshot.stale_for`; None before the view is in step. Cost: none."""
        process.check()
        return self._board.stale_for

    @property
    def drifts(self) -> Sequence[Drift]:
        """The last differences, 64 at most, that only a comparison has found."""
        process.check()
        return tuple(self._follower.progress.drifts)

    @property
    def failure(self) -> GuestlistError | None:
        """Why the view is not in step. None: it is in step, or no reason is known."""
        return self._board.failure

    @property
    def host(self) -> Host:
        """The Host to ask for what a view cannot know; over another connection than the view's."""
        return self._host

    @property
    def resolved_uri(self) -> str:
        """The host's URI: as given, or as libvirt resolved its default. See `Host.resolved_uri`."""
        return self._follower.resolved_uri

    @property
    def is_local(self) -> bool:
        """Whether this libvirt is on this machine, as its URI tells; see `Host.is_local`.

        Raises:
            NotSynced: the view has not been in step yet.

        Cost: no call.
        """
        return self._follower.facts.is_local
