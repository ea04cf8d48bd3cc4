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
from ipaddress import IPv4Address, IPv6Address
from uuid import UUID

from lxml import etree

from guestlist.domainxml.reading import (
    Unknown,
    attribute,
    children,
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
        self._instance = instance
        self._unknown = unknown
        self._prefix = {"nova": namespace_of(instance)}

    def metadata(self) -> NovaMetadata:
        root = self._find("root")
        return NovaMetadata(
            version=self._version,
            package=self._unknown.unless(
                "nova: package", attribute(self._find("package"), "version")
            ),
            name=self._unknown.unless("nova: name", text_of(self._find("name"))),
            created_at=self._unknown.unless(
                "nova: creationTime", _time(text_of(self._find("creationTime")))
            ),
            flavor=self._unknown.unless("nova: flavor", self._flavor()),
            owner=self._owner(),
            root_type=attribute(root, "type"),
            root_uuid=self._root_uuid(root),
            ports=tuple(self._ports()),
        )

    def _find(self, path: str) -> etree._Element | None:
        return self._instance.find(f"nova:{path}", self._prefix)

    def _root_uuid(self, root: etree._Element | None) -> UUID | None:
        if root is None:  # it boots from a volume
            return None
        return self._unknown.unless("nova: root uuid", uuid_from(attribute(root, "uuid")))

    def _flavor(self) -> Flavor | None:
        flavor = self._find("flavor")
        if flavor is None:
            return None
        return Flavor(
            name=self._unknown.unless("nova: flavor name", attribute(flavor, "name")),
            memory_mib=self._flavor_number("memory"),
            disk_gb=self._flavor_number("disk"),
            swap_mb=self._flavor_number("swap"),
            ephemeral_gb=self._flavor_number("ephemeral"),
            vcpus=self._flavor_number("vcpus"),
        )

    def _flavor_number(self, what: str) -> int | None:
        element = self._find(f"flavor/nova:{what}")
        return self._unknown.unless(f"nova: flavor {what}", number(text_of(element)))

    def _owner(self) -> Owner | None:
        if self._find("owner") is None:
            return None
        user, project = self._find("owner/nova:user"), self._find("owner/nova:project")
        return Owner(
            user_id=self._unknown.unless("nova: user uuid", attribute(user, "uuid")),
            user_name=self._unknown.unless("nova: user", text_of(user)),
            project_id=self._unknown.unless("nova: project uuid", attribute(project, "uuid")),
            project_name=self._unknown.unless("nova: project", text_of(project)),
        )

    def _ports(self) -> Iterator[Port]:
        ports = self._instance.iterfind("nova:ports/nova:port", self._prefix)
        for place, port in enumerate(ports, 1):
            label = f"nova: port #{place}"
            yield Port(
                uuid=self._unknown.unless(f"{label} uuid", uuid_from(attribute(port, "uuid"))),
                ips=tuple(self._ips(port, f"{label} ip")),
            )

    def _ips(self, port: etree._Element, label: str) -> Iterator[IPv4Address | IPv6Address]:
        for ip in port.iterfind("nova:ip", self._prefix):
            address = _ip(attribute(ip, "address"))
            if address is None:
                self._unknown.add(label)
            else:
                yield address


_is_time = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", re.ASCII).fullmatch


def _time(text: str | None) -> datetime | None:
    """Nova writes UTC and does not say so."""
    if text is None or not _is_time(text):
        return None
    try:
        return datetime.strptime(text, "%Y-%m-%d %H:%M:%S").replace(tzinfo=UTC)
    except ValueError:
        return None


def _ip(text: str | None) -> IPv4Address | IPv6Address | None:
    if text is None or "%" in text:  # a zone may be text of any kind
        return None
    try:
        return IPv6Address(text) if ":" in text else IPv4Address(text)
    except ValueError:
        return None
