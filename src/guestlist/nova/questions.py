"""The questions that the drop-in asks about one host, in real threads only.

In: a URI and the options. Out: plain values about all domains of the host, in few calls, whichever
program launched them. Opens its connections with `connector`. Knows nothing of Nova.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import replace
from typing import Any
from uuid import UUID

import guestlist
from guestlist.errors import NotSupported
from guestlist.images import Images
from guestlist.nova.connector import Connector
from guestlist.nova.domains import ListedDomain
from guestlist.nova.live_answers import Facts, Reason, may_answer
from guestlist.nova.vcpus import VcpuMemory, Vcpus
from guestlist.records import Instance, Snapshot, Source, SourceKind
from guestlist.statistics import Counters, counters_in
from guestlist.unpatched import threading

DEADLINE = 0.8
DEADLINE_EACH = 0.01
"""Seconds that all guests together may take to answer for their vCPUs or volumes: the first number,
and the second one for each guest. A guest that does not answer costs a third of that, once."""

DETAILS_MAX_AGE = 3_600.0
"""Seconds for which an XML document or a number of vCPUs is used that no event has contradicted."""

RESYNC_TIMEOUT = 5.0
"""Seconds that a question waits for a comparison of the live view."""

OPEN_TIMEOUT = 5.0
"""Seconds that one attempt to connect may take; questions do not wait for it, see `connector`."""


class HostQuestions:
    """One host, and what is asked about it. Threads may share it."""

    def __init__(self, uri: str | None, *, name_template: str) -> None:
        guestlist.use_running_event_loop()
        self._host = guestlist.Host(
            uri,
            launched_by=guestlist.NovaLaunched(name_template),
            keep_xml=True,
            details_max_age=DETAILS_MAX_AGE,
            open_timeout=OPEN_TIMEOUT,
        )
        self._connector = Connector(self._open)
        self._live: guestlist.Inventory | None = None
        self._is_closed = False
        self._lock = threading.Lock()
        self._images = Images()
        self._vcpus = VcpuMemory(DETAILS_MAX_AGE)
        self._size = 0

    # Its connection

    @property
    def is_connected(self) -> bool:
        """Whether a connection is open, dead or alive. Cost: none."""
        return self._host.is_open

    def connect(self) -> None:
        """Open the connection for questions, and then the one of the live view, if not open yet.

        Raises:
            GuestlistError: the connection cannot be opened at once; see `Connector`.
        """
        if not self.is_connected:
            self._connector.connect()

    def _connected(self) -> guestlist.Host:
        self.connect()
        return self._host

    def _open(self) -> None:
        """Connect, in a thread of its own. A daemon with one place left gives it to the lists."""
        _ = self._host.is_local  # this opens the connection
        with self._lock:
            is_closed, live = self._is_closed, self._live
        if is_closed:
            self._host.close()
        elif live is not None:
            live.start()

    # Lists

    def names(self, *, launched_by_nova: bool) -> list[str]:
        """Return the names of all domains, or of Nova's own, in libvirt's order. 1 call."""
        return [domain.name() for domain in self._all(launched_by_nova=launched_by_nova)]

    def uuids(self, *, launched_by_nova: bool) -> list[str]:
        """Return the UUIDs of all domains, or of Nova's own, in libvirt's order. 1 call."""
        return [domain.UUIDString() for domain in self._all(launched_by_nova=launched_by_nova)]

    def _all(self, *, launched_by_nova: bool) -> list[Any]:
        """Return the handles. A domain of Nova's that only its metadata tells comes last.

        Cost: 1 call, and once 1 for each domain whose name does not tell.
        """
        return self._connected().list_instance_domains(
            include_inactive=True,
            include_foreign=not launched_by_nova,
            include_dom0=not launched_by_nova,
        )

    def listed(self, *, only_running: bool) -> list[ListedDomain]:
        """Return all domains, or all active ones, in libvirt's order. 1 call."""
        domains = self._connected().list_instance_domains(
            include_inactive=not only_running, include_foreign=True, include_dom0=True
        )
        self._size = len(domains)
        return [ListedDomain(each.UUIDString(), each.name(), each.ID()) for each in domains]

    # What domains have and use

    def documents(self, suspects: Iterable[str], *, only_running: bool) -> dict[str, str]:
        """Return the XML of the domains, by UUID. 1 call, and 1 for each XML that may have changed.

        An event tells of a change. Events that were received before the call are taken in first.
        `suspects` are domains that may have changed without an event.
        """
        host = self._connected()
        for uuid in suspects:
            host.discard_details(uuid)
        snapshot = host.snapshot(
            include_inactive=not only_running, include_foreign=True, include_dom0=True
        )
        return {
            str(uuid): instance.details.xml
            for uuid, instance in snapshot.items()
            if instance.details and instance.details.xml is not None
        }

    def memory_kib(self) -> list[tuple[str, int | None]]:
        """Return the current memory of each active domain, by UUID; None: not known. 1 call."""
        snapshot = self._connected().snapshot(include_foreign=True, include_dom0=True)
        return [
            (str(uuid), instance.details.current_memory_kib if instance.details else None)
            for uuid, instance in snapshot.items()
        ]

    def vcpus(self) -> list[Vcpus]:
        """Return the number of vCPUs of each active domain.

        The numbers are remembered, see `VcpuMemory`: the statistics enter each guest's monitor, and
        take 50 ms for 40 guests where a list takes 1 ms.

        Cost: 1 call; 3 where a domain is new, has restarted or was last read long ago.
        """
        snapshot = self._connected().snapshot(
            include_foreign=True, include_dom0=True, details=False
        )
        known = self._vcpus.counts(snapshot)
        return self._vcpus.read(self._with_statistics("vcpu")) if known is None else known

    def volumes(self) -> list[tuple[ListedDomain, dict[str, Counters] | None]]:
        """Return the counters of each active domain's disks, by target, in 2 calls.

        None in place of a domain's counters: its guest is stuck and does not answer. An empty list:
        this libvirt does not have these statistics.

        Raises:
            GuestlistError: libvirt has these statistics, and could not be asked.
        """
        snapshot = self._with_statistics("block")
        failure = snapshot.statistics_failure
        if failure is not None and not isinstance(failure, NotSupported):
            raise failure
        told = [each.statistics for each in snapshot.values() if each.statistics is not None]
        if failure is not None or (told and not any("block.count" in each for each in told)):
            return []
        return [
            (
                ListedDomain(str(uuid), instance.name, instance.id or 0),
                None if uuid in snapshot.unanswered else counters_in(instance.statistics or {}),
            )
            for uuid, instance in snapshot.items()
        ]

    def qcow2_images(self) -> dict[str, tuple[int, int]]:
        """Return virtual and allocated bytes of the domains' qcow2 files, by path. 1 call.

        A file whose header or size could not be read is left out.
        """
        snapshot = self._connected().snapshot(
            include_inactive=True, include_foreign=True, include_dom0=True
        )
        images = self._images.measure(_qcow2_files(snapshot.values()))
        return {
            source.location: (image.virtual_bytes, image.allocated_bytes)
            for source, image in images.items()
            if source.location
            and image.virtual_bytes is not None
            and image.allocated_bytes is not None
        }

    def _with_statistics(self, group: str) -> Snapshot:
        """Return the active domains with a group of statistics. 2 calls.

        The deadline grows with the number of domains that the last list had.
        """
        snapshot = self._connected().snapshot(
            include_foreign=True,
            include_dom0=True,
            details=False,
            statistics=(group,),
            deadline=DEADLINE + DEADLINE_EACH * self._size,
        )
        self._size = len(snapshot)
        return snapshot

    # The live view

    def follow(self, *, resync_interval: float | None) -> None:
        """Keep a live view from now on, or once a connection is open; None: keep none."""
        live, last = None, self._live
        if last is not None:
            last.close()
        if resync_interval is not None:
            live = guestlist.Inventory(
                self._host.uri,
                launched_by=guestlist.Anyone(),
                details=False,
                resync_every=resync_interval,
            )
        with self._lock:
            self._live = live
        if live is not None and self._host.is_open:
            live.start()

    def look(self, uuid: str, facts: Facts) -> Facts:
        """Return the facts completed with what the live view says of a domain.

        The view is compared with a list first where only its last comparison is too old.

        Raises:
            GuestlistError: the view had to be compared, and libvirt could not be asked.

        Cost: no call, or 1 for the comparison.
        """
        self.connect()
        asked_at = time.monotonic()
        live = self._live
        if live is None:
            return replace(facts, has_view=False)
        facts = _seen(live, uuid, facts, asked_at)
        if may_answer(facts) is Reason.LIST_TOO_OLD:
            if _list_age(live, asked_at) > facts.max_list_age:  # no list was merged meanwhile
                live.resync(RESYNC_TIMEOUT)
            facts = _seen(live, uuid, facts, asked_at)
        return facts

    def close(self) -> None:
        """Close both connections."""
        with self._lock:
            self._is_closed = True
        self.follow(resync_interval=None)
        self._host.close()


def _seen(live: guestlist.Inventory, uuid: str, facts: Facts, asked_at: float) -> Facts:
    """Return the facts with the view as it is now.

    The age of its last list is read first. A list that is merged between the two steps then does
    not count: what was read before that list may be older.
    """
    since = _list_age(live, asked_at)
    return replace(facts, view=live.evidence(UUID(uuid)), seconds_since_list=since)


def _list_age(live: guestlist.Inventory, asked_at: float) -> float:
    """Return the seconds from the start of the last compared list to the question."""
    return live.seconds_since_list - (time.monotonic() - asked_at)


def _qcow2_files(instances: Iterable[Instance]) -> list[Source]:
    """Return the images that fill the file at their path: Nova knows an image by its path alone."""
    return [
        disk.source
        for instance in instances
        if instance.details
        for disk in instance.details.disks
        if disk.source.kind is SourceKind.FILE
        and disk.source.format == "qcow2"
        and disk.source.slice is None
    ]
