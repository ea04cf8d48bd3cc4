"""What old libvirts do otherwise, and what is made of it all the same."""

from __future__ import annotations

import re
import shutil
import socket
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import libvirt
import pytest
from lab.churn import Churner, populated
from lab.nodes import handmade, nova_instance
from lab.views import Replica
from lab.waiting import LONG, wait_until
from lab.wire import xdr_hyper, xdr_string

import guestlist
from guestlist import (
    ConnectionFailed,
    ConnectionLost,
    GuestlistError,
    Host,
    Inventory,
    NotSupported,
    NotSynced,
)
from guestlist.side_calls import MOST_HANGING
from guestlist.snapshot import states_of

INVALID_ARG, INTERNAL_ERROR = 8, 1
EVERYBODY = {"include_inactive": True, "include_foreign": True}
PERMANENT = [nova_instance(n) for n in range(5)]


@pytest.fixture(params=[("0.9.12", INVALID_ARG), ("1.2.7", INVALID_ARG), ("1.2.7", INTERNAL_ERROR)])
def vague(request, proxy):
    """A proxy that answers as an old driver, with a code of its own for a domain that is gone."""
    release, code = request.param
    proxy.older_daemon(release)
    proxy.obscure_gone(code)
    return proxy


# A domain that is gone: the look-up tells, whatever the code was


def test_snapshots_under_come_and_go_neither_fail_nor_show_who_is_gone(daemon, vague):
    """Code 8 of a vanished domain failed 34 snapshots of 50; others showed it without details."""
    uuids = {domain.uuid for domain in PERMANENT}
    with (
        populated(daemon.uri(), PERMANENT),
        Churner(daemon.uri(), sorted(uuids), "come-and-go", rate=400),
        Host(vague.uri()) as host,
    ):
        for _ in range(25):
            snapshot = host.snapshot(**EVERYBODY)
            assert uuids <= snapshot.keys()
            assert not [one for one in snapshot.values() if one.details and one.details.unknown]


def test_listings_under_come_and_go_of_strangers_do_not_fail(daemon, vague):
    """Whose such a domain is only its metadata tells; once it is gone that call fails."""
    uuids = {domain.uuid for domain in PERMANENT}
    with (
        populated(daemon.uri(), PERMANENT),
        Churner(daemon.uri(), sorted(uuids), "come-and-go", rate=400),
        Host(vague.uri()) as host,
    ):
        for _ in range(25):
            listed = {domain.UUIDString() for domain in host.list_instance_domains()}
            assert listed == {str(uuid) for uuid in uuids}


def test_g4_a_live_view_neither_tears_nor_says_gone_of_who_was_undefined(daemon, vague):
    uuids = [domain.uuid for domain in PERMANENT]
    with (
        populated(daemon.uri(), PERMANENT),
        Inventory(vague.uri()) as live,
    ):
        live.wait_synced(LONG)
        with live.changes(include_foreign=True) as changes:
            replica = Replica(changes)
            with Churner(daemon.uri(), uuids, "come-and-go", rate=200):
                ends = []
                while len(ends) < 50:
                    news = changes.get(timeout=LONG)
                    replica.hear(news)
                    if getattr(news, "after", news) is None:
                        ends.append(type(news).__name__)
        assert set(ends) == {"Stopped"}  # of a transient domain libvirt says no more
        assert (replica.stales, replica.wrong) == (0, [])
        assert live.statistics().connections == 1


@pytest.mark.parametrize(
    "procedure", ["DOMAIN_GET_STATE", "DOMAIN_GET_XML_DESC", "DOMAIN_GET_INFO"]
)
def test_one_that_vanishes_within_the_snapshot_is_not_invented(daemon, vague, procedure):
    stranger = handmade(0)
    with populated(daemon.uri(), [*PERMANENT, stranger]) as hand, Host(vague.uri()) as host:

        def vanish():
            handle = hand.lookupByUUIDString(str(stranger.uuid))
            handle.destroy()
            handle.undefine()

        if procedure == "DOMAIN_GET_INFO":  # which is asked where there is no XML
            vague.fail("DOMAIN_GET_XML_DESC", INTERNAL_ERROR)
        vague.on_call(procedure, vanish, times=1)
        found = host.snapshot(**EVERYBODY).get(stranger.uuid)
        assert found is None or found.details is None


