"""A connection without libvirt behind it: the part of virConnect and virDomain that guestlist uses.

In: a `FakeHost`, or the `Domain`s to make one of. Out: what libvirt-python's methods of the same
names return and raise, at once and without a daemon. Its errors are real `libvirt.libvirtError`s
with their tuple set (without it, an error would have the thread's last one). It can lack calls in
each way that real connections do, and run a callback before or after any call, so that a test
decides what changes between two calls. Its events are in a `Mail`, which a test may delay or lose.

A handle keeps the name, the UUID and the id of the moment when it was made, as with libvirt; all
else is a call. Rely only on what the contract suite tests on it and on the real connections alike.
"""

from __future__ import annotations

import contextlib
import itertools
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import libvirt
from lab.fake_domain import FakeDomain, parse
from lab.fake_host import FakeHost, Guest, libvirt_error
from lab.fake_mail import Letter, Mail
from lab.nodes import Domain

_CONSTRAINTS = [  # of each pair of flags: a domain must match one of them, if one is given
    (libvirt.VIR_CONNECT_LIST_DOMAINS_ACTIVE, libvirt.VIR_CONNECT_LIST_DOMAINS_INACTIVE),
    (libvirt.VIR_CONNECT_LIST_DOMAINS_PERSISTENT, libvirt.VIR_CONNECT_LIST_DOMAINS_TRANSIENT),
]
_STATES = {
    libvirt.VIR_CONNECT_LIST_DOMAINS_RUNNING: libvirt.VIR_DOMAIN_RUNNING,
    libvirt.VIR_CONNECT_LIST_DOMAINS_PAUSED: libvirt.VIR_DOMAIN_PAUSED,
    libvirt.VIR_CONNECT_LIST_DOMAINS_SHUTOFF: libvirt.VIR_DOMAIN_SHUTOFF,
}
_SYSTEM_ERROR = 38
_CAPABILITIES = (
    "<capabilities><host><cpu><arch>i686</arch></cpu></host><guest><os_type>hvm</os_type>"
    "<arch name='i686'><domain type='test'/></arch></guest></capabilities>"
)


