"""Instance, its Details and Snapshot: frozen values.

In: plain values that libvirt has answered. Out: records that may be kept, compared, sorted and
handed to another thread. A value that is None is not known, or not there; no value is made up.
Touches no libvirt and checks nothing: text in a record is as hostile as its source.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from ipaddress import IPv4Address, IPv6Address
from typing import Any
from uuid import UUID

from guestlist.by_name import ByName
from guestlist.errors import GuestlistError
from guestlist.launcher import Launcher
from guestlist.states import DomainState, known_reason


class SourceKind(StrEnum):
    """The kind of place where a disk's bytes are: libvirt's `<disk type=…>`.

    NONE is a drive without a medium.
    """

    NONE = "none"
    FILE = "file"
    BLOCK = "block"
    DIR = "dir"
    NETWORK = "network"
    VOLUME = "volume"
    NVME = "nvme"
    VHOSTUSER = "vhostuser"
    VHOSTVDPA = "vhostvdpa"


class DiskDevice(StrEnum):
    """The device that the guest sees: libvirt's `<disk device=…>`."""

    DISK = "disk"
    CDROM = "cdrom"
    FLOPPY = "floppy"
    LUN = "lun"


@dataclass(frozen=True, slots=True)
class Slice:
    """The part of a file or device that is an image, in bytes; None: not known."""

    offset: int | None
    size: int | None


@dataclass(frozen=True, slots=True)
class Source:
    """One image: where the bytes of a disk, or of one image of its backing chain, are.

    `location` is, by `kind`: the path (file, dir, vhostuser), the device (block, vhostvdpa),
    "protocol://host:port/name" (network; several hosts with commas between; nothing is encoded),
    "pool/volume", or "nvme://address/namespace". `format` is None where the XML does not say: then
    QEMU takes the image for raw.

    `slice` is the part of the location that is the image, None for all of it. `encryption` is
    libvirt's name of the encryption's format, None without any: a raw image with "luks" is a LUKS
    volume, and the guest sees what is behind its header. `fd_group` names the descriptors that a
    program has handed to libvirt, which are used in place of `location`. `protocol` is that of a
    network source: rbd, nbd, iscsi, …
    """

    kind: SourceKind | None
    location: str | None
    format: str | None = None
    slice: Slice | None = None
    encryption: str | None = None
    fd_group: str | None = None
    protocol: str | None = None


@dataclass(frozen=True, slots=True)
class IoTune:
    """The limits of one disk: libvirt's `<iotune>`, under libvirt's names.

    Bytes and requests are per second; each `…_max` is the limit while a burst lasts, and each
    `…_max_length` is the longest burst, in seconds. A request of more than `size_iops_sec` bytes
    counts as several. All disks with one `group_name` share their limits. None: no such limit,
    which libvirt also writes as 0.
    """

    total_bytes_sec: int | None = None
    read_bytes_sec: int | None = None
    write_bytes_sec: int | None = None
    total_iops_sec: int | None = None
    read_iops_sec: int | None = None
    write_iops_sec: int | None = None
    total_bytes_sec_max: int | None = None
    read_bytes_sec_max: int | None = None
    write_bytes_sec_max: int | None = None
    total_iops_sec_max: int | None = None
    read_iops_sec_max: int | None = None
    write_iops_sec_max: int | None = None
    total_bytes_sec_max_length: int | None = None
    read_bytes_sec_max_length: int | None = None
    write_bytes_sec_max_length: int | None = None
    total_iops_sec_max_length: int | None = None
    read_iops_sec_max_length: int | None = None
    write_iops_sec_max_length: int | None = None
    size_iops_sec: int | None = None
    group_name: str | None = None