def test_one_that_is_there_and_cannot_be_read_is_named_as_before(daemon, vague):
    vague.fail("DOMAIN_GET_XML_DESC", INTERNAL_ERROR)
    with populated(daemon.uri(), PERMANENT), Host(vague.uri()) as host:
        details = host.snapshot()[PERMANENT[0].uuid].details
        assert details.unknown == ("xml", "devices")
        assert details.vcpus == 1


def test_a_state_that_cannot_be_read_of_one_that_is_there_is_an_error(daemon, vague):
    vague.fail("DOMAIN_GET_STATE", INTERNAL_ERROR)
    with populated(daemon.uri(), PERMANENT), Host(vague.uri()) as host:
        if vague.calls.count("CONNECT_GET_ALL_DOMAIN_STATS"):
            pytest.skip("has bulk states")
        with pytest.raises(GuestlistError, match="the laboratory says no"):
            host.snapshot()


@pytest.mark.parametrize("code", [INVALID_ARG, INTERNAL_ERROR])
def test_bulk_states_that_fail_of_one_that_is_gone_are_asked_of_the_others(daemon, proxy, code):
    with populated(daemon.uri(), PERMANENT) as hand, Host(proxy.uri()) as host:

        def ask(session):
            domains = session.listing.domains(include_inactive=True)
            hand.lookupByUUIDString(str(PERMANENT[0].uuid)).destroy()
            hand.lookupByUUIDString(str(PERMANENT[0].uuid)).undefine()
            proxy.fail("CONNECT_GET_ALL_DOMAIN_STATS", code, times=1)
            gone = [one for one in domains if one.UUID() == PERMANENT[0].uuid.bytes]
            assert states_of(session, gone) == []
            proxy.fail("CONNECT_GET_ALL_DOMAIN_STATS", code, times=1)
            found = {one.uuid for one in states_of(session, domains)}
            assert found == {domain.uuid.bytes for domain in PERMANENT[1:]}
            proxy.fail("CONNECT_GET_ALL_DOMAIN_STATS", code)
            with pytest.raises(libvirt.libvirtError, match="the laboratory says no"):
                states_of(session, session.listing.domains(include_inactive=True))

        host._sessions.ask("test", ask)


# A stuck guest, where libvirt asks it for its XML


XML = "DOMAIN_GET_XML_DESC"
STUCK, *LIVELY = PERMANENT
NO_ANSWER = "xml: no answer within 5 s"


@pytest.fixture
def monitored(daemon, proxy):
    """A host of five whose daemon waits for the first one's monitor, as 0.9.12 with QEMU does."""
    proxy.older_daemon("0.9.12")
    proxy.rewrite("CONNECT_GET_TYPE", lambda _: xdr_string(b"QEMU"))
    proxy.hold(XML, STUCK.name)
    with populated(daemon.uri(), PERMANENT) as hand:
        yield proxy, hand
        proxy.reset()


def test_a_stuck_guest_is_named_and_all_others_have_their_details(monitored):
    """`snapshot` waited without end: QEMU's driver before 0.10.0 asks the guest for its balloon."""
    proxy, _ = monitored
    with Host(proxy.uri(), details_deadline=5) as host:
        snapshot = host.snapshot()
        assert snapshot.keys() == {domain.uuid for domain in PERMANENT}
        stuck = snapshot[STUCK.uuid]
        assert stuck.details.unknown == (NO_ANSWER,)
        assert not stuck.details.devices_known
        assert [snapshot[domain.uuid].details.unknown for domain in LIVELY] == [()] * len(LIVELY)
        with proxy.counting() as calls:  # it was waited for once, and is not asked again
            assert host.snapshot()[STUCK.uuid].details.unknown == (NO_ANSWER,)
            host.discard_details(STUCK.uuid)
            assert host.snapshot()[STUCK.uuid].details.unknown == (NO_ANSWER,)
        assert XML not in calls
        proxy.reset()
        wait_until(lambda: host.snapshot()[STUCK.uuid].details.unknown == ())


