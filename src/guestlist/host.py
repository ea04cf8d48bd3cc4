"""Host: one libvirt host, and the questions that a user may ask about it.

In: a URI and what "ours" means. Out: the domains of that host. The work is done by the layers
below; this module holds the options, the contract of each question, and the end.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING
from uuid import UUID

import libvirt

from guestlist.capabilities import Capabilities
from guestlist.connected import Connected
from guestlist.connection import Connection
from guestlist.errors import DomainGone, short
from guestlist.handle import Handle
from guestlist.launcher import Launcher
from guestlist.lookup import as_uuid, look_up
from guestlist.session import Session, Sessions, load

if TYPE_CHECKING:
    from guestlist.node import Hypervisor, Node
    from guestlist.records import Instance, Snapshot
    from guestlist.statistics import Counters


class Host(Connected):
    """A libvirt host that can be asked which domains it has.

    A Host opens nothing until it is first asked, and reconnects on the first question after a loss.
    A question that fails raises; it is never asked a second time without the caller's knowledge.
    Threads may share a Host. Close it when you are done, or use `with`. A child that was forked
    after its parent's first question, to this Host or to any other, gets `ForkedProcess` from every
    question; `close` does nothing there.

    An exception from a signal handler (Ctrl-C) may end any question; the next question is answered
    over a new connection. A handler may itself ask a Host, unless it has interrupted a question to
    the same Host: that raises `Reentered` at once.

    Args:
        uri: a libvirt URI. None: libvirt's own default (LIBVIRT_DEFAULT_URI, then `uri_default` in
            libvirt.conf, then what libvirt finds).
        readonly: open read-only; every question of Host works over such a connection.
        launched_by: what "ours" means: `NovaLaunched()`, `Anyone()`, or any `LaunchedBy`.
        keepalive_interval: seconds of silence after which libvirt asks the daemon for a sign of
            life. 0: no keepalive; then a question to a daemon that hangs waits without end.
        keepalive_count: signs of life that may be missing. A daemon that hangs is `ConnectionLost`
            after interval * (count + 1) seconds: 6 by default.
        details_max_age: seconds after which details are read again, even if no event has
            contradicted them; see `guestlist.details`.
        details_deadline: seconds that a guest may take to answer for its details where libvirt asks
            the guest, as QEMU's driver before 0.10.0 does; see `snapshot`. Newer ones ask no guest.
        keep_xml: keep the documents themselves too, in `Details.xml`: some 6 KiB a domain.
        open_timeout: seconds that opening may take; None: no bound. ssh that asks a person for a
            password needs more than the default; it ends with the attempt.
        prompts: whether ssh may ask for a password or about a host's key. If not, ssh fails where
            it would ask, unless the URI says `no_tty=0`. If several hosts are asked at once, the
            ssh of each would ask.

    libvirt has one event loop per process. From the first question on, guestlist runs libvirt's
    default loop on a daemon thread, unless the program runs one by then: libvirtaio's, or the
    default one. See `use_running_event_loop`, and docs/concurrency.md for what works with what.
    """

    def list_instance_domains(
        self,
        *,
        include_inactive: bool = False,
        include_foreign: bool = False,
        include_dom0: bool = False,
    ) -> list[libvirt.virDomain]:
        """Return the domains of this host that match, each exactly once, in no particular order.

        By default these are the domains that are active (libvirt's word: running, paused and so
        on) and ours, as `launched_by` says. Three options, independent of each other, add more:

            include_inactive: also the domains that are shut off.
            include_foreign: also the domains that others launched. Not Domain-0.
            include_dom0: also Xen's Domain-0, whatever `launched_by` says.

        A domain that exists and matches during the whole call is in the list; a domain that comes
        or goes meanwhile may be in it. The handles carry name, UUID and id without a further call,
        but not the state. The id is the one at the instant of the listing.

        Raises:
            ConnectionFailed, AccessDenied: no connection could be opened.
            ConnectionLost: the daemon ended or no longer answers. An empty list never means this.
            ThreadUnavailable: no thread could be started to open the connection.
            InterpreterEnding: the interpreter is ending, and connections are closed.
            Reentered: a signal handler asks the Host whose question it has interrupted.
            TooManyDomains: more than 16,384 match, and one message of a daemon carries only those.
            ListingUnstable: only without the bulk call; see `guestlist.listing.walk`.
            LibvirtFailure: libvirt answered with another error.

        Cost: 1 call, for any number of domains and with any options; 1 more, once, for each domain
        whose name does not tell who launched it, and then 1 per connection for the daemon's
        version. Without the bulk call (libvirt before 0.9.13, and
        some hypervisor drivers): n + 4, and a warning in the log, once per connection.
        """
        return self._sessions.ask(
            "list the domains",
            lambda session: session.instance_domains(
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
        """Return one instant of this host: its domains with id, state, launcher and details.

        The domains that match, and the errors, are those of `list_instance_domains`. State, reason
        and id are of one instant. Details (`Instance.details`) are read once and remembered while
        the domain keeps its UUID and id. They are read again if the domain was redefined, plugged,
        unplugged or ballooned since, after `details_max_age`, and if libvirt's event loop is too
        busy in this process to tell of such changes in time. They are None for a domain that is
        gone before they could be read. XML that cannot be read affects only its own domain:
        `Details.unknown` says so, and the log does, once.

        No guest is asked, unless for `statistics`, so a stuck guest delays nothing. An old libvirt
        does ask: QEMU's driver before 0.10.0, and before 5.0.0 with a QEMU older than 1.2, enters
        the guest's monitor for the XML. There the XML is read over a connection of its own. A guest
        that does not answer within `details_deadline` seconds delays one snapshot; its
        `Details.unknown` says "xml: no answer within 3 s" until it answers. Other questions to this
        Host are answered meanwhile.

        Args:
            include_inactive: also the domains that are shut off.
            include_foreign: also the domains that others launched. Not Domain-0.
            include_dom0: also Xen's Domain-0.
            details: if False, `Instance.details` is None, and a cold snapshot costs as much as a
                warm one.
            statistics: groups to ask of the active domains, by their names in `virsh domstats`:
                "block", "balloon", "vcpu", "cpu-total", "interface", "perf", "iothread", "memory",
                "dirtyrate", "vm". Most enter each guest's monitor. They are asked after the states,
                over a separate connection. Domains that do not answer are in `Snapshot.unanswered`.
                If libvirt cannot be asked, all of them are, and `Snapshot.statistics_failure` says
                why.
            deadline: seconds that the statistics may take.

        Raises:
            ValueError: there is no such group.

        Cost: warm, 1 call; cold, 1 and 1 per domain that matches, made side by side where that
        takes longer than 0.05 s in all and 0.001 s for each. `Snapshot.cost` has the number.
        Without the bulk statistics (libvirt before 1.2.8): the calls of the listing, and 1 per
        domain more. The first snapshot over a connection also registers for events (10 calls at
        most); that belongs to the connection and is not in `cost`. The statistics are not in it
        either: they are 1 call over another connection, and 4 more for busy guests alone. Where the
        XML is read over a connection of its own, it costs 2 calls for each domain instead of 1.
        """

        def take(session: Session) -> Snapshot:
            load("guestlist.snapshot")
            from guestlist import snapshot  # noqa: PLC0415  it reads XML, a listing none

            return snapshot.take(
                session,
                include_inactive=include_inactive,
                include_foreign=include_foreign,
                include_dom0=include_dom0,
                details=details,
            )

        taken = self._sessions.ask("take a snapshot", take)
        groups = (statistics,) if isinstance(statistics, str) else tuple(statistics)
        if not groups:
            return taken
        from guestlist.snapshot import with_statistics  # noqa: PLC0415  as above

        return with_statistics(taken, self._sessions.statistics.ask(groups, deadline))

    def disk_counters(
        self, disks: Mapping[UUID, Iterable[str]], *, deadline: float = 5.0
    ) -> dict[UUID, dict[str, Counters]]:
        """Return what domains read from and wrote to some of their disks, asked disk by disk.

        For a libvirt without bulk statistics (before 1.2.8); newer ones tell of all disks in one
        call: `snapshot(statistics=["block"])`. Asked over a separate connection, as those are. A
        guest that does not answer is left out and named in the log. A disk that its domain does not
        have is left out.

        Args:
            disks: targets ("vda") by the UUID of the domain.
            deadline: seconds for all of them.

        Returns:
            By UUID and target: requests and bytes read, requests and bytes written.

        Raises:
            GuestlistError: libvirt could not be asked.

        Cost: 1 call for each domain and 1 for each disk, over another connection.
        """
        counted = self._sessions.statistics.disk_counters(
            {uuid.bytes: tuple(targets) for uuid, targets in disks.items()}, deadline
        )
        return {UUID(bytes=uuid): each for uuid, each in counted.items()}

    def instance(self, uuid: UUID | str) -> Instance:
        """Return one domain by its UUID, of any launcher and in any state; without details.

        Raises:
            DomainGone: this host has no such domain.
            ValueError: the text is no UUID.

        Cost: 1 call, and 1 more the first time that a connection is asked about this domain, or if
        it is gone; 1 more, once, if its name does not tell who launched it.
        """
        wanted = as_uuid(uuid)

        def look_up_one(session: Session) -> Instance | None:
            load("guestlist.snapshot")
            from guestlist import snapshot  # noqa: PLC0415  it reads XML, a listing none

            return snapshot.one(session, wanted)

        found = self._sessions.ask(f"look up domain {wanted}", look_up_one)
        if found is None:
            raise DomainGone(f"there is no domain {uuid} on {self.label}")
        return found

    def has_domain(self, uuid: UUID | str) -> bool:
        """Return whether this host has a domain with this UUID, in any state and of any launcher.

        Raises as `instance`, except that False takes the place of `DomainGone`.

        Cost: 1 call.
        """
        uuid = as_uuid(uuid)
        return self._sessions.ask(
            f"look up domain {uuid}",
            lambda session: look_up(session.peer, uuid.bytes) is not None,
        )

    def node(self) -> Node:
        """Return what the host itself is: processors, memory, kinds of guests.

        Cost: 2 calls; 6 the first time.
        """
        return self._sessions.ask("read the facts of the node", lambda session: session.node.now())

    def hypervisor(self) -> Hypervisor:
        """Return the facts of the host that only a new libvirt or another machine changes.

        Cost: 4 calls, once per connection.
        """
        return self._sessions.ask(
            "read the facts of the node", lambda session: session.node.lasting()
        )

    def machine_uuid(self) -> UUID | None:
        """Return the machine's UUID, which all connections to the host are told alike.

        `hypervisor().uuid` may be another one, where libvirt has to invent it. None: libvirt has
        none.

        Cost: 5 calls, once per connection; 1 after `hypervisor`.
        """
        return self._sessions.ask(
            "ask which machine it is", lambda session: session.node.machine_uuid()
        )

    def hostname(self) -> str:
        """Return the host's name as its libvirt tells it. Cost: 1 call, once per connection."""
        return self._sessions.ask("ask for the name", lambda session: session.node.hostname())

    def launcher(self, domain: libvirt.virDomain) -> Launcher:
        """Return who launched a domain of this host.

        Raises:
            DomainGone: the domain does not exist any more.

        Cost: none where name or id tells that, and whether it is ours; else 1 call, remembered; 1
        more for a handle that a connection before this one has given.
        """
        name = short(domain.name())
        verdict = self._sessions.ask(
            f"read the metadata of domain {name!r}",
            lambda session: session.ownership.of(Handle(domain)),
        )
        if verdict is None:
            raise DomainGone(
                f"cannot tell who launched domain {name!r} of {self.label}: it was "
                "undefined, or it stopped and was transient"
            )
        return verdict.launcher

    def capabilities(self) -> Capabilities:
        """Return what this host's libvirt can do, found out by doing it. Cost: 6 calls at most."""
        return self._sessions.ask("check what libvirt can do", _capabilities)


