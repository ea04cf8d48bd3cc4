"""The details of domains: their XML, read once and remembered.

In: handles off a listing. Out: `Details`, and the namespaces in their metadata; nothing for those
that are gone. Never raises for what one domain's XML is like: what could not be read is named in
its `Details.unknown`, and logged once. Only a lost connection is the caller's to hear.

    __init__    the memory: what is known, and when it is no longer true
    reader      one domain's XML to Details, whatever becomes of it
    parallel    many of them, side by side
    bounded     many of them within a deadline, where a stuck guest does not answer

Source: libvirt src/qemu/qemu_driver.c (qemuDomainGetXMLDesc takes the domain's lock, and neither a
job nor the monitor: a stuck guest answers. Old ones differ, see `bounded.is_needed`).
"""

from __future__ import annotations

import logging
import time
from collections.abc import Container, Iterable
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
from guestlist.records import Details
from guestlist.unpatched import threading

log = logging.getLogger(__name__)

XML_EVENTS = (
    EventKind.METADATA_CHANGE,
    EventKind.DEVICE_ADDED,
    EventKind.BLOCK_JOB_2,
    EventKind.DEVICE_REMOVED,
    EventKind.BALLOON_CHANGE,
    EventKind.TRAY_CHANGE,
    EventKind.DISK_CHANGE,
)
"""What changes a domain's XML while it runs; the newest first, see `Peer.events`."""

_NEW_XML = Lifecycle.DEFINED, Lifecycle.STARTED, Lifecycle.RESUMED
"""After these the XML is another: redefined, all of it there, migrated in."""

_FAILED_AGE = 0.1
"""The share of its age that XML which could not be read is believed for."""

_LONGEST_TURN = 0.5
"""Seconds that a snapshot waits for a turn of a busy event loop before it reads XML instead."""


@dataclass(slots=True)
class _Remembered:
    """What was read of a domain while it had this id, and until when (monotonic) it is believed."""

    id: int
    details: Details
    namespaces: frozenset[str] | None  # None: not told by the XML, and not asked for yet
    due: float

    def holds(self, handle: Handle, now: float) -> bool:
        """Whether it is still so. A name that is another one tells of a renaming."""
        return (
            self.id == handle.id
            and now < self.due
            and (self.details.name == handle.name or self.details.name is None)
        )


