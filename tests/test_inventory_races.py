"""The live view and changes that come between two calls, one case at a time.

Over a fake host, whose connections' `before` and `after` dictate what happens during a call. Each
test tells what an earlier view did wrong; the state machine (test_inventory_machine) looks for
more.
"""

from __future__ import annotations

import contextlib
import math
import threading
import time
from collections import deque
from dataclasses import replace
from datetime import UTC, datetime

import libvirt
import pytest
from lab.fake import opener
from lab.fake_host import METADATA_CHANGE, FakeHost
from lab.nodes import appliance, handmade, nova_instance
from lab.waiting import wait_until

from guestlist import DomainState, Host, Inventory, Resynced, Stale, Stopped, threads
from guestlist.connection import Connection
from guestlist.inventory import board, doubt, keeping, rechecks
from guestlist.inventory.feed import Inbox

ALL = {"include_inactive": True, "include_foreign": True, "include_dom0": True}
TIMEOUT = 30.0


@pytest.fixture
def host(monkeypatch):
    host = FakeHost([nova_instance(1)])
    monkeypatch.setattr(libvirt, "open", opener(host))
    return host


@contextlib.contextmanager
def synced(**options):
    """Yield an inventory of the fake host that is in step: a reader has a snapshot at once."""
    with Inventory("fake:///default", **options) as live:
        live.wait_synced(TIMEOUT)
        yield live


def connection(host):
    """Return the connection of the inventory, the only one there is."""
    (client,) = host.clients
    return client


def await_truth(live, **options):
    """Wait until the view is what a host sees now."""
    with Host(live.label) as host, live.changes(include_foreign=True, include_dom0=True) as changes:
        truth = host.snapshot(**ALL, **options)
        deadline = time.monotonic() + TIMEOUT
        while live.snapshot(**ALL) != truth:
            changes.get(timeout=deadline - time.monotonic())


def test_however_short_it_waits_for_events_it_does_not_wait_for_ever():
    """G1, G6. Python's SimpleQueue (before 3.13) may wait for ever, and the view slept with it.

    That happens once in some thousand waits that are very short: a recheck is due just now.
    """
    inbox = Inbox()
    for _ in range(40_000):
        inbox.nudge()
        assert inbox.take(1.0) == inbox.take(1e-9) == []


def test_a_newcomer_whose_name_tells_nothing_has_details(host):
    """G1. Its XML was read to tell who launched it, and the details of that XML were not used."""
    with synced() as live:
        host.create_transient(handmade(0))
        await_truth(live)


def test_a_newcomer_told_of_when_the_list_was_made_already_is_asked_about(host):
    """G1. Its event came in time, but named a domain for which the list had no handle."""
    with synced() as live:
        connection(host).after(
            "getAllDomainStats", lambda: host.create_transient(replace(nova_instance(2)))
        )
        live.resync(TIMEOUT)
        await_truth(live)


def test_who_is_gone_when_an_event_of_it_comes_is_asked_about_once(host):
    """A recheck of a domain without a handle was never made, and so was due for ever."""
    host.create_transient(appliance(1))
    with synced() as live:
        client = connection(host)
        client.before("getAllDomainStats", lambda: host.destroy(appliance(1).uuid))
        live.resync(TIMEOUT)
        await_truth(live)
        steps = []
        original = keeping.Keeping._ask
        with pytest.MonkeyPatch.context() as patch:

            def ask(*arguments):
                steps.append(arguments)
                original(*arguments)

            patch.setattr(keeping.Keeping, "_ask", ask)
            for _ in range(3):
                live.resync(TIMEOUT)
        assert len(steps) <= 1


def test_a_look_that_is_not_due_is_not_forgone_because_of_an_answer_before_it(host, monkeypatch):
    """G1. A transient domain was seen shut off twice in the instant before it was gone."""
    monkeypatch.setattr(rechecks, "RECHECK_AFTER", 0.5)
    visitor = appliance(1)
    host.create_transient(visitor)
    with synced(details=False) as live, live.changes(include_foreign=True) as changes:
        host.linger(visitor.uuid, told=True)
        assert isinstance(changes.get(TIMEOUT), Stopped)
        client = connection(host)
        client.after("getAllDomainStats", lambda: host.vanish(visitor.uuid, told=False))
        live.resync(TIMEOUT)
        assert visitor.uuid in live.snapshot(**ALL)
        await_truth(live, details=False)
        assert visitor.uuid not in live.snapshot(**ALL)


def start_anew_for_an_instant(host):
    """Undefine a domain that is shut off, run it as transient, and stop it: it is still listed."""
    visitor = appliance(1)
    host.undefine(visitor.uuid)
    host.create_transient(visitor)
    host.linger(visitor.uuid, told=True)


def test_one_that_was_shut_off_before_it_ran_for_an_instant_is_looked_at_again(host, monkeypatch):
    """G1. It was shut off, and is again; but it is about to be gone, and no event tells that."""
    monkeypatch.setattr(doubt, "FIRST_COMPARISON", math.inf)
    visitor = appliance(1)
    host.define(visitor)
    with synced(details=False) as live:
        client = connection(host)
        client.mail.hold(math.inf)
        start_anew_for_an_instant(host)
        client.after("domainListGetStats", lambda: host.vanish(visitor.uuid, told=False))
        client.mail.release()
        wait_until(lambda: visitor.uuid not in live.snapshot(**ALL))


