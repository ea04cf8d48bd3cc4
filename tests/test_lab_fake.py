"""The fake connection answers as the real test driver does: one script, three connections."""

import math
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import libvirt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lab import nodes
from lab.daemon import Daemon
from lab.fake import FakeConnection, opener, parse
from lab.fake_host import DEVICE_ADDED, LIFECYCLE, METADATA_CHANGE, FakeHost

from guestlist.event_loop import drain

HOST = nodes.believable_host(6)
REAL = ["in-process", pytest.param("daemon", marks=pytest.mark.needs("libvirtd"))]
FLAGS = [0, 1, 2, 3, 4, 8, 1 | 4, 2 | 8, 4 | 8, 16, 32, 64, 1 | 32, 16 | 64]


def uri_of(request: pytest.FixtureRequest, domains: list[nodes.Domain], folder: Path) -> str:
    """Return the URI of a test driver with these domains, in this process or behind a daemon."""
    xml = nodes.node(domains)
    if request.param == "in-process":
        file = folder / "node.xml"
        file.write_text(xml)
        return f"test://{file}"
    daemon: Daemon = request.getfixturevalue("daemon")
    return daemon.uri(xml)


@pytest.fixture(params=["fake", *REAL])
def connection(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Any]:
    if request.param == "fake":
        yield FakeConnection(HOST)
        return
    connection = libvirt.open(uri_of(request, HOST, tmp_path))
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


# What is done to a host

KINDS = (LIFECYCLE, METADATA_CHANGE)
CAST = [
    nodes.nova_instance(1),
    nodes.nova_instance(2, active=False),
    nodes.handmade(0, active=False),
    nodes.appliance(1),
]
ACTS = {
    "define": lambda c, d: c.defineXML(nodes.domain_xml(d)),
    "redefine": lambda c, d: c.defineXML(nodes.domain_xml(replace(d, vcpus=7))),
    "take a name": lambda c, d: c.defineXML(nodes.domain_xml(replace(d, name=CAST[0].name))),
    "create": lambda c, d: c.lookupByUUID(d.uuid.bytes).create(),
    "create transient": lambda c, d: c.createXML(nodes.domain_xml(replace(d, vcpus=5))),
    "suspend": lambda c, d: c.lookupByUUID(d.uuid.bytes).suspend(),
    "resume": lambda c, d: c.lookupByUUID(d.uuid.bytes).resume(),
    "shutdown": lambda c, d: c.lookupByUUID(d.uuid.bytes).shutdown(),
    "destroy": lambda c, d: c.lookupByUUID(d.uuid.bytes).destroy(),
    "save": lambda c, d: c.lookupByUUID(d.uuid.bytes).managedSave(),
    "undefine": lambda c, d: c.lookupByUUID(d.uuid.bytes).undefineFlags(1),
    "rename": lambda c, d: c.lookupByUUID(d.uuid.bytes).rename("alias"),
    "take another's name": lambda c, d: c.lookupByUUID(d.uuid.bytes).rename(CAST[1].name),
    "set metadata": lambda c, d: c.lookupByUUID(d.uuid.bytes).setMetadata(
        2, "<element/>", "key", "http://example.org/", 0
    ),
}
A_LONG_DAY = [
    *[("define", 2), ("redefine", 2), ("create", 2), ("create", 2), ("suspend", 2)],
    *[("suspend", 2), ("resume", 2), ("resume", 2), ("redefine", 2), ("rename", 2)],
    *[("set metadata", 2), ("shutdown", 2), ("shutdown", 2), ("destroy", 2), ("rename", 2)],
    *[("define", 2), ("take another's name", 2), ("take a name", 1), ("create", 1), ("save", 1)],
    *[("create", 1), ("undefine", 1), ("undefine", 1), ("redefine", 1), ("undefine", 1)],
    *[("destroy", 1), ("destroy", 1), ("create transient", 1), ("create transient", 1)],
    *[("redefine", 1), ("destroy", 1), ("create transient", 1), ("suspend", 1), ("shutdown", 1)],
    *[("undefine", 1), ("destroy", 3), ("create transient", 3), ("define", 3), ("undefine", 3)],
]


