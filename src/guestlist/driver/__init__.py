"""ComputeDriver: what Nova's compute manager asks of its libvirt driver, from one snapshot.

In: a Host, or the live view of one. Out: the answers of Nova's methods of the same names, in Nova's
types and units. No method costs a call per domain or waits for a stuck guest, and one bad domain
does not spoil the numbers of the others: what is not known of it is left out, named in the result
where the result has room (`usage`, `get_available_resource`), and logged once. Knows no libvirt.

    __init__    the driver
    volumes     what guests read from and wrote to their volumes
    resources   what the host has, and what of it is in use

Source: Nova 34.0.0 nova/virt/driver.py and nova/virt/libvirt/driver.py; for memory and Dom0 the
driver of 2014 to 2019 (nova/virt/libvirt/host.py, `get_memory_mb_used`).
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import IO, Any

from guestlist import node, usage
from guestlist.driver import resources
from guestlist.driver.volumes import uuid_of, volume_usage
from guestlist.errors import DomainGone, GuestlistError, NotSupported, one_line
from guestlist.host import Host
from guestlist.images import Image, Images
from guestlist.inventory import Inventory
from guestlist.records import Instance, Snapshot, Source
from guestlist.states import DomainState
from guestlist.usage import Usage

log = logging.getLogger(__name__)

_MOST_NAMED = 10
_ELSEWHERE = Image(None, None, "on another machine")

_POWER_STATE = {
    DomainState.NOSTATE: 0,
    DomainState.RUNNING: 1,
    DomainState.BLOCKED: 1,  # of Xen: running, and idle just now
    DomainState.PAUSED: 3,
    DomainState.SHUTDOWN: 4,
    DomainState.SHUTOFF: 4,
    DomainState.CRASHED: 6,
    DomainState.PMSUSPENDED: 7,
}
"""Nova's nova.compute.power_state for each state of libvirt's."""


@dataclass(frozen=True, slots=True)
class InstanceInfo:
    """Nova's InstanceInfo: `state` is one of Nova's power states, `internal_id` libvirt's id.

    Power states: 0 no state, 1 running, 3 paused, 4 shut down, 6 crashed, 7 suspended. The id is -1
    while the instance is inactive. `stale_for`, which Nova does not have, is the seconds for which
    the live view has been stale: 0.0 while it is in step, and where libvirt was asked.
    """

    state: int
    internal_id: int
    stale_for: float = 0.0


class _UnknownLog:
    """Logs what is unknown: each thing once for as long as it stays unknown."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._last: dict[str, frozenset[str]] = {}

    def say(self, topic: str, unknown: Iterable[str]) -> None:
        """Log what was known the last time; a few names, since a host of network disks has many."""
        unknown = frozenset(unknown)
        new = sorted(unknown - self._last.get(topic, frozenset()))
        self._last[topic] = unknown
        if new:
            shown = "; ".join(map(one_line, new[:_MOST_NAMED]))
            more = len(new) - _MOST_NAMED
            shown += f"; and {more} more" if more > 0 else ""
            log.warning("%s: %s not known, and not counted: %s", self._host.label, topic, shown)


