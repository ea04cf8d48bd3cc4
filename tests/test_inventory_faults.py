"""A live view when things go wrong: libvirt killed, hung, restarted, cut off; events lost; closing.

Each test names the guarantee of `Inventory` (G1 to G10) that it checks.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from dataclasses import replace

import libvirt
import pytest
from lab.churn import ThreadChurner, populate, populated
from lab.happening import loop_held_up, witness
from lab.leavings import leaving_nothing
from lab.nodes import domain_xml, node, nova_instance
from lab.proxy import Proxy
from lab.views import EVERYBODY, Replica, truth, wait_equal
from lab.waiting import LONG, wait_until

from guestlist import (
    Changed,
    ConnectionLost,
    DomainState,
    Gone,
    Host,
    Inventory,
    NotSynced,
    Resynced,
    Stale,
    Started,
    Stopped,
)
from guestlist.event_loop import ensure_loop
from guestlist.inventory import doubt, feed, keeping, ledger

STATS = "CONNECT_GET_ALL_DOMAIN_STATS"
XML = "DOMAIN_GET_XML_DESC"
LIFECYCLE = "DOMAIN_EVENT_CALLBACK_LIFECYCLE"
ONE, TWO, THREE, FOUR = (nova_instance(n) for n in range(1, 5))


def synced(host, **options):
    """Return a live view that is in step."""
    inventory = Inventory(host, **options)
    inventory.wait_synced(LONG)
    return inventory


def handle_of(connection, domain):
    return connection.lookupByUUIDString(str(domain.uuid))


@contextlib.contextmanager
def in_the_background(call):
    """Run the call beside the block, and wait for its end after the block."""
    thread = threading.Thread(target=call)
    thread.start()
    try:
        yield thread
    finally:
        thread.join(LONG)
        assert not thread.is_alive()


@pytest.fixture
def own_node(own_daemon):
    """`test:///default` of the test's own daemon, with one active domain and one inactive."""
    connection = populate(own_daemon.uri(), [ONE, replace(TWO, active=False)])
    yield connection
    own_daemon.cont()  # a stopped daemon would not answer when connections close
    with contextlib.suppress(libvirt.libvirtError):
        connection.close()


# libvirt goes away, and comes back


@pytest.mark.parametrize("when", ["idle", "in mid-call"])
def test_g5_g6_a_daemon_that_is_killed_leaves_the_view_as_it_was(own_daemon, own_node, when):
    with Proxy(own_daemon) as proxy, synced(proxy.uri()) as live:
        before = live.snapshot(**EVERYBODY)
        changes = live.changes(include_foreign=True)
        if when == "idle":
            own_daemon.kill()
        else:
            proxy.on_call(STATS, own_daemon.kill)
            with pytest.raises(ConnectionError):
                live.resync(timeout=1.0)
        stale = changes.get(timeout=LONG)
        assert isinstance(stale, Stale)
        assert isinstance(stale.error, ConnectionLost)
        assert stale.since <= stale.learned_at
        first = live.snapshot(**EVERYBODY)
        wait_until(lambda: live.snapshot(**EVERYBODY).stale_for > first.stale_for > 0)
        assert first == live.snapshot(**EVERYBODY) == before
        assert "stale for" in repr(live.snapshot())
        assert isinstance(live.failure, ConnectionError)
        proxy.reset()
        own_daemon.restart()
        live.wait_synced(LONG)
        wait_equal(live, truth(own_daemon.uri()))
        assert live.failure is None
        assert live.statistics().connections == 2


