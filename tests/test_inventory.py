"""A live view while nothing fails: what each guarantee of `Inventory` (G1 to G10) means."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import replace

import libvirt
import pytest
from lab.churn import ThreadChurner, populated
from lab.nodes import appliance, domain_xml, handmade, nova_instance
from lab.places import HOUSEHOLD, PLACES, make_place
from lab.proxy import as_of
from lab.qemu import broken_guest_xml, guest_xml, guests
from lab.views import EVERYBODY, SCOPES, Replica, truth, wait_equal
from lab.waiting import LONG, wait_until

from guestlist import (
    Anyone,
    Changed,
    Changes,
    ConnectionFailed,
    Defined,
    DomainGone,
    DomainState,
    Gone,
    Host,
    Inventory,
    NotSynced,
    Resynced,
    Started,
    Stopped,
    Undefined,
)

STATS = "CONNECT_GET_ALL_DOMAIN_STATS"
REGISTRATION = "CONNECT_DOMAIN_EVENT_CALLBACK_REGISTER_ANY"
LIFECYCLE = "DOMAIN_EVENT_CALLBACK_LIFECYCLE"
ONE, TWO = nova_instance(1), nova_instance(2)


@pytest.fixture
def node(daemon):
    """A connection to `test:///default`, where one instance runs."""
    with populated(daemon.uri(), [ONE]) as connection:
        yield connection


def synced(host, **options):
    """Return a live view that is in step."""
    inventory = Inventory(host, **options)
    inventory.wait_synced(LONG)
    return inventory


def handle_of(connection, domain):
    return connection.lookupByUUIDString(str(domain.uuid))


# What is read


def test_g9_a_snapshot_makes_no_call_and_is_the_same_object_while_nothing_changes(node, rpc):
    with synced(rpc.uri()) as live:
        wait_until(lambda: live.statistics().details_pending == 0)
        live.node()  # the first call reads it
        first = live.snapshot()
        with rpc.counting() as calls:
            for _ in range(100):
                assert live.snapshot() is first
            live.statistics()
            live.node()
            live.changes().close()
            assert live.is_local
        assert calls == []
        assert (first.stale_for, first.cost) == (0.0, 0)
        assert live.failure is None


def test_g1_g2_what_was_read_stays_as_it_was_and_the_next_reading_has_the_change(node, rpc):
    with synced(rpc.uri()) as live:
        before = live.snapshot()
        handle_of(node, ONE).destroy()
        wait_until(lambda: not live.snapshot())
        assert [instance.name for instance in before.values()] == [ONE.name]
        assert live.snapshot(include_inactive=True)[ONE.uuid].state is DomainState.SHUTOFF


@pytest.mark.parametrize("name", PLACES[1:])
def test_g1_every_scope_equals_that_of_a_host(request, monkeypatch, name):
    """Foreign domains and Domain-0 are admitted as `Host.snapshot` admits them, on each libvirt."""
    with make_place(request, monkeypatch, name, HOUSEHOLD) as place, synced(place.uri) as live:
        for change in (None, place.stop, place.start):
            if change:
                change(HOUSEHOLD[0].name)
            wait_equal(live, truth(place.uri))
            with Host(place.uri) as host:
                for scope in SCOPES:
                    assert live.snapshot(**scope) == host.snapshot(**scope), scope
                    names = [each.name for each in live.snapshot(**scope).instances]
                    assert names == sorted(names)


@pytest.mark.parametrize("release", ["1.2.7", "0.9.12"])
@pytest.mark.parametrize("mode", ["switch", "redefine", "come-and-go"])
def test_g1_with_an_older_daemon_it_comes_right_too(daemon, release, mode):
    domains = [nova_instance(n, active=mode == "redefine") for n in range(6)]
    uuids = [domain.uuid for domain in domains]
    with populated(daemon.uri(), domains), as_of(daemon, release) as uri, synced(uri) as live:
        with ThreadChurner(daemon.uri(), uuids, mode) as churner:
            churner.wait_changes(300)
        wait_equal(live, truth(daemon.uri()))
        assert live.statistics().events > 0


@pytest.mark.parametrize("denied", range(1, 9))
def test_g1_kinds_of_events_that_are_missing_are_done_without_one_by_one(node, proxy, denied):
    """Refuse the first `denied` registrations; lifecycle events are registered last."""
    proxy.fail(REGISTRATION, libvirt.VIR_ERR_INTERNAL_ERROR, times=denied)
    with synced(proxy.uri()) as live:
        handle_of(node, ONE).destroy()
        wait_equal(live, truth(proxy.uri()))
        assert live.statistics().events > 0


def test_g1_a_driver_without_events_is_listed_instead(node, proxy, caplog):
    proxy.deny(REGISTRATION)
    with synced(proxy.uri(), resync_every=0.1) as live:
        assert "has no lifecycle events" in caplog.text
        handle_of(node, ONE).destroy()
        node.defineXML(domain_xml(TWO))
        wait_equal(live, truth(proxy.uri()))
        assert live.statistics().events == 0


def test_g1_details_change_when_a_domain_is_defined_anew(daemon):
    domain = handmade(0, active=False)
    with populated(daemon.uri(), [domain]) as connection, synced(daemon.uri()) as live:
        with live.changes(include_foreign=True) as changes:
            for vcpus in (3, 5):
                connection.defineXML(domain_xml(replace(domain, vcpus=vcpus)))
                while (change := changes.get(timeout=LONG)).after.details.vcpus != vcpus:
                    pass
                assert isinstance(change, Changed)
                assert change.why == "defined (updated)"


def test_g1_a_domain_becomes_ours_with_its_metadata(daemon):
    """Its name does not say whose it is, so what Nova writes later does, when it is read."""
    bare = replace(nova_instance(4, active=False), name="by-hand", metadata="")
    with populated(daemon.uri(), [bare]) as connection, synced(daemon.uri()) as live:
        assert not live.snapshot(include_inactive=True)
        connection.defineXML(domain_xml(replace(nova_instance(4, active=False), name="by-hand")))
        wait_until(lambda: live.snapshot(include_inactive=True))
        wait_equal(live, truth(daemon.uri()))


def test_without_details_none_are_read(node, rpc):
    with rpc.counting() as calls:
        with synced(rpc.uri(), details=False) as live:
            assert live.snapshot()[ONE.uuid].details is None
            handle_of(node, ONE).destroy()
            wait_until(lambda: not live.snapshot())
    assert "DOMAIN_GET_XML_DESC" not in calls


def test_the_node_is_what_the_host_says(node, daemon):
    with synced(daemon.uri()) as live, Host(daemon.uri()) as host:
        assert live.node().hypervisor == host.node().hypervisor
        assert live.is_local is host.is_local is True
        assert live.label == host.label


def test_instance_asks_libvirt_only_for_whom_the_view_does_not_have(node, rpc):
    with synced(rpc.uri()) as live:
        with rpc.counting() as calls:
            assert live.instance(str(ONE.uuid)) is live.snapshot()[ONE.uuid]
        assert calls == []
        with rpc.counting() as calls, pytest.raises(DomainGone):
            live.instance(TWO.uuid)
        assert "DOMAIN_LOOKUP_BY_UUID" in calls
        with pytest.raises(ValueError, match="UUID"):
            live.instance("nonsense")


def test_instance_finds_one_that_no_event_has_told_of_yet(node, proxy):
    proxy.swallow(LIFECYCLE)
    with synced(proxy.uri()) as live:
        node.defineXML(domain_xml(TWO))
        assert live.instance(TWO.uuid).state is DomainState.SHUTOFF
        assert TWO.uuid not in live.snapshot(include_inactive=True)


# Before it is in step, and what cannot be


def test_g5_before_it_is_in_step_nothing_is_known(own_daemon):
    own_daemon.stop()
    with Inventory(own_daemon.uri()) as live:
        for read in (
            live.snapshot,
            live.node,
            lambda: live.is_local,
            lambda: live.instance(ONE.uuid),
        ):
            with pytest.raises(NotSynced):
                read()
        assert live.statistics().stale_for is None
        changes = live.changes()
        assert changes.snapshot is None
        with pytest.raises(NotSynced, match=r"not in step after 0\.01 s"):
            live.wait_synced(0.01)
        own_daemon.cont()
        first = changes.get(timeout=LONG)
        assert isinstance(first, Resynced)
        assert (first.missed, first.snapshot) == (0, live.snapshot(include_inactive=True))


def test_wait_synced_says_what_stands_in_the_way():
    with Inventory("test+unix:///default?socket=/nonexistent/socket") as live:
        wait_until(lambda: live.failure)
        with pytest.raises(ConnectionFailed, match="/nonexistent/socket"):
            live.wait_synced(0.01)
        with pytest.raises(ConnectionFailed, match="/nonexistent/socket"):
            live.resync(0.01)
        with pytest.raises(NotSynced):
            live.snapshot()


def test_nothing_is_opened_before_it_is_started(rpc):
    with rpc.counting() as calls:
        live = Inventory(rpc.uri())
        assert rpc.uri() in repr(live)
        with pytest.raises(NotSynced):
            live.snapshot()
        live.close()
    assert calls == []


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"resync_every": 0}, "resync_every is 0"),
        ({"resync_every": -1.0}, "resync_every is -1.0"),
        ({"resync_every": float("nan")}, "resync_every is nan"),
        ({"verify_every": 0.0}, "verify_every is 0.0"),
        ({"details_max_age": 0.0}, "details_max_age is 0.0"),
        ({"details_max_age": float("nan")}, "details_max_age is nan"),
        ({"longest_queue": 0}, "longest_queue is 0"),
        ({"longest_queue": float("nan")}, "longest_queue is nan"),
        ({"host": Host(), "readonly": False}, "give them to it"),
        ({"host": Host(), "launched_by": Anyone()}, "give them to it"),
    ],
)
def test_options_that_cannot_be_are_refused(options, says):
    with pytest.raises(ValueError, match=says):
        Inventory(**options)


def test_a_host_lends_its_options_and_keeps_its_connection(daemon, rpc):
    with populated(daemon.uri(), [handmade(0)]):
        with Host(rpc.uri(), readonly=True, launched_by=Anyone()) as host:
            assert len(host.snapshot()) == 1
            with rpc.counting() as calls, synced(host) as live:
                assert live.host is host
                assert live.snapshot() == host.snapshot()
                assert live.snapshot()[handmade(0).uuid].ours
            assert calls.count("CONNECT_OPEN") == 1
            assert calls.count("CONNECT_CLOSE") == 1
            with rpc.counting() as calls:
                host.snapshot()
            assert calls == [STATS]


# Changes


def test_changes_show_a_reader_only_what_it_can_use():
    """Its constructor, `put` and `end` were there for the inventory, and in sight of every user."""
    shown = {name for name in dir(Changes) if not name.startswith("_")}
    assert shown == {"close", "get", "missed", "snapshot", "wait"}


def test_g4_g7_each_change_has_its_kind_and_its_times(node, daemon):
    with synced(daemon.uri(), details=False) as live, live.changes() as changes:
        assert changes.snapshot == live.snapshot(include_inactive=True)

        def next_is(kind, state, why):
            change = changes.get(timeout=LONG)
            assert type(change) is kind
            assert (change.after and change.after.state) == state
            assert change.why == why
            assert change.told_at <= change.learned_at
            assert {event.uuid for event in change.events} == {change.uuid} == {TWO.uuid}
            return change

        handle = node.defineXML(domain_xml(TWO))
        assert next_is(Defined, DomainState.SHUTOFF, "defined (added)").before is None
        handle.create()
        started = next_is(Started, DomainState.RUNNING, "started (booted)")
        assert started.after.id == handle.ID()
        handle.suspend()
        next_is(Changed, DomainState.PAUSED, "suspended (paused)")
        handle.resume()
        next_is(Changed, DomainState.RUNNING, "resumed (unpaused)")
        handle.destroy()
        stopped = next_is(Stopped, DomainState.SHUTOFF, "stopped (destroyed)")
        assert (stopped.before.id, stopped.after.id) == (started.after.id, None)
        handle.undefine()
        gone = next_is(Undefined, None, "undefined (removed)")
        assert gone.instance == stopped.after


def test_g4_a_transient_domain_starts_out_of_nothing_and_stops_into_it(node, daemon):
    with synced(daemon.uri(), details=False) as live, live.changes(include_foreign=True) as changes:
        handle = node.createXML(domain_xml(appliance(1)))
        started = changes.get(timeout=LONG)
        assert (type(started), started.before) == (Started, None)
        handle.destroy()
        ends = [changes.get(timeout=LONG)]
        while ends[-1].after is not None:  # libvirt shows it shut off while it removes it
            ends.append(changes.get(timeout=LONG))
        assert [type(end) for end in ends] in ([Stopped], [Stopped, Gone])
        assert ends[0].before == started.after


def test_g4_what_no_event_tells_is_found_by_a_list(node, proxy):
    with synced(proxy.uri(), details=False) as live, live.changes() as changes:
        proxy.swallow(LIFECYCLE)
        handle_of(node, ONE).destroy()
        handle_of(node, ONE).undefine()
        node.defineXML(domain_xml(TWO))
        live.resync(LONG)
        heard = {change.uuid: change for change in (changes.get(timeout=LONG) for _ in range(2))}
        gone, new = heard[ONE.uuid], heard[TWO.uuid]
        assert (type(gone), gone.last_known.name, gone.why) == (Gone, ONE.name, "")
        assert (type(new), new.after.name) == (Defined, TWO.name)
        assert {change.told_at for change in (gone, new)} == {None}
        assert live.snapshot(**EVERYBODY) == truth(proxy.uri(), details=False)
        assert live.statistics().events == 0


def test_a_domain_that_is_renamed_changes(node, daemon):
    """libvirt sends events as if it was undefined and defined; it is neither, under one UUID."""
    with synced(daemon.uri()) as live, live.changes() as changes:
        handle = handle_of(node, ONE)
        handle.destroy()
        handle.rename("instance-000000ff")
        while (change := changes.get(timeout=LONG)).after.name == ONE.name:
            assert type(change) in (Stopped, Changed)
        assert type(change) in (Stopped, Changed)
        wait_equal(live, truth(daemon.uri()))
        assert live.snapshot(include_inactive=True)[ONE.uuid].details.name == "instance-000000ff"


def test_g8_every_reader_hears_the_same_of_those_whom_it_asked_for(node, daemon):
    with synced(daemon.uri(), details=False) as live:
        readers = [live.changes() for _ in range(3)]
        everybody = live.changes(include_foreign=True)
        foreign = node.createXML(domain_xml(appliance(1)))
        handle_of(node, ONE).destroy()
        [first] = {reader.get(timeout=LONG) for reader in readers}
        assert first.uuid == ONE.uuid
        assert everybody.get(timeout=LONG).uuid == appliance(1).uuid
        assert everybody.get(timeout=LONG) == first
        readers[0].close()
        assert readers[0].get(timeout=LONG) is None
        foreign.destroy()
        handle_of(node, ONE).create()
        assert type(readers[1].get(timeout=LONG)) is Started
        for reader in readers:
            reader.close()


def test_g8_a_slow_reader_is_told_what_it_missed_and_holds_up_nobody(node, daemon):
    with synced(daemon.uri(), details=False, longest_queue=10) as live:
        slow, quick = live.changes(), Replica(live.changes())
        handle = handle_of(node, ONE)
        for _ in range(20):
            handle.destroy()
            assert quick.take()
            handle.create()
            assert quick.take()
        # The change may be asked about twice, so a reader may be a change behind the view.
        wait_equal(live, truth(daemon.uri(), details=False))
        assert quick.caught_up() == live.snapshot(include_inactive=True)
        assert not quick.wrong
        missed = slow.missed
        assert missed >= 40 - 10
        replaced = slow.get(timeout=LONG)
        assert isinstance(replaced, Resynced)
        assert replaced.missed == missed
        assert replaced.snapshot == live.snapshot(include_inactive=True)
        assert slow.missed == 0
        handle.destroy()
        assert type(slow.get(timeout=LONG)) is Stopped, "from there on it hears every change again"
        assert quick.missed == 0


@pytest.mark.parametrize("mode", ["switch", "redefine", "kind", "come-and-go"])
def test_g3_the_first_snapshot_and_the_changes_are_the_view(daemon, mode):
    domains = [nova_instance(n, active=mode == "kind") for n in range(8)]
    uuids = [domain.uuid for domain in domains]
    with populated(daemon.uri(), domains), synced(daemon.uri()) as live:
        replica = Replica(live.changes(include_foreign=True, include_dom0=True))
        with ThreadChurner(daemon.uri(), uuids, mode) as churner:
            for _ in range(20):
                churner.wait_changes(20)
                then = live.snapshot(**EVERYBODY)
                assert set(uuids) <= set(then)
                while replica.view != then:
                    assert replica.take(), "no sum of changes equals a view that was read"
        wait_equal(live, truth(daemon.uri()))
        assert replica.caught_up() == live.snapshot(**EVERYBODY)
        assert not replica.wrong


# Under asyncio


def test_under_asyncio_waiting_for_changes_leaves_the_loop_to_others(node, daemon):
    async def main(live):
        turns = 0
        heard = []

        async def others():
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        async def listen():
            async for change in live.changes():
                heard.append(change)

        other, listener = asyncio.create_task(others()), asyncio.create_task(listen())
        await asyncio.sleep(0)
        handle = handle_of(node, ONE)
        for expected, act in enumerate((handle.destroy, handle.create, handle.destroy), start=1):
            before = turns
            while turns < before + 10:
                await asyncio.sleep(0)
            act()
            while len(heard) < expected:
                await asyncio.sleep(0)
        await asyncio.to_thread(live.close)
        await listener
        other.cancel()
        assert [type(change) for change in heard] == [Stopped, Started, Stopped]

    with synced(daemon.uri(), details=False) as live:
        asyncio.run(asyncio.wait_for(main(live), LONG))


def test_under_asyncio_a_wait_can_be_given_up_and_taken_up_again(node, daemon):
    async def main(live):
        changes = live.changes()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(anext(changes), 0.01)
        handle_of(node, ONE).destroy()
        assert type(await asyncio.wait_for(anext(changes), LONG)) is Stopped

    with synced(daemon.uri(), details=False) as live:
        asyncio.run(main(live))


def test_an_iteration_in_a_thread_ends_with_the_inventory_and_with_its_own_close(node, daemon):
    with synced(daemon.uri(), details=False) as live:
        readers = [live.changes(), live.changes()]
        heard = [[], []]
        threads = [threading.Thread(target=lambda n=n: heard[n].extend(readers[n])) for n in (0, 1)]
        for thread in threads:
            thread.start()
        handle_of(node, ONE).destroy()
        wait_until(lambda: all(heard))
        readers[0].close()
        threads[0].join(LONG)
    threads[1].join(LONG)
    assert not any(thread.is_alive() for thread in threads)
    assert live.changes().get(timeout=LONG) is None, "a late reader does not wait either"


# What it costs, and counts


def test_a_change_costs_one_call_however_many_domains_there_are(daemon, rpc):
    domains = [nova_instance(n) for n in range(100)]
    with populated(daemon.uri(), domains) as connection:
        with synced(rpc.uri(), details=False) as live, live.changes() as changes:
            with rpc.counting() as calls:
                handle_of(connection, domains[0]).suspend()
                assert type(changes.get(timeout=LONG)) is Changed
            assert calls == [STATS]
            statistics = live.statistics()
            assert (statistics.events, statistics.asks, statistics.lists) == (1, 1, 1)
            assert (statistics.changes, statistics.connections) == (101, 1)
            assert 0 <= statistics.reaction_median <= statistics.reaction_worst


def test_the_calls_of_a_connection_that_ends_are_counted_once(node, daemon, monkeypatch):
    """They move to those of earlier connections, and were in both sums for an instant."""
    with synced(daemon.uri(), details=False) as live:
        follower, may_end = live._follower, []

        def try_to_end():
            if follower._leaving.acquire(blocking=False):
                follower._leaving.release()
                may_end.append(follower)

        def add_up(**facts):
            ending = threading.Thread(target=try_to_end)
            ending.start()
            ending.join()
            return facts

        monkeypatch.setattr(follower.progress, "statistics", add_up)
        assert live.statistics()["calls"] > 0
    assert not may_end, "the connection may end while its calls are added up"


# Real guests


def test_g1_g3_guests_start_and_stop(qemu_daemon):
    uri = qemu_daemon.qemu_uri
    with guests(uri, 2) as domains, synced(uri) as live:
        replica = Replica(live.changes())
        with ThreadChurner(uri, [domain.uuid for domain in domains], "boot") as churner:
            churner.wait_changes(8)
        wait_equal(live, truth(uri))
        assert replica.caught_up() == live.snapshot(**EVERYBODY)
        assert not replica.wrong


def test_g1_a_start_that_fails_says_nothing_and_passes_all_the_same(qemu_daemon):
    """No event comes: a domain that is seen starting up is asked about until that has passed."""
    connection = libvirt.open(qemu_daemon.qemu_uri)
    handle = connection.defineXML(broken_guest_xml(ONE))
    try:
        with synced(qemu_daemon.qemu_uri, details=False) as live, live.changes() as changes:
            for _ in range(5):
                starting = threading.Thread(target=fail_to_start, args=(handle,))
                starting.start()
                while starting.is_alive():
                    live.resync(LONG)
                starting.join()
                wait_equal(live, truth(qemu_daemon.qemu_uri, details=False))
            seen = live.snapshot(include_inactive=True)[ONE.uuid]
            assert (seen.state, seen.id) == (DomainState.SHUTOFF, None)
            first = changes.get(timeout=LONG)
            assert first.after.active, "it was seen while it seemed to start"
            assert live.statistics().drifts == 0
    finally:
        handle.undefine()
        connection.close()


def fail_to_start(handle):
    with pytest.raises(libvirt.libvirtError):
        handle.create()


def test_g1_what_is_plugged_ballooned_and_written_changes_the_details(qemu_daemon):
    balloon = "<memballoon model='virtio'/>"
    xml = guest_xml(replace(ONE, devices="<controller type='scsi' model='virtio-scsi'/>"))
    xml = xml.replace("<memballoon model='none'/>", balloon)
    connection = libvirt.open(qemu_daemon.qemu_uri)
    handle = connection.createXML(xml, libvirt.VIR_DOMAIN_START_PAUSED)
    image = qemu_daemon.directory / "plugged.img"
    image.write_bytes(bytes(1 << 20))
    qemu_daemon.give(image)
    disk = f"""<disk type='file' device='disk'><driver name='qemu' type='raw'/>
        <source file='{image}'/><target dev='sda' bus='scsi'/></disk>"""
    try:
        with synced(qemu_daemon.qemu_uri) as live:
            assert live.snapshot()[ONE.uuid].details.disks == ()
            with live.changes() as changes:
                handle.attachDevice(disk)
                change = changes.get(timeout=LONG)
                assert [each.target for each in change.after.details.disks] == ["sda"]
                assert (type(change), change.why) == (Changed, "device added")
                handle.reset()
                while (change := changes.get(timeout=LONG)).before != change.after:
                    pass
                assert (type(change), change.why) == (Changed, "rebooted")
            handle.setMetadata(
                libvirt.VIR_DOMAIN_METADATA_ELEMENT,
                "<a xmlns='urn:lab'/>",
                "lab",
                "urn:lab",
                libvirt.VIR_DOMAIN_AFFECT_LIVE,
            )
            wait_until(lambda: "urn:lab" in live.snapshot()[ONE.uuid].details.namespaces)
            wait_equal(live, truth(qemu_daemon.qemu_uri))
    finally:
        handle.destroy()
        connection.close()
