"""What Nova wrote into a domain's `<metadata>`.

In: the `<metadata>` element. Out: the namespaces in it, and one record, or None where Nova wrote
nothing. Server, flavor, project and user names are text that tenants choose: they are kept as they
are, control characters included, and the code that shows them makes them safe. A namespace that
only looks like Nova's is not read.

Source: Nova nova/virt/libvirt/config.py (LibvirtConfigGuestMetaNovaInstance and its parts): 1.0
since Juno; 1.1, with ports, since Wallaby; the ids of flavor and image since 2025.2.
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
    bounded,
    inside,
    number,
    optional,
    text_of,
    uuid_from,
)
from guestlist.launcher import NOVA_NAMESPACE
from guestlist.records import Flavor, NovaMetadata, Owner, Port

_SIZES = "memory", "disk", "swap", "ephemeral", "vcpus"
_PARTS = (
    *("package", "name", "creationTime", "flavor", "owner", "root", "ports", "port", "ip"),
    *("user", "project", "image"),
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


class Metadata(NamedTuple):
    """A `<metadata>`: the namespaces of its elements, what Nova wrote, and what is unknown."""

    namespaces: frozenset[str]
    nova: NovaMetadata | None
    unknown: tuple[str, ...]


_NO_METADATA = Metadata(frozenset(), None, ())

_MOST_REMEMBERED = 1_024
_LONGEST_REMEMBERED = 8_192
"""Bytes of a `<metadata>` that is remembered; Nova's has some 1,300."""

_remembered: dict[bytes, Metadata] = {}
"""What was read, by the text that it was read from.

A domain's XML is read again after each event that may change it, and Nova's metadata is mostly the
one of before: to write it out costs a third of reading it. Threads share it: each step is atomic.
"""


def metadata_of(metadata: etree._Element | None) -> Metadata:
    """Read a `<metadata>`.

    Of several versions of Nova's metadata the newest is read, and of that the first.
    """
    if metadata is None:
        return _NO_METADATA
    text = etree.tostring(metadata, encoding="utf-8", with_tail=False)
    found = _remembered.get(text)
    if found is None:
        found = _read(metadata)
        if len(text) <= _LONGEST_REMEMBERED:
            if len(_remembered) >= _MOST_REMEMBERED:
                _remembered.clear()
            _remembered[text] = found
    return found


def _read(metadata: etree._Element) -> Metadata:
    unknown = Unknown()
    namespaces = set()
    newest: tuple[_Version, etree._Element] | None = None
    seen = set()
    for child in inside(metadata):
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
    nova = None if newest is None else _instance(*newest, unknown)
    return Metadata(frozenset(namespaces), nova, unknown.names)


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
    image, image_id = parts.get("image"), None
    if image is not None and (text := image.get("uuid")):  # empty where it boots from a volume
        image_id = uuid_from(bounded(text))
        if image_id is None:
            add("nova: image uuid")
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
        image_id,
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
    gaps: list[str] = []
    id = optional(element, "id", gaps, "nova: flavor id")
    flavor, others = _flavor(
        attribute(element, "name"),
        id,
        text_of(parts.get("memory")),
        text_of(parts.get("disk")),
        text_of(parts.get("swap")),
        text_of(parts.get("ephemeral")),
        text_of(parts.get("vcpus")),
    )
    return flavor, (*gaps, *others)


@lru_cache(maxsize=128)
def _flavor(name: str | None, id: str | None, *sizes: str | None) -> tuple[Flavor, tuple[str, ...]]:
    """Return a flavor and the names of its gaps; remembered, since many instances share one."""
    numbers = [number(size) for size in sizes]
    gaps = [] if name is not None else ["nova: flavor name"]
    gaps += [
        f"nova: flavor {size}" for size, value in zip(_SIZES, numbers, strict=True) if value is None
    ]
    memory, disk, swap, ephemeral, vcpus = numbers
    return Flavor(name, memory, disk, swap, ephemeral, vcpus, id), tuple(gaps)


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
            ports.append(_port(child, f"nova: port #{len(ports) + 1}", names, unknown))
    return tuple(ports)


def _port(element: etree._Element, label: str, names: Mapping[str, str], unknown: Unknown) -> Port:
    uuid = uuid_from(attribute(element, "uuid"))
    if uuid is None:
        unknown.add(f"{label} uuid")
    ips = []
    for child in inside(element):
        if names.get(child.tag) == "ip":
            ip = _ip(attribute(child, "address"))
            if ip is None:
                unknown.add(f"{label} ip")
            else:
                ips.append(ip)
    return Port(uuid, tuple(ips))


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