def test_after_events_are_lost_all_that_are_shut_off_are_looked_at_again(host, monkeypatch):
    """G1. Each of them may have run meanwhile, and may be about to be gone."""
    monkeypatch.setattr(doubt, "FIRST_COMPARISON", math.inf)
    visitor = appliance(1)
    host.define(visitor)
    with synced(details=False) as live:
        client = connection(host)
        client.mail.lose(9)
        start_anew_for_an_instant(host)
        client.after("getAllDomainStats", lambda: host.vanish(visitor.uuid, told=False))
        live._follower._inbox.lost = "the laboratory says so"
        live._follower._inbox.nudge()
        wait_until(lambda: visitor.uuid not in live.snapshot(**ALL))


def test_a_newcomer_that_is_gone_before_its_xml_is_read_was_never_there(host, caplog):
    """G4. It was put into the backlog without a handle to read its XML by."""
    with synced() as live, live.changes(include_foreign=True) as changes:
        connection(host).before("XMLDesc", lambda: host.destroy(handmade(0).uuid))
        host.create_transient(handmade(0))
        host.create_transient(appliance(1))
        assert changes.get(TIMEOUT).uuid == appliance(1).uuid
        await_truth(live)
        assert live.statistics().connections == 1
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


def test_without_details_metadata_still_tells_whose_a_domain_is(host):
    """G1. Its XML was read to tell who launched it, once and never again."""
    host.create_transient(handmade(0))
    with synced(details=False) as live:
        assert handmade(0).uuid not in live.snapshot()
        ours = nova_instance(1).metadata
        host.alter(handmade(0).uuid, METADATA_CHANGE, 2, "http://…", metadata=ours)
        await_truth(live, details=False)
        assert handmade(0).uuid in live.snapshot()
        calls = live.statistics().calls
        host.alter(nova_instance(1).uuid, METADATA_CHANGE, 2, "http://…", metadata="")
        host.suspend(nova_instance(1).uuid)
        await_truth(live, details=False)
        assert live.statistics().calls == calls + 1, "no XML where the name tells"


def test_a_view_that_gets_old_gets_no_younger_when_the_reason_is_known(host, monkeypatch):
    """G5. `stale_for` began at 0 again when the call that had hung ended."""
    monkeypatch.setattr(board, "PATIENCE", 0.01)
    hung, over = threading.Event(), threading.Event()

    def hang():
        hung.set()
        over.wait(TIMEOUT)

    with synced() as live, live.changes() as changes:
        client = connection(host)
        client.before("getAllDomainStats", hang)
        asking = threading.Thread(target=live.resync, args=(TIMEOUT,))
        asking.start()
        hung.wait(TIMEOUT)
        while not (age := live.snapshot().stale_for):
            pass
        at_the_latest = datetime.now(UTC)
        host.down = True
        host.break_off()
        over.set()
        stale = changes.get(TIMEOUT)
        assert isinstance(stale, Stale)
        assert stale.since <= at_the_latest
        assert live.snapshot().stale_for >= age
        host.down = False
        asking.join()


def test_of_a_domain_that_an_event_has_named_nothing_is_certain_until_it_was_asked(host):
    """A caller that would else ask libvirt must not get a row that an event contradicts."""
    one, two = nova_instance(1), nova_instance(2)
    host.create_transient(two)
    with synced(details=False) as live:
        assert live.undisputed(one.uuid) == live.snapshot(**ALL)[one.uuid]
        asked, over = threading.Event(), threading.Event()

        def hang():
            asked.set()
            over.wait(TIMEOUT)

        connection(host).before("domainListGetStats", hang)
        host.suspend(one.uuid)
        assert asked.wait(TIMEOUT)
        assert live.undisputed(one.uuid) is None
        assert live.undisputed(two.uuid) is not None, "no event named another domain"
        over.set()
        await_truth(live, details=False)
        wait_until(lambda: live.undisputed(one.uuid) is not None)
        assert live.undisputed(one.uuid).state is DomainState.PAUSED


def test_while_events_are_missing_nothing_is_certain_until_all_were_listed(host):
    one = nova_instance(1)
    with synced() as live:
        wait_until(lambda: live.undisputed(one.uuid) is not None)
        known = []
        connection(host).before(
            "getAllDomainStats", lambda: known.append(live.undisputed(one.uuid))
        )
        live._follower._inbox.lost = "the laboratory says so"
        live._follower._inbox.nudge()
        wait_until(lambda: known)
        assert known == [None]
        wait_until(lambda: live.undisputed(one.uuid) is not None)