def test_g6_what_changed_while_libvirt_was_away_comes_before_the_resynced(own_daemon, own_node):
    with Proxy(own_daemon) as proxy, synced(proxy.uri(), details=False) as live:
        changes = live.changes()
        own_daemon.kill()
        stale = changes.get(timeout=LONG)
        assert isinstance(stale, Stale)
        proxy.stall()  # no client connects before the host is ready
        own_daemon.restart()
        with populated(own_daemon.uri(), [TWO, THREE]):
            proxy.resume()
            news = {}
            while not isinstance(change := changes.get(timeout=LONG), Resynced):
                news[change.uuid] = change
            assert {uuid: type(each) for uuid, each in news.items()} == {
                ONE.uuid: Gone,
                TWO.uuid: Started,
                THREE.uuid: Started,
            }
            assert news[ONE.uuid].last_known.name == ONE.name
            assert {each.told_at for each in news.values()} == {None}
            assert news[THREE.uuid].before is None
            assert (change.missed, change.snapshot) == (0, live.snapshot(include_inactive=True))
            assert live.snapshot(**EVERYBODY) == truth(own_daemon.uri(), details=False)


def test_g5_a_daemon_that_hangs_makes_the_view_old_and_one_that_goes_on_young(own_daemon, own_node):
    """Readers are told nothing: keepalive has not given the daemon up."""
    with synced(own_daemon.uri()) as live, live.changes() as changes:
        before = live.snapshot(include_inactive=True)
        own_daemon.stop()
        with in_the_background(lambda: live.resync(LONG)):
            wait_until(lambda: live.snapshot().stale_for > 0)
            old = live.snapshot(include_inactive=True)
            assert old == before
            wait_until(lambda: live.snapshot().stale_for > old.stale_for)
            assert live.statistics().stale_for > 0
            own_daemon.cont()
        assert live.snapshot().stale_for == 0.0
        assert live.statistics().connections == 1
        with pytest.raises(TimeoutError):
            changes.get(timeout=0)


@pytest.mark.parametrize("asked", [False, True])
def test_g5_a_daemon_that_hangs_for_good_is_given_up(own_daemon, own_node, asked):
    with Host(own_daemon.uri(), keepalive_interval=1, keepalive_count=1) as host:
        with synced(host) as live, live.changes() as changes:
            before = live.snapshot(include_inactive=True)
            own_daemon.stop()
            with in_the_background(lambda: asked and live.resync(LONG)):
                stale = changes.get(timeout=LONG)
                assert isinstance(stale, Stale)
                assert stale.since <= stale.learned_at
                assert live.snapshot(include_inactive=True) == before
                assert live.snapshot().stale_for > 0
                own_daemon.cont()
            assert isinstance(changes.get(timeout=LONG), Resynced)
            wait_equal(live, truth(own_daemon.uri()))


def test_g5_wait_synced_does_not_return_while_libvirt_owes_an_answer(own_daemon, own_node):
    """It returned at once, 2.5 s after a daemon had been stopped in the middle of a question."""
    with synced(own_daemon.uri()) as live:
        own_daemon.stop()
        with in_the_background(lambda: live.resync(LONG)):
            wait_until(lambda: live.stale_for > 0)
            with pytest.raises(NotSynced, match=r"\d s behind"):
                live.wait_synced(0.01)
            with in_the_background(lambda: live.wait_synced(LONG)) as waiting:
                assert waiting.is_alive()
                own_daemon.cont()
        live.wait_synced(0)
        assert live.stale_for == 0.0
        assert live.statistics().connections == 1


def test_g6_an_answer_that_is_cut_in_the_middle_is_a_loss(daemon, proxy):
    with populated(daemon.uri(), [ONE, TWO]) as connection:
        with synced(proxy.uri()) as live, live.changes() as changes:
            handle = handle_of(connection, ONE)
            for after_bytes in (3, 10, 40):
                proxy.cut(STATS, after_bytes, times=1)
                handle.suspend()
                assert isinstance(changes.get(timeout=LONG), Stale)
                news = [changes.get(timeout=LONG)]
                while not isinstance(news[-1], Resynced):
                    news.append(changes.get(timeout=LONG))
                assert live.snapshot()[ONE.uuid].state is DomainState.PAUSED
                handle.resume()
                while not isinstance(news[-1], Changed) or news[-1].after.reason == 1:
                    news.append(changes.get(timeout=LONG))
                wait_equal(live, truth(daemon.uri()))
            assert live.statistics().connections == 4


