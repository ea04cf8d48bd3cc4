"""What Nova wrote into a domain's `<metadata>`.

In: the `<metadata>` element. Out: the namespaces in it, and one record, or None where Nova wrote
nothing. Server, flavor, project and user names are text that tenants choose: they are kept as they
are, control characters included, and the code that shows them makes them safe. A namespace that
only looks like Nova's is not read.

Source: Nova nova/virt/libvirt/config.py (LibvirtConfigGuestMetaNovaInstance and its parts): 1.0
since Juno; 1.1, with ports, since Wallaby.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address
from typing import NamedTuple

from lxml import etree

from guestlist.domainxml.values import (
    Unknown,
    attribute,
    inside,
    number,
    text_of,
    uuid_from,
)
from guestlist.launcher import NOVA_NAMESPACE
from guestlist.records import Flavor, NovaMetadata, Owner, Port

_SIZES = "memory", "disk", "swap", "ephemeral", "vcpus"
_PARTS = (
    *("package", "name", "creationTime", "flavor", "owner", "root", "ports", "port", "ip"),
    *("user", "project"),
    *_SIZES,
)


class _Version(NamedTuple):
    """A version of Nova's metadata: as text, as numbers to compare, and its names by tag.

    A tag carries the namespace: "{http://openstack.org/xmlns/libvirt/nova/1.1}name".
    """

    text: str
    order: tuple[int, int]
    names: Mapping[str, str]


_Parts = Mapping[str | None, etree._Element]
"""The first element of each name inside one of Nova's; None: the first that is not Nova's."""


def metadata_of(
    metadata: etree._Element | None, unknown: Unknown
) -> tuple[frozenset[str], NovaMetadata | None]:
    """Return the namespaces of the elements in a `<metadata>`, and what Nova wrote.

    Of several versions of Nova's metadata the newest is read, and of that the first.
    """
    namespaces = set()
    newest: tuple[_Version, etree._Element] | None = None
    seen = set()
    for child in () if metadata is None else inside(metadata):
        tag = child.tag
        if not isinstance(tag, str):  # an entity reference
            continue
        namespace, version = _known(tag) if len(tag) <= _LONGEST_TAG else (_namespace_of(tag), None)
        namespaces.add(namespace)
        if version is None:
            continue
        if version.order in seen:
            unknown.add("nova: instance stands twice")
        elif newest is None or version.order > newest[0].order:
            newest = version, child
        seen.add(version.order)
    namespaces.discard("")
    return frozenset(namespaces), None if newest is None else _instance(*newest, unknown)


def _namespace_of(tag: str) -> str:
    """Return the namespace; empty without one. `etree.QName` would raise on recovered names."""
    return tag[1:].partition("}")[0] if tag.startswith("{") else ""


_is_instance = re.compile(
    re.escape("{" + NOVA_NAMESPACE) + r"((\d{1,4})\.(\d{1,4}))\}instance", re.ASCII
).fullmatch
_LONGEST_TAG = len("{" + NOVA_NAMESPACE + "1234.1234}instance")


@lru_cache(maxsize=64)
def _known(tag: str) -> tuple[str, _Version | None]:
    """Return the namespace of a tag, and Nova's version where it is that of an `<instance>`."""
    namespace, found = _namespace_of(tag), _is_instance(tag)
    if found is None:
        return namespace, None
    names = {f"{{{namespace}}}{name}": name for name in _PARTS}
    return namespace, _Version(found[1], (int(found[2]), int(found[3])), names)


def _instance(version: _Version, instance: etree._Element, unknown: Unknown) -> NovaMetadata:
    """Read one `<instance>`; all its parts are in its own namespace."""
    names, add = version.names, unknown.add
    parts = _parts(instance, names)
    package = attribute(parts.get("package"), "version")
    if package is None:
        add("nova: package")
    name = text_of(parts.get("name"))
    if name is None:
        add("nova: name")
    created_at = _time(text_of(parts.get("creationTime")))
    if created_at is None:
        add("nova: creationTime")
    flavor, gaps = _flavor_of(parts.get("flavor"), names)
    for gap in gaps:
        add(gap)
    owner = _owner_of(parts.get("owner"), names, unknown)
    root, root_uuid = parts.get("root"), None
    if root is not None:  # else the instance boots from a volume
        root_uuid = uuid_from(attribute(root, "uuid"))
        if root_uuid is None:
            add("nova: root uuid")
    ports = parts.get("ports")
    return NovaMetadata(
        version.text,
        package,
        name,
        created_at,
        flavor,
        owner,
        attribute(root, "type"),
        root_uuid,
        () if ports is None else _ports_of(ports, names, unknown),
    )


