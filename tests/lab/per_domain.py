"""The questions of a compute driver, asked domain by domain, as Nova's own driver asks them.

In: a connection. Out: the answers, under Nova's method names. guestlist is compared with it: its
numbers are right, and cost one to three calls for each domain and a process for each qcow2 disk. A
domain that goes while it asks is left out or counted as Nova does.

Before each question Nova asks the connection for libvirt's version, to learn whether the connection
is alive; so does this. It remembers the capabilities, as Nova does.

It does less than Nova: it runs `qemu-img` once for each qcow2 disk, as it is, unless told to run it
as Nova does; it does not ask about PCI devices, NUMA cells and all features of the CPU. It does
more: the memory in use is that of the guests, and each is asked. Nova asks so where guests' memory
is backed by files; elsewhere it reads /proc/meminfo. `get_all_block_devices` is of the time of the
blueprint: Nova has no such method today.

Source: Nova 34.0.0 nova/virt/libvirt/host.py (`get_connection`, `_sum_domain_memory_mb`), guest.py
and driver.py, read for what they do; for `get_all_block_devices` Nova 2013.2.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID
from xml.etree import ElementTree

import libvirt

_ACTIVE = libvirt.VIR_CONNECT_LIST_DOMAINS_ACTIVE
_ALL = _ACTIVE | libvirt.VIR_CONNECT_LIST_DOMAINS_INACTIVE
_GIB = 1 << 30
_SECTOR = 512

_NOSTATE, _RUNNING, _PAUSED, _SHUTDOWN, _CRASHED, _SUSPENDED = 0, 1, 3, 4, 6, 7
_POWER_STATES = {
    libvirt.VIR_DOMAIN_NOSTATE: _NOSTATE,
    libvirt.VIR_DOMAIN_RUNNING: _RUNNING,
    libvirt.VIR_DOMAIN_BLOCKED: _RUNNING,
    libvirt.VIR_DOMAIN_PAUSED: _PAUSED,
    libvirt.VIR_DOMAIN_SHUTDOWN: _SHUTDOWN,
    libvirt.VIR_DOMAIN_SHUTOFF: _SHUTDOWN,
    libvirt.VIR_DOMAIN_CRASHED: _CRASHED,
    libvirt.VIR_DOMAIN_PMSUSPENDED: _SUSPENDED,
}
"""Nova's power state for each of libvirt's states."""

_QEMU_IMG_INFO = ("qemu-img", "info", "--force-share", "--output=json")
_LIMITED = """
import os, resource, sys
resource.setrlimit(resource.RLIMIT_CPU, (30, 30))
resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))
os.execvp(sys.argv[1], sys.argv[1:])
"""


@dataclass(frozen=True, slots=True)
class Info:
    """What Nova asks about one domain: its power state, and its id."""

    state: int
    internal_id: int


class PerDomain:
    """The methods of Nova's driver over one connection.

    Below, n is the number of active domains and N the number of all.

    Args:
        connection: the connection to ask over.
        instances_path: the directory of the disks.
        limited: run `qemu-img` as Nova does: twice for each disk (the second time for the name of
            its backing file), each time by a Python process that first limits itself to 30 s of
            processor time and 1 GiB.
    """

    def __init__(
        self,
        connection: libvirt.virConnect,
        instances_path: str | Path = "/",
        *,
        limited: bool = False,
    ) -> None:
        self._kept = connection
        self._instances_path = instances_path
        self._limited = limited
        self._capabilities: ElementTree.Element | None = None

    # Which instances there are

    def list_instances(self) -> list[str]:
        """Return the names of all domains. Cost: 2 calls."""
        return [domain.name() for domain in self._domains(_ALL)]

    def list_instance_uuids(self) -> list[str]:
        """Return the UUIDs of all domains. Cost: 2 calls."""
        return [domain.UUIDString() for domain in self._domains(_ALL)]

    def get_num_instances(self) -> int:
        """Return how many domains there are. Cost: 2 calls."""
        return len(self.list_instances())

    def instance_exists(self, uuid: UUID | str) -> bool:
        """Return whether there is such a domain. Cost: 2 calls."""
        try:
            self._look_up(uuid)
        except libvirt.libvirtError:
            return False
        return True

    def get_info(self, uuid: UUID | str) -> Info:
        """Return power state and id of one domain. Cost: 3 calls."""
        domain = self._look_up(uuid)
        state, *_ = domain.info()
        return Info(_POWER_STATES[state], domain.ID())

    # What the instances use

    def get_vcpus_used(self) -> int:
        """Return the vCPUs of active domains; 1 for each that does not tell. Cost: 3n + 2 calls.

        QEMU without KVM gives no answer, whatever the number of its vCPUs.
        """
        used = 0
        for domain in self._domains(_ACTIVE):
            try:
                vcpus, _ = domain.vcpus()
            except libvirt.libvirtError:
                used += 1
            else:
                used += len(vcpus)
        return used

    def get_memory_mb_used(self) -> int:
        """Return the memory of the active domains, in MiB. Cost: n + 2 calls."""
        used_kib = 0
        for domain in self._domains(_ACTIVE):
            with contextlib.suppress(libvirt.libvirtError):
                used_kib += domain.info()[2]
        return used_kib // 1024

    def get_all_block_devices(self) -> list[str]:
        """Return the block devices that active domains have as disks. Cost: n + 2 calls."""
        devices = []
        for domain in self._domains(_ACTIVE):
            with contextlib.suppress(libvirt.libvirtError):
                devices += [path for kind, _, path in _disks(domain) if kind == "block"]
        return devices

    def get_disk_over_committed_size_total(self) -> int:
        """Return the bytes by which the disk images of all domains may still grow.

        Cost: N + 2 calls, and a process for each qcow2 image, or two if `limited`.
        """
        total = 0
        for domain in self._domains(_ALL):
            with contextlib.suppress(libvirt.libvirtError, FileNotFoundError, PermissionError):
                total += sum(
                    self._room_to_grow(path, format)
                    for kind, format, path in _disks(domain)
                    if kind == "file"
                )
        return total

    def get_all_volume_usage(
        self, context: object, compute_host_bdms: Iterable[Mapping[str, Any]]
    ) -> list[dict[str, Any]]:
        """Return what was read from and written to each volume; a volume that fails is left out.

        `compute_host_bdms` has for each instance, an object with a `uuid`, its "instance_bdms":
        "device_name" and "volume_id" of each volume. Cost: 3 calls a volume.
        """
        usage = []
        for attached in compute_host_bdms:
            for volume in attached["instance_bdms"]:
                device = volume["device_name"].removeprefix("/dev/")
                try:
                    stats = self._look_up(attached["instance"].uuid).blockStats(device)
                except libvirt.libvirtError:
                    continue
                numbers = zip(("rd_req", "rd_bytes", "wr_req", "wr_bytes"), stats, strict=False)
                usage.append(
                    {
                        "volume": volume["volume_id"],
                        "instance": attached["instance"],
                        **dict(numbers),
                    }
                )
        return usage

    # The host

    def get_host_uptime(self) -> str:
        """Return what `uptime` prints. Cost: a process."""
        return _output("env", "LANG=C", "uptime")

    def get_available_resource(self, nodename: str | None = None) -> dict[str, Any]:
        """Return what the host has, and what of it is used.

        Cost: 4n + N + 15 calls, 3 more the first time; a process, and those for the images.
        """
        space = os.statvfs(self._instances_path)
        free = space.f_frsize * space.f_bavail
        used = space.f_frsize * (space.f_blocks - space.f_bfree)
        supported = self._supported_instances()
        _, online, _ = self._connection().getCPUMap()
        return {
            "supported_instances": supported,
            "vcpus": sum(online),
            "memory_mb": self._connection().getInfo()[1],
            "local_gb": space.f_frsize * space.f_blocks / _GIB,
            "vcpus_used": self.get_vcpus_used(),
            "memory_mb_used": self.get_memory_mb_used(),
            "local_gb_used": used / _GIB,
            "hypervisor_type": self._connection().getType(),
            "hypervisor_version": self._connection().getVersion(),
            "hypervisor_hostname": self._connection().getHostname(),
            "cpu_info": json.dumps(self._cpu_info()),
            "disk_available_least": (free - self.get_disk_over_committed_size_total()) / _GIB,
            "stats": {"uptime": self.get_host_uptime()},
        }

    # How it is done

    def _connection(self) -> libvirt.virConnect:
        """Return the connection, if it is alive. Cost: 1 call."""
        self._kept.getLibVersion()
        return self._kept

    def _domains(self, flags: int) -> list[libvirt.virDomain]:
        return self._connection().listAllDomains(flags)

    def _look_up(self, uuid: UUID | str) -> libvirt.virDomain:
        return self._connection().lookupByUUIDString(str(uuid))

    def _room_to_grow(self, path: str, format: str) -> int:
        """Return by how many bytes a disk's file may still grow. Cost: processes, for qcow2."""
        status = Path(path).stat()
        if format != "qcow2":
            return status.st_size - status.st_blocks * _SECTOR
        command = [*_QEMU_IMG_INFO, path]
        if self._limited:
            command = [sys.executable, "-c", _LIMITED, "env", "LC_ALL=C", "LANG=C", *command]
            _output(*command)
        said = json.loads(_output(*command))
        return max(0, int(said["virtual-size"]) - int(said["actual-size"]))

    def _known_capabilities(self) -> ElementTree.Element:
        if self._capabilities is None:
            self._capabilities = ElementTree.fromstring(self._connection().getCapabilities())
        return self._capabilities

    def _supported_instances(self) -> list[tuple[str, str, str]]:
        return [
            (arch.get("name", ""), domain.get("type", ""), guest.findtext("os_type", ""))
            for guest in self._known_capabilities().iterfind("guest")
            for arch in guest.iterfind("arch")
            for domain in arch.iterfind("domain")
        ]

    def _cpu_info(self) -> dict[str, Any]:
        host = self._known_capabilities().find("host")
        assert host is not None
        topology = host.find("cpu/topology")
        counts = topology.attrib if topology is not None else {}
        return {
            "arch": host.findtext("cpu/arch"),
            "model": host.findtext("cpu/model"),
            "vendor": host.findtext("cpu/vendor"),
            "topology": {
                "cells": len(host.findall("topology/cells/cell")),
                **{name: int(counts.get(name, 0)) for name in ("sockets", "cores", "threads")},
            },
            "features": sorted(each.get("name", "") for each in host.iterfind("cpu/feature")),
        }


def _disks(domain: libvirt.virDomain) -> list[tuple[str, str, str]]:
    """Return type, format and path of each disk that has a path. Cost: 1 call."""
    disks = []
    for disk in ElementTree.fromstring(domain.XMLDesc(0)).iterfind("devices/disk"):
        source, driver = disk.find("source"), disk.find("driver")
        if source is not None and (path := source.get("file") or source.get("dev")):
            format = driver.get("type", "") if driver is not None else ""
            disks.append((disk.get("type", ""), format, path))
    return disks


def _output(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout
