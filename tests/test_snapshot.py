"""A snapshot: what it costs, when it reads details again, and which guests it does not wait for."""

from __future__ import annotations

import itertools
import logging
import math
import os
import signal
import struct
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import libvirt
import pytest
from lab import qemu
from lab.churn import Churner, populated
from lab.happening import loop_held_up
from lab.losses import count_contradictions
from lab.nodes import appliance, domain_xml, handmade, node, nova_instance
from lab.places import HOUSEHOLD, PLACES, make_place
from lab.proxy import Proxy
from lab.qemu import guest_xml, guests
from lab.wire import xdr_int, xdr_string

from guestlist import (
    ConnectionFailed,
    ConnectionLost,
    DomainGone,
    DomainState,
    Host,
    Launcher,
    LibvirtFailure,
    NovaLaunched,
    domainxml,
)
from guestlist.statistics.asking import MOST_CALLS

STATS = "CONNECT_GET_ALL_DOMAIN_STATS"
XML = "DOMAIN_GET_XML_DESC"
LOOKUP = "DOMAIN_LOOKUP_BY_UUID"
EVENTS = "CONNECT_DOMAIN_EVENT_CALLBACK_REGISTER_ANY"
CONNECTING = {EVENTS, "CONNECT_GET_LIB_VERSION"}


def opened(uri, **options):
    """A host that has registered for events and taken no snapshot of anybody yet."""
    host = Host(uri, **options)
    host._connection.peer()
    return host


def until(condition):
    """Return once it holds; the test's own timeout is the bound."""
    while not condition():
        pass


def details_of(host, uuid, **options):
    return host.snapshot(include_inactive=True, include_foreign=True, **options)[uuid].details


@pytest.mark.parametrize("n", [1, 10, 100])
def test_a_cold_snapshot_is_a_call_and_one_per_domain_and_a_warm_one_a_single_call(daemon, rpc, n):
    node_file = daemon.write_node(node(nova_instance(i, active=i % 3 > 0) for i in range(n)))
    with opened(rpc.uri(node_file)) as host:
        with rpc.counting() as calls:
            cold = host.snapshot(include_inactive=True)
        assert sorted(set(calls) - CONNECTING) == sorted([STATS, XML])
        assert calls.count(XML) == n == len(cold)
        assert cold.cost == n + 1
        with rpc.counting() as calls:
            warm = host.snapshot(include_inactive=True)
        assert calls == [STATS]
        assert warm.cost == 1
        assert warm == cold


def test_without_details_a_cold_snapshot_is_one_call(daemon, rpc):
    node_file = daemon.write_node(node(nova_instance(i) for i in range(50)))
    with opened(rpc.uri(node_file)) as host:
        with rpc.counting() as calls:
            snapshot = host.snapshot(include_inactive=True, details=False)
        assert (len(snapshot), snapshot.cost) == (50, 1)
        assert {instance.details for instance in snapshot.values()} == {None}
        assert calls == [STATS]


def test_one_domain_is_looked_up_once_and_its_state_and_id_are_always_new(daemon, rpc):
    """The statistics find it by its UUID: the handle may be of an earlier start."""
    one = nova_instance(1)
    with populated(daemon.uri(), [one]) as connection, opened(rpc.uri()) as host:
        with rpc.counting() as calls:
            first = host.instance(one.uuid)
        assert calls == [LOOKUP, STATS]
        handle = connection.lookupByUUIDString(str(one.uuid))
        with rpc.counting() as calls:
            assert host.instance(one.uuid) == first
            handle.destroy()
            assert host.instance(one.uuid).id is None
            handle.create()
            handle.suspend()
            again = host.instance(one.uuid)
        assert calls == [STATS] * 3
        assert (again.id, again.state) == (handle.ID(), DomainState.PAUSED)
        assert again.id != first.id
        handle.destroy()
        handle.undefine()
        with pytest.raises(DomainGone):
            host.instance(one.uuid)
        assert not host._connection.current.handles
        connection.defineXML(domain_xml(one))
        assert host.instance(one.uuid).id is None


def test_details_are_what_the_xml_says(daemon):
    with populated(daemon.uri(), [nova_instance(3)]), Host(daemon.uri()) as host:
        [instance] = host.snapshot().values()
        details = instance.details
        assert (details.uuid, details.name, details.id) == (
            instance.uuid,
            instance.name,
            instance.id,
        )
        assert (details.current_vcpus, details.current_memory_kib) == (4, 8 << 20)
        assert details.nova.flavor.name == "m1.large"
        assert details.nova.owner.project_name == "shop"