def test_g5_a_connection_lost_before_it_was_in_step_is_tried_again(daemon, proxy):
    with populated(daemon.uri(), [ONE]):
        proxy.drop_on(STATS, times=2)
        proxy.stall()  # until there is a reader
        with Inventory(proxy.uri()) as live:
            changes = live.changes()
            proxy.resume()
            assert isinstance(changes.get(timeout=LONG), Resynced), "no reader hears of the failure"
            wait_equal(live, truth(daemon.uri()))


CAPABILITIES = "CONNECT_GET_CAPABILITIES"


@contextlib.contextmanager
def capabilities_held_up(proxy):
    """Delay each call for capabilities until the block ends; yield a semaphore that counts them."""
    released, asked = threading.Event(), threading.Semaphore(0)

    def hold():
        asked.release()
        released.wait(LONG)

    proxy.on_call(CAPABILITIES, hold)
    try:
        yield asked
    finally:
        released.set()


def test_g1_the_view_is_in_step_and_follows_while_capabilities_are_not_answered(daemon, proxy):
    """A daemon that probes its QEMUs takes seconds; the list came after that, at each start."""
    with populated(daemon.uri(), [ONE]) as connection, Inventory(proxy.uri()) as live:
        with pytest.raises(NotSynced):
            live.node()
        with capabilities_held_up(proxy) as asked, live.changes() as changes:
            live.wait_synced(LONG)
            assert asked.acquire(timeout=LONG)
            assert proxy.calls.index(STATS) < proxy.calls.index(CAPABILITIES)
            changes.get(timeout=LONG)
            handle_of(connection, ONE).suspend()
            assert changes.get(timeout=LONG).after.state is DomainState.PAUSED
            with pytest.raises(NotSynced, match="has not told yet"):
                live.node(0)
            # and the same after a loss
            proxy.clear()
            proxy.drop()
            assert isinstance(changes.get(timeout=LONG), Stale)
            assert isinstance(changes.get(timeout=LONG), Resynced)
            assert asked.acquire(timeout=LONG)
            assert proxy.calls.index(STATS) < proxy.calls.index(CAPABILITIES)
            assert live.stale_for == 0.0
        with Host(daemon.uri()) as host:
            assert live.node() == host.node()


def test_where_the_node_cannot_be_read_aside_it_is_read_beside_the_events(daemon, proxy):
    """A node file is another host for each connection: a second one has other facts."""
    uri = proxy.uri(daemon.write_node(node([ONE])))
    with synced(uri) as live, Host(uri) as host:
        assert live.node() == host.node()
        assert proxy.calls.count("CONNECT_OPEN") == 2  # the view's, and the Host's


def test_who_is_never_asked_what_the_host_is_does_not_ask_either(daemon, proxy, monkeypatch):
    monkeypatch.setattr(doubt, "FIRST_COMPARISON", 0.01)
    with synced(proxy.uri()) as live:
        wait_until(lambda: live.statistics().lists > 2)
        assert CAPABILITIES not in proxy.calls
        assert proxy.calls.count("CONNECT_OPEN") == 1


def test_a_node_that_is_first_asked_for_while_libvirt_is_away_says_why(own_daemon, own_node):
    with synced(own_daemon.uri()) as live, live.changes() as changes:
        own_daemon.kill()
        assert isinstance(changes.get(timeout=LONG), Stale)
        with pytest.raises(ConnectionError):
            live.node()
        own_daemon.restart()
        live.wait_synced(LONG)
        assert live.node(LONG).memory_mib > 0


def test_one_whose_xml_is_broken_is_there_all_the_same(daemon, proxy):
    with populated(daemon.uri(), [ONE, TWO]):
        proxy.fail(XML, libvirt.VIR_ERR_INTERNAL_ERROR)
        with synced(proxy.uri()) as live:
            assert len(live.snapshot()) == 2
            assert {each.details.unknown for each in live.snapshot().values()} == {
                ("xml", "devices")
            }


# Events that are lost, late, or too many


def test_g1_more_events_than_are_kept_make_a_new_list(daemon, proxy, monkeypatch, caplog):
    monkeypatch.setattr(feed, "MOST", 20)
    with populated(daemon.uri(), [ONE, TWO]) as connection:
        one, two = handle_of(connection, ONE), handle_of(connection, TWO)

        def storm():
            two.destroy()
            for _ in range(1_000):
                one.destroy()
                one.create()

        with synced(proxy.uri()) as live:
            replica = Replica(live.changes())
            proxy.on_call(STATS, storm, times=1)
            live.resync(LONG)
            wait_equal(live, truth(daemon.uri()))
            assert live.statistics().losses > 0
            assert "events were lost (more than 20 events at a time)" in caplog.text
            assert replica.caught_up() == live.snapshot(**EVERYBODY)
            assert not replica.wrong


def test_g1_events_lost_while_the_first_list_is_made_make_another(daemon, proxy, monkeypatch):
    """Among the lost events is the only one of a change that came after the list's answer."""
    monkeypatch.setattr(feed, "MOST", 20)
    with populated(daemon.uri(), [ONE, TWO]) as connection, witness(daemon.uri()) as events:
        told = threading.Semaphore(0)
        events.subscribe(lambda *_: told.release())

        def storm():
            handle_of(connection, TWO).destroy()
            handle = handle_of(connection, ONE)
            for _ in range(50):
                handle.destroy()
                handle.create()
            for _ in range(101):
                assert told.acquire(timeout=LONG)

        proxy.on_call(XML, storm, times=1)
        with synced(proxy.uri()) as live:
            wait_equal(live, truth(daemon.uri()))
            assert live.statistics().losses > 0


def test_g1_who_comes_while_the_first_list_is_made_is_seen(daemon, proxy):
    """Its event came before the list was merged, and the domain after the list was made."""
    with populated(daemon.uri(), [ONE]) as connection, witness(daemon.uri()) as events:
        told = threading.Event()
        events.subscribe(lambda *_: told.set())

        def define():
            connection.defineXML(domain_xml(TWO))
            assert told.wait(LONG)

        proxy.on_call(XML, define, times=1)
        with synced(proxy.uri()) as live:
            wait_equal(live, truth(daemon.uri()))


def test_g1_who_comes_and_goes_between_two_comparisons_does_no_harm(daemon, proxy, monkeypatch):
    monkeypatch.setattr(keeping, "RECHECK_AFTER", 0.3)
    with populated(daemon.uri(), [ONE]) as connection:
        with synced(proxy.uri(), details=False, verify_every=1.0) as live:
            proxy.swallow(LIFECYCLE)
            handle = connection.defineXML(domain_xml(TWO))
            lists = live.statistics().lists
            wait_until(lambda: live.statistics().lists > lists)  # it waits for its recheck
            handle.undefine()
            live.resync(LONG)
            lists = live.statistics().lists
            wait_until(lambda: live.statistics().lists > lists)
            wait_equal(live, truth(daemon.uri(), details=False))
            assert live.statistics().connections == 1


def test_nothing_is_certain_while_the_event_loop_is_held_up(daemon):
    """Events of what has happened meanwhile may wait in the loop."""
    one = nova_instance(1)
    with populated(daemon.uri(), [one]) as connection, Inventory(daemon.uri()) as live:
        live.wait_synced(LONG)
        wait_until(lambda: live.undisputed(one.uuid))
        with loop_held_up(daemon.uri(), connection):
            assert live.undisputed(one.uuid) is None
        wait_until(lambda: live.undisputed(one.uuid))