class FakeConnection:
    """A connection to a `FakeHost`, or to a new one with these domains.

    `unsupported` names methods that fail with VIR_ERR_NO_SUPPORT (an old daemon, or a driver
    without them), `missing` methods that raise AttributeError (a binding built on an old library).
    `calls` has the name of each method called, in order, handles' methods included.
    """

    def __init__(
        self,
        domains: Iterable[Domain] = (),
        *,
        host: FakeHost | None = None,
        unsupported: Iterable[str] = (),
        missing: Iterable[str] = (),
        type: str = "TEST",
        uri: str = "fake:///default",
        lib_version: int = 9_000_000,
    ) -> None:
        self.host = host if host is not None else FakeHost(domains)
        self.mail = Mail(self._hand_over)
        self.alive = True
        self.calls: list[str] = []
        self.unsupported = set(unsupported)
        self.missing = set(missing)
        self._type = type
        self._uri = uri
        self._lib_version = lib_version
        self._tokens = itertools.count()
        self._before: dict[str, Callable[[], object]] = {}
        self._after: dict[str, Callable[[], object]] = {}
        self._callbacks: dict[int, tuple[int, Callable[..., object], object]] = {}
        with self.host.lock:
            self.host.clients.append(self)

    # What a test does to the host, by name

    def put(self, domain: Domain) -> None:
        """Add a domain, or replace the one with its UUID."""
        self.host.put(domain)

    def start(self, name: str) -> None:
        """Start a domain that is shut off."""
        self.host.create(self._named(name))

    def stop(self, name: str) -> None:
        """Shut a domain off; a transient one then no longer exists."""
        self.host.shutdown(self._named(name))

    def set_id(self, name: str, number: int) -> None:
        """Give an active domain this id; with 0 it looks like Xen's Domain-0."""
        self.host.set_id(self._named(name), number)

    # What a test does to the connection

    def before(self, method: str, callback: Callable[[], object]) -> None:
        """Run `callback` before the next call of `method`, once."""
        self._before[method] = callback

    def after(self, method: str, callback: Callable[[], object]) -> None:
        """Run `callback` when the next call of `method` has its answer but has not returned."""
        self._after[method] = callback

    def disarm(self) -> None:
        """Remove all callbacks."""
        self._before.clear()
        self._after.clear()

    def break_off(self) -> None:
        """Lose the daemon: every later call fails with VIR_ERR_INTERNAL_ERROR."""
        with self.host.lock:
            self.alive = False
            self._leave()

    # virConnect

    def listAllDomains(self, flags: int = 0) -> list[FakeDomain]:
        with self.calling("listAllDomains"):
            return [self._handle(guest) for guest in self._matching(flags)]

    def getAllDomainStats(
        self, stats: int = 0, flags: int = 0
    ) -> list[tuple[FakeDomain, dict[str, Any]]]:
        with self.calling("getAllDomainStats"):
            return [self._stats(guest) for guest in self._matching(flags)]

    def domainListGetStats(
        self, doms: Sequence[FakeDomain], stats: int = 0, flags: int = 0
    ) -> list[tuple[FakeDomain, dict[str, Any]]]:
        with self.calling("domainListGetStats"):
            wanted = {dom.UUID() for dom in doms}
            return [
                self._stats(guest)
                for guest in self._matching(flags)
                if guest.domain.uuid.bytes in wanted
            ]

    def numOfDomains(self) -> int:
        with self.calling("numOfDomains"):
            return len(self._active())

    def listDomainsID(self) -> list[int]:
        with self.calling("listDomainsID"):
            return [guest.id for guest in self._active()]

    def numOfDefinedDomains(self) -> int:
        with self.calling("numOfDefinedDomains"):
            return len(self._inactive())

    def listDefinedDomains(self) -> list[str]:
        with self.calling("listDefinedDomains"):
            return [guest.domain.name for guest in self._inactive()]

    def lookupByID(self, id: int) -> FakeDomain:
        with self.calling("lookupByID"):
            return self._found(guest for guest in self._active() if guest.id == id)

    def lookupByName(self, name: str) -> FakeDomain:
        with self.calling("lookupByName"):
            return self._found(g for g in self.host.guests.values() if g.domain.name == name)

    def lookupByUUID(self, uuid: bytes) -> FakeDomain:
        with self.calling("lookupByUUID"):
            return self._found(g for g in self.host.guests.values() if g.domain.uuid.bytes == uuid)

    def lookupByUUIDString(self, uuidstr: str) -> FakeDomain:
        with self.calling("lookupByUUIDString"):
            return self._found(
                g for g in self.host.guests.values() if str(g.domain.uuid) == uuidstr
            )

    def defineXML(self, xml: str) -> FakeDomain:
        """Take XML as `lab.nodes.domain_xml` writes it."""
        with self.acting("defineXML"):
            domain = parse(xml)
            self.host.define(domain)
        return self._handle(self.host.guest(domain.uuid))

    def createXML(self, xmlDesc: str, flags: int = 0) -> FakeDomain:
        """Take XML as `lab.nodes.domain_xml` writes it."""
        with self.acting("createXML"):
            domain = parse(xmlDesc)
            self.host.create_transient(domain)
        return self._handle(self.host.guest(domain.uuid))

    def getType(self) -> str:
        with self.calling("getType"):
            return self._type

    def getVersion(self) -> int:
        with self.calling("getVersion"):
            return 2

    def getLibVersion(self) -> int:
        with self.calling("getLibVersion"):
            return self._lib_version

    def getHostname(self) -> str:
        with self.calling("getHostname"):
            return "fake"

    def getInfo(self) -> list[Any]:
        with self.calling("getInfo"):
            return ["i686", 3072, 16, 1400, 2, 2, 2, 2]

    def getCPUMap(self, flags: int = 0) -> tuple[int, list[bool], int]:
        with self.calling("getCPUMap"):
            return 4, [True, True, True, False], 3

    def getCapabilities(self) -> str:
        with self.calling("getCapabilities"):
            return _CAPABILITIES

    def getURI(self) -> str:
        with self.calling("getURI"):
            return self._uri

    def setKeepAlive(self, interval: int, count: int) -> int:
        with self.calling("setKeepAlive"):
            return 0

    def domainEventRegisterAny(
        self,
        dom: FakeDomain | None,
        eventID: int,
        cb: Callable[..., object],
        opaque: object,
    ) -> int:
        """Register a callback; the thread that changes the host calls it."""
        with self.calling("domainEventRegisterAny"):
            token = next(self._tokens)
            self._callbacks[token] = (eventID, cb, opaque)
            return token

    def domainEventDeregisterAny(self, callbackID: int) -> None:
        with self.calling("domainEventDeregisterAny"):
            self._callbacks.pop(callbackID, None)

    def registerCloseCallback(self, cb: Callable[..., object], opaque: object) -> int:
        with self.calling("registerCloseCallback"):
            return 0

    def unregisterCloseCallback(self) -> int:
        with self.calling("unregisterCloseCallback"):
            return 0

    def isAlive(self) -> int:
        return int(self.alive)

    def close(self) -> int:
        with self.host.lock:
            self.alive = False
            self._leave()
        return 0

    # How it is done

    @contextlib.contextmanager
    def calling(self, method: str) -> Iterator[None]:
        """Answer a call in this block, at one instant of the host."""
        self._called(method)
        with self.host.lock:
            self._refuse(method)
            yield
        if callback := self._after.pop(method, None):
            callback()

    @contextlib.contextmanager
    def acting(self, method: str) -> Iterator[None]:
        """Answer a call that changes the host in this block; the block takes the host's lock."""
        self._called(method)
        with self.host.lock:
            self._refuse(method)
        yield

    def _called(self, method: str) -> None:
        """Record a call, and run the callback that a test has set before it."""
        with self.host.lock:
            self.calls.append(method)
        if callback := self._before.pop(method, None):
            callback()

    def _refuse(self, method: str) -> None:
        """Raise the error that this call must raise, if any."""
        if method in self.missing:
            raise AttributeError(f"module 'libvirtmod' has no attribute '{method}'")
        if not self.alive:
            text = "internal error: client socket is closed"
            raise libvirt_error(libvirt.VIR_ERR_INTERNAL_ERROR, text, libvirt.VIR_FROM_RPC)
        if method in self.unsupported:
            text = "this function is not supported by the connection driver: " + method
            raise libvirt_error(libvirt.VIR_ERR_NO_SUPPORT, text)

    def _hand_over(self, letter: Letter) -> None:
        for kind, callback, opaque in list(self._callbacks.values()):
            if self.alive and kind == letter.kind:
                callback(self, self._handle(letter.guest), *letter.facts, opaque)

    def _leave(self) -> None:
        if self in self.host.clients:
            self.host.clients.remove(self)

    def _named(self, name: str) -> uuid.UUID:
        guest = self.host.named(name)
        assert guest is not None, name
        return guest.domain.uuid

    def _handle(self, guest: Guest) -> FakeDomain:
        return FakeDomain(self, guest.domain.name, guest.domain.uuid, guest.id)

    def _stats(self, guest: Guest) -> tuple[FakeDomain, dict[str, Any]]:
        return self._handle(guest), {"state.state": guest.state, "state.reason": guest.reason}

    def _found(self, guests: Iterable[Guest]) -> FakeDomain:
        for guest in guests:
            return self._handle(guest)
        raise libvirt_error(libvirt.VIR_ERR_NO_DOMAIN, "Domain not found")

    def _active(self) -> list[Guest]:
        return [guest for guest in self.host.guests.values() if guest.active]

    def _inactive(self) -> list[Guest]:
        return [guest for guest in self.host.guests.values() if not guest.active]

    def _matching(self, flags: int) -> list[Guest]:
        return [guest for guest in self.host.guests.values() if _matches(guest, flags)]


def opener(host: FakeHost) -> Callable[..., FakeConnection]:
    """Return a replacement for `libvirt.open`: it connects to this host, unless that is `down`."""

    def open(name: str | None = None) -> FakeConnection:
        with host.lock:
            if host.down:
                text = "Failed to connect socket to '/fake': Connection refused"
                raise libvirt_error(_SYSTEM_ERROR, text, libvirt.VIR_FROM_RPC)
            return FakeConnection(host=host)

    return open


def _matches(guest: Guest, flags: int) -> bool:
    truths = [guest.active, guest.persistent]
    for (yes, no), truth in zip(_CONSTRAINTS, truths, strict=True):
        if flags & (yes | no) and not flags & (yes if truth else no):
            return False
    states = [state for flag, state in _STATES.items() if flags & flag]
    return not states or guest.state in states