@pytest.mark.parametrize("name", PLACES)
def test_every_libvirt_gives_the_same_snapshot(request, monkeypatch, name):
    with make_place(request, monkeypatch, name, HOUSEHOLD) as place, Host(place.uri) as host:
        everybody = {"include_inactive": True, "include_foreign": True, "include_dom0": True}
        cold = host.snapshot(**everybody)
        assert host.snapshot(**everybody) == cold
        assert len(cold) == len(HOUSEHOLD)
        for instance in cold.values():
            assert instance.details.uuid == instance.uuid
            assert instance.details.current_vcpus >= 1
            assert instance.active == (instance.state is not DomainState.SHUTOFF)
        warm_cost = 1 if place.bulk else len(HOUSEHOLD) * 2 + 4
        until(lambda: host.snapshot(**everybody).cost == warm_cost)  # events may still come in


@pytest.mark.parametrize(("release", "listing"), [("0.9.12", 4 + 6), ("1.2.7", 1)])
def test_a_libvirt_without_bulk_statistics_costs_the_listing_and_a_call_per_domain(
    daemon, proxy, release, listing
):
    proxy.older_daemon(release)
    domains = [nova_instance(n, active=n % 2 > 0) for n in range(6)]
    with populated(daemon.uri(), domains), Host(proxy.uri()) as host:
        host.snapshot(include_inactive=True)

        def costs_that():
            with proxy.counting() as calls:
                warm = host.snapshot(include_inactive=True)
            assert {instance.active for instance in warm.values()} == {True, False}
            return warm.cost == len(calls) == listing + len(domains)

        until(costs_that)  # events of how the domains were made may still come in, and XML be read


def test_without_bulk_statistics_state_and_id_agree_all_the_same(daemon, proxy):
    proxy.older_daemon("1.2.7")
    domains = [nova_instance(1), nova_instance(2, active=False)]
    with populated(daemon.uri(), domains) as connection, Host(proxy.uri()) as host:
        one, two = (connection.lookupByUUIDString(str(domain.uuid)) for domain in domains)
        proxy.on_call("DOMAIN_GET_STATE", lambda: (one.destroy(), two.create()), times=1)
        snapshot = host.snapshot(include_inactive=True)
        assert snapshot[domains[0].uuid].id is None
        assert snapshot[domains[1].uuid].id == two.ID()
        proxy.on_call("DOMAIN_GET_STATE", two.destroy, times=1)
        assert len(host.snapshot()) == 0, "it stopped before its state was asked"


# When details are read again


def test_a_restart_a_redefinition_and_its_metadata_are_noticed(daemon, rpc):
    domain = handmade(0)
    with populated(daemon.uri(), [domain, nova_instance(1)]) as connection, Host(rpc.uri()) as host:
        handle = connection.lookupByUUIDString(str(domain.uuid))
        assert details_of(host, domain.uuid).nova is None
        connection.defineXML(domain_xml(replace(domain, vcpus=3)))
        handle.destroy()
        handle.create()
        with rpc.counting() as calls:
            assert details_of(host, domain.uuid).current_vcpus == 3
        assert calls == [STATS, XML], "no other XML is read again"

        handle.destroy()
        assert details_of(host, domain.uuid).current_vcpus == 3
        connection.defineXML(domain_xml(replace(domain, vcpus=5)))
        until(lambda: details_of(host, domain.uuid).current_vcpus == 5)

        handle.setMetadata(
            libvirt.VIR_DOMAIN_METADATA_TITLE, "new", None, None, libvirt.VIR_DOMAIN_AFFECT_CONFIG
        )
        until(lambda: rpc.calls[-2:] == [STATS, XML] or details_of(host, domain.uuid) is None)


def test_what_was_redefined_is_read_again_though_the_event_loop_is_held_up(daemon, rpc):
    domains = [nova_instance(1, active=False), nova_instance(2)]
    with populated(daemon.uri(), domains) as connection, Host(rpc.uri()) as host:
        host.snapshot(include_inactive=True)
        with loop_held_up(daemon.uri(), connection):
            connection.defineXML(domain_xml(replace(domains[0], vcpus=9)))
            with rpc.counting() as calls:
                assert details_of(host, domains[0].uuid).current_vcpus == 9
            assert calls == [STATS, XML, XML], "whose event waits there it cannot tell"
        with rpc.counting() as calls:
            host.snapshot(include_inactive=True)
        assert calls == [STATS, XML], "and believes what it read meanwhile where no event waited"


