"""The live view against its promises (G1 to G9 of `Inventory`), whatever happens to its host.

Hypothesis changes the domains of a host, loses and delays its events, drops the connection,
restarts the daemon, and reads: at once, late, or never. A hand writes down what each domain truly
was (lab.hands); readers check each piece of news as it comes; and whenever all is quiet, the view
is what a fresh `Host` sees. The same machine runs over a fake host and over a real daemon.

Nothing sleeps: a wait ends with a change of the view. Seconds in the inventory that would make runs
long are patched to milliseconds.

    pytest tests/test_inventory_machine.py --hypothesis-profile=long    thousands of runs
"""

from __future__ import annotations

import contextlib
import logging
import os
import time
from collections import defaultdict
from dataclasses import replace
from functools import partial

import libvirt
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from lab.fake import opener
from lab.fake_host import LIFECYCLE, REBOOT, FakeHost
from lab.hands import FakeHand, LibvirtHand
from lab.nodes import appliance, handmade, nova_instance
from lab.proxy import Proxy

from guestlist import (
    Changed,
    Defined,
    Gone,
    Host,
    Inventory,
    Launcher,
    Resynced,
    Stale,
    Started,
    Stopped,
    Undefined,
)
from guestlist.event import EventKind, Lifecycle
from guestlist.inventory import backlog, board, doubt, feed, following, keeping, rechecks

CAST = (
    nova_instance(1),
    nova_instance(2),
    replace(nova_instance(3), name="by-another-name"),  # only its metadata tells whose it is
    handmade(0),
    appliance(1),
)
PLACES = st.integers(0, len(CAST) - 1)
ALL = {"include_inactive": True, "include_foreign": True, "include_dom0": True}
SCOPES = ({}, {"include_foreign": True}, {"include_foreign": True, "include_dom0": True})
ENDINGS = (Undefined, Stopped, Gone)
AMBUSHES = ("define", "undefine", "start", "create transient", "destroy")
CALLS = st.sampled_from(["getAllDomainStats", "domainListGetStats", "XMLDesc"])
PATIENCE = float(os.environ.get("GUESTLIST_PATIENCE", "20"))
NEVER = 300.0