class ComputeDriver:
    """Nova's compute-driver methods over a Host, or over a live view of one. Threads may share it.

    Over an `Inventory` no method makes a call, except for what no view can know: whether an
    instance that the view does not have exists, the state where `use_cache=False` asks for it, and
    the counters of volumes. The facts of the host are read as soon as the driver is made. While the
    view is stale its last numbers are given, with their `stale_for` where the answer has room:
    `get_info`, `usage`, `get_available_resource`. The costs below are those of a Host.

    Counts the instances that are ours, by the Host's `launched_by`. Nova's own driver counts every
    domain; `Host(launched_by=Anyone())` does that too. An instance is named by its UUID, as text or
    `UUID`, or by any object with a `uuid`, such as Nova's own.

    Args:
        host: a `Host`; or an `Inventory`, which the caller starts and waits for.
        instances_path: the directory of Nova's option of that name. The file system that it is on,
            or would be on, is the host's local storage.
        volume_usage_deadline: seconds that guests may take to answer `get_all_volume_usage`.
        images_deadline: seconds that it may take to measure all disks' images; images that are not
            measured by then are unknown.
    """

    def __init__(
        self,
        host: Host | Inventory,
        *,
        instances_path: str | os.PathLike[str] = "/var/lib/nova/instances",
        volume_usage_deadline: float = 0.8,
        images_deadline: float = 10.0,
    ) -> None:
        self._view = host
        self._host = host if isinstance(host, Host) else host.host
        self._instances_path = instances_path
        self._volume_usage_deadline = volume_usage_deadline
        self._images = Images(deadline=images_deadline)
        self._unknown = _UnknownLog(self._host)
        if isinstance(host, Inventory):  # starts the reading of the host's facts, without waiting
            with contextlib.suppress(GuestlistError):
                host.node(0)

    # Which instances there are

    def list_instances(self) -> list[str]:
        """Return the names of all instances, active or not, sorted. Cost: 1 call."""
        if isinstance(self._view, Inventory):
            return [instance.name for instance in self._in_view(self._view)]
        return sorted([domain.name() for domain in self._domains()])

    def list_instance_uuids(self) -> list[str]:
        """Return the UUIDs of all instances, in the order of `list_instances`. Cost: 1 call."""
        if isinstance(self._view, Inventory):
            return [str(instance.uuid) for instance in self._in_view(self._view)]
        in_order = sorted(self._domains(), key=lambda domain: domain.name())
        return [domain.UUIDString() for domain in in_order]

    def get_num_instances(self) -> int:
        """Return how many there are: the length of `list_instances`. Cost: 1 call."""
        view = self._view
        return len(self._in_view(view) if isinstance(view, Inventory) else self._domains())

    def instance_exists(self, instance: Any) -> bool:
        """Return whether libvirt has the instance, in any state and from any launcher.

        If libvirt cannot be asked this raises; it never returns False for that reason. A live view
        is trusted when it has the instance; otherwise libvirt is asked.

        Raises:
            ValueError: the instance is not named by a UUID.

        Cost: 1 call.
        """
        uuid = uuid_of(instance)
        if isinstance(self._view, Host):
            return self._view.has_domain(uuid)
        try:
            self._view.instance(uuid)
        except DomainGone:
            return False
        return True

    def get_info(self, instance: Any, use_cache: bool = True) -> InstanceInfo:
        """Return the state and the id of an instance, both of one instant.

        Args:
            instance: the instance.
            use_cache: whether a live view may answer. A Host has none, and asks libvirt.

        Raises:
            DomainGone: libvirt has no such domain.
            ValueError: the instance is not named by a UUID.

        Cost: 1 call; 2 the first time that a connection is asked about this instance.
        """
        asked = self._view if use_cache else self._host
        found = asked.instance(uuid_of(instance))
        stale_for = asked.stale_for or 0.0 if isinstance(asked, Inventory) else 0.0
        return InstanceInfo(
            _POWER_STATE[found.state], -1 if found.id is None else found.id, stale_for
        )

    # What the instances use

    def usage(
        self,
        matching: Callable[[Instance], bool] | None = None,
        *,
        include_foreign: bool = False,
    ) -> Usage:
        """Return what each instance uses, the sums, and by name what is not known.

        `matching` says which instances count; None: all that are ours, and Domain-0. With
        `include_foreign` those that others launched are looked at too.

        Cost: 1 call warm, 1 and 1 per domain cold, and a stat of each disk's image.
        """
        return self._usage(with_images=True, matching=matching, include_foreign=include_foreign)

    def get_vcpus_used(self) -> int:
        """Return the vCPUs of the active instances. Cost: 1 call."""
        return self._usage().vcpus_used

    def get_memory_mb_used(self) -> int:
        """Return the MiB that active instances and Domain-0 have; Domain-0 less what it could give.

        This is the memory that guests were given. Nova counts so on Xen, and where memory is backed
        by files; on other hosts Nova reports what the kernel has in use, for guests or not.

        Cost: 1 call.
        """
        return self._usage().memory_used_kib // 1024

    def get_all_block_devices(self) -> list[str]:
        """Return the host's block devices that active instances have as disks. Cost: 1 call."""
        return list(self._usage().block_devices)

    def get_disk_over_committed_size_total(self) -> int:
        """Return the bytes by which the disks of all instances may still grow.

        Cost: 1 call, and a stat of each disk's image.
        """
        return self._usage(with_images=True).disk_over_committed_bytes

    def get_all_volume_usage(
        self,
        context: Any,  # noqa: ARG002  Nova's
        compute_host_bdms: Iterable[Mapping[str, Any]],
    ) -> list[dict[str, Any]]:
        """Return what guests read from and wrote to their volumes since they started.

        The only question here that guests themselves must answer: all are asked at once, over a
        separate connection and within a deadline. A guest that does not answer in time is left out,
        and the log names it.

        Args:
            context: not used.
            compute_host_bdms: mappings with `instance` and `instance_bdms`, of which each has
                `device_name` and `volume_id`.

        Returns:
            For each volume that answered `volume` (its id), `instance` (as given), `rd_req`,
            `rd_bytes`, `wr_req` and `wr_bytes`, in the order given.

        Cost: none without volumes; else 1 call, and 1 of libvirt's bulk statistics of block devices
        on a connection of its own. Where libvirt has no such statistics (before 1.2.8): 2 calls,
        and there 1 for each active instance that is asked for and 1 for each of its volumes.
        """
        found = volume_usage(self._host, compute_host_bdms, self._volume_usage_deadline)
        self._unknown.say("volumes", [f"{name}: no answer" for name in found.silent])
        return found.usages

    # The host

    def get_host_uptime(self) -> str:
        """Return what `uptime` prints, its newline included.

        Raises:
            NotSupported: the host is another machine, and libvirt does not tell; or this machine
                cannot run `uptime`.

        Cost: no call, one process.
        """
        with self._uptime() as uptime:
            if uptime is None:
                here = self._view.is_local
                why = (
                    "'uptime' cannot be run; install procps"
                    if here
                    else "libvirt does not tell it of another machine; run 'uptime' there"
                )
                raise NotSupported(f"cannot tell the uptime of {self._host.label}: {why}")
            return uptime.read()

    def get_available_resource(self, nodename: str | None = None) -> dict[str, Any]:  # noqa: ARG002
        """Return what the host has and what of it is in use, under Nova's keys.

        `vcpus` (online), `memory_mb` (MiB) and `local_gb` (GiB) with their `…_used`,
        `disk_available_least` (GiB free, less all that disks may still grow by), `hypervisor_type`,
        `hypervisor_version`, `hypervisor_hostname`, `cpu_info` (JSON), `supported_instances`
        ((arch, hypervisor type, VM mode) each), `stats` with `uptime`. None is what is not known
        from here. Two keys are not Nova's: `unknown` names what the sums lack ("NAME: disk
        vda: no such file"), `stale_for` is the seconds for which the live view has been stale.

        Left to Nova, which alone knows them: `uuid`, `numa_topology`, `pci_passthrough_devices`.

        Cost: 3 calls warm, 7 and 1 per domain cold; a stat of each disk's image and one process.
        """
        with self._uptime() as uptime:  # runs beside the calls
            used = self._usage(with_images=True)
            now = self._view.node()
            printed = None if uptime is None else uptime.read()
        return resources.available_resource(now, used, self._storage(), printed)

    def _domains(self) -> list[Any]:
        return self._host.list_instance_domains(include_inactive=True)

    def _in_view(self, view: Inventory) -> tuple[Instance, ...]:
        return view.snapshot(include_inactive=True).instances

    def _usage(
        self,
        *,
        with_images: bool = False,
        matching: Callable[[Instance], bool] | None = None,
        include_foreign: bool = False,
    ) -> Usage:
        snapshot = self._view.snapshot(
            include_inactive=True, include_foreign=include_foreign, include_dom0=True
        )
        if matching is not None:
            counted = filter(matching, snapshot.instances)
            snapshot = Snapshot(counted, stale_for=snapshot.stale_for)
        here = self._view.is_local
        images: dict[Source, Image] | None = None
        if with_images:
            sources = usage.sources(snapshot)
            images = self._images.measure(sources) if here else dict.fromkeys(sources, _ELSEWHERE)
        is_asked = here and usage.has_dom0(snapshot)
        available_kib = node.available_kib() if is_asked else 0
        used = usage.of(snapshot, images, host_available_kib=available_kib)
        self._unknown.say("usage of disks" if with_images else "usage", used.unknown)
        return used

    @contextlib.contextmanager
    def _uptime(self) -> Iterator[IO[str] | None]:
        """Run `uptime` meanwhile; None where the host is another machine, or has no `uptime`.

        Only a connection tells which machine it is: where a Host has none yet, both start at once.
        """
        view = self._view
        if (isinstance(view, Host) and not view.is_open) or view.is_local:
            with resources.uptime() as printed:
                yield printed if view.is_local else None
        else:
            yield None

    def _storage(self) -> resources.Storage:
        if not self._view.is_local:
            return resources.Storage()
        try:
            return resources.storage_at(self._instances_path)
        except OSError as error:  # a directory that may not be read
            log.warning("%s: local storage not known: %s", self._host.label, one_line(error))
            return resources.Storage()
