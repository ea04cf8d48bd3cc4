"""The details of domains: their XML, read once and remembered.

In: handles from a list. Out: `Details`, and the namespaces in their metadata; nothing for domains
that are gone. XML that cannot be read raises no error: `Details.unknown` names what is missing, and
the log does so once. Only a lost connection is an error.

    __init__    the memory: what is known, and until when it is true
    reader      the XML of one domain, read to Details
    parallel    the XML of many domains, read side by side
    bounded     the same within a deadline, where a stuck guest does not answer

Source: libvirt src/qemu/qemu_driver.c (qemuDomainGetXMLDesc takes the domain's lock, and neither a
job nor the monitor, so that a stuck guest delays nothing. Old releases differ, see
`bounded.is_needed`).
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Container, Iterable, Mapping
from dataclasses import dataclass
from functools import partial

import libvirt

from guestlist import threads
from guestlist.connection import Connection
from guestlist.details import bounded, parallel, reader
from guestlist.details.bounded import BoundedReader
from guestlist.event import EventKind, Lifecycle
from guestlist.event_loop import drain
from guestlist.handle import INACTIVE_ID, Handle
from guestlist.peer import Peer
from guestlist.plain import Fetched
from guestlist.records import Details
from guestlist.unpatched import threading

log = logging.getLogger(__name__)

XML_EVENTS = (
    EventKind.METADATA_CHANGE,
    EventKind.DEVICE_ADDED,
    EventKind.AGENT_LIFECYCLE,
    EventKind.BLOCK_JOB_2,
    EventKind.DEVICE_REMOVED,
    EventKind.BALLOON_CHANGE,
    EventKind.TRAY_CHANGE,
    EventKind.DISK_CHANGE,
)
"""Events that tell of a change in an active domain's XML; the newest first, see `Peer.events`."""

_NEW_XML = Lifecycle.DEFINED, Lifecycle.STARTED, Lifecycle.RESUMED
"""Events after which the XML differs: the domain was redefined, started, or migrated in."""

_ENDS = Lifecycle.STOPPED, Lifecycle.UNDEFINED

_FAILED_AGE = 0.1
"""The share of `max_age` after which XML that could not be read is read again."""

_LONGEST_TURN = 0.5
"""Seconds that a snapshot waits for a turn of a busy event loop; after that it reads the XML."""


@dataclass(slots=True)
class _Remembered:
    """What was read of a domain while it had this id. It is believed until `due` (monotonic)."""

    id: int
    details: Details
    namespaces: frozenset[str] | None  # None: the XML did not tell, and nothing else was asked yet
    due: float

    def holds(self, handle: Handle, now: float) -> bool:
        """Return whether it is still true. A handle with another name tells of a renaming."""
        return (
            self.id == handle.id
            and now < self.due
            and (self.details.name == handle.name or self.details.name is None)
        )