def _parts(element: etree._Element, names: Mapping[str, str]) -> _Parts:
    parts = {}
    for child in element[::-1]:  # type: ignore[index]  # the stubs know no slices
        parts[names.get(child.tag)] = child
    return parts


def _flavor_of(
    element: etree._Element | None, names: Mapping[str, str]
) -> tuple[Flavor | None, tuple[str, ...]]:
    if element is None:
        return None, ("nova: flavor",)
    parts = _parts(element, names)
    return _flavor(
        attribute(element, "name"),
        text_of(parts.get("memory")),
        text_of(parts.get("disk")),
        text_of(parts.get("swap")),
        text_of(parts.get("ephemeral")),
        text_of(parts.get("vcpus")),
    )


@lru_cache(maxsize=128)
def _flavor(name: str | None, *sizes: str | None) -> tuple[Flavor, tuple[str, ...]]:
    """Return a flavor and the names of its gaps; remembered, since many instances share one."""
    numbers = [number(size) for size in sizes]
    gaps = [] if name is not None else ["nova: flavor name"]
    gaps += [
        f"nova: flavor {size}" for size, value in zip(_SIZES, numbers, strict=True) if value is None
    ]
    return Flavor(name, *numbers), tuple(gaps)


def _owner_of(
    element: etree._Element | None, names: Mapping[str, str], unknown: Unknown
) -> Owner | None:
    if element is None:
        return None
    parts = _parts(element, names)
    user, project = parts.get("user"), parts.get("project")
    owner, gaps = _owner(
        attribute(user, "uuid"), text_of(user), attribute(project, "uuid"), text_of(project)
    )
    for gap in gaps:
        unknown.add(gap)
    return owner


@lru_cache(maxsize=128)
def _owner(*facts: str | None) -> tuple[Owner, tuple[str, ...]]:
    """Return an owner and the names of its gaps; remembered, since many instances share one."""
    names = "nova: user uuid", "nova: user", "nova: project uuid", "nova: project"
    gaps = [name for name, fact in zip(names, facts, strict=True) if fact is None]
    return Owner(*facts), tuple(gaps)


def _ports_of(
    element: etree._Element, names: Mapping[str, str], unknown: Unknown
) -> tuple[Port, ...]:
    ports: list[Port] = []
    for child in inside(element):
        if names.get(child.tag) == "port":
            addresses = [
                attribute(ip, "address") for ip in inside(child) if names.get(ip.tag) == "ip"
            ]
            port, gaps = _port(attribute(child, "uuid"), *addresses)
            ports.append(port)
            for gap in gaps:
                unknown.add(f"nova: port #{len(ports)} {gap}")
    return tuple(ports)


@lru_cache(maxsize=4_096)
def _port(uuid: str | None, *addresses: str | None) -> tuple[Port, tuple[str, ...]]:
    """Return a port and the names of its gaps; remembered: it is read again with its domain."""
    known, ips = uuid_from(uuid), [_ip(address) for address in addresses]
    gaps = ["uuid"] if known is None else []
    if None in ips:
        gaps.append("ip")
    return Port(known, tuple([ip for ip in ips if ip is not None])), tuple(gaps)


_is_time = re.compile(r"\d{4}-\d\d-\d\d (?:[01]\d|2[0-3]):[0-5]\d:[0-5]\d", re.ASCII).fullmatch


def _time(text: str | None) -> datetime | None:
    """Return the moment that Nova wrote: it is in UTC, which the text does not say."""
    if text is None or not _is_time(text):
        return None
    try:
        return datetime.fromisoformat(text + "+00:00")
    except ValueError:  # no such day
        return None


def _ip(text: str | None) -> IPv4Address | IPv6Address | None:
    if text is None or "%" in text:  # a zone may be text of any kind
        return None
    try:
        return IPv6Address(text) if ":" in text else IPv4Address(text)
    except ValueError:
        return None