def effects(connection, script, events=0):
    """Do a script's acts; return the error of each, the host's answers after it, and all events.

    Waits until that many events have arrived: a daemon sends them at any time.
    """
    told, seen, came = [], [], threading.Condition()

    def on_event(kind):
        def note(_connection, domain, *facts):
            with came:
                told.append((kind, domain.name(), domain.ID() >= 0, facts[:-1]))
                came.notify()

        return note

    tokens = [connection.domainEventRegisterAny(None, kind, on_event(kind), None) for kind in KINDS]
    for name, place in script:
        error = None
        try:
            ACTS[name](connection, CAST[place])
        except libvirt.libvirtError as failed:
            error = failed.get_error_code(), failed.get_error_domain()
        seen.append((name, error, describe(connection)))
    with came:
        came.wait_for(lambda: len(told) >= events, timeout=30)
    drain()
    for token in tokens:
        connection.domainEventDeregisterAny(token)
    return seen, told


def assert_same_effects(uri, script):
    expected, events = effects(FakeConnection(CAST), script)
    connection = libvirt.open(uri)
    try:
        seen, told = effects(connection, script, len(events))
    finally:
        connection.close()
    assert seen == expected
    assert told == events


def describe(connection):
    """Describe the host. An id is replaced by its place: each driver begins with another id."""
    stats = connection.getAllDomainStats(libvirt.VIR_DOMAIN_STATS_STATE)
    ids = sorted(handle.ID() for handle, _ in stats if handle.ID() >= 0)
    return {
        handle.name(): (
            ids.index(handle.ID()) if handle.ID() >= 0 else None,
            record,
            handle.isPersistent(),
            handle.info()[3],
            parse(handle.XMLDesc(2)).vcpus,
            "http://example.org/" in handle.XMLDesc(),
        )
        for handle, record in stats
    }


@pytest.fixture(params=REAL)
def real_uri(request: pytest.FixtureRequest, event_loop_thread: None, tmp_path: Path) -> str:
    return uri_of(request, CAST, tmp_path)


def test_the_same_acts_have_the_same_effects(real_uri):
    assert_same_effects(real_uri, A_LONG_DAY)


@pytest.mark.parametrize("real_uri", ["in-process"], indirect=True)
def test_acts_at_random_have_the_same_effects(real_uri):
    acts = st.tuples(st.sampled_from(sorted(ACTS)), st.integers(0, len(CAST) - 1))

    @settings(deadline=None)
    @given(st.lists(acts, max_size=15))
    def same(script):
        assert_same_effects(real_uri, script)

    same()


def test_xml_is_read_as_it_was_written():
    for domain in HOST:
        plain = replace(domain, active=True, paused=False, transient=False)
        assert parse(nodes.domain_xml(domain)) == plain


def test_the_node_is_described_in_the_same_terms(connection):
    assert len(connection.getInfo()) == 8
    cpus, online, count = connection.getCPUMap()
    assert (len(online), sum(online)) == (cpus, count)
    assert connection.getHostname()
    assert "<domain type='test'" in connection.getCapabilities().replace('"', "'")


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


def listening(fake, kind=LIFECYCLE):
    """Collect the events of a kind that the connection gets from now on."""
    told = []
    fake.domainEventRegisterAny(None, kind, lambda c, d, *facts: told.append(facts[:-1]), None)
    return told


def states(fake):
    return [(handle.ID(), *record.values()) for handle, record in fake.getAllDomainStats(1)]


