"""The numbers of vCPUs of active domains, remembered while a domain keeps its id.

In: snapshots, with and without statistics of vCPUs. Out: a number for each active domain. A domain
has another id after each start, and Nova plugs no vCPU into a running domain. An operator can, by
hand (`virsh setvcpus`), and no event tells of it: so a number is read again after `max_age`
seconds. Asks nothing.

Source: libvirt src/qemu/qemu_driver.c (qemuDomainGetStatsVcpu, qemuDomainGetVcpus).
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, NamedTuple
from uuid import UUID

from guestlist.errors import NotSupported
from guestlist.records import Instance, Snapshot
from guestlist.statistics import vcpus_in


class Vcpus(NamedTuple):
    """How many vCPUs of an active domain virDomain.vcpus lists; None: only that call can tell."""

    uuid: str
    id: int
    listed: int | None


class VcpuMemory:
    """The numbers that were read last. Threads may share it."""

    def __init__(self, max_age: float) -> None:
        self._max_age = max_age
        self._known: Mapping[UUID, tuple[Vcpus, float]] = {}

    def counts(self, snapshot: Snapshot) -> list[Vcpus] | None:
        """Return the remembered numbers of all domains of a snapshot; None if one is missing.

        A number is not used once the domain has another id, or after `max_age` seconds.
        """
        known, now = self._known, time.monotonic()
        counts = []
        for uuid, instance in snapshot.items():
            count, until = known.get(uuid, _NOTHING)
            if count.id != instance.id or now >= until:
                return None
            counts.append(count)
        return counts

    def read(self, snapshot: Snapshot) -> list[Vcpus]:
        """Return and remember the numbers in the statistics of a snapshot.

        A domain that libvirt could not be asked about has None, and is not remembered.
        """
        until = time.monotonic() + self._max_age
        has_none = isinstance(snapshot.statistics_failure, NotSupported)
        counts = {uuid: _counted(uuid, instance) for uuid, instance in snapshot.items()}
        self._known = {
            uuid: (counts[uuid], until)
            for uuid, instance in snapshot.items()
            if has_none or instance.statistics is not None
        }
        return list(counts.values())


_NOTHING = Vcpus("", -1, None), 0.0


def _counted(uuid: UUID, instance: Instance) -> Vcpus:
    """Return the number in a domain's statistics.

    The statistics name each vCPU that `virDomain.vcpus` lists. Where that call fails, as on QEMU
    without KVM, they tell how many vCPUs there are and name none, and Nova counts 1.
    """
    values: Mapping[str, Any] = instance.statistics or {}
    listed = None
    if "vcpu.current" in values:
        listed = sum(vcpu.state is not None for vcpu in vcpus_in(values)) or 1
    return Vcpus(str(uuid), instance.id or 0, listed)