def test_g1_while_the_event_loop_is_held_up_the_view_comes_right_by_lists(daemon):
    with populated(daemon.uri(), [ONE]) as connection, synced(daemon.uri()) as live:
        with loop_held_up(daemon.uri(), connection):
            handle_of(connection, ONE).destroy()
            wait_until(lambda: not live.snapshot())
            wait_equal(live, truth(daemon.uri()))
            assert live.statistics().stalls > 0
        handle_of(connection, ONE).create()
        wait_equal(live, truth(daemon.uri()))
        assert live.statistics().connections == 1


def test_g1_a_connection_over_which_no_event_ever_comes_is_replaced(daemon, proxy, monkeypatch):
    """libvirt may leave a registration dead, where a new one lives. It is tried once."""
    monkeypatch.setattr(doubt, "FIRST_COMPARISON", 0.1)
    with populated(daemon.uri(), [ONE]) as connection:
        proxy.swallow(LIFECYCLE)
        with synced(proxy.uri(), details=False) as live, live.changes() as changes:
            handle = handle_of(connection, ONE)
            handle.suspend()
            news = [changes.get(timeout=LONG) for _ in range(3)]
            assert [type(each) for each in news] == [Changed, Stale, Resynced]
            assert "no events come" in str(news[1].error)
            handle.resume()
            assert type(changes.get(timeout=LONG)) is Changed
            assert live.statistics().connections == 2, "it is replaced once only"
            proxy.reset()
            handle.suspend()
            assert changes.get(timeout=LONG).told_at is not None


@pytest.mark.parametrize("verify_every", [0.2, None])
def test_g4_an_event_that_never_came_is_found_by_comparison(daemon, proxy, caplog, verify_every):
    """With `verify_every` the log tells it with its events; `drifts` has it with and without."""
    caplog.set_level(logging.WARNING, "guestlist")
    with populated(daemon.uri(), [ONE, TWO]) as connection:
        with synced(
            proxy.uri(), details=False, resync_every=0.2, verify_every=verify_every
        ) as live:
            changes = live.changes()
            handle = handle_of(connection, ONE)
            handle.suspend()
            assert type(changes.get(timeout=LONG)) is Changed
            proxy.swallow(LIFECYCLE)
            handle.destroy()
            change = changes.get(timeout=LONG)
            assert (type(change), change.told_at) == (Stopped, None)
            wait_until(lambda: live.drifts)
            [drift] = live.drifts
            assert (drift.viewed, drift.found) == (change.before, change.after)
            assert [str(event) for event in drift.heard] == ["suspended (paused)"]
            assert live.statistics().drifts == 1
            said = f"domain {ONE.name!r} ({ONE.uuid}): the view had"
            assert (said in caplog.text) is (verify_every is not None)
            assert said in str(drift)
            assert "suspended (paused) at" in str(drift)


def test_g1_a_callback_that_fails_costs_a_list(daemon, monkeypatch, caplog):
    with populated(daemon.uri(), [ONE]) as connection, synced(daemon.uri()) as live:
        monkeypatch.setattr(feed, "Raw", None)
        handle_of(connection, ONE).destroy()
        wait_until(lambda: live.statistics().losses > 0)
        monkeypatch.undo()
        assert "the callback failed" in caplog.text
        wait_equal(live, truth(daemon.uri()))
        handle_of(connection, ONE).create()
        wait_equal(live, truth(daemon.uri()))
        assert live.statistics().connections == 1


def test_what_fails_on_the_way_is_logged_and_tried_again(daemon, monkeypatch, caplog):
    with populated(daemon.uri(), [ONE]), synced(daemon.uri()) as live, live.changes() as changes:
        with monkeypatch.context() as patch:
            patch.setattr(ledger, "merge", None)
            with pytest.raises(Exception, match="cannot follow the domains"):
                live.resync(0.5)
            assert isinstance(changes.get(timeout=LONG), Stale)
            assert "following the domains failed" in caplog.text
        assert isinstance(changes.get(timeout=LONG), Resynced)