@dataclass(frozen=True, slots=True)
class Disk:
    """One `<disk>`. `target` is libvirt's name for it (vda); the guest may use another name.

    `backing` are the images below `source`, nearest first, as far as the XML tells them.
    `backing_known` is true if there are no others: the XML ends the chain with libvirt's explicit
    terminator.

    `driver` (qemu, tap, …), `cache` and `discard` are what the XML says; None leaves the choice to
    the hypervisor. `iotune` is None where no limit is set.
    """

    target: str | None
    bus: str | None
    device: DiskDevice | None
    source: Source
    backing: tuple[Source, ...] = ()
    backing_known: bool = False
    readonly: bool = False
    shareable: bool = False
    transient: bool = False
    serial: str | None = None
    driver: str | None = None
    cache: str | None = None
    discard: str | None = None
    iotune: IoTune | None = None


@dataclass(frozen=True, slots=True)
class Nic:
    """One `<interface>`. `kind` is libvirt's type: network, bridge, direct, hostdev, user, …

    `source` is, by `kind`: the network, the bridge, the host's device, the socket's path, the PCI
    address, "address:port", or the port group. `target` is the device on the host (tap…), which
    libvirt names when the domain starts. `mac` is lower case.

    `bridge` is the host's bridge that the XML names: also for a network, while the domain is
    active. `mtu` is in bytes. `interface_id` is what Open vSwitch knows the interface by: with
    Nova, the Neutron port.
    """

    mac: str | None
    kind: str | None
    source: str | None = None
    target: str | None = None
    model: str | None = None
    bridge: str | None = None
    mtu: int | None = None
    interface_id: UUID | None = None


@dataclass(frozen=True, slots=True)
class Os:
    """What the domain boots as: libvirt's `<os><type>`.

    `type` is "hvm" (a whole machine), "exe" (a container), "xen", "linux", …; `arch` is the
    processor's, `machine` QEMU's machine ("pc-q35-7.2").
    """

    type: str | None
    arch: str | None
    machine: str | None


@dataclass(frozen=True, slots=True)
class Flavor:
    """Nova's flavor when Nova last wrote the domain. What Nova calls GB is GiB, and MB is MiB.

    `id` is the id that users give flavors by; Nova writes it since 2025.2.
    """

    name: str | None
    memory_mib: int | None
    disk_gb: int | None
    swap_mb: int | None
    ephemeral_gb: int | None
    vcpus: int | None
    id: str | None = None


@dataclass(frozen=True, slots=True)
class Owner:
    """The user and project that the instance belongs to. Keystone's ids are text, not all UUIDs."""

    user_id: str | None
    user_name: str | None
    project_id: str | None
    project_name: str | None


@dataclass(frozen=True, slots=True)
class Port:
    """A Neutron port of the instance, and its addresses. Nova writes them since version 1.1."""

    uuid: UUID | None
    ips: tuple[IPv4Address | IPv6Address, ...] = ()


@dataclass(frozen=True, slots=True)
class NovaMetadata:
    """What Nova wrote into the domain's `<metadata>`. Tenants choose the names in it.

    `version` is the version of Nova's namespace, `package` that of Nova itself. `created_at` has a
    time zone, UTC. `root_type` and `root_uuid` are None for an instance that boots from a volume.
    `image_id` is the image that the instance was built from; Nova writes it since 2025.2, and not
    for an instance that boots from a volume.
    """

    version: str
    package: str | None
    name: str | None
    created_at: datetime | None
    flavor: Flavor | None
    owner: Owner | None
    root_type: str | None = None
    root_uuid: UUID | None = None
    ports: tuple[Port, ...] = ()
    image_id: UUID | None = None


