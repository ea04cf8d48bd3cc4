"""The walk: nobody is lost where there is no bulk call, whatever happens between its calls."""

from __future__ import annotations

import contextlib
import itertools
import logging
import threading
from dataclasses import replace

import libvirt
import pytest
from lab.churn import Churner, ThreadChurner, populated
from lab.fake import FakeConnection
from lab.happening import loop_held_up
from lab.losses import count_losses
from lab.nodes import handmade, node, nova_instance

from guestlist import ConnectionLost, Host, ListingUnstable, TooManyDomains
from guestlist.listing import full_lists, walk
from guestlist.peer import Peer

IDS, NAMES = "CONNECT_LIST_DOMAINS", "CONNECT_LIST_DEFINED_DOMAINS"
LISTS = [IDS, NAMES, IDS, NAMES]


@pytest.fixture
def old(rpc):
    """A proxy that answers as libvirt 0.9.12 does."""
    rpc.older_daemon("0.9.12")
    return rpc


def warm(uri, **options):
    """A host that has chosen the walk and knows who is there."""
    host = Host(uri, **options)
    host.list_instance_domains(include_inactive=True, include_foreign=True)
    return host


def everyone(host):
    listed = host.list_instance_domains(include_inactive=True, include_foreign=True)
    return sorted(domain.name() for domain in listed)


