"""The disks and network interfaces of a domain's XML.

In: the elements. Out: a record for each `<disk>` and `<interface>`, in their order and
however little of it could be read. Opens no image: a source is what the XML says that it is.

Source: libvirt docs/formatdomain.rst ("Hard drives, floppy disks, CDROMs", "Network interfaces");
src/conf/domain_conf.c (virDomainStorageSourceParse, virDomainDiskBackingStoreParse).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from uuid import UUID

from lxml import etree

from guestlist.domainxml.iotune import iotune
from guestlist.domainxml.values import (
    UINT32_MAX,
    Unknown,
    attribute,
    bounded,
    first,
    firsts,
    inside,
    number,
    optional,
    text_of,
    uuid_from,
)
from guestlist.records import Disk, DiskDevice, Nic, Slice, Source, SourceKind

DEEPEST_CHAIN = 200
"""Images in a backing chain. libvirt follows no longer one (virStorageSourceGetMetadata)."""

Parts = Mapping[str, etree._Element]
"""The elements directly inside another; see `firsts`."""

_DEVICES: Mapping[str, DiskDevice] = {device.value: device for device in DiskDevice}
_KINDS: Mapping[str, SourceKind] = {kind.value: kind for kind in SourceKind}
_REMOVABLE = DiskDevice.CDROM, DiskDevice.FLOPPY

_is_plain = re.compile(r"[A-Za-z0-9_.-]{1,32}").fullmatch


def disk(place: int, element: etree._Element, unknown: Unknown) -> Disk:
    """Read a `<disk>`, the `place`-th of its domain, counted from 1."""
    gaps: list[str] = []
    parts = firsts(element)
    device = _DEVICES.get(element.get("device", "disk"))
    if device is None:
        gaps.append("device")
    driver = parts.get("driver")
    source = _source(element, parts, attribute(driver, "type"))
    if source.kind is SourceKind.NONE and device not in _REMOVABLE:
        gaps.append("source")
    if source.kind is None or source.location is None or source.slice is not None:
        _name_gaps(source, "", gaps)
    backing, backing_known = _chain(parts.get("backingStore"), source, gaps)
    target = parts.get("target")
    name, bus = attribute(target, "dev"), attribute(target, "bus")
    if name is None:
        gaps.append("target")
    if bus is None:
        gaps.append("bus")
    serial = None
    if "serial" in parts:
        serial = text_of(parts["serial"])
        if serial is None:
            gaps.append("serial")
    program = cache = discard = None
    if driver is not None:
        program = optional(driver, "name", gaps, "driver")
        cache = optional(driver, "cache", gaps, "cache")
        discard = optional(driver, "discard", gaps, "discard")
    limits = iotune(parts["iotune"], gaps) if "iotune" in parts else None
    if gaps:
        unknown.add_all(f"disk {name if name and _is_plain(name) else f'#{place}'}", gaps)
    return Disk(
        name,
        bus,
        device,
        source,
        backing,
        backing_known,
        "readonly" in parts,
        "shareable" in parts,
        "transient" in parts,
        serial,
        program,
        cache,
        discard,
        limits,
    )


def _chain(
    store: etree._Element | None, top: Source, gaps: list[str]
) -> tuple[tuple[Source, ...], bool]:
    """Return the images below `top`, and whether the XML says that there are no others.

    A chain that comes back to one of its images ends there, and its rest is not known.
    """
    if store is None:
        return (), False
    chain: list[Source] = []
    passed = {(top.kind, top.location, top.slice)}
    while store is not None:
        if not len(store) and not store.get("type"):
            return tuple(chain), True
        parts = firsts(store)
        below = _source(store, parts, attribute(parts.get("format"), "type"))
        image = below.kind, below.location, below.slice
        if len(chain) == DEEPEST_CHAIN or (below.location and image in passed):
            gaps.append("backing chain")
            break
        if below.location is None or below.kind is None or below.slice is not None:
            label = f"backing #{len(chain) + 1}: "
            if below.kind is SourceKind.NONE:
                gaps.append(f"{label}source")
            _name_gaps(below, label, gaps)
        passed.add(image)
        chain.append(below)
        store = parts.get("backingStore")
    return tuple(chain), False


def _source(holder: etree._Element, parts: Parts, format: str | None) -> Source:
    """Return where a `<disk>` or a `<backingStore>` has its bytes; NONE where it has none."""
    kind, source = _KINDS.get(holder.get("type", "file")), parts.get("source")
    format = _SAME_FORMAT.get(format or "", format)
    encryption = parts.get("encryption")
    if source is None:
        none = None if kind is None else SourceKind.NONE
        encrypted = None if encryption is None else _encryption(encryption)
        return Source(none, None, format, encryption=encrypted)
    within = firsts(source) if len(source) else _NOTHING
    location = None if kind is None else _location(kind, source, within)
    if location == "":
        kind = SourceKind.NONE
    if encryption is None and within:
        encryption = within.get("encryption")
    return Source(
        kind,
        bounded(location),
        format,
        _slice(within["slices"]) if "slices" in within else None,
        None if encryption is None else _encryption(encryption),
        attribute(source, "fdgroup"),
        attribute(source, "protocol") if kind is SourceKind.NETWORK else None,
    )


_NOTHING: Parts = {}


def _slice(slices: etree._Element) -> Slice | None:
    """Return the part of the source that is the image. Other types of slices are libvirt's own."""
    for slice in slices.iterchildren("slice"):
        if slice.get("type") == "storage":
            return Slice(number(slice.get("offset")), number(slice.get("size")))
    return None


