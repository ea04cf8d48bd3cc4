"""The five libvirts for which one contract holds, each with the same domains on it.

    fake       `FakeConnection`, in memory
    in-process the test driver in this process, no daemon
    daemon     the test driver behind a real daemon
    0.9.12     the same through a proxy that answers as that release did: no bulk calls
    qemu       real QEMU guests, paused

Each is a `Place`: a URI to open, the domains there, and functions that change them.
"""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace

import libvirt
import pytest
from lab.churn import populated
from lab.daemon import Daemon
from lab.fake import FakeConnection
from lab.nodes import Domain, appliance, handmade, nova_instance
from lab.proxy import Proxy
from lab.qemu import guests

DOM0 = Domain(name="Domain-0", uuid=uuid.UUID(int=0xD0))
HOUSEHOLD = (
    nova_instance(1),
    nova_instance(2, paused=True),
    nova_instance(3, active=False),
    replace(nova_instance(4, ns="1.0"), name="renamed-by-hand"),  # its metadata tells
    replace(nova_instance(5, active=False), name="shut-off-and-renamed"),
    appliance(1),
    handmade(0),
    handmade(1, active=False),
    DOM0,
)
"""A host with a domain of every kind; Domain-0 has id 0 if the place can give it one."""


@dataclass(frozen=True)
class Place:
    """One libvirt with `domains` on it."""

    name: str
    uri: str
    domains: tuple[Domain, ...]
    bulk: bool
    has_dom0: bool
    start: Callable[[str], object]
    stop: Callable[[str], object]

    def expected(
        self,
        *,
        include_inactive: bool = False,
        include_foreign: bool = False,
        include_dom0: bool = False,
    ) -> list[str]:
        """Return the names that a listing with these options must show, sorted."""
        return sorted(
            domain.name
            for domain in self.domains
            if (include_inactive or domain.active)
            and (
                include_dom0
                if domain is DOM0 and self.has_dom0
                else include_foreign or "openstack" in domain.metadata
            )
        )


PLACES = (
    "fake",
    "in-process",
    pytest.param("daemon", marks=pytest.mark.needs("libvirtd")),
    pytest.param("0.9.12", marks=pytest.mark.needs("libvirtd")),
    pytest.param("qemu", marks=pytest.mark.needs("libvirtd", "qemu")),
)
"""The names of the places, as parameters of a test."""


@pytest.fixture(params=PLACES)
def place(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    """Each of the five in turn, with `HOUSEHOLD` on it."""
    with make_place(request, monkeypatch, request.param, HOUSEHOLD) as place:
        yield place


def make_place(
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    domains: Iterable[Domain],
) -> AbstractContextManager[Place]:
    """Make the place of that name with these domains; skip the test if it cannot exist here."""
    domains = tuple(domains)
    if name == "fake":
        return _fake(monkeypatch, domains)
    if name == "in-process":
        return _real(name, "test:///default", domains, bulk=True)
    if name == "qemu":
        return _qemu(request.getfixturevalue("qemu_daemon"), domains)
    return _behind_proxy(name, request.getfixturevalue("daemon"), domains)


@contextlib.contextmanager
def _fake(monkeypatch: pytest.MonkeyPatch, domains: tuple[Domain, ...]) -> Iterator[Place]:
    connection = FakeConnection(domains)
    if DOM0 in domains:
        connection.set_id(DOM0.name, 0)
    monkeypatch.setattr(libvirt, "open", lambda uri: connection)
    yield Place(
        "fake",
        "fake:///default",
        domains,
        bulk=True,
        has_dom0=True,
        start=connection.start,
        stop=connection.stop,
    )


@contextlib.contextmanager
def _real(
    name: str, uri: str, domains: tuple[Domain, ...], *, bulk: bool, seen_at: str | None = None
) -> Iterator[Place]:
    with populated(uri, domains) as connection:
        yield _place(name, seen_at or uri, domains, connection, bulk=bulk, has_dom0=bool(seen_at))


@contextlib.contextmanager
def _behind_proxy(name: str, daemon: Daemon, domains: tuple[Domain, ...]) -> Iterator[Place]:
    with Proxy(daemon) as proxy:
        proxy.set_id(DOM0.uuid, 0)
        if name != "daemon":
            proxy.older_daemon(name)
        bulk = name == "daemon"
        with _real(name, daemon.uri(), domains, bulk=bulk, seen_at=proxy.uri()) as place:
            yield place


@contextlib.contextmanager
def _qemu(daemon: Daemon, domains: tuple[Domain, ...]) -> Iterator[Place]:
    with Proxy(daemon) as proxy, guests(daemon.qemu_uri, domains):
        proxy.set_id(DOM0.uuid, 0)
        connection = libvirt.open(daemon.qemu_uri)
        try:
            yield _place("qemu", proxy.qemu_uri, domains, connection, bulk=True, has_dom0=True)
        finally:
            connection.close()


def _place(
    name: str,
    uri: str,
    domains: tuple[Domain, ...],
    connection: libvirt.virConnect,
    *,
    bulk: bool,
    has_dom0: bool,
) -> Place:
    return Place(
        name,
        uri,
        domains,
        bulk=bulk,
        has_dom0=has_dom0,
        start=lambda domain: connection.lookupByName(domain).create(),
        stop=lambda domain: connection.lookupByName(domain).destroy(),
    )
