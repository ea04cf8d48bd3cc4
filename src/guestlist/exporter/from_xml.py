"""A domain's record and its XML to samples. Pure.

In: an `Instance`, with its details. Out: lines by family, which stay the same until the record
changes. What the XML does not tell has no sample, or an empty label.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TypeVar
from uuid import UUID

from guestlist.exporter.exposition import Lines, extended, label, sample
from guestlist.exporter.labels import GuestLabels
from guestlist.records import Details, Disk, Instance, IoTune, Nic, NovaMetadata, SourceKind
from guestlist.states import DomainState

_D = TypeVar("_D", Disk, Nic)

_STATE_WORDS = {
    DomainState.NOSTATE: "no state",
    DomainState.RUNNING: "the domain is running",
    DomainState.BLOCKED: "the domain is blocked on resource",
    DomainState.PAUSED: "the domain is paused by user",
    DomainState.SHUTDOWN: "the domain is being shut down",
    DomainState.SHUTOFF: "the domain is shut off",
    DomainState.CRASHED: "the domain is crashed",
    DomainState.PMSUSPENDED: "the domain is suspended by guest power management",
}
"""inovex's words, which its dashboard shows; "paused by user" is there for every pause."""

_LIMITS = {
    "limit_total_bytes": "total_bytes_sec",
    "limit_read_bytes": "read_bytes_sec",
    "limit_write_bytes": "write_bytes_sec",
    "limit_total_requests": "total_iops_sec",
    "limit_read_requests": "read_iops_sec",
    "limit_write_requests": "write_iops_sec",
    "limit_burst_total_bytes": "total_bytes_sec_max",
    "limit_burst_read_bytes": "read_bytes_sec_max",
    "limit_burst_write_bytes": "write_bytes_sec_max",
    "limit_burst_total_requests": "total_iops_sec_max",
    "limit_burst_read_requests": "read_iops_sec_max",
    "limit_burst_write_requests": "write_iops_sec_max",
    "limit_burst_total_bytes_length_seconds": "total_bytes_sec_max_length",
    "limit_burst_read_bytes_length_seconds": "read_bytes_sec_max_length",
    "limit_burst_write_bytes_length_seconds": "write_bytes_sec_max_length",
    "limit_burst_length_total_requests_seconds": "total_iops_sec_max_length",
    "limit_burst_length_read_requests_seconds": "read_iops_sec_max_length",
    "limit_burst_length_write_requests_seconds": "write_iops_sec_max_length",
    "size_iops_bytes": "size_iops_sec",
}
"""By the end of the family's name: libvirt's element in `<iotune>`."""


def state_lines(state: DomainState, reason: int, of: GuestLabels) -> Lines:
    """Return the lines of a domain's state."""
    word = label("state_desc", _STATE_WORDS[state])
    return {
        "libvirt_domain_info_state": sample(
            "libvirt_domain_info_state", f"{of.guest},{word}", int(state)
        ),
        "libvirt_domain_info_vstate": sample("libvirt_domain_info_vstate", of.guest, int(state)),
        "libvirt_domain_state_reason": sample("libvirt_domain_state_reason", of.guest, reason),
    }


def lines_of(instance: Instance, of: GuestLabels) -> Lines:
    """Return the lines that a domain's record gives, details included."""
    lines: dict[str, str] = {}
    for family, its_labels, value in _samples(instance, of):
        lines[family] = lines.get(family, "") + sample(family, its_labels, value)
    return lines


def _samples(instance: Instance, of: GuestLabels) -> Iterator[tuple[str, str, int]]:
    details = instance.details
    yield "libvirt_domain_info", _info(instance, of), 1
    if details is None:
        return
    if details.memory_kib is not None:
        yield "libvirt_domain_info_maximum_memory_bytes", of.guest, details.memory_kib * 1_024
    if details.current_memory_kib is not None and instance.active:
        yield "libvirt_domain_info_memory_usage_bytes", of.guest, details.current_memory_kib * 1_024
    if details.current_vcpus is not None:
        yield "libvirt_domain_info_virtual_cpus", of.guest, details.current_vcpus
    if details.agent_connected is not None:
        yield "libvirt_domain_agent_connected", of.guest, int(details.agent_connected)
    if details.nova is not None:
        yield "libvirt_domain_openstack_info", _openstack(instance.uuid, details.nova, of), 1
        yield "libvirt_domain_info_meta", _meta(instance.uuid, details.nova, of), 1
    yield from _disks(details, of)
    yield from _nics(details, of)