def test_what_no_event_tells_is_read_again_at_a_bounded_age(daemon, rpc):
    with populated(daemon.uri(), [nova_instance(1)]):
        with Host(rpc.uri(), details_max_age=0.0) as host:
            host.snapshot()
            with rpc.counting() as calls:
                assert host.snapshot().cost == 2
            assert calls == [STATS, XML]


def test_without_events_a_new_start_and_age_are_what_there_is(daemon, proxy):
    proxy.deny(EVENTS)
    with populated(daemon.uri(), [nova_instance(1)]) as connection, Host(proxy.uri()) as host:
        [handle] = connection.listAllDomains()
        assert host.snapshot().cost == 2
        assert host.snapshot().cost == 1
        handle.destroy()
        handle.create()
        assert host.snapshot().cost == 2


def test_what_changed_while_it_was_read_is_read_again(daemon, rpc):
    domain = handmade(0, active=False)
    with populated(daemon.uri(), [domain]) as connection, Host(rpc.uri()) as host:
        with Host(daemon.uri()) as witness:
            witness.snapshot()
            rpc.on_call(
                XML, lambda: connection.defineXML(domain_xml(replace(domain, vcpus=7))), times=1
            )
            host.snapshot(include_inactive=True, include_foreign=True)
            until(lambda: details_of(host, domain.uuid).vcpus == 7)


def test_what_is_plugged_into_a_guest_is_noticed(qemu_daemon):
    image = Path(qemu_daemon.directory, "plugged.img")
    image.write_bytes(bytes(1 << 20))
    image.chmod(0o666)
    disk = f"""<disk type='file' device='disk'><driver name='qemu' type='raw'/>
        <source file='{image}'/><target dev='sda' bus='scsi'/></disk>"""
    controller = "<controller type='scsi' model='virtio-scsi'/>"
    guest = guest_xml(replace(nova_instance(1), devices=controller))
    connection = libvirt.open(qemu_daemon.qemu_uri)
    handle = connection.createXML(guest, libvirt.VIR_DOMAIN_START_PAUSED)
    try:
        with Host(qemu_daemon.qemu_uri) as host:
            uuid = nova_instance(1).uuid
            assert host.snapshot()[uuid].details.disks == ()
            handle.attachDevice(disk)
            until(lambda: host.snapshot()[uuid].details.disks)
            [plugged] = host.snapshot()[uuid].details.disks
            assert (plugged.target, plugged.source.location) == ("sda", str(image))
            assert host.snapshot().cost == 1
    finally:
        handle.destroy()
        connection.close()


def test_a_new_connection_knows_nothing_of_the_last(daemon, proxy):
    with populated(daemon.uri(), [nova_instance(1)]), Host(proxy.uri()) as host:
        host.snapshot()
        proxy.drop()
        until(lambda: not host._connection.current.alive())
        assert host.snapshot().cost == 2


# What is wrong with one domain


def test_one_that_vanishes_before_its_details_is_marked(daemon, proxy):
    domains = [nova_instance(1), nova_instance(2)]
    with populated(daemon.uri(), domains) as connection, Host(proxy.uri()) as host:

        def remove():
            for handle in connection.listAllDomains():
                handle.destroy()
                handle.undefine()

        proxy.on_call(XML, remove, times=1)
        snapshot = host.snapshot()
        assert [instance.details for instance in snapshot.values()] == [None, None]
        assert len(host.snapshot()) == 0


def test_one_that_vanishes_before_anything_tells_whose_it_is_is_left_out(daemon, proxy):
    with populated(daemon.uri(), [appliance(1), handmade(0)]) as connection:
        with Host(proxy.uri()) as host:
            handle = connection.lookupByUUIDString(str(handmade(0).uuid))
            proxy.on_call(XML, lambda: (handle.destroy(), handle.undefine()), times=1)
            snapshot = host.snapshot(include_foreign=True)
            assert [instance.launcher for instance in snapshot.values()] == [Launcher.LIBGUESTFS]


