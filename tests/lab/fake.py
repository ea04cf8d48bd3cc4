"""A connection without libvirt behind it: the part of virConnect and virDomain that listing uses.

In: `Domain` values. Out: what libvirt-python's methods of the same names return and raise, at
once and without a daemon. Its errors are real `libvirt.libvirtError`s with their tuple set (one
made by hand would inherit the thread's last error). It can lack calls in each way that real ones
do, and run a callback before any call, so that a test dictates what changes between two.

A handle's name, UUID and id are those of when it was made, as with libvirt; all else is asked.
Trust it as far as the contract suite runs over it and the real ones alike.
"""

from __future__ import annotations

import itertools
import uuid
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any
from xml.etree import ElementTree

import libvirt
from lab.nodes import Domain, domain_xml

_FROM_TEST = 12
_CONSTRAINTS = [  # each pair of flags admits a domain that matches one of the two, or names neither
    (libvirt.VIR_CONNECT_LIST_DOMAINS_ACTIVE, libvirt.VIR_CONNECT_LIST_DOMAINS_INACTIVE),
    (libvirt.VIR_CONNECT_LIST_DOMAINS_PERSISTENT, libvirt.VIR_CONNECT_LIST_DOMAINS_TRANSIENT),
]
_STATES = {
    libvirt.VIR_CONNECT_LIST_DOMAINS_RUNNING: libvirt.VIR_DOMAIN_RUNNING,
    libvirt.VIR_CONNECT_LIST_DOMAINS_PAUSED: libvirt.VIR_DOMAIN_PAUSED,
    libvirt.VIR_CONNECT_LIST_DOMAINS_SHUTOFF: libvirt.VIR_DOMAIN_SHUTOFF,
}


def libvirt_error(code: int, message: str, domain: int = _FROM_TEST) -> libvirt.libvirtError:
    """An error as libvirt-python raises it: `get_error_code()` and the rest say what is given."""
    error = libvirt.libvirtError(message)
    error.err = (code, domain, message, libvirt.VIR_ERR_ERROR, message, None, None, -1, -1)
    error.args = (message,)
    return error


@dataclass(slots=True)
class _Record:
    """What the host knows of one domain now."""

    domain: Domain
    id: int