def _encryption(encryption: etree._Element) -> str:
    """Return the format of the encryption; "" where the XML says none.

    Old XML has the element beside the source, new XML inside it.
    """
    return attribute(encryption, "format") or ""


_SAME_FORMAT = {"aio": "raw"}
"""Xen's old names of formats, as libvirt takes them."""


def _name_gaps(source: Source, label: str, gaps: list[str]) -> None:
    if source.kind is None:
        gaps.append(f"{label}type")
    if source.location is None and source.kind is not SourceKind.NONE:
        gaps.append(f"{label}source")
    if source.slice is not None and None in (source.slice.offset, source.slice.size):
        gaps.append(f"{label}slice")


_LOCATION = {
    SourceKind.FILE: "file",
    SourceKind.BLOCK: "dev",
    SourceKind.DIR: "dir",
    SourceKind.VHOSTUSER: "path",
    SourceKind.VHOSTVDPA: "dev",
}
"""The attribute of a disk's `<source>` that is its whole location, by the type of the disk."""


def _location(kind: SourceKind, source: etree._Element, parts: Parts) -> str | None:
    """See `Source`; empty where the XML names no place, None where it names one badly."""
    name = _LOCATION.get(kind)
    if name is not None:
        return source.get(name, "")
    match kind:
        case SourceKind.NETWORK:
            return _url(source, parts)
        case SourceKind.VOLUME:
            pool, volume = source.get("pool"), source.get("volume")
            return f"{pool}/{volume}" if pool and volume else None
        case SourceKind.NVME:
            address, namespace = _pci(parts.get("address")), number(source.get("namespace"))
            return f"nvme://{address}/{namespace}" if address and namespace else None
    return ""


def _url(source: etree._Element, parts: Parts) -> str | None:
    """protocol[+transport]://[host[:port][,…]][/name[@snapshot]][?query]

    Nothing in it is percent-encoded. Without a host, the client has its own configuration.
    The socket of a unix transport stands in the query, as QEMU writes it. Hosts that differ in
    their transport have no such notation.
    """
    protocol = source.get("protocol")
    if not protocol:
        return ""
    hosts = [host for host in inside(source) if host.tag == "host"]
    servers = _servers(*[tuple(host.items()) for host in hosts])
    if servers is None:
        return None
    transport, authority, sockets = servers
    query = "&".join(filter(None, (source.get("query"), sockets)))
    name = source.get("name", "").removeprefix("/")
    if snapshot := attribute(parts.get("snapshot"), "name"):
        name += f"@{snapshot}"
    path = f"/{name}" if name or query else ""
    return f"{protocol}{transport}://{authority}{path}{'?' if query else ''}{query}"


@lru_cache(maxsize=64)
def _servers(*hosts: tuple[tuple[str, str], ...]) -> tuple[str, str, str] | None:
    """Return what a URL says of these `<host>`s: transport, authority, sockets; see `_url`.

    Each host is its attributes. Remembered, since a host's guests share a few storage clusters.
    """
    transports, addresses, sockets = {"tcp"} if not hosts else set(), [], []
    for host in hosts:
        facts = dict(host)
        transports.add(facts.get("transport", "tcp"))
        addresses.append(_authority(facts.get("name", ""), facts.get("port")))
        if socket := facts.get("socket"):
            sockets.append(f"socket={socket}")
    if len(transports) > 1:
        return None
    [transport] = transports
    return "" if transport == "tcp" else f"+{transport}", ",".join(addresses), "&".join(sockets)


