"""The bulk call: what it costs on the wire, what is remembered, and that failures are failures."""

from __future__ import annotations

import itertools
import logging
import subprocess
import sys
import threading
from dataclasses import replace

import libvirt
import pytest
from lab.churn import Churner, ThreadChurner, populated
from lab.fake import FakeConnection
from lab.losses import count_losses
from lab.nodes import appliance, handmade, node, nova_instance
from lab.places import DOM0
from lab.wire import xdr_string

import corpus
from guestlist import (
    AccessDenied,
    ConnectionLost,
    DomainGone,
    GuestlistError,
    Host,
    Launcher,
    LibvirtFailure,
    NovaLaunched,
    TooManyDomains,
    domainxml,
    plain,
)

BULK = ["CONNECT_LIST_ALL_DOMAINS"]
METADATA = "DOMAIN_GET_XML_DESC"
EIGHT = list(itertools.product((False, True), repeat=3))


def opened(uri, **options):
    """A host whose connection is open and which has listed nothing yet: cold, and countable."""
    host = Host(uri, **options)
    _ = host._connection.peer().release  # asked once, by the first question that needs it
    return host


@pytest.mark.parametrize("n", [1, 100, 10_000])
def test_a_cold_listing_is_one_call_however_many_domains_and_whatever_the_options(daemon, rpc, n):
    node_file = daemon.write_node(node(nova_instance(i, with_metadata=False) for i in range(n)))
    with opened(rpc.uri(node_file), open_timeout=None) as host:  # libvirt reads 3,000 a second
        for inactive, foreign, dom0 in EIGHT:
            host._sessions._session = None  # as good as new: nothing learned yet
            with rpc.counting() as calls:
                listed = host.list_instance_domains(
                    include_inactive=inactive, include_foreign=foreign, include_dom0=dom0
                )
            assert calls == BULK
            assert len({domain.UUIDString() for domain in listed}) == len(listed) == n


def test_metadata_is_asked_once_of_a_domain_whose_name_cannot_tell(daemon, rpc):
    strangers = [handmade(i) for i in range(3)]
    with (
        populated(daemon.uri(), [nova_instance(1), appliance(1), *strangers]) as connection,
        opened(rpc.uri()) as host,
    ):
        with rpc.counting() as calls:
            host.list_instance_domains()
        assert calls == BULK + [METADATA] * 3
        with rpc.counting() as calls:
            host.list_instance_domains()
            host.list_instance_domains(include_foreign=True)
            host.snapshot(include_foreign=True, details=False)
        assert calls == [*BULK, *BULK, "CONNECT_GET_ALL_DOMAIN_STATS"]

        restarted = connection.lookupByUUIDString(str(strangers[0].uuid))
        restarted.destroy()
        restarted.create()
        with rpc.counting() as calls:
            host.list_instance_domains()
        assert calls == [*BULK, METADATA], "a new id is a new start: its metadata may be new"


def test_listing_the_running_ones_forgets_nothing_of_the_others(daemon, rpc):
    with (
        populated(daemon.uri(), [handmade(0), handmade(1, active=False)]),
        opened(rpc.uri()) as host,
    ):
        host.list_instance_domains(include_inactive=True)
        with rpc.counting() as calls:
            host.list_instance_domains()
            host.list_instance_domains(include_inactive=True)
        assert calls == BULK * 2


@pytest.mark.parametrize("metadata", ["", "<x xmlns='urn:x'/>"])
def test_what_is_remembered_goes_with_the_domain(daemon, metadata):
    domains = [replace(handmade(n), metadata=metadata) for n in range(2)]
    with populated(daemon.uri(), domains) as connection:
        with Host(daemon.uri()) as host:
            host.list_instance_domains()
            session = host._sessions.current
            memory = session.details if metadata else session._plain
            assert len(memory) == 2
            connection.lookupByUUIDString(str(handmade(0).uuid)).destroy()
            connection.lookupByUUIDString(str(handmade(0).uuid)).undefine()
            host.list_instance_domains()
            assert len(memory) == 1


@pytest.mark.parametrize("name", corpus.NAMES)
def test_only_a_domain_without_metadata_passes_for_one(name):
    xml = corpus.xml(name)
    assert not plain.is_plain(xml) or domainxml.parse(xml).namespaces == frozenset()
    assert plain.is_plain("<domain><devices/></domain>\n")


@pytest.mark.parametrize(
    "xml",
    [
        "<domain><metadata/></domain>",
        "<domain><metadata\n></metadata></domain>",
        "<!DOCTYPE d [<!ENTITY m SYSTEM 'metadata'>]><domain>&m;</domain>",
        "<domain><devices>",
        "no XML",
        "",
    ],
)
def test_what_may_have_metadata_is_left_to_the_parser(xml):
    assert not plain.is_plain(xml)