@pytest.mark.parametrize("n", [1, 50])
def test_a_quiet_host_costs_four_calls_and_one_for_each(daemon, old, n):
    domains = [nova_instance(i, active=i % 2 == 0) for i in range(n)]
    with populated(daemon.uri(), domains), warm(old.uri()) as host:
        with old.counting() as calls:
            assert len(everyone(host)) == n
        assert calls[:4] == LISTS
        assert len(calls) == n + 4
        with old.counting() as calls:
            assert len(host.list_instance_domains()) == (n + 1) // 2
        assert calls == [IDS] + ["DOMAIN_LOOKUP_BY_ID"] * ((n + 1) // 2)


def test_more_than_a_thousand_domains_take_larger_messages(daemon, old):
    old.reset()
    old.deny("CONNECT_LIST_ALL_DOMAINS")
    active = node(nova_instance(i, with_metadata=False, active=i < 1_100) for i in range(2_200))
    with Host(old.uri(daemon.write_node(active)), open_timeout=None) as host:
        assert len(host.list_instance_domains(include_inactive=True)) == 2_200


def test_a_daemon_that_gives_fewer_names_than_there_are_is_told_of(daemon, old):
    inactive = node(nova_instance(i, with_metadata=False, active=False) for i in range(1_100))
    with Host(old.uri(daemon.write_node(inactive)), open_timeout=None) as host:
        with pytest.raises(TooManyDomains) as raised:
            host.list_instance_domains(include_inactive=True)
        assert host.label in str(raised.value)
        assert "1024 inactive ones or more" in str(raised.value)
        assert "list the running ones only" in str(raised.value)
        assert host.list_instance_domains() == []


@pytest.mark.parametrize("cold", [True, False], ids=["cold", "warm"])
@pytest.mark.parametrize("starts", [True, False], ids=["starts", "stops"])
@pytest.mark.parametrize("before", [NAMES, IDS, "DOMAIN_LOOKUP_BY_NAME", "DOMAIN_LOOKUP_BY_ID"])
def test_a_domain_that_changes_between_the_calls_is_found(daemon, old, cold, starts, before):
    mover = nova_instance(1, active=not starts)
    others = [nova_instance(2), nova_instance(3, active=False)]
    with populated(daemon.uri(), [mover, *others]) as hand:
        host = Host(old.uri()) if cold else warm(old.uri())
        with host:
            handle = hand.lookupByUUIDString(str(mover.uuid))
            old.on_call(before, handle.create if starts else handle.destroy, times=1)
            assert everyone(host) == sorted(domain.name for domain in [mover, *others])


def test_a_domain_in_none_of_the_four_lists_is_found_by_its_events(daemon, old):
    mover = nova_instance(1, active=False)
    with populated(daemon.uri(), [mover, nova_instance(2)]) as hand:
        handle = hand.lookupByUUIDString(str(mover.uuid))
        turns = itertools.cycle([handle.create, handle.destroy])

        def turn():
            next(turns)()

        with Host(old.uri()) as host:
            old.on_call(NAMES, turn, times=2)
            old.on_call(IDS, lambda: handle.isActive() and turn(), times=2)
            with old.counting() as calls:
                assert everyone(host) == [mover.name, nova_instance(2).name]
        assert "DOMAIN_LOOKUP_BY_UUID" in calls


def test_a_domain_renamed_between_list_and_look_up_is_found(daemon, old):
    mover = nova_instance(1, active=False)
    with populated(daemon.uri(), [mover]) as hand, Host(old.uri()) as host:
        handle = hand.lookupByUUIDString(str(mover.uuid))
        old.on_call("DOMAIN_LOOKUP_BY_NAME", lambda: handle.rename("other"), times=1)
        assert everyone(host) == ["other"]


def test_a_domain_renamed_before_each_look_up_is_found_once_it_rests(daemon, old):
    """An event tells of it, and too late: what tells first is a name without an answer."""
    mover = nova_instance(1, active=False)
    with populated(daemon.uri(), [mover, nova_instance(2, active=False)]) as hand:
        handle = hand.lookupByUUIDString(str(mover.uuid))
        fresh = (f"alias-{n}" for n in itertools.count())
        old.on_call("DOMAIN_LOOKUP_BY_NAME", lambda: handle.rename(next(fresh)), times=12)
        with Host(old.uri()) as host:
            assert len(everyone(host)) == 2


def test_a_domain_that_takes_a_name_given_up_is_not_taken_for_the_other(daemon, old):
    first, second = nova_instance(1, active=False), nova_instance(2, active=False)
    with populated(daemon.uri(), [first, second]) as hand:
        handles = [hand.lookupByUUIDString(str(domain.uuid)) for domain in (first, second)]

        def shift():
            handles[0].rename("elsewhere")
            handles[1].rename(first.name)

        old.on_call("DOMAIN_LOOKUP_BY_NAME", shift, times=1)
        with Host(old.uri()) as host:
            assert everyone(host) == ["elsewhere", first.name]


def test_while_the_event_loop_is_held_up_repetition_proves_the_list(daemon, old):
    """It costs another round, and a look at who was there before."""
    domains = [nova_instance(i, active=i % 2 == 0) for i in range(4)]
    with populated(daemon.uri(), domains) as hand, warm(old.uri()) as host:
        with loop_held_up(daemon.uri(), hand), old.counting() as calls:
            assert len(everyone(host)) == len(domains)
        assert calls.count(IDS) == 4


def test_a_domain_that_is_undefined_is_not_invented(daemon, old):
    with populated(daemon.uri(), [nova_instance(1, active=False), nova_instance(2)]) as hand:
        with warm(old.uri()) as host:
            hand.lookupByUUIDString(str(nova_instance(1).uuid)).undefine()
            assert everyone(host) == [nova_instance(2).name]


def test_the_first_lists_ids_are_not_cut_by_a_domain_that_starts_meanwhile(daemon, old):
    """libvirt-python's own list calls ask the count first, and cut a list that grew since."""
    domains = [nova_instance(i) for i in range(5)] + [nova_instance(9, active=False)]
    with populated(daemon.uri(), domains) as hand, Host(old.uri()) as host:
        old.on_call(
            IDS, lambda: hand.lookupByUUIDString(str(nova_instance(9).uuid)).create(), times=1
        )
        assert len(host.list_instance_domains()) == 6


def test_new_domains_without_end_are_listed_or_refused_never_guessed(monkeypatch):
    """Every look-up brings another domain, and this libvirt has no events to announce it."""
    fresh = itertools.count(100)
    lacking = ["listAllDomains", "getAllDomainStats", "domainEventRegisterAny"]
    connection = FakeConnection([nova_instance(1)], unsupported=lacking)

    def one_more():
        connection.put(nova_instance(next(fresh)))
        connection.before("listDefinedDomains", one_more)

    connection.before("listDefinedDomains", one_more)
    monkeypatch.setattr(libvirt, "open", lambda uri: connection)
    monkeypatch.setattr(walk, "LATE", 0)
    with Host("fake:///") as host, pytest.raises(ListingUnstable, match=r"0\.9\.13"):
        host.list_instance_domains(include_inactive=True)
    assert connection.calls.count("listDefinedDomains") == 2 * walk.ROUNDS, "bounded work"


@pytest.mark.parametrize("way", ["missing", "unsupported"])
def test_the_walk_is_chosen_when_the_call_does_not_exist(monkeypatch, way):
    connection = FakeConnection([nova_instance(1)], **{way: ["listAllDomains"]})
    monkeypatch.setattr(libvirt, "open", lambda uri: connection)
    with Host("fake:///") as host:
        assert host.bulk_listing is None
        assert len(host.list_instance_domains()) == 1
        assert host.bulk_listing is False


def test_a_binding_without_the_call_is_noticed_by_the_call(monkeypatch, daemon):
    """libvirt-python from 8.3 on has the method even where the library under it has not."""

    def lacking(connection, flags=0):
        raise AttributeError("module 'libvirtmod' has no attribute 'virConnectListAllDomains'")

    with (
        populated(daemon.uri(), [nova_instance(1)]),
        monkeypatch.context() as patch,
        Host(daemon.uri()) as host,
    ):
        patch.setattr(libvirt.virConnect, "listAllDomains", lacking)
        assert len(host.list_instance_domains()) == 1
        assert host.bulk_listing is False


def test_the_choice_is_made_once_a_connection_and_anew_after_a_reconnect(old, caplog):
    with Host(old.uri()) as host:
        with old.counting() as calls:
            host.list_instance_domains()
            host.list_instance_domains()
        assert calls.count("CONNECT_LIST_ALL_DOMAINS") == 1
        (warning,) = caplog.records
        assert warning.levelno == logging.WARNING
        for part in ("client library", "daemon 0.9.12", "driver TEST", "0.9.13 or newer"):
            assert part in warning.getMessage()
        old.reset()
        old.drop()
        with contextlib.suppress(ConnectionLost):  # unless the loss is noticed before the call
            host.list_instance_domains()
        host.list_instance_domains()
        assert host.bulk_listing is True


def test_metadata_is_read_where_there_is_no_call_for_it(daemon, old):
    renamed = replace(nova_instance(1), name="by-another-name")
    with populated(daemon.uri(), [renamed, handmade(0)]), Host(old.uri()) as host:
        assert [domain.name() for domain in host.list_instance_domains()] == ["by-another-name"]


def test_a_lost_connection_in_the_walk_is_a_loss(daemon, old):
    with populated(daemon.uri(), [nova_instance(1)]), warm(old.uri()) as host:
        old.drop_on("DOMAIN_LOOKUP_BY_ID")
        with pytest.raises(ConnectionLost):
            everyone(host)
        assert everyone(host) == [nova_instance(1).name]


MODES = ["switch", "rename", "redefine", "kind", "come-and-go"]


@pytest.mark.parametrize("mode", MODES)
def test_nobody_is_lost_under_churn(daemon, old, mode):
    domains = [nova_instance(n, active=mode in ("kind", "redefine")) for n in range(20)]
    uuids = [domain.uuid for domain in domains]
    rate = 500 if mode == "come-and-go" else 2_000  # each newcomer costs a look-up
    with (
        populated(daemon.uri(), domains),
        Churner(daemon.uri(), uuids, mode, rate=rate) as churner,
    ):
        churner.wait_changes(10)
        tally = count_losses(lambda: Host(old.uri()), uuids, 20)
        cold = count_losses(lambda: Host(old.uri()), uuids, 5, cold=True)
        churner.wait_changes(1)
    assert tally.right, tally
    assert cold.right, cold


def test_nobody_is_lost_under_churn_without_a_daemon(monkeypatch):
    domains = [nova_instance(n) for n in range(20)]
    uuids = [domain.uuid for domain in domains]
    with (
        populated("test:///default", domains),
        monkeypatch.context() as patch,
        ThreadChurner("test:///default", uuids),
    ):
        patch.delattr(libvirt.virConnect, "listAllDomains")
        tally = count_losses(lambda: Host("test:///default"), uuids, 20)
    assert tally.right, tally


def test_eight_threads_walk_over_one_host(daemon, old):
    domains = [nova_instance(n, active=n % 2 == 0) for n in range(10)]
    expected = sorted(domain.name for domain in domains)
    answers = []
    with populated(daemon.uri(), domains), Host(old.uri()) as host:
        gate = threading.Barrier(8)

        def ask():
            gate.wait()
            answers.extend(everyone(host) for _ in range(3))

        threads = [threading.Thread(target=ask) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert answers == [expected] * 24


def test_whole_lists_agree_with_the_bindings_on_a_quiet_host(daemon):
    domains = [nova_instance(n, active=n % 3 > 0) for n in range(30)]
    with populated(daemon.uri(), domains) as connection:
        peer = Peer(connection, "the host", keepalive=False)
        assert sorted(full_lists.active_ids(peer)) == sorted(connection.listDomainsID())
        assert sorted(full_lists.inactive_names(peer)) == sorted(connection.listDefinedDomains())
