"""Domain XML of every kind, each beside the facts that a reader must find in it.

`domains/NAME.xml` is a domain, written by hand; `domains/NAME.facts` is what it says, in the
notation of `facts`, and was read against the XML line by line: do so again before you change one.
All but those in `BROKEN` are well-formed, and libvirt accepts all but those in `REFUSED`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

from guestlist.records import Details, NovaMetadata, Source

DOMAINS = Path(__file__).parent / "domains"

NAMES = sorted(path.stem for path in DOMAINS.glob("*.xml"))

BROKEN = frozenset(
    {
        "hostile-cut-short",
        "hostile-entity-bomb",
        "hostile-external-entity",
        "hostile-metadata-too-deep",
        "hostile-undeclared-entity",
    }
)
"""Not well-formed, not to be read in full, or with a document type, which libvirt never writes."""

REFUSED = BROKEN | {
    "devices-crypto",  # since libvirt 9.2
    "disks-chain-loops",
    "disks-every-limit",  # libvirt refuses total limits beside those of reads and writes
    "disks-vhostvdpa",  # since libvirt 9.10
    "hostile-all-missing",
    "hostile-default-namespace",
    "hostile-numbers",
    "hostile-optional-parts",
    "hostile-wrong-root",
    "nics-bad-addresses",
    "vcpus-listed-wrongly",
}
"""What libvirt 9.0 does not accept; later ones accept some of it."""


def xml(name: str) -> str:
    """The XML of a domain."""
    return (DOMAINS / f"{name}.xml").read_text(encoding="utf-8")


def expected(name: str) -> str:
    """The facts written down beside it."""
    return (DOMAINS / f"{name}.facts").read_text(encoding="utf-8")


def facts(details: Details) -> str:
    """Details as text: a fact is a line, text from the XML is in quotes, `?` is None.

    domain TYPE NAME UUID
    vcpus CURRENT of MAXIMUM
    memory CURRENT of MAXIMUM [up to HOTPLUG] KiB
    os TYPE ARCH MACHINE
    agent connected|disconnected
    disk TARGET BUS DEVICE [readonly] [shareable] [transient] [serial SERIAL]
        driver NAME [cache CACHE] [discard DISCARD]
        KIND LOCATION FORMAT [slice SIZE at OFFSET] [encrypted FORMAT] [descriptors GROUP]
                             [protocol PROTOCOL] its source, then its backing chain
        end                                      that is all of the chain
        limit NAME VALUE                         for each limit
    nic MAC KIND SOURCE TARGET MODEL [bridge BRIDGE] [mtu MTU] [id INTERFACE]
    metadata NAMESPACE
    nova VERSION PACKAGE NAME CREATED, and under it its flavor, image, owner, root and ports
    unknown NAME
    """
    return "".join(f"{line}\n" for line in _lines(details))


def _lines(details: Details) -> Iterator[str]:
    yield f"domain {_quoted(details.type)} {_quoted(details.name)} {_plain(details.uuid)}"
    yield f"vcpus {_plain(details.current_vcpus)} of {_plain(details.vcpus)}"
    limit = "" if details.max_memory_kib is None else f" up to {details.max_memory_kib}"
    current = _plain(details.current_memory_kib)
    yield f"memory {current} of {_plain(details.memory_kib)}{limit} KiB"
    if os := details.os:
        yield f"os {' '.join(map(_quoted, (os.type, os.arch, os.machine)))}"
    if details.agent_connected is not None:
        yield f"agent {'connected' if details.agent_connected else 'disconnected'}"
    for disk in details.disks:
        words = [_quoted(disk.target), _quoted(disk.bus), _plain(disk.device)]
        words += [flag for flag in ("readonly", "shareable", "transient") if getattr(disk, flag)]
        words += [] if disk.serial is None else ["serial", _quoted(disk.serial)]
        yield f"disk {' '.join(words)}"
        if words := list(_named(driver=disk.driver, cache=disk.cache, discard=disk.discard)):
            yield f"    {' '.join(words)}"
        yield from (f"    {_source(source)}" for source in (disk.source, *disk.backing))
        if disk.backing_known:
            yield "    end"
        for name, limit in asdict(disk.iotune).items() if disk.iotune else ():
            if limit is not None:
                yield f"    limit {name} {limit!r}"
    for nic in details.nics:
        words = [_quoted(word) for word in (nic.mac, nic.kind, nic.source, nic.target, nic.model)]
        words += _named(bridge=nic.bridge)
        words += [] if nic.mtu is None else [f"mtu {nic.mtu}"]
        words += [] if nic.interface_id is None else [f"id {nic.interface_id}"]
        yield f"nic {' '.join(words)}"
    yield from (f"metadata {_quoted(uri)}" for uri in sorted(details.namespaces))
    if details.nova is not None:
        yield from _nova(details.nova)
    yield from (f"unknown {name}" for name in details.unknown)


def _nova(nova: NovaMetadata) -> Iterator[str]:
    head = " ".join(map(_quoted, (nova.version, nova.package, nova.name)))
    yield f"nova {head} {nova.created_at.isoformat() if nova.created_at else '?'}"
    if flavor := nova.flavor:
        yield (
            f"    flavor {_quoted(flavor.name)} {_plain(flavor.memory_mib)} MiB"
            f" {_plain(flavor.vcpus)} vcpus disk {_plain(flavor.disk_gb)} GB"
            f" swap {_plain(flavor.swap_mb)} MB ephemeral {_plain(flavor.ephemeral_gb)} GB"
            + "".join(f" {word}" for word in _named(id=flavor.id))
        )
    if nova.image_id:
        yield f"    image {nova.image_id}"
    if owner := nova.owner:
        yield f"    user {_quoted(owner.user_id)} {_quoted(owner.user_name)}"
        yield f"    project {_quoted(owner.project_id)} {_quoted(owner.project_name)}"
    if nova.root_type or nova.root_uuid:
        yield f"    root {_quoted(nova.root_type)} {_plain(nova.root_uuid)}"
    for port in nova.ports:
        yield " ".join(["    port", _plain(port.uuid), *map(str, port.ips)])


def _source(source: Source) -> str:
    words = [_plain(source.kind), _quoted(source.location), _quoted(source.format)]
    if source.slice is not None:
        words.append(f"slice {_plain(source.slice.size)} at {_plain(source.slice.offset)}")
    if source.encryption is not None:
        words.append(f"encrypted {_quoted(source.encryption)}")
    if source.fd_group is not None:
        words.append(f"descriptors {_quoted(source.fd_group)}")
    words += _named(protocol=source.protocol)
    return " ".join(words)


def _named(**values: str | None) -> Iterator[str]:
    for name, value in values.items():
        if value is not None:
            yield f"{name} {_quoted(value)}"


def _quoted(text: str | None) -> str:
    return "?" if text is None else ascii(text)


def _plain(value: object) -> str:
    return "?" if value is None else str(value)