def test_domains_without_metadata_are_told_apart_without_a_parser(daemon, rpc):
    code = """if True:
        import sys, guestlist
        with guestlist.Host(sys.argv[1]) as host:
            print(len(host.list_instance_domains()), "lxml" in sys.modules)
            print(len(host.list_instance_domains(include_foreign=True)), "lxml" in sys.modules)
    """
    with populated(daemon.uri(), [nova_instance(1), handmade(0), handmade(1)]):
        with rpc.counting() as calls:
            said = subprocess.run(
                [sys.executable, "-c", code, rpc.uri()],
                check=True,
                capture_output=True,
                text=True,
            )
    assert said.stdout.splitlines() == ["1 False", "3 False"]
    assert calls.count(METADATA) == 2


def test_a_domain_without_metadata_that_is_discarded_is_asked_again(daemon, rpc):
    with populated(daemon.uri(), [handmade(0)]), opened(rpc.uri()) as host:
        host.list_instance_domains()
        host.discard_details(handmade(0).uuid)
        with rpc.counting() as calls:
            host.list_instance_domains()
            host.list_instance_domains()
        assert calls == [*BULK, METADATA, *BULK]
    with populated(daemon.uri(), [handmade(0)]), opened(rpc.uri(), details_max_age=0.0) as host:
        with rpc.counting() as calls:
            host.list_instance_domains()
            host.list_instance_domains()
        assert calls.count(METADATA) >= 2, "each time, at that age"


def test_what_is_remembered_goes_when_an_event_tells_of_the_end(daemon):
    """A list then reads no UUIDs to find out."""
    stays, stops, goes = handmade(0), handmade(1), handmade(2, active=False)
    with populated(daemon.uri(), [stays, stops, goes]) as connection, Host(daemon.uri()) as host:
        host.snapshot(include_inactive=True, include_foreign=True)
        assert len(host._sessions.current.details) == 3
        connection.lookupByUUIDString(str(stops.uuid)).destroy()
        connection.lookupByUUIDString(str(goes.uuid)).undefine()
        while len(host._sessions.current.details) > 1:
            host.list_instance_domains()
        assert host.list_instance_domains(include_inactive=True) == []


@pytest.mark.parametrize("uri", ["xen:///system", "unheard-of:///"])
def test_a_domain_0_with_a_name_of_novas_shape_is_told_by_its_id(monkeypatch, uri):
    dom0 = replace(DOM0, name="instance-00000007")
    fake = FakeConnection([nova_instance(1), dom0, handmade(0)], uri=uri)
    fake.set_id(dom0.name, 0)
    monkeypatch.setattr(libvirt, "open", lambda uri: fake)
    with Host(uri) as host:
        assert [one.name() for one in host.list_instance_domains()] == ["instance-00000001"]
        assert len(host.list_instance_domains(include_dom0=True)) == 2
        assert len(host.list_instance_domains(include_foreign=True)) == 2
        assert host.snapshot(include_dom0=True)[dom0.uuid].launcher is Launcher.DOM0


def test_verify_asks_each_domain_once(daemon, rpc):
    impostor = replace(handmade(0), name="instance-00000bad")
    with (
        populated(daemon.uri(), [nova_instance(1), nova_instance(2), impostor]),
        opened(rpc.uri(), launched_by=NovaLaunched(verify=True)) as host,
    ):
        with rpc.counting() as calls:
            listed = host.list_instance_domains()
        assert sorted(domain.name() for domain in listed) == [
            "instance-00000001",
            "instance-00000002",
        ]
        assert calls == BULK + [METADATA] * 3
        with rpc.counting() as calls:
            host.list_instance_domains()
        assert calls == BULK


def test_domain_0_is_told_by_its_id_and_never_asked(daemon, rpc):
    rpc.set_id(DOM0.uuid, 0)
    with populated(daemon.uri(), [nova_instance(1), DOM0]), opened(rpc.uri()) as host:
        with rpc.counting() as calls:
            assert len(host.list_instance_domains()) == 1
            assert len(host.list_instance_domains(include_foreign=True)) == 1
            assert len(host.list_instance_domains(include_dom0=True)) == 2
        assert calls == BULK * 3


def test_a_domain_gone_before_its_metadata_is_read_is_left_out(daemon, rpc):
    with populated(daemon.uri(), [nova_instance(1), handmade(0)]) as connection:

        def remove():
            connection.lookupByUUIDString(str(handmade(0).uuid)).destroy()
            connection.lookupByUUIDString(str(handmade(0).uuid)).undefine()

        rpc.on_call(METADATA, remove, times=1)
        with Host(rpc.uri()) as host:
            listed = host.list_instance_domains()
        assert [domain.name() for domain in listed] == ["instance-00000001"]