def _info(instance: Instance, of: GuestLabels) -> str:
    os = instance.details.os if instance.details else None
    return extended(
        of.guest,
        of.names,
        uuid=str(instance.uuid),
        os_type=os.type if os else None,
        os_type_arch=os.arch if os else None,
        os_type_machine=os.machine if os else None,
        launcher=str(instance.launcher),
    )


def _openstack(uuid: UUID, nova: NovaMetadata, of: GuestLabels) -> str:
    owner, flavor = nova.owner, nova.flavor
    return extended(
        of.guest,
        of.names,
        instance_name=nova.name,
        instance_id=str(uuid),
        flavor_name=flavor.name if flavor else None,
        user_name=owner.user_name if owner else None,
        user_id=owner.user_id if owner else None,
        project_name=owner.project_name if owner else None,
        project_id=owner.project_id if owner else None,
        flavor_id=flavor.id if flavor else None,
        image_id=_text(nova.image_id),
    )


def _meta(uuid: UUID, nova: NovaMetadata, of: GuestLabels) -> str:
    owner = nova.owner
    return extended(
        of.guest,
        of.names,
        uuid=str(uuid),
        instance_name=nova.name,
        flavor=nova.flavor.name if nova.flavor else None,
        user_name=owner.user_name if owner else None,
        user_uuid=owner.user_id if owner else None,
        project_name=owner.project_name if owner else None,
        project_uuid=owner.project_id if owner else None,
        root_type=nova.root_type,
        root_uuid=_text(nova.root_uuid),
    )


def _by_target(devices: Iterable[_D]) -> dict[str, _D]:
    """Return the devices by their targets; of two with one target the first, none without one."""
    found: dict[str, _D] = {}
    for device in devices:
        if device.target is not None:
            found.setdefault(device.target, device)
    return found


def _disks(details: Details, of: GuestLabels) -> Iterator[tuple[str, str, int]]:
    for target, disk in _by_target(details.disks).items():
        its_labels = of.disk(target)
        yield "libvirt_domain_block_stats_info", _disk(disk, its_labels, of), 1
        yield "libvirt_domain_block_meta", _disk_of_tinkoff(disk, its_labels, of), 1
        if disk.iotune is not None:
            yield from _limits(disk.iotune, its_labels)


def _limits(iotune: IoTune, its_labels: str) -> Iterator[tuple[str, str, int]]:
    for family, field in _LIMITS.items():
        limit = getattr(iotune, field)
        if limit:  # to libvirt 0 is no limit
            yield f"libvirt_domain_block_stats_{family}", its_labels, limit


def _path(disk: Disk) -> str | None:
    """Return the path of a disk's image or device; None for a network disk, and for no medium."""
    local = disk.source.kind in (SourceKind.FILE, SourceKind.BLOCK, SourceKind.DIR)
    return disk.source.location if local else None


def _disk(disk: Disk, its_labels: str, of: GuestLabels) -> str:
    return extended(
        its_labels,
        of.disk_names,
        disk_type=str(disk.source.kind or ""),
        target_bus=disk.bus,
        driver_name=disk.driver,
        driver_type=disk.source.format,
        driver_cache=disk.cache,
        driver_discard=disk.discard,
        source_file=_path(disk),
        source_protocol=disk.source.protocol,
        serial=disk.serial,
    )


def _disk_of_tinkoff(disk: Disk, its_labels: str, of: GuestLabels) -> str:
    return extended(
        its_labels,
        of.disk_names,
        source_file=_path(disk),
        serial=disk.serial,
        bus=disk.bus,
        disk_type=str(disk.device or ""),
        driver_type=disk.source.format,
        cache=disk.cache,
        discard=disk.discard,
    )


def _nics(details: Details, of: GuestLabels) -> Iterator[tuple[str, str, int]]:
    for target, nic in _by_target(details.nics).items():
        its_labels = of.nic(target)
        yield "libvirt_domain_interface_stats_info", _nic(nic, its_labels, of), 1
        tinkoff = extended(
            its_labels,
            of.nic_names,
            source_bridge=nic.bridge,
            virtual_interface=_text(nic.interface_id),
        )
        yield "libvirt_domain_interface_meta", tinkoff, 1


def _nic(nic: Nic, its_labels: str, of: GuestLabels) -> str:
    return extended(
        its_labels,
        of.nic_names,
        interface_type=nic.kind,
        source_bridge=nic.bridge,
        mac_address=nic.mac,
        model_type=nic.model,
        mtu_size=_text(nic.mtu),
        port_id=_text(nic.interface_id),
    )


def _text(value: UUID | int | None) -> str | None:
    return None if value is None else str(value)