class FakeConnection:
    """A host with these domains.

    `unsupported` names methods that fail with VIR_ERR_NO_SUPPORT (an old daemon, or a driver
    without them), `missing` methods that raise AttributeError (a binding built on an old library).
    `calls` has the name of each method called, in order, handles' methods included.
    """

    def __init__(
        self,
        domains: Iterable[Domain] = (),
        *,
        unsupported: Iterable[str] = (),
        missing: Iterable[str] = (),
        type: str = "TEST",
        uri: str = "fake:///default",
        lib_version: int = 9_000_000,
    ) -> None:
        self.calls: list[str] = []
        self.unsupported = set(unsupported)
        self.missing = set(missing)
        self._type = type
        self._uri = uri
        self._lib_version = lib_version
        self._ids = itertools.count(1)
        self._tokens = itertools.count()
        self._records: dict[uuid.UUID, _Record] = {}
        self._before: dict[str, Callable[[], object]] = {}
        self._callbacks: dict[int, tuple[Callable[..., object], object]] = {}
        self._alive = True
        for domain in domains:
            self.put(domain)

    # What a test does to the host

    def put(self, domain: Domain) -> None:
        """Add a domain, or change the one with its UUID to this."""
        before = self._records.get(domain.uuid)
        number = before.id if before else -1
        if not _active(domain):
            number = -1
        elif number < 0:
            number = next(self._ids)
        self._records[domain.uuid] = _Record(domain, number)
        self._tell(before, self._records[domain.uuid])

    def start(self, name: str) -> None:
        """Start a domain that is shut off."""
        self.put(replace(self._named(name).domain, active=True))

    def stop(self, name: str) -> None:
        """Shut a domain off; a transient one is gone then."""
        record = self._named(name)
        if record.domain.transient:
            self.remove(name)
        else:
            self.put(replace(record.domain, active=False, paused=False))

    def remove(self, name: str) -> None:
        """Let a domain be gone."""
        record = self._named(name)
        del self._records[record.domain.uuid]
        event = libvirt.VIR_DOMAIN_EVENT_STOPPED if _active(record.domain) else _UNDEFINED
        self._emit(record, event)

    def set_id(self, name: str, number: int) -> None:
        """Give an active domain this id: 0, and it looks like Xen's Domain-0."""
        self._named(name).id = number

    def before(self, method: str, callback: Callable[[], object]) -> None:
        """Run `callback` before the next call of `method`, once."""
        self._before[method] = callback

    def break_off(self) -> None:
        """Lose the daemon: every later call fails with VIR_ERR_INTERNAL_ERROR."""
        self._alive = False

    # virConnect

    def listAllDomains(self, flags: int = 0) -> list[FakeDomain]:
        self.called("listAllDomains")
        return [self._handle(record) for record in self._matching(flags)]

    def getAllDomainStats(
        self, stats: int = 0, flags: int = 0
    ) -> list[tuple[FakeDomain, dict[str, Any]]]:
        self.called("getAllDomainStats")
        return [
            (
                self._handle(record),
                {"state.state": record.domain.runstate, "state.reason": 0},
            )
            for record in self._matching(flags)
        ]

    def domainListGetStats(
        self, doms: Sequence[FakeDomain], stats: int = 0, flags: int = 0
    ) -> list[tuple[FakeDomain, dict[str, Any]]]:
        self.called("domainListGetStats")
        wanted = {dom.UUID() for dom in doms}
        return [
            (self._handle(record), {"state.state": record.domain.runstate, "state.reason": 0})
            for record in self._matching(flags)
            if record.domain.uuid.bytes in wanted
        ]

    def numOfDomains(self) -> int:
        self.called("numOfDomains")
        return len(self._active())

    def listDomainsID(self) -> list[int]:
        self.called("listDomainsID")
        return [record.id for record in self._active()]

    def numOfDefinedDomains(self) -> int:
        self.called("numOfDefinedDomains")
        return len(self._defined())

    def listDefinedDomains(self) -> list[str]:
        self.called("listDefinedDomains")
        return [record.domain.name for record in self._defined()]

    def lookupByID(self, id: int) -> FakeDomain:
        self.called("lookupByID")
        return self._found(record for record in self._active() if record.id == id)

    def lookupByName(self, name: str) -> FakeDomain:
        self.called("lookupByName")
        return self._found(r for r in self._records.values() if r.domain.name == name)

    def lookupByUUID(self, uuid: bytes) -> FakeDomain:
        self.called("lookupByUUID")
        return self._found(r for r in self._records.values() if r.domain.uuid.bytes == uuid)

    def lookupByUUIDString(self, uuidstr: str) -> FakeDomain:
        self.called("lookupByUUIDString")
        return self._found(r for r in self._records.values() if str(r.domain.uuid) == uuidstr)

    def getType(self) -> str:
        self.called("getType")
        return self._type

    def getVersion(self) -> int:
        self.called("getVersion")
        return 2

    def getLibVersion(self) -> int:
        self.called("getLibVersion")
        return self._lib_version

    def getURI(self) -> str:
        self.called("getURI")
        return self._uri

    def setKeepAlive(self, interval: int, count: int) -> int:
        self.called("setKeepAlive")
        return 0

    def domainEventRegisterAny(
        self,
        dom: FakeDomain | None,
        eventID: int,
        cb: Callable[..., object],
        opaque: object,
    ) -> int:
        """Lifecycle events only, delivered by whoever changes the host."""
        self.called("domainEventRegisterAny")
        token = next(self._tokens)
        if eventID == libvirt.VIR_DOMAIN_EVENT_ID_LIFECYCLE:
            self._callbacks[token] = (cb, opaque)
        return token

    def domainEventDeregisterAny(self, callbackID: int) -> None:
        self.called("domainEventDeregisterAny")
        self._callbacks.pop(callbackID, None)

    def registerCloseCallback(self, cb: Callable[..., object], opaque: object) -> int:
        self.called("registerCloseCallback")
        return 0

    def unregisterCloseCallback(self) -> int:
        self.called("unregisterCloseCallback")
        return 0

    def isAlive(self) -> int:
        return int(self._alive)

    def close(self) -> int:
        self._alive = False
        return 0

    # How it is done

    def called(self, method: str) -> None:
        """Note a call, run what a test wants run before it, and fail if it must."""
        self.calls.append(method)
        if callback := self._before.pop(method, None):
            callback()
        if method in self.missing:
            raise AttributeError(f"module 'libvirtmod' has no attribute '{method}'")
        if not self._alive:
            text = "internal error: client socket is closed"
            raise libvirt_error(libvirt.VIR_ERR_INTERNAL_ERROR, text, libvirt.VIR_FROM_RPC)
        if method in self.unsupported:
            text = "this function is not supported by the connection driver: " + method
            raise libvirt_error(libvirt.VIR_ERR_NO_SUPPORT, text)

    def record(self, identity: uuid.UUID) -> _Record:
        """What is known of a domain now; `libvirtError` 42 if it is gone."""
        if identity not in self._records:
            raise libvirt_error(libvirt.VIR_ERR_NO_DOMAIN, f"Domain not found: {identity}")
        return self._records[identity]

    def _handle(self, record: _Record) -> FakeDomain:
        return FakeDomain(self, record.domain.name, record.domain.uuid, record.id)

    def _found(self, records: Iterable[_Record]) -> FakeDomain:
        for record in records:
            return self._handle(record)
        raise libvirt_error(libvirt.VIR_ERR_NO_DOMAIN, "Domain not found")

    def _named(self, name: str) -> _Record:
        return next(r for r in self._records.values() if r.domain.name == name)

    def _active(self) -> list[_Record]:
        return [record for record in self._records.values() if _active(record.domain)]

    def _defined(self) -> list[_Record]:
        return [record for record in self._records.values() if not _active(record.domain)]

    def _matching(self, flags: int) -> list[_Record]:
        return [record for record in self._records.values() if _matches(record.domain, flags)]

    def _tell(self, before: _Record | None, after: _Record) -> None:
        was = before is not None and _active(before.domain)
        if before is None and not after.domain.transient:
            self._emit(after, libvirt.VIR_DOMAIN_EVENT_DEFINED)
        if _active(after.domain) and not was:
            self._emit(after, libvirt.VIR_DOMAIN_EVENT_STARTED)
        if was and not _active(after.domain):
            self._emit(after, libvirt.VIR_DOMAIN_EVENT_STOPPED)

    def _emit(self, record: _Record, event: int) -> None:
        for callback, opaque in list(self._callbacks.values()):
            callback(self, self._handle(record), event, 0, opaque)


