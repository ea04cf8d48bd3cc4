"""The hosts of an audit, asked side by side; and what only this machine can tell."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from lab.command import NO_HOST
from lab.daemon import Daemon
from lab.nodes import Domain, appliance, handmade, node, nova_instance
from lab.proxy import Proxy
from lab.qemu import guests

from guestlist import Host
from guestlist.audit.host_looks import AuditedHost, HostLooks
from guestlist.audit.rows import HostLook

ONE, TWO, OFF = nova_instance(1), nova_instance(2), nova_instance(3, active=False)
LIST = "CONNECT_GET_ALL_DOMAIN_STATS"


@contextlib.contextmanager
def looking(*hosts: str | tuple[str, str], timeout: float = 30.0) -> Iterator[HostLooks]:
    """Looks at hosts, given as URIs or as names and URIs."""
    audited = []
    for each in hosts:
        name, uri = (None, each) if isinstance(each, str) else each
        audited.append(AuditedHost(Host(uri, readonly=True, open_timeout=timeout), name))
    looks = HostLooks(audited, timeout=timeout)
    try:
        yield looks
    finally:
        looks.close()


def names(look: HostLook) -> list[str]:
    assert look.domains is not None, look.failure
    return [instance.name for instance in look.domains]


def test_a_look_has_all_domains_of_any_launcher(daemon: Daemon) -> None:
    everyone = [ONE, OFF, appliance(1), handmade(1)]
    with looking(("node1", daemon.uri(node(everyone))), daemon.uri(node([TWO]))) as looks:
        one, other = looks.look()
    assert one.host == "node1"
    assert one.names == ("node1",)
    assert names(one) == sorted(each.name for each in everyone)
    assert names(other) == [TWO.name]
    assert other.names == (libvirts_hostname(daemon),)
    assert one.failure is other.failure is None
    assert one.began <= one.ended
    assert one.lost_disks is one.taps is other.lost_disks is other.taps is None


def libvirts_hostname(daemon: Daemon) -> str:
    with Host(daemon.uri(), readonly=True) as host:
        return host.hostname()


@pytest.mark.parametrize("name", [None, "node1"])
def test_a_second_look_costs_one_call(proxy: Proxy, name: str | None) -> None:
    uri = proxy.uri(node([ONE, OFF]))
    with looking((name, uri) if name else uri) as looks:
        with proxy.counting() as calls:
            looks.look()
        assert calls.count("CONNECT_GET_HOSTNAME") == (name is None)
        assert calls.count(LIST) == 1
        assert not [call for call in calls if call.startswith("DOMAIN_")]
        with proxy.counting() as calls:
            looks.look()
        assert calls == [LIST]


def test_an_xml_of_qemu_is_read_once(qemu_daemon: Daemon) -> None:
    with Proxy(qemu_daemon) as proxy, guests(qemu_daemon.qemu_uri, [ONE, OFF]):
        with looking(("here", proxy.qemu_uri)) as looks:
            with proxy.counting() as calls:
                [look] = looks.look()
            assert calls.count(LIST) == 1
            assert calls.count("DOMAIN_GET_XML_DESC") == 2
            with proxy.counting() as calls:
                looks.look()
            assert calls == [LIST]
    assert look.lost_disks == ()
    assert look.taps is None  # a session has none