def test_one_whose_xml_cannot_be_read_spoils_nobody_elses_and_is_logged_once(daemon, proxy, caplog):
    caplog.set_level(logging.WARNING, "guestlist")
    domains = [nova_instance(4 * n) for n in range(4)]
    with populated(daemon.uri(), domains), Host(proxy.uri(), details_max_age=0.0) as host:
        proxy.fail(XML, libvirt.VIR_ERR_INTERNAL_ERROR, message="no XML today", times=1)
        snapshot = host.snapshot()
        [bad] = [i for i in snapshot.values() if i.details.unknown == ("xml", "devices")]
        assert (bad.details.current_vcpus, bad.details.current_memory_kib) == (1, 524288)
        assert bad.launcher is Launcher.NOVA
        assert [record.message.count("no XML today") for record in caplog.records] == [1]
        assert host.snapshot()[bad.uuid].details.unknown == ()

        proxy.fail(XML, libvirt.VIR_ERR_INTERNAL_ERROR, message="nor tomorrow")
        caplog.clear()
        for _ in range(3):
            assert len(host.snapshot()) == 4
        assert len(caplog.records) == 4


def test_hostile_xml_is_a_record_that_says_what_it_lacks(daemon, proxy):
    with populated(daemon.uri(), [nova_instance(1), nova_instance(2)]), Host(proxy.uri()) as host:
        hostile = "<domain><name>&#10;</name><metadata><a:b/></metadata>" + "<devices>" * 5000
        proxy.rewrite(XML, lambda payload: xdr_string(hostile.encode()))
        snapshot = host.snapshot()
        assert len(snapshot) == 2
        for instance in snapshot.values():
            assert instance.details.unknown
            assert instance.launcher is Launcher.NOVA


@pytest.mark.parametrize("key", [b"state.state", b"state.reason"])
def test_an_answer_without_a_state_is_an_error_of_ours(daemon, proxy, key):
    """No libvirt gives one; what answers at the socket may be anything."""
    proxy.rewrite(STATS, lambda payload: payload.replace(key, key[:-1] + b"_"))
    with populated(daemon.uri(), [nova_instance(1)]), Host(proxy.uri()) as host:
        with pytest.raises(LibvirtFailure, match="cannot tell the state of domain 'instance-"):
            host.snapshot()


@pytest.mark.parametrize("kind", [5, 7])  # VIR_TYPED_PARAM_DOUBLE and _STRING
def test_a_state_that_is_no_number_is_an_error_of_ours(daemon, proxy, kind):
    """The value follows its key, both padded: type, then the number or text."""
    key = xdr_string(b"state.state")
    value = {5: struct.pack(">d", 1.0), 7: xdr_string(b"1")}[kind]

    def lie(payload):
        before, _, after = payload.partition(key)
        return before + key + xdr_int(kind) + value + after[8:]

    proxy.rewrite(STATS, lie)
    with populated(daemon.uri(), [nova_instance(1)]), Host(proxy.uri()) as host:
        with pytest.raises(LibvirtFailure, match="cannot tell the state of domain 'instance-"):
            host.snapshot()


def test_a_connection_lost_among_the_details_is_an_error(daemon, proxy):
    with populated(daemon.uri(), [nova_instance(n) for n in range(5)]), Host(proxy.uri()) as host:
        proxy.drop_on(XML)
        with pytest.raises(ConnectionLost):
            host.snapshot()
        assert len(host.snapshot()) == 5


# Many, side by side


def test_where_reading_takes_long_five_are_read_at_a_time(daemon, proxy):
    domains = [nova_instance(n) for n in range(60)]
    at_most = [0]
    with populated(daemon.uri(), domains), opened(proxy.uri()) as host:
        proxy.on_call(XML, lambda: at_most.append(proxy.connections))
        proxy.delay(0.03, XML)
        snapshot = host.snapshot()
        assert [i.details.uuid for i in snapshot.values()] == [i.uuid for i in snapshot.values()]
        assert len(snapshot) == 60
        assert snapshot.cost == 61
        assert max(at_most) == 5
        until(lambda: proxy.connections == 1)