def test_who_launched_a_domain_is_told_by_a_handle_of_a_lost_connection_too(daemon, proxy):
    domain = handmade(0, active=False)
    everyone = {"include_inactive": True, "include_foreign": True}
    with populated(daemon.uri(), [domain]) as connection, Host(proxy.uri()) as host:
        [handle] = host.list_instance_domains(**everyone)
        proxy.drop()
        while host._connection.current.alive():
            pass
        host.snapshot()  # over another connection, of which this one is not asked
        assert host.launcher(handle) is Launcher.OTHER
        [instance] = host.snapshot(**everyone).values()
        assert instance.details.unknown == ()
        connection.lookupByUUIDString(str(domain.uuid)).undefine()
        with pytest.raises(DomainGone):
            host.launcher(handle)


@pytest.mark.parametrize(
    ("code", "error"),
    [
        (libvirt.VIR_ERR_INTERNAL_ERROR, LibvirtFailure),
        (libvirt.VIR_ERR_OPERATION_FAILED, LibvirtFailure),
        (libvirt.VIR_ERR_ACCESS_DENIED, AccessDenied),
        (libvirt.VIR_ERR_AUTH_FAILED, AccessDenied),
        (libvirt.VIR_ERR_INVALID_ARG, LibvirtFailure),
    ],
)
def test_any_other_failure_is_raised_as_itself_and_changes_no_path(rpc, code, error):
    rpc.fail("CONNECT_LIST_ALL_DOMAINS", code, message="not today")
    with Host(rpc.uri()) as host:
        with pytest.raises(error, match="not today") as raised:
            host.list_instance_domains()
        assert isinstance(raised.value.__cause__, libvirt.libvirtError)
        assert "\n" not in str(raised.value)
        assert host.bulk_listing is None
        rpc.reset()
        host.list_instance_domains()
        assert host.bulk_listing is True


def test_where_the_xml_cannot_be_read_the_metadata_tells_and_else_the_listing_fails(daemon, rpc):
    with populated(daemon.uri(), [nova_instance(1), handmade(0)]):
        rpc.fail(METADATA, libvirt.VIR_ERR_OPERATION_FAILED, message="locked")
        with Host(rpc.uri()) as host:
            assert len(host.list_instance_domains()) == 1
        rpc.fail("DOMAIN_GET_METADATA", libvirt.VIR_ERR_OPERATION_FAILED, message="locked")
        with Host(rpc.uri()) as host:
            with pytest.raises(LibvirtFailure, match="locked"):
                host.list_instance_domains()
            assert len(host.list_instance_domains(include_foreign=True)) == 2


@pytest.mark.parametrize("fault", ["drop_on", "cut"])
def test_a_connection_lost_in_the_call_is_an_error_and_the_next_call_reconnects(rpc, fault):
    with opened(rpc.uri()) as host:
        getattr(rpc, fault)("CONNECT_LIST_ALL_DOMAINS", times=1)
        with rpc.counting() as calls, pytest.raises(ConnectionLost) as raised:
            host.list_instance_domains()
        assert calls.count("CONNECT_LIST_ALL_DOMAINS") == 1, "never tried twice"
        assert isinstance(raised.value, ConnectionError)
        assert host.bulk_listing is None
        host.list_instance_domains()
        assert host.bulk_listing is True


def test_more_domains_than_a_message_carries_is_said_clearly(daemon):
    n = 16_385
    node_file = daemon.write_node(
        node(nova_instance(i, with_metadata=False, active=i > 0) for i in range(n))
    )
    with Host(daemon.uri(node_file), open_timeout=None) as host:
        for ask in (host.list_instance_domains, host.snapshot):
            with pytest.raises(TooManyDomains, match="16385"):
                ask(include_inactive=True)
        assert len(host.list_instance_domains()) == n - 1
        assert host.bulk_listing is True


@pytest.mark.parametrize("mode", ["switch", "rename", "redefine", "kind", "come-and-go"])
def test_nobody_is_lost_under_churn(daemon, mode):
    domains = [nova_instance(n, active=mode in ("kind", "redefine")) for n in range(20)]
    uuids = [domain.uuid for domain in domains]
    with populated(daemon.uri(), domains), Churner(daemon.uri(), uuids, mode) as churner:
        churner.wait_changes(10)
        tally = count_losses(lambda: Host(daemon.uri()), uuids, 300)
        cold = count_losses(lambda: Host(daemon.uri()), uuids, 30, cold=True)
        churner.wait_changes(1)
    assert tally.right, tally
    assert cold.right, cold


def test_nobody_is_lost_under_churn_without_a_daemon():
    domains = [nova_instance(n) for n in range(20)]
    uuids = [domain.uuid for domain in domains]
    with populated("test:///default", domains), ThreadChurner("test:///default", uuids):
        tally = count_losses(lambda: Host("test:///default"), uuids, 300)
    assert tally.right, tally


