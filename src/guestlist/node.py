"""The host itself: its processors, its memory, and the kinds of guests that it can run.

In: a peer. Out: a `Node`. Facts that only a new libvirt or another machine changes are asked once
per connection; the others each time. Capabilities that are no XML are an error of libvirt's; a fact
that is missing in them is None.

Source: libvirt docs/formatcaps.rst; Nova nova/virt/libvirt/host.py for which of it a compute
driver reports.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

import libvirt
from lxml import etree

from guestlist.domainxml.values import UINT32_MAX, number, uuid_from
from guestlist.errors import LibvirtFailure, one_line
from guestlist.peer import Peer, unsupported

_MEMINFO = Path("/proc/meminfo")
_AVAILABLE = ("MemFree", "Buffers", "Cached")


@dataclass(frozen=True, slots=True)
class Processor:
    """The host's processor, in libvirt's words; None where libvirt does not tell."""

    arch: str | None
    model: str | None
    vendor: str | None
    cells: int
    sockets: int | None
    cores: int | None
    threads: int | None
    features: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class GuestKind:
    """A kind of guest that the host can run: libvirt's arch, domain type and OS type."""

    arch: str
    domain_type: str
    os_type: str


@dataclass(frozen=True, slots=True)
class Hypervisor:
    """The facts that only a new libvirt or another machine changes. `version` is 9002003 for 9.2.3.

    `uuid` is the machine's, from its firmware or libvirtd.conf; None where libvirt does not tell.
    """

    hostname: str
    type: str
    version: int
    processor: Processor
    guest_kinds: tuple[GuestKind, ...]
    uuid: UUID | None = None


@dataclass(frozen=True, slots=True)
class Node:
    """A host at one instant: `memory_mib` is all its memory, `online_cpus` its usable CPUs."""

    hypervisor: Hypervisor
    online_cpus: int
    memory_mib: int


class NodeMemory:
    """The host at the other end of one connection; facts that last are asked once."""

    def __init__(self, peer: Peer, hypervisor: Hypervisor | None = None) -> None:
        self.peer = peer
        self.hypervisor = hypervisor
        """The facts that last, once they are known."""
        self._hostname: str | None = None
        self._machine: tuple[UUID | None] | None = None

    def hostname(self) -> str:
        """Return libvirt's name for the host.

        Raises:
            libvirt.libvirtError: the call failed.

        Cost: 1 call, once.
        """
        if self._hostname is None:
            known = self.hypervisor
            self._hostname = known.hostname if known else self.peer.connection.getHostname()
        return self._hostname

    def lasting(self) -> Hypervisor:
        """Return the facts that last; raises as `now`. Cost: 4 calls, once."""
        self.hypervisor = self.hypervisor or _hypervisor(self.peer)
        return self.hypervisor

    def machine_uuid(self) -> UUID | None:
        """Return the machine's UUID, the same over all connections; raises as `now`.

        libvirt invents one where the firmware and libvirtd.conf have none, when a client first asks
        for the capabilities; two clients that ask at that moment may be told two. The second answer
        is the one that stays (src/util/viruuid.c, `virGetHostUUID`).

        Cost: 5 calls, once; 1 where the facts that last are known.
        """
        if self._machine is None:
            self.lasting()
            self._machine = (_uuid(_capabilities(self.peer)),)
        return self._machine[0]

    def now(self) -> Node:
        """Return the host as it is now.

        Raises:
            libvirt.libvirtError: a call failed.
            LibvirtFailure: the capabilities are no XML.

        Cost: 2 calls; 4 more while the facts that last are not known.
        """
        hypervisor = self.lasting()
        info = self.peer.connection.getInfo()
        return Node(hypervisor, self._online_cpus(default=info[2]), info[1])

    def _online_cpus(self, default: int) -> int:
        try:
            _, _, online = self.peer.connection.getCPUMap()
        except (libvirt.libvirtError, AttributeError) as error:  # it is of 1.0.0
            if not unsupported(error):
                raise
            return default
        return online


def _capabilities(peer: Peer) -> etree._Element:
    parser = etree.XMLParser(resolve_entities=False, no_network=True)
    try:
        return etree.fromstring(peer.connection.getCapabilities().encode(), parser)
    except etree.XMLSyntaxError as error:
        raise LibvirtFailure(
            f"cannot read the capabilities of {peer.label}: they are no XML ({one_line(error)}); "
            "is it libvirt that answers there?"
        ) from error


def _uuid(capabilities: etree._Element) -> UUID | None:
    return uuid_from(capabilities.findtext("host/uuid"))


def _hypervisor(peer: Peer) -> Hypervisor:
    connection = peer.connection
    capabilities = _capabilities(peer)
    return Hypervisor(
        hostname=connection.getHostname(),
        type=connection.getType(),
        version=connection.getVersion(),
        processor=_processor(capabilities),
        guest_kinds=tuple(_guest_kinds(capabilities)),
        uuid=_uuid(capabilities),
    )


def available_kib() -> int | None:
    """Return the memory that this machine's kernel could give away: free, buffers, cached, in KiB.

    None where the kernel does not tell: /proc is missing, or lacks one of these lines.

    Cost: no call; reads /proc/meminfo.
    """
    try:
        text = _MEMINFO.read_text("ascii", "replace")
    except OSError:
        return None
    sizes = {name: number(size) for name, size in _is_size(text)}
    available = [sizes.get(name) for name in _AVAILABLE]
    return None if None in available else sum(filter(None, available))


_is_size = re.compile(r"^(\w+):\s*(\d+) kB$", re.ASCII | re.MULTILINE).findall


def _processor(capabilities: etree._Element) -> Processor:
    cpu = capabilities.find("host/cpu")
    topology = None if cpu is None else cpu.find("topology")
    cells = capabilities.findall("host/topology/cells/cell")
    return Processor(
        arch=capabilities.findtext("host/cpu/arch"),
        model=capabilities.findtext("host/cpu/model"),
        vendor=capabilities.findtext("host/cpu/vendor"),
        cells=len(cells) or 1,
        sockets=_number(topology, "sockets"),
        cores=_number(topology, "cores"),
        threads=_number(topology, "threads"),
        features=tuple(
            sorted({str(one.get("name")) for one in capabilities.iterfind("host/cpu/feature")})
        ),
    )


def _guest_kinds(capabilities: etree._Element) -> list[GuestKind]:
    return [
        GuestKind(str(arch.get("name")), str(domain.get("type")), guest.findtext("os_type") or "")
        for guest in capabilities.iterfind("guest")
        for arch in guest.iterfind("arch")
        for domain in arch.iterfind("domain")
    ]


def _number(element: etree._Element | None, attribute: str) -> int | None:
    return None if element is None else number(element.get(attribute), UINT32_MAX)
