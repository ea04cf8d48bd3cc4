"""guestlist's side of the drop-in: one host, asked in real threads only.

In: a URI and the options. Out: plain values about all its domains, in few calls, whoever launched
them. Knows nothing of Nova.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple
from uuid import UUID

import guestlist
from guestlist.errors import NotSupported
from guestlist.images import Images
from guestlist.nova.connector import Connector
from guestlist.nova.domains import ListedDomain
from guestlist.records import Instance, Snapshot, Source, SourceKind
from guestlist.statistics import Counters, counters_in, vcpus_in
from guestlist.unpatched import threading

DEADLINE = 0.8
DEADLINE_EACH = 0.01
"""Seconds that guests may take to answer for their vCPUs, or their volumes: together, and for each
of them. One that does not answer costs a third of that, the first time."""

DETAILS_MAX_AGE = 3_600.0
"""Seconds for which XML is believed that no event has contradicted."""

RESYNC_TIMEOUT = 5.0


OPEN_TIMEOUT = 5.0
"""Seconds that one attempt to connect may take; questions do not wait for it, see `connector`."""


class Vcpus(NamedTuple):
    """How many vCPUs an active domain has, as virDomain.vcpus lists; None: only that can tell."""

    uuid: str
    id: int
    listed: int | None


class HostQuestions:
    """One host. Threads may share it."""

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
        self._size = 0

    # Its connection

    @property
    def is_connected(self) -> bool:
        """Whether there is a connection to ask over, dead or alive. Cost: none."""
        return self._host.is_open

    def connect(self) -> None:
        """Open what is asked, unless it is open, and then what the live view follows.

        Raises:
            GuestlistError: that cannot be done at once; see `Connector`.
        """
        if not self.is_connected:
            self._connector.connect()

    def _connected(self) -> guestlist.Host:
        self.connect()
        return self._host

    def _open(self) -> None:
        """In a thread of its own. The lists come first where the daemon has no place for both."""
        _ = self._host.is_local  # the first thing that needs a connection
        with self._lock:
            is_closed, live = self._is_closed, self._live
        if is_closed:
            self._host.close()
        elif live is not None:
            live.start()

    # Asked now

    def listed(self, *, only_running: bool) -> list[ListedDomain]:
        """Everybody, in libvirt's order. 1 call."""
        domains = self._connected().list_instance_domains(
            include_inactive=not only_running, include_foreign=True, include_dom0=True
        )
        self._size = len(domains)
        return [ListedDomain(each.UUIDString(), each.name(), each.ID()) for each in domains]

    def launched_by_nova(self) -> frozenset[str]:
        """The UUIDs of Nova's own, active or not. 1 call."""
        domains = self._connected().list_instance_domains(include_inactive=True)
        return frozenset(domain.UUIDString() for domain in domains)

    def documents(self, suspects: Iterable[str], *, only_running: bool) -> dict[str, str]:
        """The XML of everybody, by UUID. 1 call, and 1 for each whose XML may be another.

        An event tells of that, and has been taken in when this returns; `suspects` are those of
        whom it may not.
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
        """What each active domain has now, by UUID; None: not known. 1 call."""
        snapshot = self._connected().snapshot(include_foreign=True, include_dom0=True)
        return [
            (str(uuid), instance.details.current_memory_kib if instance.details else None)
            for uuid, instance in snapshot.items()
        ]

    def vcpus(self) -> list[Vcpus]:
        """Of each active domain. 2 calls.

        libvirt's statistics name the vCPUs that `virDomain.vcpus` would list; where that would
        fail, as on QEMU without KVM, they tell how many there are and name none, and Nova counts 1.
        """
        snapshot = self._with_statistics("vcpu")
        return [
            Vcpus(str(uuid), instance.id or 0, _vcpus(instance.statistics))
            for uuid, instance in snapshot.items()
        ]

    def volumes(self) -> list[tuple[ListedDomain, dict[str, Counters] | None]]:
        """The counters of each active domain's disks, by target, in 2 calls.

        None for a domain that does not answer: it is stuck. None at all where libvirt does not have
        these statistics.

        Raises:
            GuestlistError: it has, and could not be asked.
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
        """Virtual and allocated bytes of each domain's qcow2 files that tell, by path. 1 call."""
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
        """The active domains, about as many as the last time, and what they answered."""
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
        """Keep a live view from now on, or once there is a connection; None: keep none."""
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

    def undisputed(self, uuid: str, longest_since_list: float) -> Instance | None:
        """The domain, if nothing speaks against the live view, which was compared lately.

        Raises:
            GuestlistError: the view had to be compared, and libvirt could not be asked.

        Cost: no call, or 1 for the comparison.
        """
        self.connect()
        live = self._live
        known = live.undisputed(UUID(uuid)) if live is not None else None
        if live is None or known is None or live.seconds_since_list <= longest_since_list:
            return known
        live.resync(RESYNC_TIMEOUT)
        return live.undisputed(UUID(uuid))

    def close(self) -> None:
        """Let both connections go."""
        with self._lock:
            self._is_closed = True
        self.follow(resync_interval=None)
        self._host.close()


def _vcpus(statistics: Mapping[str, Any] | None) -> int | None:
    values = statistics or {}
    if "vcpu.current" not in values:
        return None
    return sum(vcpu.state is not None for vcpu in vcpus_in(values)) or 1


def _qcow2_files(instances: Iterable[Instance]) -> list[Source]:
    """The images that are the whole file of their path: of another Nova knows but the path."""
    return [
        disk.source
        for instance in instances
        if instance.details
        for disk in instance.details.disks
        if disk.source.kind is SourceKind.FILE
        and disk.source.format == "qcow2"
        and disk.source.slice is None
    ]