def test_a_listing_does_not_wait_behind_a_snapshot_of_a_stuck_guest(monitored):
    proxy, _ = monitored
    with Host(proxy.uri(), details_deadline=LONG) as host, ThreadPoolExecutor(1) as pool:
        host.list_instance_domains()
        snapshot = pool.submit(host.snapshot)
        wait_until(lambda: proxy.held)
        assert len(host.list_instance_domains()) == len(PERMANENT)
        assert len(host.snapshot(details=False)) == len(PERMANENT)
        assert not snapshot.done()
        proxy.reset()
        assert snapshot.result(LONG)[STUCK.uuid].details.unknown == ()


def test_a_host_closed_while_a_guest_is_waited_for_leaves_no_connection(monitored):
    proxy, _ = monitored
    with Host(proxy.uri(), details_deadline=LONG) as host, ThreadPoolExecutor(1) as pool:
        snapshot = pool.submit(host.snapshot)
        wait_until(lambda: proxy.held)
        host.close()
        proxy.reset()
        with pytest.raises(ConnectionLost, match="was closed while it was asked"):
            snapshot.result(LONG)
        del snapshot  # the frames of its error hold handles, and so the connection
    wait_until(lambda: not proxy.connections)


def test_a_change_while_a_guest_is_waited_for_is_read_again(monitored):
    """Several may read at a time; each has the changes that came while it did."""
    proxy, hand = monitored
    with Host(proxy.uri(), details_deadline=LONG) as host, ThreadPoolExecutor(1) as pool:
        first = pool.submit(host.snapshot)
        wait_until(lambda: proxy.held)
        host.snapshot(include_foreign=True, details=False)
        handle = hand.lookupByUUIDString(str(LIVELY[0].uuid))
        hand.defineXML(handle.XMLDesc().replace(">1</vcpu>", ">2</vcpu>"))
        host.snapshot(details=False)  # a reply behind the event
        proxy.reset()
        first.result(LONG)
        handle.destroy()
        handle.create()
        assert host.snapshot()[LIVELY[0].uuid].details.vcpus == 2


@pytest.mark.parametrize("fault", ["drop", "closed"])
def test_where_no_second_connection_can_be_had_the_details_are_unknown(monitored, fault):
    proxy, _ = monitored
    with Host(proxy.uri(), details_deadline=LONG) as host:
        host.list_instance_domains()
        if fault == "drop":  # each reader, within its first call
            proxy.drop_on("DOMAIN_LOOKUP_BY_UUID", times=None)
        else:
            proxy.drop_on("CONNECT_OPEN", times=None)
        details = [one.details for one in host.snapshot().values()]
        assert {one.unknown for one in details} == {("xml: not asked, no second connection",)}


def test_a_connection_lost_while_it_is_read_aside_is_a_loss(monitored):
    proxy, _ = monitored
    with Host(proxy.uri(), details_deadline=LONG) as host, ThreadPoolExecutor(1) as pool:
        snapshot = pool.submit(host.snapshot)
        wait_until(lambda: proxy.held)
        proxy.drop_on("CONNECT_OPEN", times=None)
        proxy.drop()
        with pytest.raises(ConnectionLost):
            snapshot.result(LONG)


def test_more_stuck_guests_than_may_hang_are_named_too(daemon, proxy):
    guests = [nova_instance(n) for n in range(MOST_HANGING + 3)]
    proxy.older_daemon("0.9.12")
    proxy.rewrite("CONNECT_GET_TYPE", lambda _: xdr_string(b"QEMU"))
    for guest in guests:
        proxy.hold(XML, guest.name)
    with populated(daemon.uri(), guests), Host(proxy.uri(), details_deadline=3) as host:
        unknown = [one.details.unknown[0] for one in host.snapshot().values()]
        assert proxy.held <= MOST_HANGING + 1
        assert set(unknown) == {
            "xml: no answer within 3 s",
            "xml: not asked, other guests do not answer",
        }
        proxy.reset()  # as soon as one answers the others are asked again
        wait_until(lambda: not any(one.details.unknown for one in host.snapshot().values()), 20)