def test_a_loss_leaves_no_moment_without_doubt_while_the_thread_takes_it_in(host, monkeypatch):
    """The view passed for whole between a look at its standing and a look at what was lost."""
    monkeypatch.setattr(doubt, "PULSE", 3_600.0)  # the view's own thread takes nothing in
    monkeypatch.setattr(doubt, "FIRST_COMPARISON", math.inf)
    is_whole = doubt.Doubt.is_whole.fget

    def is_whole_and_then_not(self):
        before = is_whole(self)
        self.demands_list(time.monotonic())
        return before

    with synced(details=False) as live:
        live._follower._inbox.lost = "the laboratory says so"
        monkeypatch.setattr(doubt.Doubt, "is_whole", property(is_whole_and_then_not))
        assert live._follower.is_in_doubt(nova_instance(1).uuid.bytes)


def test_nothing_is_certain_of_who_is_not_there_or_while_the_view_is_stale(host):
    with synced(details=False) as live:
        assert live.undisputed(nova_instance(2).uuid) is None
        unlisted = live.seconds_since_list
        live.resync(TIMEOUT)
        assert live.seconds_since_list < unlisted + 1
        host.down = True
        host.break_off()
        wait_until(lambda: live.snapshot().stale_for)
        assert live.undisputed(nova_instance(1).uuid) is None
        host.down = False


def test_nothing_is_certain_before_the_first_list():
    live = Inventory("fake:///default")
    assert live.seconds_since_list == float("inf")
    assert live.undisputed(nova_instance(1).uuid) is None


def test_a_reader_that_missed_the_stale_is_told_of_it_all_the_same(host):
    """G5, G8. The Stale was dropped too, and the `Resynced` in its place read as its end."""
    uuid = nova_instance(1).uuid
    with synced(longest_queue=1) as live, live.changes() as slow, live.changes() as quick:
        for act in (host.suspend, host.resume):
            act(uuid)
            quick.get(TIMEOUT)
        host.down = True
        host.break_off()
        stale = quick.get(TIMEOUT)
        assert isinstance(stale, Stale)
        replaced = slow.get(TIMEOUT)
        assert isinstance(replaced, Resynced)
        assert replaced.snapshot.stale_for > 0
        assert slow.get(TIMEOUT) == stale
        late = live.changes()
        assert late.snapshot is not None
        assert late.snapshot.stale_for > 0
        with pytest.raises(TimeoutError):
            late.get(0)
        host.down = False
        live.wait_synced(TIMEOUT)
        ended = slow.get(TIMEOUT)
        assert isinstance(ended, Resynced)
        assert (ended.missed, ended.snapshot.stale_for) == (0, 0.0)


@pytest.mark.parametrize("asked", ["XMLDesc", "getInfo"])
def test_a_view_gets_old_whatever_call_does_not_come_back(host, monkeypatch, asked):
    """G5. It passed for current while the view waited for XML, or for the facts of the host."""
    monkeypatch.setattr(board, "PATIENCE", 0.01)
    monkeypatch.setattr(doubt, "FIRST_COMPARISON", 0.05)
    hung, over = threading.Event(), threading.Event()

    def hang():
        hung.set()
        over.wait(TIMEOUT)

    with synced() as live:
        client = connection(host)
        live.node()
        client.before(asked, hang)
        if asked == "XMLDesc":
            host.alter(nova_instance(1).uuid, METADATA_CHANGE, 2, "http://…", metadata="")
        assert hung.wait(TIMEOUT)
        try:
            wait_until(lambda: live.snapshot().stale_for > 0)
        finally:
            over.set()
        wait_until(lambda: live.snapshot().stale_for == 0)


def test_without_details_nothing_is_kept_of_who_has_come_and_gone(host):
    """Each domain that an event had named was remembered, for a reading that never came."""
    with synced(details=False) as live, live.changes(include_foreign=True) as changes:
        for n in range(20):
            host.create_transient(nova_instance(100 + n))
            host.destroy(nova_instance(100 + n).uuid)
        host.suspend(nova_instance(1).uuid)
        while changes.get(TIMEOUT).uuid != nova_instance(1).uuid:
            pass
        assert not live._follower._sessions.current.details._changed_meanwhile


def test_one_that_could_not_be_started_is_started_by_the_next_call(host, monkeypatch):
    """It passed for started: a caller that waited for it waited for ever, and closing it failed."""
    live = Inventory("fake:///default")
    with monkeypatch.context() as patch:
        patch.setattr(threads, "_idle", deque())  # one may wait for a job
        patch.setattr(threading.Thread, "start", refuse)
        with pytest.raises(RuntimeError, match="can't start"):
            live.start()
    live.wait_synced(TIMEOUT)
    live.close()


def test_a_connection_that_cannot_be_closed_is_replaced_all_the_same(host, monkeypatch):
    """G5, G6. Without a thread to close the connection, the view was never in step again."""
    with synced() as live, live.changes() as changes:
        with monkeypatch.context() as patch:
            patch.setattr(Connection, "close", refuse)
            host.break_off()
            assert isinstance(changes.get(TIMEOUT), Stale)
            assert isinstance(changes.get(TIMEOUT), Resynced)


def refuse(_self):
    """Raise what Python raises where the process may have no more threads."""
    raise RuntimeError("can't start new thread")
