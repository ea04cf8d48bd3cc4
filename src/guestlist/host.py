"""Host: what a user holds.

In: a URI and what "ours" means. Out: the domains of that host. Everything happens downstairs.
"""

from __future__ import annotations

from collections.abc import Iterable
from uuid import UUID

import libvirt

from guestlist import snapshot
from guestlist.connection import Capabilities, Connection
from guestlist.errors import DomainGone
from guestlist.handle import Handle
from guestlist.launcher import LaunchedBy, Launcher, NovaLaunched
from guestlist.listing.listings import Listings
from guestlist.node import Node, NodeMemory
from guestlist.records import Instance, Snapshot
from guestlist.statistics import Statistics


class Host:
    """A libvirt host, asked who is there.

    Opens nothing until it is first asked, and reconnects on the first question after a loss. A
    question that fails raises and is never asked again behind the caller's back. Threads may share
    a Host; a fork may not: open it in the child.

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
        keep_xml: keep the documents themselves too, in `Details.xml`: some 6 KiB a domain.
        open_timeout: seconds that opening may take; None: no bound. A transport that asks a person
            for a password wants more than the default.

    A process that uses libvirt's events itself must have registered its event loop before the first
    question; guestlist's own loop, one daemon thread per process, then keeps out of the way.
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
        keep_xml: bool = False,
    ) -> None:
        self._connection = Connection(
            uri,
            readonly=readonly,
            keepalive_interval=keepalive_interval,
            keepalive_count=keepalive_count,
            open_timeout=open_timeout,
        )
        launched_by = launched_by if launched_by is not None else NovaLaunched()
        self._listings = Listings(self._connection, launched_by, details_max_age, keep_xml=keep_xml)
        self._statistics = Statistics(self._connection)
        self._node: NodeMemory | None = None

    @property
    def uri(self) -> str | None:
        """The URI asked for; None for libvirt's default."""
        return self._connection.uri

    @property
    def whom(self) -> str:
        """The host's name in messages: the URI, as asked for or as libvirt resolved it."""
        return self._connection.whom

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
            TooManyDomains: more than 16,384 match over a daemon, which is what one message carries.
            ListingUnstable: without the bulk call only; see `guestlist.listing.walk`.
            LibvirtFailure: whatever else libvirt said.

        Cost: 1 call, however many domains and whatever the options; 1 more, once, for each domain
        whose name does not tell who launched it. Without the bulk call (libvirt before 0.9.13, and
        some hypervisor drivers): about n + 5, and a warning in the log, once per connection.
        """
        with self._listings.asking("list the domains") as listing:
            return listing.instance_domains(
                include_inactive=include_inactive,
                include_foreign=include_foreign,
                include_dom0=include_dom0,
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

        Never waits for a stuck guest: nothing here asks a guest, unless `statistics` does.

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
        """
        with self._listings.asking("take a snapshot") as listing:
            taken = snapshot.take(
                listing,
                include_inactive=include_inactive,
                include_foreign=include_foreign,
                include_dom0=include_dom0,
                details=details,
            )
        groups = (statistics,) if isinstance(statistics, str) else tuple(statistics)
        if not groups:
            return taken
        return snapshot.with_statistics(taken, self._statistics.ask(groups, deadline))

    def instance(self, uuid: UUID | str) -> Instance:
        """One domain by its UUID, whoever launched it and whatever its state; without details.

        Raises:
            DomainGone: there is none.
            ValueError: that is no UUID.

        Cost: 2 calls, and 1 more, once, if its name does not tell who launched it.
        """
        uuid = uuid if isinstance(uuid, UUID) else UUID(uuid)
        with self._listings.asking(f"look up domain {uuid}") as listing:
            found = snapshot.one(listing, uuid)
        if found is None:
            raise DomainGone(f"there is no domain {uuid} on {self.whom}")
        return found

    def forget(self, uuid: UUID | str) -> None:
        """Believe nothing that was read of a domain: for who knows that its XML is another.

        The next snapshot reads it again. Cost: none.
        """
        uuid = uuid if isinstance(uuid, UUID) else UUID(uuid)
        listing = self._listings.current
        if listing is not None:
            listing.details.forget(uuid.bytes)

    def node(self) -> Node:
        """The host itself: processors, memory, kinds of guests. Cost: 2 calls; the first time 6."""
        with self._listings.asking("read the facts of the node") as listing:
            if self._node is None or self._node.peer is not listing.peer:
                self._node = NodeMemory(listing.peer)
            return self._node.now()

    @property
    def is_here(self) -> bool:
        """Whether this libvirt is on this machine, as its URI tells: its paths are paths here.

        Cost: none, once the connection is open.
        """
        with self._listings.asking("connect") as listing:
            return listing.peer.location().here

    def launcher(self, domain: libvirt.virDomain) -> Launcher:
        """Who launched a domain of this host.

        Raises:
            DomainGone: it does not exist any more.

        Cost: none where its name or id tells, else 1 call, remembered; 1 more for a handle from
        before the host was connected to anew.
        """
        with self._listings.asking(f"read the metadata of domain {domain.name()!r}") as listing:
            launcher = listing.launcher(Handle(domain))
        if launcher is None:
            raise DomainGone(
                f"cannot tell who launched domain {domain.name()!r} of {self.whom}: it was "
                "undefined, or it stopped and was transient"
            )
        return launcher

    def capabilities(self) -> Capabilities:
        """What this host's libvirt can do, found out by doing it. Cost: 6 calls at most."""
        with self._listings.asking("check what libvirt can do") as listing:
            listing.domains(include_inactive=False)
            snapshot.states(listing, include_inactive=False)
            peer = listing.peer
            return Capabilities(
                uri=peer.whom,
                versions=peer.versions(),
                bulk_listing=bool(listing.bulk),
                bulk_stats=bool(listing.bulk_stats),
                lifecycle_events=peer.lifecycle() is not None,
                keepalive=peer.keepalive,
            )

    def listings_apart(self, details_max_age: float) -> Listings:
        """What asks this host over a connection of its own: for an `Inventory`."""
        return self._listings.apart(details_max_age)

    def close(self) -> None:
        """Let the connection go; a later question opens another."""
        self._statistics.close()
        self._connection.close()

    def __enter__(self) -> Host:
        """Opens nothing yet."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close."""
        self.close()

    def __repr__(self) -> str:
        return f"<Host {self.whom}>"
