"""One open connection, and all that is learned over it.

In: a connection that comes and goes, and a Host's options. Out: the `Session` of the peer that is
open now: its list, the memory of the domains' details, who launched them, the facts of its node.
A session ends with its peer: after a reconnect the daemon may be another, so nothing is kept.

What reads XML or statistics is imported when it is first needed: a listing needs neither, and the
command that prints one should not wait for them.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Container, Iterable, Mapping
from importlib import import_module
from types import FrameType, ModuleType
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import libvirt

from guestlist import logs, threads
from guestlist.errors import Reentered
from guestlist.listing import Listing
from guestlist.ownership import Ownership
from guestlist.plain import PlainDomains

if TYPE_CHECKING:
    from guestlist.connection import Connection
    from guestlist.details import DetailsMemory
    from guestlist.details.bounded import BoundedReader
    from guestlist.handle import Stated
    from guestlist.launcher import LaunchedBy
    from guestlist.node import NodeMemory
    from guestlist.opening import Attempt
    from guestlist.peer import Peer
    from guestlist.records import Instance
    from guestlist.statistics import Statistics

T = TypeVar("T")


def load(module: str) -> None:
    """Import a module of guestlist that not every Host needs, unless that was done.

    A thread does it that no signal handler interrupts: a handler that asks a Host meanwhile would
    find half a module. Where no thread can be started this one does it. So it does where a handler
    has interrupted an import on this thread: the other thread could wait for that import without
    end.

    Raises:
        Reentered: the import that was interrupted is one of those that the module needs.
    """
    known = sys.modules.get(module)
    if known is not None and not _is_half(known):
        return
    if not _is_importing():
        threads.finish(lambda: _import(module), "guestlist-import", wait=True)
        return
    try:
        _import(module)
    except (ImportError, AttributeError) as error:
        raise Reentered(
            f"cannot load {module}: a signal handler has interrupted an import on this thread that "
            f"it needs ({error}); ask after that, or in another thread"
        ) from error


def _import(module: str) -> None:
    if _is_half(import_module(module)):
        raise ImportError(f"half of {module} is there")
    logs.relay()  # it may have brought loggers


def _is_half(module: ModuleType) -> bool:
    """Return whether the import of a module has begun and not ended."""
    return bool(getattr(module.__spec__, "_initializing", False))


def _is_importing() -> bool:
    """Return whether this thread is within an import."""
    frame: FrameType | None = sys._getframe()
    while frame is not None:
        if frame.f_globals.get("__name__") == "importlib._bootstrap":
            return True
        frame = frame.f_back
    return False


class SessionOptions(NamedTuple):
    """The options of a `Host` that its sessions need; see there."""

    launched_by: LaunchedBy
    details_max_age: float
    details_deadline: float
    keep_xml: bool = False
    tell_reads: Callable[[int, int], object] | None = None
    """See `host.tell_reads`."""


class Session:
    """All that is learned over one open connection. Threads take turns, see `Sessions.ask`."""

    def __init__(
        self,
        peer: Peer,
        launched_by: LaunchedBy,
        plain: PlainDomains,
        make_details: Callable[[Peer], DetailsMemory],
    ) -> None:
        self.peer = peer
        self.listing = Listing(peer)
        self.ownership = Ownership(peer, launched_by, plain, lambda: self.details)
        self.bulk_stats: bool | None = None
        """Whether one call gives the states of all domains; None before the first such call."""
        self.instances: Mapping[bytes, Instance] = {}
        """The instances of the last snapshot with details, by UUID."""
        self._plain = plain
        self._make_details = make_details
        self._details: DetailsMemory | None = None
        self._node: NodeMemory | None = None

    @property
    def details(self) -> DetailsMemory:
        """The memory of what the domains' XML says."""
        if self._details is None:
            self._details = self._make_details(self.peer)
            self._plain.end()
        return self._details

    @property
    def node(self) -> NodeMemory:
        """The memory of what the node is."""
        if self._node is None:
            load("guestlist.node")
            from guestlist.node import NodeMemory  # noqa: PLC0415  it reads XML

            self._node = NodeMemory(self.peer)
        return self._node

    def instance_domains(
        self, *, include_inactive: bool, include_foreign: bool, include_dom0: bool
    ) -> list[libvirt.virDomain]:
        """Return the domains that match; see `Host.list_instance_domains`."""
        domains = self.listing.domains(include_inactive=include_inactive)
        if self._plain or (self._details and not self._details.hears_of_ends):
            self._discard_absent(  # a UUID costs more than a name
                {domain.UUID() for domain in domains}, include_inactive=include_inactive
            )
        return self.ownership.matching_domains(
            domains, include_foreign=include_foreign, include_dom0=include_dom0
        )

    def discard_absent(self, stated: Iterable[Stated], *, include_inactive: bool) -> None:
        """Discard what is known of domains that this list of states should show and does not."""
        if self._plain or self._details:
            self._discard_absent({one.uuid for one in stated}, include_inactive=include_inactive)

    def _discard_absent(self, listed: Container[bytes], *, include_inactive: bool) -> None:
        self._plain.discard_absent(listed, include_inactive=include_inactive)
        if self._details:
            self._details.discard_absent(listed, include_inactive=include_inactive)

    def discard(self, uuid: bytes) -> None:
        """Discard what the XML of a domain said. Any thread may call it."""
        self._plain.discard(uuid)
        if self._details is not None:
            self._details.discard(uuid)