class DetailsMemory:
    """Remembers what the XML of the domains of one connection says.

    It is remembered by UUID and id. A domain gets a new id at every start, so what was read stays
    true while the domain runs, except for what changes meanwhile. An event tells of nearly every
    such change: the domain is redefined, devices are plugged and unplugged, a disk's image is
    exchanged, the guest agent connects or disconnects, the balloon or the metadata changes. No
    event tells of vCPUs plugged by hand, of an external snapshot, of a change of the inactive
    configuration by `--config`, and on drivers without events of anything: such a change is seen
    after `max_age` seconds. The memory of a domain ends when an event tells that it stopped or was
    undefined, when a list that should show the domain does not, and with the connection.

    Threads take turns on the connection. While a thread reads XML over a separate
    connection it gives up its turn, so several threads may read at a time; events come at any time.
    """

    def __init__(
        self,
        peer: Peer,
        connection: Connection,
        bounded_reader: BoundedReader,
        max_age: float,
        *,
        keep_xml: bool = False,
        tell: Callable[[int, int], object] | None = None,
    ) -> None:
        self._peer = peer
        self._tell = tell
        self._bounded = bounded_reader
        self._is_bounded: bool | None = None
        self._max_age = max_age
        self._reader = reader.XmlReader(keep_xml=keep_xml)
        self._connection = connection
        self._known: dict[bytes, _Remembered] = {}
        self._changed_meanwhile: list[dict[bytes, bool]] = []
        """For each `_recall` under way: the domains of which an event has told meanwhile, and
        whether it told of their end."""
        self._watching = False
        self.hears_of_ends = False
        """Whether events tell which domains stop and are undefined."""
        self._lock = threading.RLock()  # a signal handler may call `discard` at any moment

    def __len__(self) -> int:
        return len(self._known)

    def watch(self) -> None:
        """Register for the events that tell of changes; forget what was read before that.

        Cost: up to 10 calls, once per connection, which are not in `Peer.calls`.
        """
        if not self._watching:
            threads.run_uninterrupted(self._watch, "guestlist-register")

    def _watch(self) -> None:
        for kind in XML_EVENTS:
            stream = self._peer.events(kind, kind.since)
            if stream is not None:
                stream.subscribe(self._on_change)
        lifecycle = self._peer.lifecycle()
        if lifecycle is not None:
            lifecycle.subscribe(self._on_lifecycle)
        with self._lock:
            self._known.clear()
        self.hears_of_ends = lifecycle is not None
        self._watching = True

    def catch_up(self) -> None:
        """Take in the events that have arrived; where that takes too long, forget everything.

        Cost: no call; about 0.03 ms, and up to 1.5 s while the event loop is busy.
        """
        if self._known and not drain(_LONGEST_TURN):
            with self._lock:
                self._known.clear()

    def believed(self, handle: Handle) -> Details | None:
        """Return the details of a domain if they are known and no event contradicts them.

        Cost: none.
        """
        known = self._known.get(handle.uuid)
        return known.details if known and known.holds(handle, time.monotonic()) else None

    def read(self, handles: Iterable[Handle]) -> dict[bytes, Details]:
        """Return the details of each domain by UUID, without those that are gone.

        Cost: 1 call for each domain that is not known, and a few for XML that does not pass. Where
        a stuck guest does not answer it is 2 for each, over another connection: see `bounded`.
        """
        return {uuid: one.details for uuid, one in self._recall(handles).items()}

    def _recall(self, handles: Iterable[Handle]) -> dict[bytes, _Remembered]:
        """Return what is known of each domain by UUID; read the XML of the others first."""
        known, wanted = {}, []
        now = time.monotonic()
        changed: dict[bytes, bool] = {}
        with self._lock:
            self._changed_meanwhile.append(changed)
            for handle in handles:
                one = self._known.get(handle.uuid)
                if one is not None and one.holds(handle, now):
                    known[handle.uuid] = one
                else:
                    wanted.append(handle)
        try:
            for handle, read in self._read(wanted) if wanted else ():
                if read is not None:
                    known[handle.uuid] = self._remember(handle, read, now, changed)
                else:
                    self.discard(handle.uuid)
        finally:
            with self._lock:
                self._changed_meanwhile = [
                    each for each in self._changed_meanwhile if each is not changed
                ]
        return known

    def learn(self, handle: Handle, fetched: Fetched) -> None:
        """Remember what a document says that was fetched already, or why it was not.

        Raises:
            libvirt.libvirtError: the connection is lost.

        Cost: none; a few calls for XML that does not pass.
        """
        now = time.monotonic()
        if isinstance(fetched, str):
            read = self._reader.parse(handle, fetched, self._peer)
        else:
            read = self._reader.unfetched(handle, fetched, self._peer)
        if read is not None:
            self._remember(handle, read, now, {})

    def namespaces(self, handle: Handle) -> frozenset[str] | None:
        """Return the namespaces in a domain's metadata; None if the domain is gone.

        Raises:
            libvirt.libvirtError: neither the XML nor the metadata could be read. No list may leave
                the domain out because of that.

        Cost: 1 call for a domain that is not known, and 2 more where its XML does not tell.
        """
        known = self._recall([handle]).get(handle.uuid)
        if known is None:
            return None
        if known.namespaces is None:
            known.namespaces = reader.nova_namespaces(handle, self._peer)
        return known.namespaces

    def discard(self, uuid: bytes) -> None:
        """Forget a domain."""
        with self._lock:
            self._known.pop(uuid, None)

    def discard_absent(self, listed: Container[bytes], *, include_inactive: bool) -> None:
        """Forget the domains that a list should show and does not."""
        with self._lock:
            for uuid, known in list(self._known.items()):
                if uuid not in listed and (include_inactive or known.id != INACTIVE_ID):
                    self._known.pop(uuid, None)

    def _read(self, handles: list[Handle]) -> Iterable[tuple[Handle, reader.ReadDetails | None]]:
        if self._is_bounded is None:
            self._is_bounded = bounded.is_needed(self._peer)
        if self._is_bounded:
            return self._read_aside(handles)
        if len(handles) == 1:
            return [(handles[0], self._reader.read(handles[0], self._peer))]
        return parallel.read(handles, self._peer, self._connection, self._reader, self._tell)

    def _read_aside(self, handles: list[Handle]) -> list[tuple[Handle, reader.ReadDetails | None]]:
        """Read within a deadline; other threads may ask over the connection meanwhile."""
        peer = self._peer
        read = partial(self._bounded.read, handles, self._reader, self._answers_again)
        outcome = self._connection.others_turn(
            lambda: threads.run_uninterrupted(read, "guestlist-details")
        )
        peer.count(outcome.calls)
        if outcome.failure is not None:  # find out whether this connection is lost, too
            peer.call(peer.connection.numOfDomains)
        return outcome.read

    def _answers_again(self, uuid: bytes) -> None:
        """Forget what was noted for a guest that answers again, and for guests not asked."""
        with self._lock:
            for each, known in self._known.items():
                if each == uuid or bounded.was_not_asked(known.details):
                    known.due = 0.0

    def _remember(
        self, handle: Handle, read: reader.ReadDetails, now: float, changed: Mapping[bytes, bool]
    ) -> _Remembered:
        """Remember what was read. If an event told of a change meanwhile, it is used only once.

        If the event told of an end, nothing is remembered: perhaps no later event or list names
        the domain.
        """
        uuid = handle.uuid
        if read.failure is not None:
            before = self._known.get(uuid)
            if before is None or before.details.unknown != read.details.unknown:
                log.warning("%s: %s", self._peer.label, read.failure)
        age = self._max_age * (_FAILED_AGE if read.failure else 1)
        with self._lock:
            due = now if uuid in changed else now + age
            known = _Remembered(read.id, read.details, read.namespaces, due)
            if changed.get(uuid):
                self._known.pop(uuid, None)
            else:
                self._known[uuid] = known
        return known

    def _on_lifecycle(self, domain: libvirt.virDomain, event: int, _detail: int) -> None:
        if event in _NEW_XML:
            self._on_change(domain)
        elif event in _ENDS:
            self._on_end(domain.UUID(), of_active=event == Lifecycle.STOPPED)

    def _on_end(self, uuid: bytes, *, of_active: bool) -> None:
        """Forget a domain that stopped, if it was read while active; as inactive if undefined.

        The event may come late: then the domain may have been read since as what it is now.
        """
        with self._lock:
            for changed in self._changed_meanwhile:
                changed[uuid] = True
            known = self._known.get(uuid)
            if known is not None and (known.id != INACTIVE_ID) is of_active:
                del self._known[uuid]

    def _on_change(self, domain: libvirt.virDomain, *_facts: object) -> None:
        uuid = domain.UUID()
        with self._lock:
            for changed in self._changed_meanwhile:
                changed.setdefault(uuid, False)
            known = self._known.get(uuid)
            if known is not None:
                known.due = 0.0