def test_eight_threads_over_one_host_get_eight_right_answers(daemon, rpc):
    domains = [nova_instance(n) for n in range(20)] + [handmade(n) for n in range(5)]
    expected = {str(domain.uuid) for domain in domains[:20]}
    wrong = []
    with populated(daemon.uri(), domains), opened(rpc.uri()) as host:
        gate = threading.Barrier(8)

        def ask():
            gate.wait()
            for _ in range(20):
                listed = [domain.UUIDString() for domain in host.list_instance_domains()]
                if set(listed) != expected or len(listed) != len(expected):
                    wrong.append(listed)

        threads = [threading.Thread(target=ask) for _ in range(8)]
        with rpc.counting() as calls:
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
    assert not wrong
    assert calls.count("CONNECT_LIST_ALL_DOMAINS") == 160
    assert calls.count(METADATA) == 5, "once for each stranger, not once for each thread"


HOSTILE = {
    "entity bomb": "<!DOCTYPE d [<!ENTITY a 'lol'><!ENTITY b '&a;&a;&a;&a;'>]><domain><metadata>"
    "<x xmlns='urn:x'>&b;</x></metadata></domain>",
    "undeclared entity": "<domain><metadata><x xmlns='urn:x'>&nobody;</x></metadata></domain>",
    "external entity": "<!DOCTYPE d [<!ENTITY a SYSTEM 'file:///etc/passwd'>]><domain><metadata>"
    "<x xmlns='urn:x'>&a;</x></metadata></domain>",
    "cut short": "<domain><metadata><x xmlns='urn:x'>",
    "huge": "<domain><metadata><x xmlns='urn:x'>" + "y" * 3_000_000 + "</x></metadata></domain>",
    "deep": "<domain><metadata>" + "<x xmlns='urn:x'>" * 100_000 + "</metadata></domain>",
    "no XML": "Segmentation fault",
    "nothing": "",
    "Nova's namespace as text": "<domain><metadata>http://openstack.org/xmlns/libvirt/nova/1.1"
    "</metadata></domain>",
    "Nova's element out of place": "<domain><nova:instance xmlns:nova="
    "'http://openstack.org/xmlns/libvirt/nova/1.1'/></domain>",
}


@pytest.mark.parametrize("xml", HOSTILE.values(), ids=HOSTILE)
def test_hostile_xml_neither_breaks_the_listing_nor_passes_for_novas(daemon, rpc, xml):
    rpc.rewrite(METADATA, lambda _: xdr_string(xml.encode()))
    with populated(daemon.uri(), [nova_instance(1), handmade(0)]), Host(rpc.uri()) as host:
        listed = host.list_instance_domains()
        assert [domain.name() for domain in listed] == ["instance-00000001"]
        assert len(host.snapshot(include_foreign=True)) == 2


def test_one_stranger_too_large_for_the_wire_spoils_nothing(daemon, rpc):
    large = "<x xmlns='urn:x'>" + "y" * 5_000_000 + "</x>"
    ours = replace(nova_instance(2), name="also-ours", metadata=nova_instance(2).metadata + large)
    node_file = daemon.write_node(
        node([nova_instance(1), replace(handmade(0), metadata=large), ours])
    )
    with opened(rpc.uri(node_file)) as host:
        with rpc.counting() as calls:
            listed = host.list_instance_domains()
        assert sorted(domain.name() for domain in listed) == ["also-ours", "instance-00000001"]
        assert sorted(calls) == sorted(
            [*BULK, *[METADATA, "DOMAIN_GET_INFO"] * 2, *["DOMAIN_GET_METADATA"] * 4]
        )
        with rpc.counting() as calls:
            host.list_instance_domains()
        assert calls == BULK


def test_errors_are_one_line_of_what_was_asked_of_whom_and_what_to_do(rpc):
    message = "two\nlines" + " and a whole document" * 1_000
    rpc.fail("CONNECT_LIST_ALL_DOMAINS", libvirt.VIR_ERR_INTERNAL_ERROR, message=message)
    with Host(rpc.uri()) as host, pytest.raises(GuestlistError) as raised:
        host.list_instance_domains()
    assert str(raised.value).startswith(f"cannot list the domains of {rpc.uri()}: ")
    assert "two lines" in str(raised.value)
    assert len(str(raised.value)) < 600


def test_the_library_says_nothing_when_nothing_is_wrong(daemon, caplog, capfd):
    with caplog.at_level(logging.DEBUG), Host(daemon.uri()) as host:
        host.list_instance_domains()
    assert not caplog.records
    assert capfd.readouterr() == ("", "")