def _authority(name: str, port: str | None) -> str:
    name = f"[{name}]" if ":" in name else name
    return f"{name}:{port}" if port else name


_is_pci = re.compile(" ".join(["0x([0-9a-fA-F]{1,8})"] * 4)).fullmatch


def _pci(address: etree._Element | None) -> str | None:
    """Return a PCI address as lspci writes it: 0000:03:10.1."""
    if address is None or address.get("bus") is None:
        return None
    parts = [address.get(part, "0x0") for part in ("domain", "bus", "slot", "function")]
    found = _is_pci(" ".join(parts))
    if found is None:
        return None
    domain, bus, slot, function = [int(part, 16) for part in found.groups()]
    return f"{domain:04x}:{bus:02x}:{slot:02x}.{function:x}"


_NIC_SOURCE = {
    "network": "network",
    "bridge": "bridge",
    "internal": "name",
    "vhostuser": "path",
    "vds": "portgroupid",
}
"""The attribute of an interface's `<source>` that says where it leads; "dev" for other types."""

_NIC_WITHOUT_SOURCE = {"user", "ethernet", "null"}
_is_whole_mac = re.compile(":".join(["[0-9a-f]{2}"] * 6)).fullmatch
_is_mac = re.compile(r"[0-9a-f]{1,2}(:[0-9a-f]{1,2}){5}", re.IGNORECASE | re.ASCII).fullmatch


def nic(place: int, element: etree._Element, unknown: Unknown) -> Nic:
    """Read an `<interface>`, the `place`-th of its domain, counted from 1."""
    gaps: list[str] = []
    parts = firsts(element)
    kind = attribute(element, "type")
    source = _nic_source(kind, parts.get("source"))
    mac = _mac(attribute(parts.get("mac"), "address"))
    if kind is None:
        gaps.append("type")
    elif source is None and kind not in _NIC_WITHOUT_SOURCE:
        gaps.append("source")
    if mac is None:
        gaps.append("mac")
    target, model = attribute(parts.get("target"), "dev"), attribute(parts.get("model"), "type")
    named = kind != "bridge"  # else it is the source
    bridge = optional(parts.get("source"), "bridge", gaps, "bridge") if named else source
    mtu = _mtu(parts["mtu"], gaps) if "mtu" in parts else None
    port = _interface_id(parts["virtualport"], gaps) if "virtualport" in parts else None
    if gaps:
        unknown.add_all(f"interface #{place}", gaps)
    return Nic(mac, kind, source, target, model, bridge, mtu, port)


def _mtu(element: etree._Element, gaps: list[str]) -> int | None:
    """Read an `<mtu>`; libvirt takes 0 for none."""
    mtu = number(element.get("size"), UINT32_MAX)
    if mtu is None:
        gaps.append("mtu")
    return mtu or None


def _interface_id(virtualport: etree._Element, gaps: list[str]) -> UUID | None:
    """Read the interface's id in a `<virtualport>`; not all types of switches have one."""
    parameters = first(virtualport, "parameters")
    text = None if parameters is None else parameters.get("interfaceid")
    if text is None:
        return None
    uuid = uuid_from(bounded(text))
    if uuid is None:
        gaps.append("interface id")
    return uuid


def _nic_source(kind: str | None, source: etree._Element | None) -> str | None:
    if source is None or kind is None:
        return None
    if kind in _NIC_SOURCE:
        return attribute(source, _NIC_SOURCE[kind])
    match kind:
        case "hostdev":
            return _pci(firsts(source).get("address"))
        case "server" | "client" | "mcast" | "udp":
            address, port = source.get("address"), source.get("port")
            return bounded(_authority(address, port)) if address and port else None
    return attribute(source, "dev")


def _mac(text: str | None) -> str | None:
    """Return a MAC address, in lower case and with all its digits."""
    if text is None or _is_whole_mac(text):
        return text
    if not _is_mac(text):
        return None
    return ":".join([octet.zfill(2) for octet in text.lower().split(":")])