def test_a_live_view_of_a_host_with_a_stuck_guest_comes_in_step(monitored):
    """It was not after 12 s, and told who had called wait_synced() to call wait_synced() first."""
    proxy, hand = monitored
    with Host(proxy.uri(), details_deadline=5) as host, Inventory(host) as live:
        live.wait_synced(LONG)
        assert live.snapshot()[STUCK.uuid].details.unknown == (NO_ANSWER,)
        hand.lookupByUUIDString(str(LIVELY[0].uuid)).destroy()
        wait_until(lambda: LIVELY[0].uuid not in live.snapshot())
        assert live.stale_for == 0
        proxy.reset()
        live.close()
    wait_until(lambda: not proxy.connections)


def test_who_waited_for_a_view_is_not_told_to_wait(daemon, proxy):
    with populated(daemon.uri(), PERMANENT), Inventory(proxy.uri()) as live:
        proxy.stall_on("CONNECT_GET_ALL_DOMAIN_STATS")
        proxy.wait_called("CONNECT_GET_ALL_DOMAIN_STATS")
        with pytest.raises(NotSynced) as raised:
            live.wait_synced(0.1)
        assert "call wait_synced() first" not in str(raised.value)
        assert "after 0.1 s" in str(raised.value)
        proxy.reset()


@pytest.mark.parametrize(
    ("release", "hypervisor", "aside"),
    [
        ("0.9.12", (b"QEMU", 7_002_000), True),
        ("0.9.12", (b"Test", 2), False),
        ("0.10.2", (b"QEMU", 12_001), True),  # CentOS 6
        ("1.2.7", (b"QEMU", 2_000_000), False),
        ("5.0.0", (b"QEMU", 12_001), False),
    ],
)
def test_xml_is_read_aside_only_where_it_may_wait_for_a_guest(
    daemon, proxy, release, hypervisor, aside
):
    driver, version = hypervisor
    proxy.older_daemon(release)
    proxy.rewrite("CONNECT_GET_TYPE", lambda _: xdr_string(driver))
    proxy.rewrite("CONNECT_GET_VERSION", lambda _: xdr_hyper(version))
    with populated(daemon.uri(), PERMANENT), Host(proxy.uri()) as host:
        host.list_instance_domains()
        proxy.clear()
        snapshot = host.snapshot()
        assert all(one.details.unknown == () for one in snapshot.values())
        assert ("CONNECT_OPEN" in proxy.calls) is aside
        assert proxy.calls.count(XML) == len(PERMANENT)


@pytest.mark.parametrize("deadline", [0, -1, float("nan")])
def test_a_deadline_is_a_number_above_zero(deadline):
    with pytest.raises(ValueError, match="details_deadline"):
        Host("test:///default", details_deadline=deadline)


# What an old libvirt is told, and what it tells


@pytest.mark.parametrize("procedure", ["CONNECT_OPEN", "CONNECT_SUPPORTS_FEATURE", "AUTH_LIST"])
def test_a_daemon_that_hangs_up_may_be_full(proxy, procedure):
    """libvirtd closes what is beyond max_clients; that "check the URI" helped nobody."""
    proxy.drop_on(procedure, times=None)
    with Host(proxy.uri()) as host, pytest.raises(ConnectionFailed, match="max_clients"):
        host.list_instance_domains()


def test_a_daemon_that_closes_at_once_may_be_full(daemon):
    with socket.socket(socket.AF_UNIX) as full, ThreadPoolExecutor(1) as pool:
        path = f"{tempfile.mkdtemp(dir='/tmp')}/socket"  # a path that a socket's name can hold
        full.bind(path)
        full.listen()

        def hang_up():
            client, _ = full.accept()
            client.close()

        closing = pool.submit(hang_up)
        with Host(daemon.uri().replace(daemon.socket, path)) as host:
            with pytest.raises(ConnectionFailed, match="max_clients"):
                host.list_instance_domains()
        closing.result(LONG)
        shutil.rmtree(Path(path).parent)