class FakeDomain:
    """A handle. `name`, `UUID`, `UUIDString` and `ID` are local; the rest are calls."""

    def __init__(
        self, connection: FakeConnection, name: str, identity: uuid.UUID, number: int
    ) -> None:
        self._connection = connection
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
        return int(_active(self._now("isActive")))

    def isPersistent(self) -> int:
        return int(not self._now("isPersistent").transient)

    def state(self, flags: int = 0) -> list[int]:
        return [self._now("state").runstate, 0]

    def info(self) -> list[int]:
        domain = self._now("info")
        return [domain.runstate, domain.memory_kib, domain.memory_kib, domain.vcpus, 0]

    def XMLDesc(self, flags: int = 0) -> str:
        xml = domain_xml(self._now("XMLDesc"))
        id = self._connection.record(self._uuid).id
        return xml if id < 0 else xml.replace("<domain ", f"<domain id='{id}' ", 1)

    def metadata(self, type: int, uri: str | None, flags: int = 0) -> str:
        """The element of that namespace, prefix and namespace stripped; code 80 without one."""
        text = self._now("metadata").metadata
        for element in ElementTree.fromstring(f"<metadata>{text}</metadata>"):
            if element.tag.startswith(f"{{{uri}}}"):
                for inner in element.iter():
                    inner.tag = inner.tag.rpartition("}")[2]
                return ElementTree.tostring(element, encoding="unicode").strip()
        raise libvirt_error(
            libvirt.VIR_ERR_NO_DOMAIN_METADATA,
            "metadata not found: Requested metadata element is not present",
        )

    def _now(self, method: str) -> Domain:
        self._connection.called(method)
        return self._connection.record(self._uuid).domain


_UNDEFINED = libvirt.VIR_DOMAIN_EVENT_UNDEFINED


def _active(domain: Domain) -> bool:
    return domain.active or domain.transient


def _matches(domain: Domain, flags: int) -> bool:
    truths = [_active(domain), not domain.transient]
    for (yes, no), truth in zip(_CONSTRAINTS, truths, strict=True):
        if flags & (yes | no) and not flags & (yes if truth else no):
            return False
    states = [state for flag, state in _STATES.items() if flags & flag]
    return not states or domain.runstate in states