def until(condition, watch, complaint):
    """Wait until the condition holds; look again whenever the view has changed."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        with contextlib.suppress(TimeoutError):
            watch.get(timeout=0.002)
        if time.monotonic() > deadline:
            pytest.fail(complaint())


def difference(view, truth):
    """Return where two snapshots differ, as text."""
    return "\n".join(
        f"view: {view.get(uuid)}\ntrue: {truth.get(uuid)}"
        for uuid in {**view, **truth}
        if view.get(uuid) != truth.get(uuid)
    )


def without_reasons_of_shut_off(snapshot):
    """Return it without them: a start that fails between two looks changes the reason silently."""
    return {
        uuid: instance if instance.active else replace(instance, reason=0)
        for uuid, instance in snapshot.items()
    }


def seen(instance):
    """Return what a history keeps of an instance."""
    return instance and (instance.name, instance.id, int(instance.state), instance.reason)


def tells_of_xml(letter):
    """Whether an event tells that the XML has changed."""
    if letter.kind == LIFECYCLE:
        return letter.facts[0] == Lifecycle.DEFINED
    return letter.kind != REBOOT


class Reader:
    """A subscriber that applies what it is told, and checks each piece of news."""

    def __init__(self, live, scope, *, eager):
        self.live = live
        self.scope = scope
        self.eager = eager
        self.changes = live.changes(**scope)
        self.is_stale = False
        self.mine = None
        self.history = defaultdict(list)
        if self.changes.snapshot is not None:
            self.restart_from(self.changes.snapshot)

    @property
    def sees_all(self):
        return self.scope == SCOPES[-1]

    def snapshot(self):
        return self.live.snapshot(include_inactive=True, **self.scope)

    def restart_from(self, snapshot):
        self.mine = dict(snapshot)
        self.is_stale = snapshot.stale_for > 0
        for uuid in {*self.mine, *self.history}:
            self.history[uuid].append(seen(self.mine.get(uuid)))

    def drain(self):
        """Take all news that is there, and return how many pieces that was."""
        count = 0
        with contextlib.suppress(TimeoutError):
            while (news := self.changes.get(timeout=0)) is not None:
                self.take(news)
                count += 1
        return count

    def take(self, news):
        if isinstance(news, Resynced):
            self.take_resynced(news)
        elif isinstance(news, Stale):
            assert not self.is_stale, "G5: stale twice, and never in step between"
            assert news.since <= news.learned_at
            self.is_stale = True
        else:
            self.take_change(news)

    def take_resynced(self, news):
        if self.mine is not None and not news.missed:
            assert self.is_stale, "G6: in step again, and never stale"
            assert self.mine == dict(news.snapshot), "G6: what changed arrives before Resynced"
            assert news.snapshot.stale_for == 0
        self.restart_from(news.snapshot)
        self.is_stale = False  # if it is, a Stale comes next

    def take_change(self, change):
        assert self.mine is not None, "G3: the first is a Resynced, where there was no snapshot"
        assert self.mine.get(change.uuid) == change.before, f"G3: not what it was: {change}"
        assert change.events or change.told_at is None, "G7"
        assert change.told_at is None or change.told_at <= change.learned_at, "G7"
        if self.sees_all:
            assert type(change) is self.kind_of(change), f"G4: wrong name: {change}"
        elif change.after is None and not isinstance(change, ENDINGS):
            assert isinstance(change, Changed | Started), f"G4: wrong name: {change}"
        if change.after is None:
            del self.mine[change.uuid]
        else:
            assert self.admits(change.after)
            self.mine[change.uuid] = change.after
        self.history[change.uuid].append(seen(change.after))

    def admits(self, instance):
        if instance.launcher is Launcher.DOM0:
            return "include_dom0" in self.scope
        return instance.ours or "include_foreign" in self.scope

    def kind_of(self, change):
        """Return the class that the change must have by its documentation."""
        before, after = change.before, change.after
        said = {event.event for event in change.events if event.kind is EventKind.LIFECYCLE}
        if after is None:
            if Lifecycle.UNDEFINED in said:
                return Undefined
            return Stopped if Lifecycle.STOPPED in said else Gone
        if before is None:
            return Started if after.active else Defined
        if before.id != after.id:
            return Started if after.active else Stopped
        rebooted = any(event.kind is EventKind.REBOOT for event in change.events)
        assert before != after or rebooted, f"G4: nothing is new: {change}"
        return Changed

    def check_exact(self, watch):
        """Check that it has the view once it is drained. The view may move between two looks."""
        before = after = None

        def still():
            nonlocal before, after
            before = self.snapshot()
            self.drain()
            after = self.snapshot()
            return before is after or bool(before.stale_for and after.stale_for and before == after)

        until(still, watch, lambda: "the view never stands still")
        if self.mine is None:
            return  # it subscribed before the view was in step, and has no view yet
        assert self.mine == dict(after), "G3\n" + difference(self.mine, after)

    def check_history(self, truth):
        """Check that each state that it saw was there, in that order."""
        for uuid, states in self.history.items():
            known = iter(truth.get(uuid, [None]))
            previous = object()
            for state in states:
                if state == previous or (state is None and not self.sees_all):
                    continue
                previous = state
                assert any(state == each for each in known), (
                    f"G2: {state} was not, or not then; seen {states}, true {truth[uuid]}"
                )


def acting(act):
    """Return a rule that does this to a domain, if there is one to which it can be done.

    What Hypothesis chooses from must not depend on threads. Once an act is armed for a call, its
    time is unknown: then the rule is always offered, and may find no domain.
    """

    def rule_of_this(self, place):
        self.act(act, place)

    rule_of_this.__name__ = act.replace(" ", "_").replace(",", "")
    return precondition(lambda self: self.is_open_ended or self.hand.can(act))(
        rule(place=PLACES)(rule_of_this)
    )


class LiveView(RuleBasedStateMachine):
    """What every host can undergo. A subclass has the host.

    `furnish` makes the host, with the domains at these places of the cast, and a `hand` to act on
    it; the inventory reaches it by `uri`, and the truth is read by `true_uri`. `calm` ends what is
    wrong with the host, and while `held_up` it answers no call.
    """

    live = None
    is_open_ended = False

    def __init__(self):
        super().__init__()
        self.patch = pytest.MonkeyPatch()
        self.cleanup = contextlib.ExitStack()
        self.cleanup.callback(self.patch.undo)
        self.readers = []
        self.complaints = []
        self.listen_to_the_log()
        self.patch.setattr(board, "PATIENCE", PATIENCE)
        self.patch.setattr(following, "BACKOFF", (0.001, 0.005))
        self.patch.setattr(doubt, "PULSE", 0.005)
        self.patch.setattr(doubt, "FIRST_COMPARISON", NEVER)
        self.patch.setattr(keeping, "RECHECK_AFTER", 0.002)
        self.patch.setattr(rechecks, "RECHECK_AFTER", 0.002)
        self.patch.setattr(rechecks, "SLACK", 0.001)
        self.patch.setattr(rechecks, "SELDOM", 0.01)
        self.patch.setattr(backlog, "QUIET", 0.001)

    def listen_to_the_log(self):
        handler = logging.Handler(logging.ERROR)
        handler.emit = self.complaints.append
        logger = logging.getLogger("guestlist")
        logger.addHandler(handler)
        self.cleanup.callback(logger.setLevel, logger.level)
        logger.setLevel(logging.ERROR)  # losses are what this is about
        self.cleanup.callback(logger.removeHandler, handler)

    @initialize(
        details=st.sampled_from([True, True, True, False]),
        restless=st.sampled_from([False, False, False, True]),
        longest=st.sampled_from([10_000, 3]),
        most_asked=st.sampled_from([1_000, 1]),
        most_events=st.sampled_from([10_000, 2]),
        early=st.booleans(),
        present=st.lists(st.booleans(), min_size=len(CAST), max_size=len(CAST)),
    )
    def begin(  # noqa: PLR0917  each is drawn by its name
        self, details, restless, longest, most_asked, most_events, early, present
    ):
        self.patch.setattr(keeping, "MOST_ASKED", most_asked)
        self.patch.setattr(feed, "MOST", most_events)
        self.details, self.restless, self.longest = details, restless, longest
        self.furnish([place for place, there in enumerate(present) if there])
        self.live = Inventory(
            self.uri,
            details=details,
            resync_every=0.02 if restless else NEVER,
            details_max_age=0.02 if restless else 3_600.0,
            longest_queue=longest,
        )
        self.cleanup.callback(self.live.close)
        if early:
            self.readers.append(Reader(self.live, SCOPES[-1], eager=True))
        self.live.wait_synced(PATIENCE)
        self.watch = self.live.changes(include_foreign=True, include_dom0=True)

    # What is done to the host

    define = acting("define")
    redefine = acting("redefine")
    undefine = acting("undefine")
    start = acting("start")
    create_transient = acting("create transient")
    pause = acting("pause")
    resume = acting("resume")
    shut_down = acting("shut down")
    destroy = acting("destroy")
    save = acting("save")
    rename = acting("rename")
    set_metadata = acting("set metadata")

    def act(self, act, place):
        self.hand.do(act, place)

    # What readers do

    @precondition(lambda self: len(self.readers) < 4)
    @rule(scope=st.sampled_from(SCOPES), eager=st.booleans())
    def subscribe(self, scope, eager):
        self.readers.append(Reader(self.live, scope, eager=eager))

    @precondition(lambda self: self.readers)
    @rule(place=st.integers(0, 3))
    def unsubscribe(self, place):
        reader = self.readers.pop(place % len(self.readers))
        reader.changes.close()
        reader.drain()
        assert reader.changes.get(timeout=0) is None
        reader.check_history(self.hand.history)

    @precondition(lambda self: self.readers)
    @rule(place=st.integers(0, 3))
    def read_late(self, place):
        self.readers[place % len(self.readers)].check_exact(self.watch)

    @invariant()
    def eager_readers_have_the_view(self):
        for reader in self.readers:
            if reader.eager:
                reader.check_exact(self.watch)

    @rule()
    def read_while_nothing_is_answered(self):
        """G9: reading makes no call."""
        with self.held_up() as calls:
            before = calls()
            self.live.snapshot()
            self.live.snapshot(**ALL)
            self.live.statistics()
            self.live.changes().close()
            assert calls() == before, "G9: reading has made a call"

    @rule()
    def be_quiet(self):
        """G1; and a reader that reads late has a bounded queue (G8)."""
        self.calm()
        with Host(self.true_uri) as host:
            truth = host.snapshot(**ALL, details=self.details)
            self.await_equal(truth, ALL, but=without_reasons_of_shut_off)
            self.ask_what_nobody_told()
            for inactive in (True, False):
                for scope in SCOPES:
                    options = {**scope, "include_inactive": inactive}
                    self.await_equal(host.snapshot(**options, details=self.details), options)
        # A restless view may find only now that a connection was deaf, and replace it.
        until(self.is_in_step, self.watch, lambda: f"G6: not in step: {self.live.failure}")
        until(lambda: not self.live.statistics().details_pending, self.watch, lambda: "G1: details")
        before = self.live.snapshot(**ALL)
        self.live.resync(PATIENCE)
        after = self.live.snapshot(**ALL)
        assert after == before, f"G1: it was not in step after all\n{difference(before, after)}"
        for reader in self.readers:
            assert reader.drain() <= self.longest + 1, "G8"
            reader.check_exact(self.watch)
            assert not reader.is_stale
            reader.check_history(self.hand.history)
        assert not self.complaints, self.complaints[0].getMessage()

    def is_in_step(self):
        return self.live.failure is None and self.live.snapshot().stale_for == 0

    def ask_what_nobody_told(self):
        """Resync, if a domain has changed without an event."""

    def await_equal(self, truth, scope, but=dict):
        until(
            lambda: but(self.live.snapshot(**scope)) == but(truth),
            self.watch,
            lambda: (
                f"G1\n{difference(self.live.snapshot(**scope), truth)}\n{self.live.statistics()}"
            ),
        )

    def teardown(self):
        with self.cleanup:
            if self.live is not None:
                self.be_quiet()
                self.live.close()
                for reader in self.readers:
                    reader.drain()
                    assert reader.changes.get(timeout=0) is None, (
                        "its readers end when it is closed"
                    )


class FakeLiveView(LiveView):
    """A live view of a fake host, which can undergo all that a libvirt can."""

    uri = true_uri = "fake:///default"

    def furnish(self, places):
        self.host = FakeHost(CAST[place] for place in places)
        self.patch.setattr(libvirt, "open", opener(self.host))
        self.hand = FakeHand(self.host, CAST)
        self.last_seen = None
        self.was_silent = False
        self.calms = 0

    crash = acting("crash")
    panic = acting("panic")
    be_shutting_down = acting("be shutting down")
    begin_to_start = acting("begin to start")
    begin_to_start_transient = acting("begin to start transient")
    finish_to_start = acting("finish to start")
    give_a_start_up = acting("give a start up")
    fail_to_start = acting("fail to start")
    migrate_away = acting("migrate away")
    migrate_away_kept = acting("migrate away, kept")
    linger = acting("linger")
    vanish = acting("vanish")
    plug = acting("plug")
    unplug = acting("unplug")
    exchange_a_medium = acting("exchange a medium")
    pivot = acting("pivot")
    balloon = acting("balloon")
    move_the_tray = acting("move the tray")
    reboot = acting("reboot")

    def act(self, act, place):
        super().act(act, place)
        self.was_silent = self.was_silent or act == "fail to start"

    # What becomes of events

    @rule(letters=st.integers(1, 3))
    def hold_events_back(self, letters):
        for client in self.connections():
            client.mail.hold(letters)

    @rule(place=st.integers(0, 5))
    def release_an_event(self, place):
        for client in self.connections():
            if waiting := client.mail.waiting:
                client.mail.release(place % len(waiting))

    @rule(letters=st.integers(1, 2))
    def lose_events(self, letters):
        for client in self.connections():
            client.mail.lose(letters)

    @rule(act=st.sampled_from(AMBUSHES), place=PLACES, call=CALLS, late=st.booleans())
    def act_during_a_call(self, act, place, call, late):
        """Act before libvirt makes its answer to the next call of that name, or after it."""
        self.is_open_ended = True
        calms = self.calms

        def act_unless_calm():
            with self.hand.turn:
                if self.calms == calms:
                    self.hand.do(act, place)

        for client in self.connections():
            arm = client.after if late else client.before
            arm(call, act_unless_calm)

    @precondition(lambda self: not self.host.down)
    @rule(act=st.sampled_from(AMBUSHES), place=PLACES, late=st.booleans())
    def act_during_a_list(self, act, place, late):
        self.await_connection()
        self.act_during_a_call(act, place, "getAllDomainStats", late)
        self.list_anew()

    # What takes a while

    @precondition(lambda self: not self.host.down)
    @rule(place=PLACES, given_up=st.booleans())
    def start_in_vain_and_be_seen(self, place, given_up):
        """Fail a start: it sends no event, and is seen under way."""
        self.act("begin to start", place)
        self.list_anew()
        if given_up:
            self.act("give a start up", place)
            self.list_anew()
        self.act("fail to start", place)

    @precondition(lambda self: not self.host.down)
    @rule(place=PLACES)
    def end_a_transient_one_and_let_it_be_seen(self, place):
        """Send its event too early: it is seen shut off for the instant before it is gone."""
        self.await_connection()
        self.act("create transient", place)
        is_over = False

        def vanish(client, call):
            with self.hand.turn:
                if self.hand.can("vanish"):
                    self.let_nobody_linger()
                elif not is_over:
                    client.after(call, partial(vanish, client, call))

        for client in self.connections():
            for call in ("getAllDomainStats", "domainListGetStats"):
                client.after(call, partial(vanish, client, call))
        self.act("linger, told", place)
        self.list_anew()
        with self.hand.turn:
            is_over = True
            self.let_nobody_linger()

    @precondition(lambda self: not self.host.down)
    @rule()
    def list_anew(self):
        self.live.resync(PATIENCE)

    # What becomes of the daemon

    @rule()
    def lose_the_connection(self):
        self.break_off()

    @rule(renumbered=st.booleans())
    def restart_the_daemon(self, renumbered):
        self.host.down = True
        self.break_off()
        if renumbered:
            self.host.renumber()
        self.host.down = False

    @precondition(lambda self: not self.host.down)
    @rule()
    def lose_the_daemon(self):
        self.await_connection()  # else the view may be stale already, and about to move
        self.host.down = True
        self.break_off()
        until(lambda: self.live.snapshot().stale_for, self.watch, lambda: "G5: it does not get old")
        self.last_seen = self.live.snapshot(**ALL)

    @precondition(lambda self: not self.host.down)
    @rule()
    def lose_the_daemon_in_quiet_times(self):
        self.be_quiet()
        before = self.live.snapshot(**ALL)
        self.lose_the_daemon()
        assert before == self.last_seen, "G5: the view is another without libvirt"

    @precondition(lambda self: self.host.down)
    @rule()
    def bring_the_daemon_back(self):
        self.host.down = False

    @invariant()
    def without_a_daemon_the_view_stays_and_gets_old(self):
        if self.live is not None and self.host.down:
            now = self.live.snapshot(**ALL)
            assert now == self.last_seen, "G5: the view is another without libvirt"
            assert now.stale_for >= self.last_seen.stale_for > 0
            assert self.live.failure is not None

    def connections(self):
        """Return the connections of the inventory, which alone keeps any."""
        with self.host.lock:
            return list(self.host.clients)

    def await_connection(self):
        until(self.connections, self.watch, lambda: "G6: it does not connect again")
        self.live.wait_synced(PATIENCE)

    def break_off(self):
        self.host.break_off()

    @contextlib.contextmanager
    def held_up(self):
        with self.host.lock:
            yield lambda: sum(len(client.calls) for client in self.connections())

    def calm(self):
        """Let events that are on their way arrive, and ask again where one was lost."""
        self.host.down = False
        with self.hand.turn:
            self.calms += 1
        for client in self.connections():
            client.disarm()
            client.mail.spare()
            client.mail.release()
        self.let_nobody_linger()  # a state that must pass does not last
        while self.hand.can("fail to start"):
            self.act("fail to start", 0)
        self.await_connection()
        lost = [letter for client in self.connections() for letter in client.mail.lost]
        for client in self.connections():
            client.mail.lost.clear()
        if not lost or self.restless:
            return
        if any(tells_of_xml(letter) for letter in lost):
            # XML that changed without an event is unknown. Another connection reads it again.
            self.break_off()
            self.await_connection()
        else:
            self.live.resync(PATIENCE)

    def let_nobody_linger(self):
        while self.hand.can("vanish"):
            self.hand.do("vanish", 0)

    def ask_what_nobody_told(self):
        if self.was_silent and not self.restless:
            self.live.resync(PATIENCE)
        self.was_silent = False

    def teardown(self):
        super().teardown()
        if self.live is not None:
            assert not self.connections(), "a connection was left open"


class DaemonLiveView(LiveView):
    """A live view of a real daemon's test driver, behind a proxy that can drop the connection."""

    daemon = None

    def furnish(self, places):
        self.proxy = self.cleanup.enter_context(Proxy(self.daemon))
        self.uri, self.true_uri = self.proxy.uri(), self.daemon.uri()
        self.hand = LibvirtHand(self.true_uri, CAST)
        self.cleanup.callback(self.hand.close)
        self.was_silent = False
        self.connections = 1
        for place in places:
            self.hand.do("create transient" if CAST[place].transient else "define", place)
            if place % 2:
                self.hand.do("start", place)

    def act(self, act, place):
        super().act(act, place)
        self.was_silent = self.was_silent or act == "rename"  # older test drivers send no event

    @rule()
    def lose_the_connection(self):
        self.expect_another_connection()
        self.proxy.drop()

    @rule()
    def restart_the_daemon(self):
        self.expect_another_connection()
        self.daemon.restart()
        self.hand.connect()

    def expect_another_connection(self):
        self.await_connection()
        self.connections = self.live.statistics().connections + 1

    def await_connection(self):
        """Wait for one at least: a restless view may have taken one for deaf, and replaced it."""
        until(
            lambda: self.live.statistics().connections >= self.connections,
            self.watch,
            lambda: f"G6: it does not connect again: {self.live.statistics()}",
        )
        self.live.wait_synced(PATIENCE)

    def calm(self):
        self.await_connection()
        if self.was_silent:
            self.live.resync(PATIENCE)
        self.was_silent = False

    @contextlib.contextmanager
    def held_up(self):
        self.proxy.stall()
        try:
            yield lambda: len(self.proxy.calls)
        finally:
            self.proxy.resume()


EXAMPLES = settings.default.max_examples


def run(machine, examples):
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=30,
            suppress_health_check=list(HealthCheck),
        ),
    )


@pytest.mark.timeout(max(120, EXAMPLES))
def test_the_promises_hold_over_a_fake_host():
    run(FakeLiveView, 2 * EXAMPLES)


@pytest.mark.timeout(max(120, EXAMPLES))
def test_the_promises_hold_over_a_daemon(own_daemon):
    class Machine(DaemonLiveView):
        daemon = own_daemon

    run(Machine, EXAMPLES // 4)
