"""An audit of a real Nova and real libvirts finds each planted fault, and nothing else.

What `./dev torture audit` does while Nova is at work, once and in quiet.
"""

import contextlib

import libvirt
import pytest
from lab.daemon import Daemon
from lab.nova import SERIES
from lab.nova_api import NovaApi as NovaServer
from lab.nova_faults import Faults
from lab.nova_life import Host, Life
from lab.qemu import guest_xml

import guestlist
from guestlist.audit.findings import Certainty
from guestlist.audit.host_looks import AuditedHost, HostLooks
from guestlist.audit.nova_api import NovaApi
from guestlist.audit.rounds import audit

pytestmark = [
    pytest.mark.timeout(300),
    pytest.mark.xdist_group("nova-api"),
    pytest.mark.skipif(SERIES != "2026.2", reason="the API of one series is enough"),
]


@contextlib.contextmanager
def opened(name, uri, cell="cell1"):
    connection = libvirt.open(uri)
    for domain in connection.listAllDomains():
        domain.destroy()
        domain.undefine()
    yield Host(name, uri, connection, cell)
    connection.close()


@pytest.fixture
def place(needs_nova, needs_qemu, needs_qemu_img, monkeypatch):
    """Nova's operations, four hosts by name, and the daemon with QEMU."""
    with contextlib.ExitStack() as stack:
        one, two, far = (stack.enter_context(Daemon()) for _ in range(3))
        nova = stack.enter_context(NovaServer(cells=2, max_limit=10))
        monkeypatch.setenv("OS_CLIENT_CONFIG_FILE", str(nova.clouds_yaml))
        hosts = [
            stack.enter_context(opened("one", one.uri())),
            stack.enter_context(opened("two", two.uri())),
            stack.enter_context(opened("far", far.uri(), "cell2")),
            stack.enter_context(opened("real", far.qemu_uri, "cell2")),
        ]
        hosts[0].neighbour, hosts[1].neighbour = hosts[1], hosts[0]
        hosts[3].xml = guest_xml
        for host in hosts:
            nova.add_host(host.name, host.cell)
        yield nova, Life(nova), hosts, far


def audited(hosts):
    looks = HostLooks(
        [AuditedHost(guestlist.Host(host.uri, readonly=True), host.name) for host in hosts]
    )
    with contextlib.closing(looks):
        return audit(looks, NovaApi("lab", 60.0), settle=0.0)


def test_each_planted_fault_is_found_as_certain(place):
    """A8."""
    nova, life, (one, two, far, real), daemon = place
    hosts = one, two, far, real
    for host in hosts:
        life.settled(host, "stopped")
    assert audited(hosts).findings == ()
    planted = [*Faults(nova, life, list).planting(one, two, far, (real, daemon))]
    result = audited(hosts)
    assert result.incomplete == ()
    certain = [each for each in result.findings if each.certainty is Certainty.CERTAIN]
    assert len(planted) == 20
    for fault in planted:
        assert any(fault.is_told(each) for each in certain), fault
    assert {each.uuid for each in certain} <= set().union(*(each.uuids for each in planted))