# Many


@pytest.mark.heavy
def test_g1_ten_thousand_domains_and_thousands_of_changes():
    """Run in this process: behind a daemon the test driver takes a minute to define so many."""
    ensure_loop()
    uri = "test:///default"
    domains = [nova_instance(n, active=n % 2 == 0) for n in range(10_000)]
    with populated(uri, domains) as connection, synced(uri, details=False) as live:
        assert len(live.snapshot()) == 5_000
        replica = Replica(live.changes())
        for domain in domains[:3_000:2]:
            handle_of(connection, domain).destroy()
        for domain in domains[1:3_000:2]:
            handle_of(connection, domain).create()
        wait_equal(live, truth(uri, details=False))
        assert replica.caught_up() == live.snapshot(include_inactive=True)
        assert not replica.wrong
        assert len(live.snapshot()) == 5_000


def test_g1_ten_thousand_domains_of_a_node_file_with_their_details(daemon):
    domains = [nova_instance(n, with_metadata=False) for n in range(10_000)]
    with synced(daemon.uri(daemon.write_node(node(domains)))) as live:
        assert len(live.snapshot()) == 10_000
        assert all(instance.details for instance in live.snapshot().values())


def test_g10_sixty_four_at_a_time_are_in_step_and_all_of_them_end(daemon):
    domains = [nova_instance(n) for n in range(5)]
    with populated(daemon.uri(), domains) as connection, leaving_nothing():
        views = [Inventory(daemon.uri()) for _ in range(64)]
        for live in views:
            live.start()
        for live in views:
            live.wait_synced(LONG)
        handle_of(connection, domains[0]).destroy()
        expected = truth(daemon.uri())
        for live in views:
            wait_equal(live, expected)
        for live in views:
            live.close()


# Closing


def test_g10_closed_it_leaves_nothing_behind_and_can_still_be_read(daemon):
    with populated(daemon.uri(), [ONE, TWO]), leaving_nothing():
        live = synced(daemon.uri())
        changes = live.changes()
        seen = live.snapshot()
        live.close()
        live.close()
        assert live.snapshot() == seen
        wait_until(lambda: live.snapshot().stale_for > 0)
        assert live.statistics().stale_for > 0
        assert live.instance(ONE.uuid) == seen[ONE.uuid]
        assert changes.get(timeout=LONG) is None
        live.start()
        with pytest.raises(NotSynced, match="closed"):
            live.wait_synced(LONG)


@pytest.mark.parametrize("timeout", [None, 1.0])
def test_a_resync_after_closing_is_refused(daemon, timeout):
    live = synced(daemon.uri())
    live.close()
    with pytest.raises(NotSynced, match="closed"):
        live.resync(timeout)


def test_g10_losses_and_closes_leave_nothing_behind(daemon, proxy):
    with populated(daemon.uri(), [ONE, TWO]), leaving_nothing():
        for _ in range(5):
            with synced(proxy.uri()) as live, live.changes() as changes:
                for _ in range(3):
                    proxy.drop()
                    assert isinstance(changes.get(timeout=LONG), Stale)
                    assert isinstance(changes.get(timeout=LONG), Resynced)
        wait_until(lambda: proxy.connections == 0)


def test_g10_while_it_connects_to_a_daemon_that_does_not_answer(own_daemon):
    with leaving_nothing():
        own_daemon.stop()
        live = Inventory(own_daemon.uri())
        live.start()
        wait_until(lambda: any(each.name == "guestlist-open" for each in threading.enumerate()))
        live.close()
        with pytest.raises(NotSynced, match="closed"):
            live.wait_synced(LONG)
        own_daemon.cont()