def test_a_start_that_fails_is_seen_and_not_told():
    domain = nodes.nova_instance(1, active=False)
    fake = FakeConnection([domain])
    told = listening(fake)
    fake.host.begin_start(domain.uuid)
    assert states(fake) == [(1, 3, 11)]
    fake.host.shut_down(domain.uuid, told=False)
    assert states(fake) == [(1, 4, 0)]
    fake.host.fail_start(domain.uuid)
    assert states(fake) == [(-1, 5, 6)]
    fake.host.begin_transient(nodes.appliance(1))
    fake.host.fail_start(nodes.appliance(1).uuid)
    assert [handle.name() for handle in fake.listAllDomains()] == [domain.name]
    assert told == []


def test_what_qemu_does_and_the_test_driver_does_not():
    domain = nodes.nova_instance(1)
    fake = FakeConnection([domain, nodes.nova_instance(2), nodes.appliance(1)])
    told, plugged = listening(fake), listening(fake, DEVICE_ADDED)
    host = fake.host
    host.panic(domain.uuid)
    host.shut_down(domain.uuid)
    host.migrate_away(domain.uuid, kept=True)
    host.begin_start(domain.uuid)
    host.finish_start(domain.uuid)
    assert told == [(8, 0), (6, 0), (5, 3), (2, 0)]
    told.clear()
    host.migrate_away(nodes.nova_instance(2).uuid, kept=False)
    host.linger(nodes.appliance(1).uuid, told=False)
    assert states(fake) == [(4, 1, 1), (3, 5, 2)], "shut off, under the id it had"
    host.vanish(nodes.appliance(1).uuid, told=True)
    assert told == [(5, 3), (1, 0), (5, 1)]
    host.alter(domain.uuid, DEVICE_ADDED, "net1", devices="<interface type='user'/>")
    assert plugged == [("net1",)]
    assert "interface" in fake.lookupByUUID(domain.uuid.bytes).XMLDesc()
    assert [guest and guest.state for guest in host.history[domain.uuid]] == [
        *[None, 1, 6, 4, 5, 3, 1, 1]
    ]


def test_events_wait_or_are_lost_as_a_test_likes():
    domain = nodes.nova_instance(1)
    fake = FakeConnection([domain])
    told = listening(fake)
    fake.mail.lose()
    fake.host.suspend(domain.uuid)
    fake.mail.hold()
    fake.host.resume(domain.uuid)
    fake.host.suspend(domain.uuid)
    assert told == [(3, 0)], "the first is lost, and the last overtook the one before"
    fake.mail.hold(math.inf)
    fake.host.shutdown(domain.uuid)
    assert [letter.facts for letter in fake.mail.waiting] == [(4, 0), (5, 0)]
    fake.mail.release(1)
    fake.mail.release()
    fake.host.create(domain.uuid)
    assert told == [(3, 0), (5, 0), (4, 0), (2, 0)]
    assert [letter.facts for letter in fake.mail.lost] == [(3, 0)]


def test_a_daemon_that_is_restarted_has_the_same_domains():
    host = FakeHost([nodes.nova_instance(1), nodes.nova_instance(2, active=False)])
    connect = opener(host)
    first = connect("fake:///")
    told = listening(first)
    host.down = True
    host.break_off()
    assert not first.isAlive()
    with pytest.raises(libvirt.libvirtError) as refused:
        connect("fake:///")
    assert refused.value.get_error_code() == 38
    host.renumber()
    host.create(nodes.nova_instance(2).uuid)
    host.down = False
    assert states(connect("fake:///")) == [(2, 1, 0), (3, 1, 1)]
    assert told == [], "an old connection's callbacks stay silent"


def test_what_happens_between_two_calls_is_dictated():
    fake = FakeConnection([nodes.nova_instance(1)])
    name = nodes.nova_instance(1).name
    fake.after("getAllDomainStats", lambda: fake.stop(name))
    assert states(fake) == [(1, 1, 0)], "the answer is from before"
    assert states(fake) == [(-1, 5, 1)]
    fake.before("getAllDomainStats", lambda: fake.start(name))
    fake.disarm()
    assert states(fake) == [(-1, 5, 1)]