class DetailsMemory:
    """What the XML of the domains of one connection says.

    Remembered by UUID and id. An active domain's id is new at every start, so what was read stays
    true while it runs but for what is changed meanwhile, and an event tells of nearly all of that:
    redefined, devices plugged and unplugged, a disk's image exchanged, the balloon, the metadata.
    What no event tells of (vCPUs plugged by hand, an external snapshot, a change of the inactive
    configuration by `--config`; on drivers without events, anything) is seen after `max_age`
    seconds. It is forgotten when a listing that would have shown the domain does not, and with the
    connection.

    Threads take turns on the connection. Where XML is read aside the turn is given up meanwhile, so
    several may read at a time; events come at any time.
    """

    def __init__(
        self,
        peer: Peer,
        connection: Connection,
        bounded_reader: BoundedReader,
        max_age: float,
        *,
        keep_xml: bool = False,
    ) -> None:
        self._peer = peer
        self._bounded = bounded_reader
        self._is_bounded: bool | None = None
        self._max_age = max_age
        self._read_one = partial(reader.read, keep_xml=keep_xml)
        self._connection = connection
        self._known: dict[bytes, _Remembered] = {}
        self._changed_meanwhile: list[set[bytes]] = []  # one for each reading that goes on
        self._watching = False
        self._lock = threading.RLock()  # a signal handler may `discard` within any of it

    def __len__(self) -> int:
        return len(self._known)

    def watch(self) -> None:
        """Have events tell what changes, and believe nothing that was read before they could.

        Cost: up to 9 calls, once per connection, which are not in `Peer.calls`.
        """
        if not self._watching:
            threads.aside(self._watch, "guestlist-register")

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
        self._watching = True

    def catch_up(self) -> None:
        """Take in the events that have arrived, or believe nothing that they may contradict.

        Cost: none; some 0.03 ms, and up to a second and a half on a loop that is busy.
        """
        if not drain(_LONGEST_TURN):
            with self._lock:
                self._known.clear()

    def believed(self, handle: Handle) -> Details | None:
        """Its details, if they are known and nothing has contradicted them. Cost: none."""
        known = self._known.get(handle.uuid)
        return known.details if known and known.holds(handle, time.monotonic()) else None

    def read(self, handles: Iterable[Handle]) -> dict[bytes, Details]:
        """The details of each, by UUID; of those that are gone, none.

        Cost: 1 call for each that is not known, and a few for one whose XML does not pass. 2 for
        each, over another connection, where a stuck guest does not answer: see `bounded`.
        """
        known, wanted = {}, []
        now = time.monotonic()
        changed: set[bytes] = set()
        with self._lock:
            self._changed_meanwhile.append(changed)
            for handle in handles:
                one = self._known.get(handle.uuid)
                if one is not None and one.holds(handle, now):
                    known[handle.uuid] = one.details
                else:
                    wanted.append(handle)
        try:
            for handle, read in self._read(wanted) if wanted else ():
                if read is not None:
                    self._remember(handle, read, now, changed)
                    known[handle.uuid] = read.details
                else:
                    self._known.pop(handle.uuid, None)
        finally:
            with self._lock:
                self._changed_meanwhile = [
                    each for each in self._changed_meanwhile if each is not changed
                ]
        return known

    def namespaces(self, handle: Handle) -> frozenset[str] | None:
        """The namespaces in its metadata; None if it is gone.

        Raises:
            libvirt.libvirtError: neither its XML nor its metadata could be read: no list may leave
                it out unheard.

        Cost: 1 call where it is not known, and 2 more where its XML does not tell.
        """
        self.read([handle])
        known = self._known.get(handle.uuid)
        if known is None:
            return None
        if known.namespaces is None:
            known.namespaces = reader.nova_namespaces(handle, self._peer)
        return known.namespaces

    def discard(self, uuid: bytes) -> None:
        """Forget one that is gone."""
        with self._lock:
            self._known.pop(uuid, None)

    def discard_absent(self, listed: Container[bytes], *, include_inactive: bool) -> None:
        """Forget those that a listing would have shown and did not."""
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
            return [(handles[0], self._read_one(handles[0], self._peer))]
        return parallel.read(handles, self._peer, self._connection, self._read_one)

    def _read_aside(self, handles: list[Handle]) -> list[tuple[Handle, reader.ReadDetails | None]]:
        """Read within a deadline; others may ask over the connection meanwhile."""
        peer = self._peer
        read = partial(self._bounded.read, handles, self._read_one, self._answers_again)
        outcome = self._connection.others_turn(lambda: threads.aside(read, "guestlist-details"))
        peer.calls += outcome.calls
        if outcome.failure is not None:  # is it our connection that is lost?
            peer.calls += 1
            peer.connection.numOfDomains()
        return outcome.read

    def _answers_again(self, uuid: bytes) -> None:
        """A guest answers again: believe nothing noted in its place, or of those not asked."""
        with self._lock:
            for each, known in self._known.items():
                if each == uuid or bounded.was_not_asked(known.details):
                    known.due = 0.0

    def _remember(
        self, handle: Handle, read: reader.ReadDetails, now: float, changed: Container[bytes]
    ) -> None:
        """Keep it, unless an event said meanwhile that it has changed: then for this once."""
        uuid = handle.uuid
        if read.failure is not None:
            before = self._known.get(uuid)
            if before is None or before.details.unknown != read.details.unknown:
                log.warning("%s: %s", self._peer.label, read.failure)
        age = self._max_age * (_FAILED_AGE if read.failure else 1)
        with self._lock:
            due = now if uuid in changed else now + age
            self._known[uuid] = _Remembered(read.id, read.details, read.namespaces, due)

    def _on_lifecycle(self, domain: libvirt.virDomain, event: int, _detail: int) -> None:
        if event in _NEW_XML:
            self._on_change(domain)

    def _on_change(self, domain: libvirt.virDomain, *_facts: object) -> None:
        uuid = domain.UUID()
        with self._lock:
            for changed in self._changed_meanwhile:
                changed.add(uuid)
            known = self._known.get(uuid)
            if known is not None:
                known.due = 0.0
