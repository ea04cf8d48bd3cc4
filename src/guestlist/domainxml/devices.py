"""The disks and network interfaces of a domain's XML.

In: the elements. Out: a record for each `<disk>` and `<interface>`, in their order and
however little of it could be read. Opens no image: a source is what the XML says that it is.

Source: libvirt docs/formatdomain.rst ("Hard drives, floppy disks, CDROMs", "Network interfaces");
src/conf/domain_conf.c (virDomainStorageSourceParse, virDomainDiskBackingStoreParse).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping

from lxml import etree

from guestlist.domainxml.values import Unknown, attribute, bounded, firsts, number, text_of, word
from guestlist.records import Disk, DiskDevice, Nic, Slice, Source, SourceKind

DEEPEST_CHAIN = 200
"""Images in a backing chain. libvirt follows no longer one (virStorageSourceGetMetadata)."""

_is_plain = re.compile(r"[A-Za-z0-9_.-]{1,32}").fullmatch


def disks(disks: Iterable[etree._Element], unknown: Unknown) -> Iterator[Disk]:
    """A record for each `<disk>`."""
    for place, disk in enumerate(disks, 1):
        parts = firsts(disk)
        target = attribute(parts.get("target"), "dev")
        label = f"disk {target if target and _is_plain(target) else f'#{place}'}"
        yield _disk(disk, parts, target, label, unknown)


def _disk(
    disk: etree._Element,
    parts: Mapping[str, etree._Element],
    target: str | None,
    label: str,
    unknown: Unknown,
) -> Disk:
    device = unknown.unless(f"{label}: device", word(DiskDevice, disk.get("device", "disk")))
    source = _source(disk, parts, attribute(parts.get("driver"), "type"))
    if source.kind is SourceKind.NONE and device not in (DiskDevice.CDROM, DiskDevice.FLOPPY):
        unknown.add(f"{label}: source")
    _name_gaps(source, label, unknown)
    backing, backing_known = _chain(parts.get("backingStore"), source, label, unknown)
    serial = parts.get("serial")
    return Disk(
        target=unknown.unless(f"{label}: target", target),
        bus=unknown.unless(f"{label}: bus", attribute(parts.get("target"), "bus")),
        device=device,
        source=source,
        backing=backing,
        backing_known=backing_known,
        readonly="readonly" in parts,
        shareable="shareable" in parts,
        transient="transient" in parts,
        serial=None if serial is None else unknown.unless(f"{label}: serial", text_of(serial)),
    )


def _chain(
    store: etree._Element | None, top: Source, label: str, unknown: Unknown
) -> tuple[tuple[Source, ...], bool]:
    """The images below `top`, and whether the XML says that they are all.

    A chain that comes back to an image it has passed ends there, and is not known.
    """
    chain: list[Source] = []
    passed = {(top.kind, top.location, top.slice)}
    while store is not None:
        if not len(store) and not store.get("type"):
            return tuple(chain), True
        parts = firsts(store)
        below = _source(store, parts, attribute(parts.get("format"), "type"))
        image = below.kind, below.location, below.slice
        if len(chain) == DEEPEST_CHAIN or (below.location and image in passed):
            unknown.add(f"{label}: backing chain")
            break
        below_label = f"{label}: backing #{len(chain) + 1}"
        if below.kind is SourceKind.NONE:
            unknown.add(f"{below_label}: source")
        _name_gaps(below, below_label, unknown)
        passed.add(image)
        chain.append(below)
        store = parts.get("backingStore")
    return tuple(chain), False


def _source(
    holder: etree._Element, parts: Mapping[str, etree._Element], format: str | None
) -> Source:
    """Where a `<disk>` or a `<backingStore>` has its bytes; kind NONE where nothing says it."""
    kind, source = word(SourceKind, holder.get("type", "file")), parts.get("source")
    location = "" if source is None or kind is None else _location(kind, source)
    if kind and location == "":
        kind = SourceKind.NONE
    inside = firsts(source)
    return Source(
        kind,
        bounded(location),
        _SAME_FORMAT.get(format or "", format),
        slice=_slice(inside.get("slices")),
        encryption=_encryption(parts.get("encryption", inside.get("encryption"))),
        fd_group=attribute(source, "fdgroup"),
    )


def _slice(slices: etree._Element | None) -> Slice | None:
    """The part of the source that is the image. Other types of slices are libvirt's own affair."""
    for slice in () if slices is None else slices.iterchildren("slice"):
        if slice.get("type") == "storage":
            return Slice(number(slice.get("offset")), number(slice.get("size")))
    return None


def _encryption(encryption: etree._Element | None) -> str | None:
    """The format of the encryption, which old XML has beside the source; "" where none is said."""
    return None if encryption is None else attribute(encryption, "format") or ""


_SAME_FORMAT = {"aio": "raw"}
"""Xen's old names of formats, as libvirt takes them."""