@pytest.mark.parametrize("fault", ["drop_on", "fail", "deny"])
def test_helpers_that_fail_change_nothing(daemon, proxy, fault):
    domains = [nova_instance(n) for n in range(40)]
    with populated(daemon.uri(), domains), opened(proxy.uri()) as host:
        proxy.delay(0.02, XML)
        if fault == "fail":
            proxy.fail("CONNECT_LIST_ALL_DOMAINS", libvirt.VIR_ERR_INTERNAL_ERROR)
        else:
            getattr(proxy, fault)("CONNECT_LIST_ALL_DOMAINS", times=None)
        snapshot = host.snapshot()
        assert len(snapshot) == 40
        assert all(instance.details for instance in snapshot.values())
        assert snapshot.cost == 41


def test_a_node_file_of_the_test_driver_is_never_read_over_another_connection(daemon, proxy):
    node_file = daemon.write_node(node(nova_instance(n) for n in range(20)))
    with opened(proxy.uri(node_file)) as host:
        proxy.delay(0.02, XML)
        proxy.clear()
        assert host.snapshot().cost == 21
        assert "CONNECT_OPEN" not in proxy.calls


# A guest that is stuck


@pytest.fixture
def stuck(qemu_daemon):
    """Three guests, of which the first one is stuck."""
    with guests(qemu_daemon.qemu_uri, 3) as domains, qemu.stuck(qemu_daemon, domains[0]):
        yield domains[0]


def test_nothing_waits_for_a_stuck_guest(qemu_daemon, stuck):
    with Host(qemu_daemon.qemu_uri) as host:
        snapshot = host.snapshot()
        assert len(snapshot) == 3
        assert snapshot[stuck.uuid].details.current_vcpus == 1
        assert not snapshot.unanswered


def test_who_does_not_answer_is_named_and_the_others_are_heard(qemu_daemon, stuck):
    with Host(qemu_daemon.qemu_uri) as host:
        for _ in range(3):
            snapshot = host.snapshot(statistics=("balloon", "block"), deadline=3.0)
            assert snapshot.unanswered == {stuck.uuid}
            assert len(snapshot) == 3
            for uuid in set(snapshot) - {stuck.uuid}:
                assert snapshot[uuid].statistics["balloon.rss"] > 0
        assert host.snapshot().cost == 1


def test_a_stuck_guest_is_named_though_none_of_its_disks_has_a_path(qemu_daemon):
    drive = """<controller type='scsi' model='virtio-scsi'/>
        <disk type='file' device='cdrom'><target dev='sda' bus='scsi'/><readonly/></disk>"""
    guest = replace(nova_instance(1), devices=drive)
    with guests(qemu_daemon.qemu_uri, [guest]), Host(qemu_daemon.qemu_uri) as host:
        assert not host.snapshot(statistics=["block"]).unanswered
        with qemu.stuck(qemu_daemon, guest):
            for _ in range(2):
                snapshot = host.snapshot(statistics=["block"], deadline=3.0)
                assert snapshot.unanswered == {guest.uuid}


def test_a_guest_that_is_busy_for_a_moment_is_asked_again(qemu_daemon):
    with (
        guests(qemu_daemon.qemu_uri, 1) as [guest],
        Proxy(qemu_daemon) as proxy,
        Host(proxy.qemu_uri) as host,
        qemu.stuck(qemu_daemon, guest),
    ):
        statistics, calls = host._sessions.statistics, itertools.count()

        def go_on():
            """Before all but the first call: have the guest answer the one that keeps it busy."""
            if next(calls):
                os.kill(qemu_daemon.guest_pid(guest.name), signal.SIGCONT)
                until(lambda: statistics._rounds._side_calls._under_way == 1)

        [answer] = statistics.ask(["balloon", "block"], 3.0).by_uuid.values()
        assert not answer.complete
        proxy.on_call(STATS, go_on)
        [answer] = statistics.ask(["balloon", "block"], 60.0).by_uuid.values()
        assert answer.complete


def test_statistics_are_asked_on_another_connection(daemon, rpc):
    with populated(daemon.uri(), [nova_instance(1), nova_instance(2, active=False)]):
        with Host(rpc.uri()) as host:
            host.snapshot()
            with rpc.counting() as calls:
                snapshot = host.snapshot(include_inactive=True, statistics=["balloon"])
            assert calls.count("CONNECT_OPEN") == 1
            # libvirt's test driver knows no other group than the state.
            assert snapshot.unanswered == {nova_instance(1).uuid}
            with pytest.raises(ValueError, match="there is no statistics group 'beer'; there are"):
                host.snapshot(statistics=["beer"])
            one = host.snapshot(statistics="interface")
            assert not one.unanswered, "a single name is no list of letters"