def test_what_has_no_statistics_is_named_with_the_remedy(daemon, proxy):
    proxy.older_daemon("1.2.7")
    with populated(daemon.uri(), PERMANENT), Host(proxy.uri()) as host:
        failure = host.snapshot(statistics=["block"]).statistics_failure
    assert isinstance(failure, NotSupported)
    assert proxy.uri() in str(failure)
    assert "upgrade the daemon (1.2.7) to 1.2.8 or newer" in str(failure)
    assert (failure.needed, failure.found) == (1_002_008, 1_002_007)


@pytest.mark.parametrize(
    ("release", "helped"), [("0.9.12", False), ("1.2.7", False), ("9.0.0", True)]
)
def test_helpers_are_not_started_where_they_cannot_help(daemon, proxy, release, helped):
    """They take places of an old daemon's twenty; without the bulk call they can read nothing."""
    proxy.older_daemon(release)
    proxy.rewrite("CONNECT_GET_VERSION", lambda _: xdr_hyper(2_000_000))
    proxy.delay(0.03, XML)
    with populated(daemon.uri(), [nova_instance(n) for n in range(20)]), Host(proxy.uri()) as host:
        host.snapshot()
        assert (proxy.calls.count("CONNECT_OPEN") > 1) is helped


@pytest.mark.parametrize(("client", "stopped"), [(1_002_007, False), (9_000_000, True)])
def test_an_old_client_is_not_told_to_stop_keepalive(proxy, monkeypatch, client, stopped):
    """1.2.7 writes two warnings to standard error when it is."""
    given = []
    real = libvirt.virConnect.setKeepAlive

    def set_keepalive(connection, *settings):
        given.append(settings)
        return real(connection, *settings)

    monkeypatch.setattr(libvirt.virConnect, "setKeepAlive", set_keepalive)
    monkeypatch.setattr(libvirt, "getVersion", lambda: client)
    with Host(proxy.uri()) as host:
        host.list_instance_domains()
    assert ((0, 0) in given) is stopped
    wait_until(lambda: not proxy.connections)


@pytest.mark.parametrize(("client", "asked"), [(9_012, True), (9_000_000, False)])
def test_a_view_asks_for_a_sign_of_life_where_the_client_tells_of_no_loss(
    daemon, proxy, monkeypatch, client, asked
):
    """With the client library 0.9.12 `isAlive` stays true after the daemon died."""
    monkeypatch.setattr(libvirt, "getVersion", lambda: client)
    with populated(daemon.uri(), PERMANENT), Inventory(proxy.uri()) as live:
        live.wait_synced(LONG)
        proxy.clear()
        if not asked:
            live.resync(LONG)
            assert "CONNECT_NUM_OF_DOMAINS" not in proxy.calls
            return
        proxy.wait_called("CONNECT_NUM_OF_DOMAINS", 2)
        monkeypatch.setattr(libvirt.virConnect, "isAlive", lambda _: 1)
        proxy.drop_on("CONNECT_OPEN", times=None)
        lists = live.statistics().lists
        proxy.drop()
        wait_until(lambda: live.stale_for)
        assert live.statistics().lists == lists  # no list was needed to notice


# Bindings


def test_no_call_takes_bytes():
    """libvirt-python before 6.6 on Python 3.10 and later: SystemError, PY_SSIZE_T_CLEAN."""
    source = Path(guestlist.__file__).parent
    takes_bytes = re.compile(r"\b(lookupByUUID|\w+LookupByUUID|secretSetValue|blockPeek)\(")
    assert not [file for file in source.rglob("*.py") if takes_bytes.search(file.read_text())]


def test_a_call_that_fails_on_a_dead_connection_is_a_loss_whatever_is_alive_says(
    proxy, monkeypatch
):
    monkeypatch.setattr(libvirt, "getVersion", lambda: 9_012)
    monkeypatch.setattr(libvirt.virConnect, "isAlive", lambda _: 1)
    with Host(proxy.uri()) as host:
        host.list_instance_domains()
        proxy.drop()
        with pytest.raises(ConnectionLost):
            host.list_instance_domains()
        host.list_instance_domains()
