"""The host itself: its processors, its memory, and what kinds of guests it can run.

In: a peer. Out: a `Node`. What only a new libvirt or another machine changes is asked once per
connection; what moves, each time.

Source: libvirt docs/formatcaps.rst; Nova nova/virt/libvirt/host.py for which of it a compute
driver reports.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import libvirt
from lxml import etree

from guestlist.connection import Peer, unsupported

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
    """What a new libvirt or another machine changes. `version` is 9002003 for 9.2.3."""

    hostname: str
    type: str
    version: int
    processor: Processor
    guest_kinds: tuple[GuestKind, ...]


@dataclass(frozen=True, slots=True)
class Node:
    """A host at one instant: `memory_mib` is all it has, `online_cpus` how many it may run on."""

    hypervisor: Hypervisor
    online_cpus: int
    memory_mib: int


class NodeMemory:
    """The host at the other end of one connection; what lasts is asked once."""

    def __init__(self, peer: Peer, hypervisor: Hypervisor | None = None) -> None:
        self.peer = peer
        self.hypervisor = hypervisor
        """What lasts, once it is known."""

    def now(self) -> Node:
        """The host as it is. Cost: 2 calls; 4 more where what lasts is not known yet."""
        self.hypervisor = self.hypervisor or _hypervisor(self.peer.connection)
        info = self.peer.connection.getInfo()
        return Node(self.hypervisor, self._online_cpus(default=info[2]), info[1])

    def _online_cpus(self, default: int) -> int:
        try:
            _, _, online = self.peer.connection.getCPUMap()
        except (libvirt.libvirtError, AttributeError) as error:  # it is of 1.0.0
            if not unsupported(error):
                raise
            return default
        return online


def _hypervisor(connection: libvirt.virConnect) -> Hypervisor:
    parser = etree.XMLParser(resolve_entities=False, no_network=True)
    capabilities = etree.fromstring(connection.getCapabilities().encode(), parser)
    return Hypervisor(
        hostname=connection.getHostname(),
        type=connection.getType(),
        version=connection.getVersion(),
        processor=_processor(capabilities),
        guest_kinds=tuple(_guest_kinds(capabilities)),
    )


def available_kib() -> int:
    """What this machine's kernel could give away: free, buffers and cached, in KiB.

    Cost: no call; reads /proc/meminfo.
    """
    lines = (line.split() for line in _MEMINFO.read_text().splitlines())
    sizes = {words[0].rstrip(":"): int(words[1]) for words in lines}
    return sum(sizes[name] for name in _AVAILABLE)


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
    text = None if element is None else element.get(attribute)
    return int(text) if text and text.isdigit() else None