def test_statistics_for_which_no_connection_can_be_had_cost_one_attempt_at_a_time(daemon, proxy):
    """A daemon that is full never answers an open: guests that do not answer are another matter."""
    with populated(daemon.uri(), [nova_instance(1)]), Host(proxy.uri()) as host:
        host.snapshot()
        go_on = threading.Event()
        proxy.on_call("CONNECT_OPEN", go_on.wait)
        for _ in range(3):
            snapshot = host.snapshot(statistics=["interface"], deadline=0.3)
            assert isinstance(snapshot.statistics_failure, ConnectionFailed)
        assert proxy.connections == 2
        go_on.set()
        until(lambda: host.snapshot(statistics=["interface"]).statistics_failure is None)
        until(lambda: proxy.connections == 2)


def test_statistics_asked_while_the_host_is_closed_leave_no_connection(daemon, proxy):
    with populated(daemon.uri(), [nova_instance(1)]), Host(proxy.uri()) as host:
        host.snapshot()
        calls = itertools.count()  # the first is the listing's: closing waits for its answer
        proxy.on_call(STATS, lambda: next(calls) and host.close())
        assert not host.snapshot(statistics=["interface"]).unanswered
        until(lambda: not proxy.connections)


def test_more_threads_than_calls_may_hang_are_all_answered(daemon, proxy):
    called, go = threading.Semaphore(0), threading.Event()
    proxy.on_call(STATS, lambda: (called.release(), go.wait()))

    def names():
        """What the last one asks for: once it begins, those who are before it may go on."""
        yield "interface"
        go.set()

    with populated(daemon.uri(), [nova_instance(1)]), Host(proxy.uri()) as host:
        ask = host._sessions.statistics.ask
        with ThreadPoolExecutor(MOST_CALLS) as pool:
            others = [pool.submit(ask, ["interface"], 60) for _ in range(MOST_CALLS)]
            for _ in others:
                called.acquire()
            last = ask(names(), 60)
            answers = [last, *(other.result() for other in others)]
    assert [list(answer.by_uuid) for answer in answers] == [[nova_instance(1).uuid.bytes]] * len(
        answers
    )


def test_a_call_that_no_second_one_may_overtake_is_still_waited_for(daemon, proxy, monkeypatch):
    monkeypatch.setattr("guestlist.statistics.asking.MOST_CALLS", 1)
    go = threading.Event()
    proxy.on_call(STATS, go.wait)
    with populated(daemon.uri(), [nova_instance(1)]), Host(proxy.uri()) as host:
        statistics = host._sessions.statistics
        leave = statistics._rounds.leave_hanging

        def left(call):
            hangs = leave(call)
            if hangs:
                go.set()
            return hangs

        monkeypatch.setattr(statistics._rounds, "leave_hanging", left)
        assert list(statistics.ask(["interface"], 60).by_uuid) == [nova_instance(1).uuid.bytes]


# One domain


def test_one_instance_by_its_uuid(daemon, rpc):
    domains = [nova_instance(1), handmade(0, active=False)]
    with populated(daemon.uri(), domains), Host(rpc.uri()) as host:
        with rpc.counting() as calls:
            one = host.instance(str(domains[0].uuid))
        assert calls[-2:] == ["DOMAIN_LOOKUP_BY_UUID", "CONNECT_GET_ALL_DOMAIN_STATS"]
        assert one == host.snapshot(details=False)[domains[0].uuid]
        assert host.instance(domains[1].uuid).state is DomainState.SHUTOFF
        with pytest.raises(DomainGone):
            host.instance(nova_instance(2).uuid)


def test_whether_a_domain_exists_takes_one_call(daemon, rpc):
    domains = [nova_instance(1), handmade(0, active=False)]
    with populated(daemon.uri(), domains), opened(rpc.uri()) as host:
        for uuid, exists in [
            (domains[0].uuid, True),
            (str(domains[1].uuid), True),
            (nova_instance(2).uuid, False),
        ]:
            with rpc.counting() as calls:
                assert host.has_domain(uuid) is exists
            assert calls == ["DOMAIN_LOOKUP_BY_UUID"]
        with pytest.raises(ValueError, match="UUID"):
            host.has_domain("nonsense")
        rpc.fail("DOMAIN_LOOKUP_BY_UUID", libvirt.VIR_ERR_OPERATION_FAILED, message="not today")
        with pytest.raises(LibvirtFailure, match="not today"):
            host.has_domain(domains[0].uuid)


