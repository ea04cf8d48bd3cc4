"""What Nova wrote into a domain's `<metadata>`.

In: the `<metadata>` element. Out: one record, or None where Nova wrote nothing. Server, flavor,
project and user names are text that tenants choose: they are kept as they are, control characters
included, and whoever shows them takes care. A namespace that only looks like Nova's is not read.

Source: Nova nova/virt/libvirt/config.py (LibvirtConfigGuestMetaNovaInstance and its parts): 1.0
since Juno; 1.1, with ports, since Wallaby.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address
from uuid import UUID

from lxml import etree

from guestlist.domainxml.values import (
    Unknown,
    attribute,
    children,
    firsts,
    namespace_of,
    number,
    text_of,
    uuid_from,
)
from guestlist.launcher import NOVA_NAMESPACE
from guestlist.records import Flavor, NovaMetadata, Owner, Port

_is_nova = re.compile(
    re.escape("{" + NOVA_NAMESPACE) + r"((\d{1,4})\.(\d{1,4}))\}instance", re.ASCII
).fullmatch


def nova_metadata(metadata: etree._Element | None, unknown: Unknown) -> NovaMetadata | None:
    """What Nova wrote: the newest version where there are several, and of that the first."""
    instances: dict[tuple[int, int], tuple[str, etree._Element]] = {}
    for element in children(metadata):
        if tag := _is_nova(element.tag):
            version = int(tag[2]), int(tag[3])
            if version in instances:
                unknown.add("nova: instance stands twice")
            instances.setdefault(version, (tag[1], element))
    return _Nova(*instances[max(instances)], unknown).metadata() if instances else None


class _Nova:
    """One `instance` element; all its parts are in its own namespace."""

    def __init__(self, version: str, instance: etree._Element, unknown: Unknown) -> None:
        self._version = version
        self._unknown = unknown
        self._prefix = "{" + namespace_of(instance) + "}"
        self._parts = firsts(instance)

    def metadata(self) -> NovaMetadata:
        unless, root = self._unknown.unless, self._part("root")
        return NovaMetadata(
            version=self._version,
            package=unless("nova: package", attribute(self._part("package"), "version")),
            name=unless("nova: name", text_of(self._part("name"))),
            created_at=unless("nova: creationTime", _time(text_of(self._part("creationTime")))),
            flavor=unless("nova: flavor", self._flavor()),
            owner=self._owner(),
            root_type=attribute(root, "type"),
            root_uuid=self._root_uuid(root),
            ports=tuple(self._ports()),
        )

    def _part(self, name: str) -> etree._Element | None:
        return self._parts.get(self._prefix + name)

    def _root_uuid(self, root: etree._Element | None) -> UUID | None:
        if root is None:  # it boots from a volume
            return None
        return self._unknown.unless("nova: root uuid", uuid_from(attribute(root, "uuid")))

    def _flavor(self) -> Flavor | None:
        flavor = self._part("flavor")
        if flavor is None:
            return None
        parts = firsts(flavor)

        def size(name: str) -> int | None:
            found = number(text_of(parts.get(self._prefix + name)))
            return self._unknown.unless(f"nova: flavor {name}", found)

        return Flavor(
            name=self._unknown.unless("nova: flavor name", attribute(flavor, "name")),
            memory_mib=size("memory"),
            disk_gb=size("disk"),
            swap_mb=size("swap"),
            ephemeral_gb=size("ephemeral"),
            vcpus=size("vcpus"),
        )

    def _owner(self) -> Owner | None:
        owner = self._part("owner")
        if owner is None:
            return None
        unless, parts = self._unknown.unless, firsts(owner)
        user, project = parts.get(self._prefix + "user"), parts.get(self._prefix + "project")
        return Owner(
            user_id=unless("nova: user uuid", attribute(user, "uuid")),
            user_name=unless("nova: user", text_of(user)),
            project_id=unless("nova: project uuid", attribute(project, "uuid")),
            project_name=unless("nova: project", text_of(project)),
        )

    def _ports(self) -> Iterator[Port]:
        ports = self._part("ports")
        inside = () if ports is None else ports.iterchildren(self._prefix + "port")
        for place, port in enumerate(inside, 1):
            label = f"nova: port #{place}"
            yield Port(
                uuid=self._unknown.unless(f"{label} uuid", uuid_from(attribute(port, "uuid"))),
                ips=tuple(self._ips(port, f"{label} ip")),
            )

    def _ips(self, port: etree._Element, label: str) -> Iterator[IPv4Address | IPv6Address]:
        for ip in port.iterchildren(self._prefix + "ip"):
            address = _ip(attribute(ip, "address"))
            if address is None:
                self._unknown.add(label)
            else:
                yield address


_is_time = re.compile(r"(\d{4})-(\d\d)-(\d\d) (\d\d):(\d\d):(\d\d)", re.ASCII).fullmatch


def _time(text: str | None) -> datetime | None:
    """The moment that Nova wrote: it is in UTC, which the text does not say."""
    parts = _is_time(text or "")
    if parts is None:
        return None
    try:
        year, month, day, hour, minute, second = map(int, parts.groups())
        return datetime(year, month, day, hour, minute, second, tzinfo=UTC)
    except ValueError:
        return None


@lru_cache(maxsize=1_024)
def _ip(text: str | None) -> IPv4Address | IPv6Address | None:
    """An address; remembered, since each port is read again with its domain."""
    if text is None or "%" in text:  # a zone may be text of any kind
        return None
    try:
        return IPv6Address(text) if ":" in text else IPv4Address(text)
    except ValueError:
        return None