@pytest.mark.parametrize("procedure", [STATS, XML, "CONNECT_GET_CAPABILITIES"])
def test_g10_in_the_middle_of_the_first_list(daemon, proxy, procedure):
    with populated(daemon.uri(), [ONE, TWO]), leaving_nothing():
        reached, released = threading.Event(), threading.Event()

        def hold():
            reached.set()
            released.wait(LONG)

        proxy.on_call(procedure, hold, times=1)
        live = Inventory(proxy.uri())
        with pytest.raises(NotSynced):
            live.node(0)  # so that capabilities are asked for as soon as they may
        live.start()
        assert reached.wait(LONG)
        live.close()
        released.set()
        wait_until(lambda: proxy.connections == 0)


@pytest.mark.parametrize("asked", [False, True])
def test_g10_while_the_daemon_hangs_and_nothing_would_ever_give_it_up(own_daemon, own_node, asked):
    """Without keepalive only the daemon ends the call that is under way, so close cannot wait."""
    with Host(own_daemon.uri(), keepalive_interval=0) as host, leaving_nothing():
        live = synced(host)
        own_daemon.stop()
        if asked:
            with pytest.raises(NotSynced):
                live.resync(0.01)
        live.close()
        own_daemon.cont()


def test_g10_the_host_that_was_asked_beside_it_holds_nothing_up(own_daemon, own_node):
    """The Host has its own connection to the same daemon, and closing that takes a call."""
    with leaving_nothing():
        live = synced(own_daemon.uri())
        live.host.snapshot()
        own_daemon.stop()
        closing = threading.Thread(target=live.close)
        closing.start()
        closing.join(5.0)
        assert not closing.is_alive(), "it waits for the call that closes the connection"
        own_daemon.cont()


def test_g10_from_another_thread_its_readers_end(own_daemon, own_node):
    with leaving_nothing():
        live = synced(own_daemon.uri())
        with in_the_background(live.close):
            assert list(live.changes()) == []


def test_g10_from_inside_the_iteration_over_its_changes(daemon):
    with populated(daemon.uri(), [ONE]) as connection, leaving_nothing():
        live = synced(daemon.uri(), details=False)
        changes = live.changes()
        handle_of(connection, ONE).destroy()
        for heard, change in enumerate(changes):
            assert (heard, type(change)) == (0, Stopped)
            live.close()


def test_g10_from_the_thread_that_turns_the_event_loop(daemon):
    with populated(daemon.uri(), [ONE]) as connection, leaving_nothing():
        with witness(daemon.uri()) as events:
            live = synced(daemon.uri())
            live.host.snapshot()
            closed = threading.Event()
            events.subscribe(lambda *_: (live.close(), closed.set()))
            handle_of(connection, ONE).destroy()
            assert closed.wait(LONG)


def test_g10_while_somebody_waits_for_it(own_daemon):
    own_daemon.stop()
    refused = []

    def wait(call):
        try:
            call()
        except NotSynced as error:
            refused.append(str(error))

    live = Inventory(own_daemon.uri())
    with (
        in_the_background(lambda: wait(live.wait_synced)),
        in_the_background(lambda: wait(live.resync)),
        in_the_background(lambda: list(live.changes())),
    ):
        wait_until(lambda: len(live._board._subscribers) == 1)
        live.close()
    assert len(refused) == 2
    own_daemon.cont()


def test_g10_under_churn_at_any_moment(daemon):
    domains = [nova_instance(n) for n in range(5)]
    uuids = [domain.uuid for domain in domains]
    with populated(daemon.uri(), domains), ThreadChurner(daemon.uri(), uuids) as churner:
        churner.wait_changes(1)  # it has connected
        with leaving_nothing():
            for n in range(30):
                live = Inventory(daemon.uri(), details=n % 2 == 0)
                live.start()
                if n % 3:
                    live.wait_synced(LONG)
                churner.wait_changes(n % 5)
                live.close()