def sessions_apart(host: Host, details_max_age: float) -> Sessions:
    """Return what asks a host over a connection of its own. For an `Inventory` only."""
    return host._sessions.apart(details_max_age)


def find(host: Host, choose: Callable[[Sequence[Handle]], Container[bytes]]) -> Snapshot:
    """Return some of all domains of a host, with details; see `snapshot.find`. For the command."""

    def look(session: Session) -> Snapshot:
        load("guestlist.snapshot")
        from guestlist import snapshot  # noqa: PLC0415  it reads XML, a listing none

        return snapshot.find(session, choose)

    return host._sessions.ask("look for domains", look)


def tell_reads(host: Host, tell: Callable[[int, int], object]) -> None:
    """Tell how many domains' XML has been read, and of how many, while many are read.

    `tell` is called on the threads that read. For the command. Cost: none.
    """
    host._sessions.tell_reads(tell)


def connection_like(host: Host) -> Connection:
    """Return another connection to a host, with its options, not yet opened. For the exporter."""
    return host._connection.like_this()


def _capabilities(session: Session) -> Capabilities:
    load("guestlist.snapshot")
    from guestlist import snapshot  # noqa: PLC0415  it reads XML, a listing none

    session.listing.domains(include_inactive=False)
    snapshot.states(session, include_inactive=False)
    peer = session.peer
    return Capabilities(
        uri=peer.uri,
        versions=peer.versions(),
        bulk_listing=bool(session.listing.bulk),
        bulk_stats=bool(session.bulk_stats),
        lifecycle_events=peer.lifecycle() is not None,
        keepalive=peer.keepalive,
    )
