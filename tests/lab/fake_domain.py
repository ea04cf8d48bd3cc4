"""The handles of a fake connection: what virDomain returns and does; see `lab.fake`.

In: a connection, and a domain of its host. Out: what libvirt-python's methods return and raise. A
handle keeps the name, the UUID and the id of the moment when it was made; all else is a call.
"""

from __future__ import annotations

import contextlib
import re
import uuid
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING
from xml.etree import ElementTree
from xml.sax.saxutils import unescape

import libvirt
from lab.fake_host import METADATA_CHANGE, Guest, libvirt_error
from lab.nodes import Domain, domain_xml

if TYPE_CHECKING:
    from lab.fake import FakeConnection

_XML_INACTIVE = 2


class FakeDomain:
    """A handle. `name`, `UUID`, `UUIDString` and `ID` are local; the rest are calls."""

    def __init__(
        self, connection: FakeConnection, name: str, identity: uuid.UUID, number: int
    ) -> None:
        self._connection = connection
        self._host = connection.host
        self._name = name
        self._uuid = identity
        self._id = number

    def connect(self) -> FakeConnection:
        return self._connection

    def name(self) -> str:
        return self._name

    def UUID(self) -> bytes:
        return self._uuid.bytes

    def UUIDString(self) -> str:
        return str(self._uuid)

    def ID(self) -> int:
        return self._id

    def isActive(self) -> int:
        with self._asked("isActive") as guest:
            return int(guest.active)

    def isPersistent(self) -> int:
        with self._asked("isPersistent") as guest:
            return int(guest.persistent)

    def state(self, flags: int = 0) -> list[int]:
        with self._asked("state") as guest:
            return [guest.state, guest.reason]

    def info(self) -> list[int]:
        with self._asked("info") as guest:
            domain = guest.domain
            return [guest.state, domain.memory_kib, domain.memory_kib, domain.vcpus, 0]

    def XMLDesc(self, flags: int = 0) -> str:
        with self._asked("XMLDesc") as guest:
            if flags & _XML_INACTIVE and guest.later is not None:
                return domain_xml(guest.later)
            xml = domain_xml(guest.domain)
            return xml.replace("<domain ", f"<domain id='{guest.id}' ", 1) if guest.active else xml

    def metadata(self, type: int, uri: str | None, flags: int = 0) -> str:
        """Return the element of that namespace, without prefix and namespace; code 80 if none."""
        with self._asked("metadata") as guest:
            text = guest.domain.metadata
            for element in ElementTree.fromstring(f"<metadata>{text}</metadata>"):
                if element.tag.startswith(f"{{{uri}}}"):
                    for inner in element.iter():
                        inner.tag = inner.tag.rpartition("}")[2]
                    return ElementTree.tostring(element, encoding="unicode").strip()
            raise libvirt_error(
                libvirt.VIR_ERR_NO_DOMAIN_METADATA,
                "metadata not found: Requested metadata element is not present",
            )

    def setMetadata(self, type: int, metadata: str, key: str, uri: str, flags: int = 0) -> int:
        """Replace all metadata by one element without children; its text is ignored."""
        element = f"<{key}:element xmlns:{key}='{uri}'/>"
        with self._connection.acting("setMetadata"):
            self._host.alter(self._uuid, METADATA_CHANGE, type, uri, metadata=element)
        return 0

    def create(self) -> int:
        return self._act("create", self._host.create)

    def destroy(self) -> int:
        return self._act("destroy", self._host.destroy)

    def shutdown(self) -> int:
        return self._act("shutdown", self._host.shutdown)

    def suspend(self) -> int:
        return self._act("suspend", self._host.suspend)

    def resume(self) -> int:
        return self._act("resume", self._host.resume)

    def undefine(self) -> int:
        return self._act("undefine", self._host.undefine)

    def undefineFlags(self, flags: int = 0) -> int:
        """Undefine it as with VIR_DOMAIN_UNDEFINE_MANAGED_SAVE, whatever the flags."""
        return self._act("undefineFlags", self._host.undefine)

    def managedSave(self, flags: int = 0) -> int:
        return self._act("managedSave", self._host.save)

    def rename(self, new_name: str, flags: int = 0) -> int:
        return self._act("rename", lambda identity: self._host.rename(identity, new_name))

    @contextlib.contextmanager
    def _asked(self, method: str) -> Iterator[Guest]:
        with self._connection.calling(method):
            yield self._host.guest(self._uuid)

    def _act(self, method: str, act: Callable[[uuid.UUID], None]) -> int:
        with self._connection.acting(method):
            act(self._uuid)
        return 0


def parse(xml: str) -> Domain:
    """Return the domain for which `lab.nodes.domain_xml` wrote this XML."""

    def inner(tag: str) -> str:
        found = re.search(f"<{tag}[^>]*>(.*?)</{tag}>", xml, re.DOTALL)
        return found[1] if found else ""

    sysinfo = re.search(r" *<sysinfo.*?</sysinfo>\n", xml, re.DOTALL)
    return Domain(
        name=unescape(inner("name")),
        uuid=uuid.UUID(inner("uuid")),
        metadata=inner("metadata"),
        sysinfo=sysinfo[0] if sysinfo else "",
        devices=inner("devices"),
        memory_kib=int(inner("memory")),
        vcpus=int(inner("vcpu")),
    )