def _name_gaps(source: Source, label: str, unknown: Unknown) -> None:
    if source.kind is None:
        unknown.add(f"{label}: type")
    if source.location is None and source.kind is not SourceKind.NONE:
        unknown.add(f"{label}: source")
    if source.slice is not None and None in (source.slice.offset, source.slice.size):
        unknown.add(f"{label}: slice")


_LOCATION = {
    SourceKind.FILE: "file",
    SourceKind.BLOCK: "dev",
    SourceKind.DIR: "dir",
    SourceKind.VHOSTUSER: "path",
    SourceKind.VHOSTVDPA: "dev",
}
"""The attribute of a disk's `<source>` that is its whole location, by the type of the disk."""


def _location(kind: SourceKind, source: etree._Element) -> str | None:
    """See `Source`; empty where the XML names no place, None where it names one badly."""
    match kind:
        case SourceKind.NONE:
            return ""
        case SourceKind.NETWORK:
            return _url(source)
        case SourceKind.VOLUME:
            pool, volume = source.get("pool"), source.get("volume")
            return f"{pool}/{volume}" if pool and volume else None
        case SourceKind.NVME:
            address, namespace = _pci(source.find("address")), number(source.get("namespace"))
            return f"nvme://{address}/{namespace}" if address and namespace else None
    return source.get(_LOCATION[kind], "")


def _url(source: etree._Element) -> str | None:
    """protocol[+transport]://[host[:port][,…]][/name[@snapshot]][?query]

    Nothing in it is percent-encoded. Where there is no host, the client has its own configuration.
    The socket of a unix transport stands in the query, as QEMU writes it. Hosts that differ in
    their transport have no such notation.
    """
    protocol = source.get("protocol")
    if not protocol:
        return ""
    hosts = list(source.iterchildren("host"))
    transports = {host.get("transport", "tcp") for host in hosts} or {"tcp"}
    if len(transports) > 1:
        return None
    [transport] = transports
    scheme = protocol if transport == "tcp" else f"{protocol}+{transport}"
    authority = ",".join([_authority(host.get("name", ""), host.get("port")) for host in hosts])
    sockets = [f"socket={host.get('socket')}" for host in hosts if host.get("socket")]
    query = "&".join(filter(None, (source.get("query"), *sockets)))
    snapshot = attribute(next(source.iterchildren("snapshot"), None), "name")
    name = source.get("name", "").removeprefix("/") + (f"@{snapshot}" if snapshot else "")
    path = f"/{name}" if name or query else ""
    return f"{scheme}://{authority}{path}{'?' if query else ''}{query}"


def _authority(name: str, port: str | None) -> str:
    name = f"[{name}]" if ":" in name else name
    return f"{name}:{port}" if port else name


_is_pci_part = re.compile(r"0x[0-9a-fA-F]{1,8}").fullmatch


def _pci(address: etree._Element | None) -> str | None:
    """A PCI address as lspci writes it: 0000:03:10.1."""
    if address is None or address.get("bus") is None:
        return None
    parts = [address.get(part, "0x0") for part in ("domain", "bus", "slot", "function")]
    if not all(map(_is_pci_part, parts)):
        return None
    domain, bus, slot, function = (int(part, 16) for part in parts)
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
_is_mac = re.compile(r"[0-9a-f]{1,2}(:[0-9a-f]{1,2}){5}", re.IGNORECASE | re.ASCII).fullmatch
_WHOLE_MAC = len("52:54:00:00:00:01")


def nics(interfaces: Iterable[etree._Element], unknown: Unknown) -> Iterator[Nic]:
    """A record for each `<interface>`."""
    for place, nic in enumerate(interfaces, 1):
        parts = firsts(nic)
        label = f"interface #{place}"
        kind = unknown.unless(f"{label}: type", attribute(nic, "type"))
        source = _nic_source(kind, parts.get("source"))
        if kind and kind not in _NIC_WITHOUT_SOURCE:
            unknown.unless(f"{label}: source", source)
        yield Nic(
            mac=unknown.unless(f"{label}: mac", _mac(attribute(parts.get("mac"), "address"))),
            kind=kind,
            source=source,
            target=attribute(parts.get("target"), "dev"),
            model=attribute(parts.get("model"), "type"),
        )


def _nic_source(kind: str | None, source: etree._Element | None) -> str | None:
    if source is None or kind is None:
        return None
    address, port = source.get("address"), source.get("port")
    match kind:
        case "hostdev":
            return _pci(source.find("address"))
        case "server" | "client" | "mcast" | "udp":
            return bounded(_authority(address, port)) if address and port else None
    return attribute(source, _NIC_SOURCE.get(kind, "dev"))


def _mac(text: str | None) -> str | None:
    """A MAC address, in lower case and with all its digits."""
    if text is None or not _is_mac(text):
        return None
    text = text.lower()
    return text if len(text) == _WHOLE_MAC else ":".join(o.zfill(2) for o in text.split(":"))
