"""What the instances of a snapshot use of their host: vCPUs, memory, block devices, disk space.

In: a `Snapshot` with details, and the sizes of the images in it, which the caller has measured.
Out: numbers, of each instance and of all. What is not known counts as nothing and is named in
`unknown`: a sum never contains a guess, and is never too small without saying so. Touches no
libvirt, no file, no clock.

vCPUs, memory and block devices are those of active instances. Disks are those of all instances: an
instance that is shut off keeps its images, and may fill them after its next start. Domain-0 is not
an instance: only its memory counts.

Source: how Nova counts, nova/virt/libvirt/driver.py (_get_vcpu_used,
_get_instance_disk_info_from_config), nova/virt/libvirt/host.py (_sum_domain_memory_mb; and, for
Domain-0, get_memory_mb_used as it was from 2014 to 2019).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING
from uuid import UUID

from guestlist.launcher import Launcher
from guestlist.records import (
    Details,
    Disk,
    DiskDevice,
    Instance,
    Snapshot,
    Source,
    SourceKind,
    hides_devices,
)

if TYPE_CHECKING:
    from guestlist.images import Image

_REMOVABLE = DiskDevice.CDROM, DiskDevice.FLOPPY


@dataclass(frozen=True, slots=True)
class InstanceUsage:
    """What one instance uses.

    `unknown` names what is missing from the numbers, for example "disk vda: no such file".

    A number is None where nothing of it is known; the disk numbers are sums over the known disks.
    """

    uuid: UUID
    name: str
    vcpus: int | None
    memory_kib: int | None
    block_devices: tuple[str, ...]
    disk_virtual_bytes: int | None
    disk_allocated_bytes: int | None
    disk_over_committed_bytes: int | None
    unknown: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Usage:
    """What all instances use: the sums of `instances`, which are in the order of the snapshot.

    Each of `unknown` begins with the instance's name, which is as hostile as its source.
    `stale_for` is the snapshot's: the seconds for which the live view has been stale.
    """

    instances: tuple[InstanceUsage, ...]
    vcpus_used: int
    memory_used_kib: int
    block_devices: tuple[str, ...]
    disk_over_committed_bytes: int
    unknown: tuple[str, ...]
    stale_for: float = 0.0


def of(
    snapshot: Snapshot,
    images: Mapping[Source, Image] | None = None,
    *,
    host_available_kib: int | None = 0,
) -> Usage:
    """Return what the instances of a snapshot use.

    Args:
        snapshot: the instances, with their details.
        images: the sizes of `sources(snapshot)`. None: disks are not measured; their numbers are
            None and not reported as unknown.
        host_available_kib: what is free, or in buffers and caches, on a Xen host. Domain-0 takes
            all memory that no domain uses, so this much of its memory does not count. None: not
            known, and the memory of Domain-0 is unknown.

    Cost: no call. 400 instances with two disks each in some 2 ms.
    """
    instances = tuple(
        _instance_usage(instance, images, host_available_kib) for instance in snapshot.instances
    )
    return Usage(
        instances=instances,
        vcpus_used=sum(one.vcpus or 0 for one in instances),
        memory_used_kib=sum(one.memory_kib or 0 for one in instances),
        block_devices=tuple(device for one in instances for device in one.block_devices),
        disk_over_committed_bytes=sum(one.disk_over_committed_bytes or 0 for one in instances),
        unknown=tuple(f"{one.name}: {what}" for one in instances for what in one.unknown),
        stale_for=snapshot.stale_for,
    )


def vcpus_used(snapshot: Snapshot) -> int:
    """Return the vCPUs of the active instances."""
    return of(snapshot).vcpus_used


def memory_used_kib(snapshot: Snapshot, host_available_kib: int | None = 0) -> int:
    """Return the memory of the active instances; see `of` for Domain-0."""
    return of(snapshot, host_available_kib=host_available_kib).memory_used_kib


def block_devices(snapshot: Snapshot) -> tuple[str, ...]:
    """Return the block devices of the active instances, in order, once for each attachment."""
    return of(snapshot).block_devices


def disk_over_committed_bytes(snapshot: Snapshot, images: Mapping[Source, Image]) -> int:
    """Return the bytes by which the images of all instances may still grow."""
    return of(snapshot, images).disk_over_committed_bytes


def has_dom0(snapshot: Snapshot) -> bool:
    """Return whether Domain-0 is among the instances: only then `of` needs `host_available_kib`."""
    return any(map(_is_dom0, snapshot.values()))


def sources(snapshot: Snapshot) -> tuple[Source, ...]:
    """Return the sources whose sizes `of` needs, each once.

    Use: `images.measure(usage.sources(snapshot))`.
    """
    return tuple(
        dict.fromkeys(
            disk.source
            for instance in snapshot.instances
            if instance.details is not None
            for disk in instance.details.disks
            if disk.source.kind is not SourceKind.NONE
        )
    )


def _instance_usage(
    instance: Instance, images: Mapping[Source, Image] | None, host_available_kib: int | None
) -> InstanceUsage:
    details = instance.details
    if details is None:
        return InstanceUsage(
            instance.uuid, instance.name, None, None, (), None, None, None, ("details",)
        )
    if _is_dom0(instance):
        return _host_usage(instance, details, host_available_kib)
    vcpus, memory_kib, devices = _of_active(instance, details)
    (virtual, allocated, over_committed), unknown = _disks(details, images)
    if memory_kib is None:
        unknown.insert(0, "memory")
    if vcpus is None:
        unknown.insert(0, "vcpus")
    return InstanceUsage(
        uuid=instance.uuid,
        name=instance.name,
        vcpus=vcpus,
        memory_kib=memory_kib,
        block_devices=devices,
        disk_virtual_bytes=virtual,
        disk_allocated_bytes=allocated,
        disk_over_committed_bytes=over_committed,
        unknown=tuple(unknown),
    )


def _is_dom0(instance: Instance) -> bool:
    return instance.launcher is Launcher.DOM0 or instance.id == 0


def _host_usage(
    instance: Instance, details: Details, host_available_kib: int | None
) -> InstanceUsage:
    """Return the usage of Domain-0: the memory that it could not give away."""
    has_kib = details.current_memory_kib if instance.active else 0
    memory_kib: int | None = None
    unknown: tuple[str, ...] = ("memory",)
    if has_kib is not None and host_available_kib is not None:
        memory_kib, unknown = max(0, has_kib - host_available_kib), ()
    return InstanceUsage(instance.uuid, instance.name, 0, memory_kib, (), 0, 0, 0, unknown)


def _of_active(
    instance: Instance, details: Details
) -> tuple[int | None, int | None, tuple[str, ...]]:
    """Return what an instance uses only while it is active: vCPUs, memory and block devices."""
    if not instance.active:
        return 0, 0, ()
    devices = tuple(
        disk.source.location
        for disk in details.disks
        if disk.source.kind is SourceKind.BLOCK and disk.source.location is not None
    )
    return details.current_vcpus, details.current_memory_kib, devices


def _disks(
    details: Details, images: Mapping[Source, Image] | None
) -> tuple[tuple[int, int, int] | tuple[None, None, None], list[str]]:
    """Return the virtual, allocated and over-committed bytes of known disks; and what is not."""
    if images is None:
        return (None, None, None), []
    unknown = [what for what in details.unknown if hides_devices(what)]
    known = not (details.disks or unknown)
    virtual = allocated = over_committed = 0
    for place, disk in enumerate(details.disks, 1):
        match _sizes(disk, images):
            case str(why):
                unknown.append(f"disk {disk.target or f'#{place}'}: {why}")
            case disk_virtual, disk_allocated:
                known = True
                virtual += disk_virtual
                allocated += disk_allocated
                over_committed += _over_committed(disk.source, disk_virtual, disk_allocated)
    return ((virtual, allocated, over_committed) if known else (None, None, None)), unknown


def _sizes(disk: Disk, images: Mapping[Source, Image]) -> tuple[int, int] | str:
    """Return the virtual and allocated bytes of a disk's image, or why they are not known."""
    if disk.source.kind is SourceKind.NONE:
        return (0, 0) if disk.device in _REMOVABLE else "no source"
    image = images.get(disk.source)
    if image is None:
        return "not measured"
    if image.virtual_bytes is None or image.allocated_bytes is None:
        return image.unknown or "not known"
    return image.virtual_bytes, image.allocated_bytes


def _over_committed(source: Source, virtual_bytes: int, allocated_bytes: int) -> int:
    """Return the bytes by which an image may still grow, as Nova counts.

    Only files grow. The result for a full raw file may be a little below 0: its last block is
    allocated whole. The header of an encrypted image is allocated too, but not for the guest.
    """
    if source.kind is not SourceKind.FILE:
        return 0
    over_committed = virtual_bytes - allocated_bytes
    is_raw = source.format in (None, "raw") and source.encryption is None
    return over_committed if is_raw else max(0, over_committed)
