"""The fake connection says what the real test driver says: one script, three connections."""

from collections.abc import Iterator
from typing import Any

import libvirt
import pytest
from lab import nodes
from lab.daemon import Daemon
from lab.fake import FakeConnection

HOST = nodes.believable_host(6)
FLAGS = [0, 1, 2, 3, 4, 8, 1 | 4, 2 | 8, 4 | 8, 16, 32, 64, 1 | 32, 16 | 64]


@pytest.fixture(params=["fake", "in-process", "daemon"])
def connection(request: pytest.FixtureRequest) -> Iterator[Any]:
    if request.param == "fake":
        yield FakeConnection(HOST)
        return
    daemon: Daemon = request.getfixturevalue("daemon")
    xml = nodes.node(HOST)
    uri = daemon.uri(xml)
    if request.param == "in-process":
        uri = f"test://{daemon.write_node(xml)}"
    connection = libvirt.open(uri)
    yield connection
    connection.close()


def facts(handle: Any) -> tuple[Any, ...]:
    return (handle.name(), handle.UUIDString(), bool(handle.isActive()), handle.state()[0])


EXPECTED = {
    (d.name, str(d.uuid), d.runstate != libvirt.VIR_DOMAIN_SHUTOFF, d.runstate) for d in HOST
}


def test_lists_all(connection):
    assert {facts(handle) for handle in connection.listAllDomains()} == EXPECTED


@pytest.mark.parametrize("flags", FLAGS)
def test_flags_mean_the_same_everywhere(connection, flags):
    fake = {handle.name() for handle in FakeConnection(HOST).listAllDomains(flags)}
    assert {handle.name() for handle in connection.listAllDomains(flags)} == fake
    stats = connection.getAllDomainStats(libvirt.VIR_DOMAIN_STATS_STATE, flags)
    assert {handle.name() for handle, _ in stats} == fake


def test_states_come_in_bulk(connection):
    stats = connection.getAllDomainStats(libvirt.VIR_DOMAIN_STATS_STATE)
    assert {handle.name(): record["state.state"] for handle, record in stats} == {
        domain.name: domain.runstate for domain in HOST
    }


def test_the_old_calls_add_up(connection):
    ids, names = connection.listDomainsID(), connection.listDefinedDomains()
    assert len(ids) == connection.numOfDomains()
    assert len(names) == connection.numOfDefinedDomains()
    handles = [*map(connection.lookupByID, ids), *map(connection.lookupByName, names)]
    assert {facts(handle) for handle in handles} == EXPECTED
    assert [handle.ID() for handle in handles] == [*ids, *(-1 for _ in names)]


def test_look_ups(connection):
    domain = HOST[0]
    assert connection.lookupByUUID(domain.uuid.bytes).name() == domain.name
    assert connection.lookupByUUIDString(str(domain.uuid)).name() == domain.name
    assert bool(connection.lookupByName(nodes.appliance(1).name).isPersistent()) is False


@pytest.mark.parametrize(
    "call",
    [
        lambda c: c.lookupByID(4711),
        lambda c: c.lookupByName("nobody"),
        lambda c: c.lookupByUUID(bytes(15) + b"\1"),
        lambda c: c.lookupByUUIDString("00000000-0000-0000-0000-000000000001"),
    ],
)
def test_who_is_not_there_is_code_42(connection, call):
    with pytest.raises(libvirt.libvirtError) as gone:
        call(connection)
    assert gone.value.get_error_code() == libvirt.VIR_ERR_NO_DOMAIN
    assert gone.value.get_error_domain() == libvirt.VIR_FROM_TEST


def test_metadata_or_code_80(connection):
    uri = nodes.NOVA_NAMESPACE + "1.1"
    element = libvirt.VIR_DOMAIN_METADATA_ELEMENT
    text = connection.lookupByName(HOST[0].name).metadata(element, uri)
    assert text.startswith("<instance>")
    assert '<package version="29.0.1"/>' in text.replace(" />", "/>")
    with pytest.raises(libvirt.libvirtError) as missing:
        connection.lookupByName(nodes.handmade(0).name).metadata(element, uri)
    assert missing.value.get_error_code() == libvirt.VIR_ERR_NO_DOMAIN_METADATA


def test_info_and_xml(connection):
    handle = connection.lookupByName(HOST[1].name)
    state, max_kib, _, vcpus, _ = handle.info()
    assert (state, max_kib, vcpus) == (HOST[1].runstate, HOST[1].memory_kib, HOST[1].vcpus)
    assert f"<uuid>{HOST[1].uuid}</uuid>" in handle.XMLDesc()


# What only a fake can do


def test_lacks_calls_in_both_ways():
    fake = FakeConnection(HOST, unsupported=["listAllDomains"], missing=["getAllDomainStats"])
    with pytest.raises(libvirt.libvirtError) as unsupported:
        fake.listAllDomains()
    assert unsupported.value.get_error_code() == libvirt.VIR_ERR_NO_SUPPORT
    with pytest.raises(AttributeError):
        fake.getAllDomainStats()
    assert fake.calls == ["listAllDomains", "getAllDomainStats"]


def test_changes_when_told_and_says_so():
    fake = FakeConnection([nodes.nova_instance(1)])
    name = nodes.nova_instance(1).name
    events = []
    fake.domainEventRegisterAny(None, 0, lambda c, d, event, detail, o: events.append(event), None)
    fake.before("listAllDomains", lambda: fake.stop(name))
    (handle,) = fake.listAllDomains()
    assert handle.ID() == -1
    fake.start(name)
    fake.set_id(name, 0)
    assert fake.lookupByID(0).name() == name
    assert events == [libvirt.VIR_DOMAIN_EVENT_STOPPED, libvirt.VIR_DOMAIN_EVENT_STARTED]


def test_broken_off_every_call_fails():
    fake = FakeConnection(HOST)
    fake.break_off()
    assert not fake.isAlive()
    with pytest.raises(libvirt.libvirtError) as lost:
        fake.listAllDomains()
    assert lost.value.get_error_domain() == libvirt.VIR_FROM_RPC