@dataclass(frozen=True, slots=True)
class Details:
    """What a domain's XML says: what stays the same until an event tells of a change.

    The numbers are the XML elements of the same name. `vcpus` and `memory_kib` are the most that
    the domain can have without memory hotplug (libvirt's `info()` calls the latter maxMem).
    `current_vcpus` and `current_memory_kib` are what it has now. `max_memory_kib` is the limit of
    memory hotplug, None where there is none. `id` is libvirt's id, None while the domain is
    inactive. `agent_connected` says whether the guest agent has opened its channel; None without
    such a channel, and while the domain is inactive.

    `unknown` names what should be there and could not be read ("memory", "disk vda: source",
    "xml: undeclared entity, line 9"), never in words from the XML. An "xml: …" among them means
    that the text was broken, and more may be missing than is named. "xml: no answer within 3 s"
    means that the guest is stuck, on a libvirt that asks it (see `Host.snapshot`). `xml` is the
    document itself where the host keeps it (`Host(keep_xml=True)`); comparisons ignore it.
    """

    uuid: UUID | None
    name: str | None
    type: str | None
    vcpus: int | None
    current_vcpus: int | None
    memory_kib: int | None
    current_memory_kib: int | None
    max_memory_kib: int | None = None
    disks: tuple[Disk, ...] = ()
    nics: tuple[Nic, ...] = ()
    namespaces: frozenset[str] = frozenset()
    nova: NovaMetadata | None = None
    unknown: tuple[str, ...] = ()
    id: int | None = None
    os: Os | None = None
    agent_connected: bool | None = None
    xml: str | None = field(default=None, repr=False, compare=False)

    @property
    def devices_known(self) -> bool:
        """Whether `disks` and `nics` are complete."""
        return not any(map(hides_devices, self.unknown))


def hides_devices(unknown: str) -> bool:
    """Return whether an entry of `Details.unknown` means that devices may be missing."""
    return unknown in ("domain", "devices") or unknown.startswith("xml: ")


@dataclass(frozen=True, slots=True)
class Instance:
    """One domain at one instant. `id` is None while the domain is inactive.

    `reason` is libvirt's number for why the domain is in its `state`; `reason_text` has the words.
    `ours` is what the host's `launched_by` says; Domain-0 is not ours. `details` is None if they
    were not asked for, or if the domain was gone before they could be read. `statistics`, if they
    were asked for, has libvirt's names and values ("balloon.current": 524288); it is None for an
    inactive domain, and for one that did not answer.
    """

    uuid: UUID
    name: str
    id: int | None
    state: DomainState
    reason: int
    launcher: Launcher
    details: Details | None = None
    statistics: Mapping[str, Any] | None = None
    ours: bool = True

    @property
    def active(self) -> bool:
        """Whether the domain is active, so that it has an id: running, paused, shutting down, …"""
        return self.id is not None

    @property
    def reason_text(self) -> str:
        """Why the domain is in its state, in virsh's words ("booted", "destroyed", "I/O error").

        "reason 17" for a number that this guestlist does not know.
        """
        return known_reason(self.state, self.reason) or f"reason {self.reason}"


class Snapshot(ByName[Instance]):
    """One instant of a host: its instances by UUID. Iterates by name, then by UUID.

    `cost` is the number of calls to libvirt that it took. `stale_for` is the seconds for which the
    live view was stale: 0.0 in step, and where libvirt was asked. `unanswered` has the UUIDs of
    active instances that were asked for statistics and did not answer, or not in full, because
    their guests are stuck; if libvirt could not be asked, `statistics_failure` says why.
    """

    __slots__ = ("cost", "stale_for", "statistics_failure", "unanswered")

    def __init__(
        self,
        instances: Iterable[Instance],
        *,
        cost: int = 0,
        unanswered: Iterable[UUID] = (),
        statistics_failure: GuestlistError | None = None,
        stale_for: float = 0.0,
    ) -> None:
        super().__init__({each.uuid: each for each in instances})
        self.stale_for = stale_for
        self.cost = cost
        self.unanswered = frozenset(unanswered)
        self.statistics_failure = statistics_failure

    @property
    def instances(self) -> tuple[Instance, ...]:
        """The instances, by name."""
        return tuple(self._ordered().values())

    def __repr__(self) -> str:
        stale = f", stale for {self.stale_for:.1f} s" if self.stale_for else ""
        return f"<Snapshot of {len(self)} instances{stale}>"


def snapshot_over(
    by_uuid: Mapping[UUID, Instance], *, in_order: bool, stale_for: float = 0.0
) -> Snapshot:
    """Return a snapshot of a mapping that never changes, and so is not copied."""
    made = Snapshot((), stale_for=stale_for)
    made._by_uuid = by_uuid
    made._in_order = in_order
    return made
