"""ComputeDriver: what Nova's compute manager asks of its libvirt driver, from one snapshot.

In: a Host, or the live view of one. Out: the answers of Nova's methods of the same names, in Nova's
types and units. None costs a call per domain, none waits for a stuck guest, and one bad domain
spoils nobody else's numbers: what is not known of it is left out, named in the result where it has
room (`usage`, `get_available_resource`), and logged once. Knows no libvirt.

Source: Nova 34.0.0 nova/virt/driver.py and nova/virt/libvirt/driver.py; for memory and Dom0 the
driver of 2014 to 2019 (nova/virt/libvirt/host.py, `get_memory_mb_used`).
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any
from uuid import UUID

from guestlist import node, usage
from guestlist.errors import DomainGone, GuestlistError, NotSupported, one_line
from guestlist.host import Host
from guestlist.images import Image, Images
from guestlist.inventory import Inventory
from guestlist.node import Hypervisor
from guestlist.records import DomainState, Snapshot, Source
from guestlist.statistics import counters_in
from guestlist.unpatched import subprocess
from guestlist.usage import Usage

log = logging.getLogger(__name__)

_GIB = 1 << 30
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

_VM_MODE = {"linux": "xen", "xenpv": "xen", "xenpvh": "xen", "pv": "xen", "hv": "hvm"}
"""Nova's name of an OS type where it is not libvirt's."""


@dataclass(frozen=True, slots=True)
class InstanceInfo:
    """Nova's InstanceInfo: `state` is one of Nova's power states, `internal_id` libvirt's id.

    Power states: 0 no state, 1 running, 3 paused, 4 shut down, 6 crashed, 7 suspended. The id is -1
    while the instance is inactive. `stale_for`, which is not in Nova, is the seconds for which
    the live view has been stale: 0.0 while it is in step, and where libvirt was asked.
    """

    state: int
    internal_id: int
    stale_for: float = 0.0


class ComputeDriver:
    """Nova's compute-driver methods over a Host, or over a live view of one. Threads may share it.

    Over an `Inventory` no method makes a call, but for what no view can know: whether an instance
    that it does not have exists, the state where `use_cache=False` asks for it, and the counters of
    volumes. The facts of the host are read as soon as the driver is made. While the view is stale
    its last numbers are given, and their `stale_for` beside them where there is room: `get_info`,
    `usage`, `get_available_resource`. The costs below are a Host's.

    Counts the instances that are ours, as the Host's `launched_by` has it; Nova's own driver counts
    every domain, which `Host(launched_by=Anyone())` does as well. An instance is named by its UUID,
    as text or `UUID`, or by any object with a `uuid`, such as Nova's own.

    Args:
        host: whom to ask: a `Host`, or an `Inventory`, which is to be started and in step.
        instances_path: the directory of Nova's option of that name: the file system that it is
            on, or would be, is the host's local storage.
        volume_usage_deadline: seconds that guests may take to answer `get_all_volume_usage`.
        images_deadline: seconds that it may take to measure all disks' images; those that are not
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
        self._said: dict[str, frozenset[str]] = {}
        if isinstance(host, Inventory):  # read from now on; nobody waits for it yet
            with contextlib.suppress(GuestlistError):
                host.node(0)

    # Who is here

    def list_instances(self) -> list[str]:
        """The names of all instances, active or not, sorted. Cost: 1 call."""
        return [name for name, _ in self._everyone()]

    def list_instance_uuids(self) -> list[str]:
        """The UUIDs of all instances, in the order of `list_instances`. Cost: 1 call."""
        return [uuid for _, uuid in self._everyone()]

    def get_num_instances(self) -> int:
        """How many there are: always the length of `list_instances`. Cost: 1 call."""
        return len(self._everyone())

    def instance_exists(self, instance: Any) -> bool:
        """Whether libvirt has it, in whatever state and whoever launched it.

        A failure to find out is raised, and no reason to believe that it does not exist. A view is
        believed that it does, never that it does not.

        Cost: 2 calls.
        """
        try:
            self._view.instance(_uuid_of(instance))
        except DomainGone:
            return False
        return True

    def get_info(self, instance: Any, use_cache: bool = True) -> InstanceInfo:
        """Its state and id, of one instant.

        Args:
            instance: whose.
            use_cache: whether a view may be asked. A Host has none, and asks libvirt.

        Raises:
            DomainGone: libvirt does not have it.

        Cost: 2 calls.
        """
        asked = self._view if use_cache else self._host
        found = asked.instance(_uuid_of(instance))
        stale_for = asked.stale_for or 0.0 if isinstance(asked, Inventory) else 0.0
        return InstanceInfo(
            _POWER_STATE[found.state], -1 if found.id is None else found.id, stale_for
        )

    # What they use

    def usage(self) -> Usage:
        """What each instance uses, the sums, and by name what could not be told.

        Cost: 1 call warm, 1 and 1 per domain cold, and a stat of each disk's image.
        """
        return self._usage(with_images=True)

    def get_vcpus_used(self) -> int:
        """The vCPUs of the active instances. Cost: 1 call."""
        return self._usage().vcpus_used

    def get_memory_mb_used(self) -> int:
        """MiB that the active instances and Domain-0 have now; Domain-0 less what it could give.

        It is what has been given to guests: so Nova counts on Xen, and where memory is backed by
        files. On other hosts Nova reports what the kernel has in use, whoever uses it.

        Cost: 1 call.
        """
        return self._usage().memory_used_kib // 1024

    def get_all_block_devices(self) -> list[str]:
        """The host's block devices that active instances have as disks. Cost: 1 call."""
        return list(self._usage().block_devices)

    def get_disk_over_committed_size_total(self) -> int:
        """Bytes that the disks of all instances may yet grow by. Cost: 1 call, a stat per image."""
        return self._usage(with_images=True).disk_over_committed_bytes

    def get_all_volume_usage(
        self,
        context: Any,  # noqa: ARG002  Nova's
        compute_host_bdms: Iterable[Mapping[str, Any]],
    ) -> list[dict[str, Any]]:
        """What guests have read from and written to their volumes since they started.

        The one question here that guests themselves must answer: asked now, aside, of all at once
        and under a deadline. One that does not answer in time is left out, and named in the log.

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
        asked = [
            (each["instance"], bdm) for each in compute_host_bdms for bdm in each["instance_bdms"]
        ]
        if not asked:
            return []
        snapshot = self._host.snapshot(
            include_foreign=True,
            details=False,
            statistics=("block",),
            deadline=self._volume_usage_deadline,
        )
        ours = {_uuid_of(instance) for instance, _ in asked} & snapshot.keys()
        if _tells_of_disks(snapshot):
            silent = snapshot.unanswered & ours
            counters = {uuid: counters_in(snapshot[uuid].statistics or {}) for uuid in ours}
        else:
            disks = {
                uuid: [_target(bdm) for one, bdm in asked if _uuid_of(one) == uuid] for uuid in ours
            }
            counters = self._host.disk_counters(disks, deadline=self._volume_usage_deadline)
            silent = frozenset(ours - counters.keys())
        self._say("volumes", (f"{snapshot[uuid].name}: no answer" for uuid in silent))
        usages = []
        for instance, bdm in asked:
            counted = counters.get(_uuid_of(instance), {}).get(_target(bdm))
            if counted:
                usages.append(
                    {
                        "volume": bdm["volume_id"],
                        "instance": instance,
                        **dict(zip(_COUNTERS, counted, strict=True)),
                    }
                )
        return usages

    # The host

    def get_host_uptime(self) -> str:
        """What `uptime` prints, its newline included.

        Raises:
            NotSupported: the host is another machine, and libvirt does not tell; or there is no
                `uptime` here to be run.

        Cost: no call, one process.
        """
        with self._uptime() as uptime:
            if uptime is None:
                here = self._view.is_local
                why = "'uptime' cannot be run; install procps" if here else "it is another machine"
                raise NotSupported(f"cannot tell the uptime of {self._host.label}: {why}")
            return uptime.read()

    def get_available_resource(self, nodename: str | None = None) -> dict[str, Any]:  # noqa: ARG002
        """What the host has and what of it is in use, under Nova's keys.

        `vcpus` (online), `memory_mb` (MiB) and `local_gb` (GiB) with their `…_used`,
        `disk_available_least` (GiB free, less all that disks may yet grow by), `hypervisor_type`,
        `hypervisor_version`, `hypervisor_hostname`, `cpu_info` (JSON), `supported_instances`
        ((arch, hypervisor type, VM mode) each), `stats` with `uptime`. None is what cannot be told
        from here. Two keys are not in Nova: `unknown` names what the sums lack ("NAME: disk
        vda: gone"), `stale_for` is the seconds for which the live view has been stale.

        Left to Nova, which alone knows them: `uuid`, `numa_topology`, `pci_passthrough_devices`.

        Cost: 3 calls warm, 7 and 1 per domain cold; a stat per image and one process.
        """
        with self._uptime() as uptime:  # runs beside the calls
            used = self._usage(with_images=True)
            now = self._view.node()
            stats = {"uptime": None if uptime is None else uptime.read()}
        total, free, taken = self._local_bytes()
        hypervisor = now.hypervisor
        return {
            "vcpus": now.online_cpus,
            "memory_mb": now.memory_mib,
            "local_gb": _gib(total),
            "vcpus_used": used.vcpus_used,
            "memory_mb_used": used.memory_used_kib // 1024,
            "local_gb_used": _gib(taken),
            "disk_available_least": _gib(
                None if free is None else free - used.disk_over_committed_bytes
            ),
            "hypervisor_type": hypervisor.type,
            "hypervisor_version": hypervisor.version,
            "hypervisor_hostname": hypervisor.hostname,
            "cpu_info": json.dumps(_cpu_info(hypervisor)),
            "supported_instances": [
                (kind.arch, kind.domain_type, _VM_MODE.get(kind.os_type, kind.os_type))
                for kind in hypervisor.guest_kinds
            ],
            "stats": stats,
            "unknown": used.unknown,
            "stale_for": used.stale_for,
        }

    def _everyone(self) -> list[tuple[str, str]]:
        if isinstance(self._view, Inventory):
            instances = self._view.snapshot(include_inactive=True).instances
            return [(instance.name, str(instance.uuid)) for instance in instances]
        domains = self._view.list_instance_domains(include_inactive=True)
        return sorted((domain.name(), domain.UUIDString()) for domain in domains)

    def _usage(self, *, with_images: bool = False) -> Usage:
        snapshot = self._view.snapshot(include_inactive=True, include_dom0=True)
        here = self._view.is_local
        images: dict[Source, Image] | None = None
        if with_images:
            sources = usage.sources(snapshot)
            images = self._images.measure(sources) if here else dict.fromkeys(sources, _ELSEWHERE)
        used = usage.of(snapshot, images, host_available_kib=node.available_kib() if here else 0)
        self._say("usage of disks" if with_images else "usage", used.unknown)
        return used

    def _say(self, topic: str, unknown: Iterable[str]) -> None:
        """Log what is unknown and was not the last time; a host of network disks has many."""
        unknown = frozenset(unknown)
        new = sorted(unknown - self._said.get(topic, frozenset()))
        self._said[topic] = unknown
        if new:
            shown = "; ".join(map(one_line, new[:_MOST_NAMED]))
            more = len(new) - _MOST_NAMED
            shown += f"; and {more} more" if more > 0 else ""
            log.warning("%s: %s not known, and not counted: %s", self._host.label, topic, shown)

    @contextlib.contextmanager
    def _uptime(self) -> Iterator[IO[str] | None]:
        """What `uptime` prints, which runs meanwhile; None of another machine, or without it."""
        process = _start_uptime() if self._view.is_local else None
        if process is None:
            yield None
            return
        with process:
            yield process.stdout

    def _local_bytes(self) -> tuple[int | None, int | None, int | None]:
        """Of the file system that instances are on, or would be: in all, free for them, in use."""
        if not self._view.is_local:
            return None, None, None
        path = Path(self._instances_path).absolute()
        try:
            existing = next(place for place in (path, *path.parents) if place.exists())
            found = os.statvfs(existing)
        except OSError as error:  # a directory that may not be read
            log.warning("%s: local storage not known: %s", self._host.label, one_line(error))
            return None, None, None
        size = found.f_frsize
        return (
            size * found.f_blocks,
            size * found.f_bavail,
            size * (found.f_blocks - found.f_bfree),
        )


def _start_uptime() -> subprocess.Popen[str] | None:
    try:
        return subprocess.Popen(
            ["uptime"], stdout=subprocess.PIPE, text=True, env={**os.environ, "LC_ALL": "C"}
        )
    except OSError:  # it is not there, or no process can be had
        return None


def _uuid_of(instance: Any) -> UUID:
    uuid = getattr(instance, "uuid", instance)
    return uuid if isinstance(uuid, UUID) else UUID(uuid)


def _gib(size: int | None) -> float | None:
    return None if size is None else size / _GIB


def _target(bdm: Mapping[str, Any]) -> str:
    name: str = bdm["device_name"]
    return name.removeprefix("/dev/")


_COUNTERS = "rd_req", "rd_bytes", "wr_req", "wr_bytes"
"""Nova's names for the counters of a volume, in the order of `Counters`."""


def _tells_of_disks(snapshot: Snapshot) -> bool:
    """Whether this libvirt has bulk statistics of disks: those of 1.2.8 are of states alone."""
    if isinstance(snapshot.statistics_failure, NotSupported):
        return False
    told = [each.statistics for each in snapshot.values() if each.statistics is not None]
    return not told or any("block.count" in values for values in told)


def _cpu_info(hypervisor: Hypervisor) -> dict[str, Any]:
    processor = hypervisor.processor
    return {
        "arch": processor.arch,
        "model": processor.model,
        "vendor": processor.vendor,
        "topology": {
            "cells": processor.cells,
            "sockets": processor.sockets,
            "cores": processor.cores,
            "threads": processor.threads,
        },
        "features": list(processor.features),
    }
