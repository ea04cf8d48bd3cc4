"""The labels of one guest, and of its disks, network interfaces and virtual CPUs. Pure.

In: a domain's name and record. Out: the text between the braces of its samples, made once for each
guest and each device. Under `--compat kumina` the labels are those of kumina's exporter, which has
them on every sample.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

from guestlist.exporter.exposition import label, labels
from guestlist.records import Instance, NovaMetadata, Source


class LabelStyle(NamedTuple):
    """Which labels the samples of a guest have."""

    is_kumina: bool = False
    with_nova: bool = False
    """kumina's `--libvirt.export-nova-metadata`: Nova's name, flavor and project everywhere."""


_NOVA = "name", "flavor", "project_name"


class GuestLabels:
    """The labels of one guest: `guest` for itself; those of a device begin with them.

    `names`, `disk_names` and `nic_names` are the names of these labels.
    """

    __slots__ = ("_bridges", "_sources", "disk_names", "guest", "names", "nic_names")

    def __init__(self, name: str, instance: Instance | None, style: LabelStyle) -> None:
        self.guest = label("domain", name)
        kumina = {"uuid", *(_NOVA if style.with_nova else ())} if style.is_kumina else set()
        self.names = frozenset({"domain", *kumina})
        device = {*self.names, "target_device"}
        self.disk_names = frozenset({*device, "source_file"} if style.is_kumina else device)
        self.nic_names = frozenset({*device, "source_bridge"} if style.is_kumina else device)
        self._sources: dict[str, str] = {}
        self._bridges: dict[str, str] = {}
        if style.is_kumina:
            self._as_kumina(instance, style)

    def _as_kumina(self, instance: Instance | None, style: LabelStyle) -> None:
        details = instance.details if instance else None
        uuid = str(instance.uuid) if instance else ""
        self.guest = f"{self.guest},{label('uuid', uuid)}"
        if style.with_nova:
            self.guest += "," + _nova(details.nova if details else None)
        for disk in details.disks if details else ():
            if disk.target is not None:
                self._sources.setdefault(disk.target, label("source_file", _path(disk.source)))
        for nic in details.nics if details else ():
            if nic.target is not None:
                self._bridges.setdefault(nic.target, label("source_bridge", nic.source or ""))

    def disk(self, target: str) -> str:
        """Return the labels of a disk, by libvirt's name for it (vda)."""
        return self._device(target, self._sources)

    def nic(self, target: str) -> str:
        """Return the labels of a network interface, by its device on the host (tap…)."""
        return self._device(target, self._bridges)

    def vcpu(self, index: int) -> str:
        """Return the labels of a virtual CPU."""
        return f"{self.guest},{_vcpu(index)}"

    def _device(self, target: str, more: dict[str, str]) -> str:
        between = f"{more[target]}," if target in more else ""
        return f"{self.guest},{between}{label('target_device', target)}"


@lru_cache(maxsize=1_024)
def _vcpu(index: int) -> str:
    return label("vcpu", str(index))


def _path(source: Source) -> str:
    return source.location or ""


def _nova(nova: NovaMetadata | None) -> str:
    if nova is None:
        return labels(name="", flavor="", project_name="")
    return labels(
        name=nova.name,
        flavor=nova.flavor.name if nova.flavor else None,
        project_name=nova.owner.project_name if nova.owner else None,
    )