# Under churn


@pytest.mark.parametrize("mode", ["switch", "redefine", "come-and-go"])
def test_under_churn_nobody_is_lost_and_no_id_contradicts_its_state(daemon, mode):
    domains = [nova_instance(n, active=mode == "redefine") for n in range(20)]
    uuids = [domain.uuid for domain in domains]
    with populated(daemon.uri(), domains), Churner(daemon.uri(), uuids, mode) as churner:
        churner.wait_changes(10)
        tally = count_contradictions(lambda: Host(daemon.uri()), uuids, 300)
        churner.wait_changes(1)
    assert tally.right, tally


def test_the_xml_is_kept_on_request_and_changes_no_comparison(daemon):
    with populated(daemon.uri(), [nova_instance(1)]) as connection:
        uuid = nova_instance(1).uuid
        with Host(daemon.uri(), keep_xml=True) as keeper, Host(daemon.uri()) as other:
            kept = keeper.snapshot()[uuid].details
            assert kept.xml == connection.lookupByUUIDString(str(uuid)).XMLDesc(0)
            assert other.snapshot()[uuid].details.xml is None
            assert other.snapshot()[uuid].details == kept
            assert kept.xml not in repr(kept)


def test_what_is_forgotten_is_read_again(daemon, proxy):
    with populated(daemon.uri(), [nova_instance(1), nova_instance(2)]), Host(proxy.uri()) as host:
        host.discard_details(nova_instance(1).uuid)  # before anything is known
        host.snapshot()
        host.discard_details(str(nova_instance(1).uuid))
        host.discard_details(nova_instance(3).uuid)
        with proxy.counting() as calls:
            assert len(host.snapshot()) == 2
        assert calls.count(XML) == 1


@pytest.mark.parametrize("release", [None, "1.2.7", "0.9.12"])
def test_a_peer_counts_the_calls_about_domains(daemon, proxy, release):
    """All of them and no others, as the docstring of `Peer.calls` has it; in bulk and walked."""
    ours, foreign = [nova_instance(n) for n in range(3)], handmade(0)
    if release:
        proxy.older_daemon(release)
    with populated(daemon.uri(), [*ours, foreign]), opened(proxy.uri()) as host:
        proxy.clear()
        host.snapshot(include_inactive=True, include_foreign=True)
        host.list_instance_domains(include_inactive=True)
        host.instance(foreign.uuid)
        host.launcher(host.list_instance_domains(include_foreign=True)[0])
        host.node()
        host.capabilities()
        about_domains = [call for call in proxy.calls if "DOMAIN" in call and "EVENT" not in call]
        assert host._connection.current.calls == len(about_domains)


def test_statistics_may_take_for_ever_and_not_less_than_no_time(daemon):
    with populated(daemon.uri(), HOUSEHOLD), Host(daemon.uri()) as host:
        assert host.snapshot(statistics=["balloon"], deadline=math.inf).statistics_failure is None
        for deadline in (math.nan, -1.0):
            with pytest.raises(ValueError, match="it must be a number of seconds from 0 on"):
                host.snapshot(statistics=["balloon"], deadline=deadline)


def test_a_domain_that_ends_while_it_is_read_is_not_remembered(daemon, monkeypatch):
    """A list would not discard it: events tell of ends, and this one has told already."""
    doomed = nova_instance(7)
    with populated(daemon.uri(), [nova_instance(1), doomed]) as connection:
        with Host(daemon.uri(), launched_by=NovaLaunched(verify=True)) as host:
            handle = connection.lookupByUUID(doomed.uuid.bytes)
            handle.undefine()
            host.snapshot()
            memory = host._sessions.current.details
            host.discard_details(doomed.uuid)
            parse = domainxml.parse

            def end_and_parse(document):
                handle.destroy()
                until(lambda: doomed.uuid.bytes in told)
                return parse(document)

            told = []
            monkeypatch.setattr(domainxml, "parse", end_and_parse)
            lifecycle = host._connection.peer().lifecycle()
            lifecycle.subscribe(lambda domain, *_: told.append(domain.UUID()))
            host.list_instance_domains()
            assert [each.name() for each in host.list_instance_domains()] == [nova_instance(1).name]
            assert len(memory) == 1
