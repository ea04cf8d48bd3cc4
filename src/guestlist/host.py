"""Host: what a user holds.

In: a URI and what "ours" means. Out: the domains of that host. Everything happens downstairs.
"""

from __future__ import annotations

import sys
import warnings
import weakref
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from uuid import UUID

import libvirt

from guestlist import process, snapshot, threads
from guestlist.capabilities import Capabilities, Location
from guestlist.connection import Connection
from guestlist.errors import DomainGone, short
from guestlist.handle import Handle
from guestlist.launcher import LaunchedBy, Launcher, NovaLaunched
from guestlist.listing import Listing
from guestlist.listing.listings import Listings
from guestlist.lookup import look_up
from guestlist.node import Node, NodeMemory
from guestlist.opening import Attempt
from guestlist.records import Instance, Snapshot
from guestlist.statistics import Counters, Statistics


class Host:
    """A libvirt host, asked who is there.

    Opens nothing until it is first asked, and reconnects on the first question after a loss. A
    question that fails raises and is never asked again behind the caller's back. Threads may share
    a Host. Close it when you are done, or use `with`. A child that was forked after the first
    question of its parent, to this Host or to any other, gets `ForkedProcess` from every question;
    `close` does nothing there.

    An exception from a signal handler (Ctrl-C) may end any question; the next one is answered over
    a new connection. A handler may itself ask a Host, unless it has interrupted a question to the
    same Host: that raises `Reentered` at once.

    Args:
        uri: a libvirt URI. None: libvirt's own default (LIBVIRT_DEFAULT_URI, then `uri_default` in
            libvirt.conf, then what libvirt finds).
        readonly: open read-only; all of Host works so.
        launched_by: what "ours" means: `NovaLaunched()`, `Anyone()`, or any `LaunchedBy`.
        keepalive_interval: seconds of silence before the daemon is asked for a sign of life; 0: no
            keepalive, and a daemon that hangs is then waited for without end.
        keepalive_count: signs of life that may fail to come. A hung daemon is `ConnectionLost`
            after interval * (count + 1) seconds: 6 by default.
        details_max_age: seconds for which details are believed that no event has contradicted;
            see `guestlist.details`.
        details_deadline: seconds that a guest may take to answer for its details where libvirt asks
            it, as QEMU's driver before 0.10.0 does; see `snapshot`. Newer ones ask no guest.
        keep_xml: keep the documents themselves too, in `Details.xml`: some 6 KiB a domain.
        open_timeout: seconds that opening may take; None: no bound. ssh that asks a person for a
            password wants more than the default, and is ended with the attempt.
        prompts: without, ssh fails where it would ask for a password or about a host's key, unless
            the URI says `no_tty=0`. With several hosts that are asked at once, all would ask.

    libvirt has one event loop per process. guestlist turns libvirt's default one on a daemon thread
    from the first question on, unless the program runs one by then: libvirtaio's, or the default
    one. See `use_running_event_loop`, and docs/concurrency.md for what works with what.
    """

    def __init__(
        self,
        uri: str | None = None,
        *,
        readonly: bool = False,
        launched_by: LaunchedBy | None = None,
        keepalive_interval: int = 1,
        keepalive_count: int = 5,
        open_timeout: float | None = 10.0,
        details_max_age: float = 300.0,
        details_deadline: float = 3.0,
        keep_xml: bool = False,
        prompts: bool = True,
    ) -> None:
        self._connection = Connection(
            uri,
            readonly=readonly,
            keepalive_interval=keepalive_interval,
            keepalive_count=keepalive_count,
            open_timeout=open_timeout,
            prompts=prompts,
            owner=weakref.ref(self),
        )
        launched_by = launched_by if launched_by is not None else NovaLaunched()
        if not details_deadline > 0:
            raise ValueError(
                f"details_deadline is {details_deadline!r}: it must be a number of seconds above 0"
            )
        self._listings = Listings(
            self._connection, launched_by, details_max_age, details_deadline, keep_xml=keep_xml
        )
        self._statistics = Statistics(self._connection)
        self._close = partial(_close, self._listings, self._statistics)
        self._node: NodeMemory | None = None

    @property
    def uri(self) -> str | None:
        """The URI asked for; None for libvirt's default."""
        return self._connection.uri

    @property
    def label(self) -> str:
        """The host's name in messages: `resolved_uri`, of bounded length."""
        return self._connection.label

    @property
    def resolved_uri(self) -> str:
        """The URI as asked for or as libvirt resolved it; in words where it has not done so yet."""
        return self._connection.resolved_uri

    @property
    def is_open(self) -> bool:
        """Whether there is a connection, dead or alive. Opens nothing. Cost: none."""
        return self._connection.current is not None

    @property
    def bulk_listing(self) -> bool | None:
        """Whether this connection lists in one call; None before the first listing over it."""
        listing = self._listings.current
        return listing.bulk if listing else None

    def list_instance_domains(
        self,
        *,
        include_inactive: bool = False,
        include_foreign: bool = False,
        include_dom0: bool = False,
    ) -> list[libvirt.virDomain]:
        """The domains of this host that match, each exactly once, in no particular order.

        By default those that are active (libvirt's word: running, paused and so on) and ours, as
        `launched_by` has it. The three options widen that independently of each other:

            include_inactive: also those that are shut off.
            include_foreign: also those that others launched. Not Domain-0.
            include_dom0: also Xen's Domain-0, whoever `launched_by` says is ours.

        A domain that exists and matches during the whole call is in the list; one that comes or
        goes meanwhile may be. The handles carry name, UUID and id without a further call; not the
        state, and the id is that of the instant of the listing.

        Raises:
            ConnectionFailed, AccessDenied: no connection could be opened.
            ConnectionLost: the daemon went away or silent. Never reported as an empty list.
            ThreadUnavailable: no thread could be started to open the connection.
            InterpreterEnding: the interpreter is ending, and connections are closed.
            Reentered: a signal handler asks the Host whose question it has interrupted.
            TooManyDomains: more than 16,384 match over a daemon, which is what one message carries.
            ListingUnstable: without the bulk call only; see `guestlist.listing.walk`.
            LibvirtFailure: whatever else libvirt said.

        Cost: 1 call, however many domains and whatever the options; 1 more, once, for each domain
        whose name does not tell who launched it. Without the bulk call (libvirt before 0.9.13, and
        some hypervisor drivers): n + 4, and a warning in the log, once per connection.
        """
        return self._listings.ask(
            "list the domains",
            lambda listing: listing.instance_domains(
                include_inactive=include_inactive,
                include_foreign=include_foreign,
                include_dom0=include_dom0,
            ),
        )

    def snapshot(
        self,
        *,
        include_inactive: bool = False,
        include_foreign: bool = False,
        include_dom0: bool = False,
        details: bool = True,
        statistics: Iterable[str] = (),
        deadline: float = 5.0,
    ) -> Snapshot:
        """One instant of this host: the domains that match, with id, state, launcher and details.

        Matches, misses nobody and raises as `list_instance_domains` does. State, reason and id are
        of one instant. Details (`Instance.details`) are read once and remembered while the domain
        keeps its UUID and id; what was redefined, plugged, unplugged or ballooned since is read
        again, and everything after `details_max_age`, or if libvirt's event loop is too busy in
        this process to tell of it in time. A domain that is gone before its details could be read
        has None. One whose XML cannot be read spoils nobody else's: its `Details.unknown` says so,
        and the log, once.

        Nothing here asks a guest, unless `statistics` does, so a stuck guest delays nothing. An old
        libvirt does ask: QEMU's driver before 0.10.0, and before 5.0.0 with a QEMU older than 1.2,
        enters the guest's monitor for its XML. There the XML is read over a connection of its own,
        and a guest that does not answer within `details_deadline` seconds is waited for once; its
        `Details.unknown` says "xml: no answer within 3 s" until it answers. Other questions to this
        Host are answered meanwhile.

        Args:
            include_inactive: also those that are shut off.
            include_foreign: also those that others launched. Not Domain-0.
            include_dom0: also Xen's Domain-0.
            details: without, `Instance.details` is None, and a cold snapshot costs what a warm one
                does.
            statistics: groups to ask of the active domains, by their names in `virsh domstats`:
                "block", "balloon", "vcpu", "cpu-total", "interface", "perf", "iothread", "memory",
                "dirtyrate", "vm". Most enter each guest's monitor. They are asked aside, after the
                states, and whoever does not answer is in `Snapshot.unanswered`. Where libvirt could
                not be asked at all that is everybody, and `Snapshot.statistics_failure` says why.
            deadline: seconds that the statistics may take.

        Raises:
            ValueError: there is no such group.

        Cost: warm, 1 call; cold, 1 and 1 per domain that matches, side by side where that takes
        longer than 0.05 s. `Snapshot.cost` has the number. Without the bulk statistics (libvirt
        before 1.2.8) the listing's and 1 per domain more. The first snapshot over a connection also
        registers for events (up to 9 calls), which belongs to the connection and is not in `cost`;
        nor are the statistics, which are 1 call over another one, and 4 more for busy guests alone.
        Where the XML is read over a connection of its own it is 2 calls for each domain, not 1.
        """
        taken = self._listings.ask(
            "take a snapshot",
            lambda listing: snapshot.take(
                listing,
                include_inactive=include_inactive,
                include_foreign=include_foreign,
                include_dom0=include_dom0,
                details=details,
            ),
        )
        groups = (statistics,) if isinstance(statistics, str) else tuple(statistics)
        if not groups:
            return taken
        return snapshot.with_statistics(taken, self._statistics.ask(groups, deadline))

    def disk_counters(
        self, disks: Mapping[UUID, Iterable[str]], *, deadline: float = 5.0
    ) -> dict[UUID, dict[str, Counters]]:
        """What domains read from and wrote to some of their disks, asked disk by disk.

        For a libvirt without bulk statistics (before 1.2.8); newer ones tell of all disks in one
        call: `snapshot(statistics=["block"])`. Asked aside, as those are. A guest that does not
        answer is left out, and named in the log; so is a disk that its domain does not have.

        Args:
            disks: targets ("vda") by the UUID of the domain.
            deadline: seconds for all of them.

        Returns:
            By UUID and target: requests and bytes read, requests and bytes written.

        Raises:
            GuestlistError: libvirt could not be asked.

        Cost: 1 call for each domain and 1 for each disk, over another connection.
        """
        counted = self._statistics.disk_counters(
            {uuid.bytes: tuple(targets) for uuid, targets in disks.items()}, deadline
        )
        return {UUID(bytes=uuid): each for uuid, each in counted.items()}

    def instance(self, uuid: UUID | str) -> Instance:
        """One domain by its UUID, whoever launched it and whatever its state; without details.

        Raises:
            DomainGone: there is none.
            ValueError: that is no UUID.

        Cost: 2 calls, and 1 more, once, if its name does not tell who launched it.
        """
        uuid = uuid if isinstance(uuid, UUID) else UUID(uuid)
        found = self._listings.ask(
            f"look up domain {uuid}", lambda listing: snapshot.one(listing, uuid)
        )
        if found is None:
            raise DomainGone(f"there is no domain {uuid} on {self.label}")
        return found

    def has_domain(self, uuid: UUID | str) -> bool:
        """Return whether there is a domain with this UUID, from any launcher and in any state.

        Raises:
            GuestlistError: libvirt could not be asked; as `instance`.
            ValueError: that is not a UUID.

        Cost: 1 call.
        """
        uuid = uuid if isinstance(uuid, UUID) else UUID(uuid)
        return self._listings.ask(
            f"look up domain {uuid}",
            lambda listing: look_up(listing.peer, uuid.bytes) is not None,
        )

    def discard_details(self, uuid: UUID | str) -> None:
        """Believe nothing that was read of a domain: for who knows that its XML is another.

        The next snapshot reads it again. Cost: none.
        """
        process.check()
        uuid = uuid if isinstance(uuid, UUID) else UUID(uuid)
        listing = self._listings.current
        if listing is not None:
            listing.details.discard(uuid.bytes)

    def node(self) -> Node:
        """The host itself: processors, memory, kinds of guests. Cost: 2 calls; the first time 6."""

        def now(listing: Listing) -> Node:
            if self._node is None or self._node.peer is not listing.peer:
                self._node = NodeMemory(listing.peer)
            return self._node.now()

        return self._listings.ask("read the facts of the node", now)

    @property
    def location(self) -> Location:
        """Where this libvirt is, as its URI tells. Cost: none, once the connection is open."""
        return self._listings.ask("connect", lambda listing: listing.peer.location())

    @property
    def is_local(self) -> bool:
        """Whether this libvirt is on this machine, as its URI tells: its paths are paths here.

        Cost: none, once the connection is open.
        """
        return self.location.is_local

    def launcher(self, domain: libvirt.virDomain) -> Launcher:
        """Who launched a domain of this host.

        Raises:
            DomainGone: it does not exist any more.

        Cost: none where its name or id tells, else 1 call, remembered; 1 more for a handle from
        before the host was connected to anew.
        """
        name = short(domain.name())
        launcher = self._listings.ask(
            f"read the metadata of domain {name!r}",
            lambda listing: listing.launcher(Handle(domain)),
        )
        if launcher is None:
            raise DomainGone(
                f"cannot tell who launched domain {name!r} of {self.label}: it was "
                "undefined, or it stopped and was transient"
            )
        return launcher

    def capabilities(self) -> Capabilities:
        """What this host's libvirt can do, found out by doing it. Cost: 6 calls at most."""
        return self._listings.ask("check what libvirt can do", _capabilities)

    def listings_apart(self, details_max_age: float) -> Listings:
        """What asks this host over a connection of its own: for an `Inventory`."""
        return self._listings.apart(details_max_age)

    def close(self) -> None:
        """Close the connection; a later question opens another.

        Waits for the question of another thread. In a signal handler that has interrupted a
        question, and on the thread of the event loop, it returns at once, and the connection is
        closed when that question ends. In a forked process it does nothing.
        """
        if not process.is_foreign():
            close = partial(self._close, self._connection.attempt)
            threads.finish(close, "guestlist-close", wait=self._connection.may_wait_here)

    def __del__(self, _is_finalizing: Callable[[], bool] = sys.is_finalizing) -> None:
        """Close what was left open, on another thread, with a ResourceWarning."""
        if _is_finalizing() or not hasattr(self, "_close") or threads.is_over():
            return  # in the first case this module's names may be gone
        if process.is_foreign():
            return
        if self._connection.is_open or self._statistics.is_open:
            threads.later(self._close, "guestlist-close")
            text = f"unclosed {self!r}: it is closed now; close() it, or use 'with'"
            warnings.warn(text, ResourceWarning, stacklevel=2, source=self)

    def __enter__(self) -> Host:
        """Opens nothing yet."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close."""
        self.close()

    def __repr__(self) -> str:
        return f"<Host {self.label}>"


def _capabilities(listing: Listing) -> Capabilities:
    listing.domains(include_inactive=False)
    snapshot.states(listing, include_inactive=False)
    peer = listing.peer
    return Capabilities(
        uri=peer.uri,
        versions=peer.versions(),
        bulk_listing=bool(listing.bulk),
        bulk_stats=bool(listing.bulk_stats),
        lifecycle_events=peer.lifecycle() is not None,
        keepalive=peer.keepalive,
    )


def _close(listings: Listings, statistics: Statistics, attempt: Attempt | None = None) -> None:
    """Close what a Host has open; first give up the attempt to connect that was under way."""
    listings.connection.give_up(attempt)
    statistics.close()
    listings.close()