class Sessions:
    """The sessions over one connection, one after the other; and what asks beside it.

    Threads may share it, and take turns.
    """

    def __init__(self, connection: Connection, options: SessionOptions) -> None:
        self.connection = connection
        self._options = options
        self._session: Session | None = None
        self._bounded: BoundedReader | None = None
        self._statistics: dict[str, Statistics] = {}

    @property
    def current(self) -> Session | None:
        """The session of the open peer; None if there is none, or if nothing was asked over it."""
        session = self._session
        return session if session and session.peer is self.connection.current else None

    @property
    def statistics(self) -> Statistics:
        """What asks for statistics, on connections of its own."""
        if not self._statistics:
            load("guestlist.statistics")
            from guestlist.statistics import Statistics  # noqa: PLC0415  most Hosts ask for none

            # Atomic, so that threads and signal handlers share one, and `close` knows it.
            self._statistics.setdefault("", Statistics(self.connection))
        return self._statistics[""]

    @property
    def is_open(self) -> bool:
        """Whether there is something to close. Cost: none."""
        return self.connection.is_open or any(
            statistics.is_open for statistics in self._statistics.values()
        )

    def ask(self, what: str, question: Callable[[Session], T]) -> T:
        """Lend the session of the open peer to one question; raises as `Connection.ask`."""
        return self.connection.ask(what, lambda peer: question(self._of(peer)))

    def tell_reads(self, tell: Callable[[int, int], object]) -> None:
        """Tell how much XML has been read, over connections that open from now on."""
        self._options = self._options._replace(tell_reads=tell)

    def apart(self, details_max_age: float) -> Sessions:
        """Return the same over another connection like this one, which keeps no XML."""
        options = self._options._replace(details_max_age=details_max_age, keep_xml=False)
        return Sessions(self.connection.like_this(), options)

    def close(self, attempt: Attempt | None = None) -> None:
        """Close the connection, and those beside it that are idle; see `Connection.close`.

        Args:
            attempt: an attempt to connect, which is given up first.
        """
        self.connection.give_up(attempt)
        for statistics in self._statistics.values():
            statistics.close()
        if self._bounded is not None:
            self._bounded.close()
        self.connection.close()

    def _of(self, peer: Peer) -> Session:
        session = self._session
        if session is None or session.peer is not peer:
            plain = PlainDomains(peer, self._options.details_max_age)
            session = Session(peer, self._options.launched_by, plain, self._make_details)
            self._session = session
        return session

    def _make_details(self, peer: Peer) -> DetailsMemory:
        load("guestlist.details")
        from guestlist.details import DetailsMemory  # noqa: PLC0415  it reads XML, a listing none
        from guestlist.details.bounded import BoundedReader  # noqa: PLC0415  as above

        options = self._options
        if self._bounded is None:
            self._bounded = BoundedReader(self.connection, options.details_deadline)
        return DetailsMemory(
            peer,
            self.connection,
            self._bounded,
            options.details_max_age,
            keep_xml=options.keep_xml,
            tell=options.tell_reads,
        )
