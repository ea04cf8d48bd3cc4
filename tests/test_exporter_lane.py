"""The lane: guests asked in the background, stuck ones among them, and a daemon that goes."""

from __future__ import annotations

import contextlib
import logging
import math
import os
import signal
import threading
import time

import pytest
from lab import qemu
from lab.churn import populated
from lab.nodes import node, nova_instance
from lab.proxy import Proxy
from lab.qemu import guests
from lab.waiting import LONG, wait_until

from guestlist import ConnectionFailed, GuestlistError
from guestlist.connection import Connection
from guestlist.exporter import lane as lane_module
from guestlist.exporter.lane import Lane
from guestlist.statistics import one_round

GROUPS = ("balloon", "vcpu", "block", "cpu-total")
STATS = "CONNECT_GET_ALL_DOMAIN_STATS"
LIST = "CONNECT_LIST_ALL_DOMAINS"
NOWAIT = 1 << 29
AT_ONCE = 0.01
"""An interval after which the next round begins as soon as the lane has rested."""

NEVER = 3_600.0
"""An interval after which no test sees a round."""


@contextlib.contextmanager
def lane_of(uri, groups=GROUPS, *, interval=AT_ONCE, deadline=LONG, **options):
    lane = Lane(Connection(uri), groups, interval, deadline, **options)
    lane.start()
    try:
        yield lane
    finally:
        lane.close()


def next_rounds(lane, number=1):
    """Wait for the end of so many rounds that begin after this call."""
    rounds = lane.rounds + number + 1  # one may be under way
    wait_until(lambda: lane.rounds >= rounds)


def uuids(domains):
    return {domain.uuid.bytes for domain in domains}


@pytest.fixture
def lasting(monkeypatch):
    """Keep each reading until a newer one comes, however slow this machine is."""
    monkeypatch.setattr(lane_module, "_LIFETIME", 1_000_000)


@pytest.fixture
def patient(monkeypatch, lasting):
    """Give up no call either."""
    monkeypatch.setattr(one_round, "LEAST_PATIENCE", LONG)


# What it reads


@pytest.mark.parametrize("number", [10, 100, 1_000])
def test_a_round_is_one_call_at_any_number_of_domains(daemon, rpc, patient, number):
    node_file = daemon.write_node(node(nova_instance(n) for n in range(number)))
    with lane_of(rpc.uri(node_file)) as lane:
        next_rounds(lane, 4)
        assert len(lane.readings()) == number
    assert lane.rounds <= rpc.calls.count(STATS) <= lane.rounds + 1, "one may be under way"
    assert rpc.calls.count(LIST) == 1, "the first round asks how many guests there are"


def test_a_round_of_real_guests_is_one_call_and_brings_each_of_them(qemu_daemon, patient):
    with guests(qemu_daemon.qemu_uri, 3) as domains, Proxy(qemu_daemon) as proxy:
        began = time.monotonic()
        with lane_of(proxy.qemu_uri) as lane:
            assert (lane.age, lane.duration) == (None, None) or lane.rounds
            assert lane.wait_round(LONG)
            readings = lane.readings()
            next_rounds(lane, 3)
        assert readings.keys() == uuids(domains)
        for reading in readings.values():
            assert reading.id > 0
            assert reading.asked_at >= began
            assert reading.values["balloon.rss"] > 0
        assert lane.unanswered == frozenset()
        assert (lane.failures, lane.failure, lane.hanging) == (0, None, 0)
        assert lane.duration > 0
        assert 0 <= lane.age <= time.monotonic() - began
        assert lane.rounds <= proxy.calls.count(STATS) <= lane.rounds + 1
        assert proxy.calls.count(LIST) == 1


def test_a_host_without_guests_is_asked_in_one_call_too(daemon, rpc, patient):
    node_file = daemon.write_node(node([nova_instance(1, active=False)]))
    with lane_of(rpc.uri(node_file)) as lane:
        next_rounds(lane, 3)
        assert not lane.readings()
    assert rpc.calls.count(LIST) == 1


def test_keys_that_nobody_knows_stay_as_they_are(qemu_daemon, patient):
    with guests(qemu_daemon.qemu_uri, 1), Proxy(qemu_daemon) as proxy:
        proxy.rewrite(STATS, lambda payload: payload.replace(b"vcpu.0.time", b"vcpu.0.soon"))
        with lane_of(proxy.qemu_uri) as lane:
            assert lane.wait_round(LONG)
            [reading] = lane.readings().values()
            assert isinstance(reading.values["vcpu.0.soon"], int)


def test_a_reading_is_of_one_start_of_its_domain(daemon, patient):
    one = nova_instance(1)
    with populated(daemon.uri(), [one]) as connection, lane_of(daemon.uri()) as lane:
        assert lane.wait_round(LONG)
        handle = connection.lookupByUUIDString(str(one.uuid))
        assert lane.readings()[one.uuid.bytes].id == handle.ID()
        handle.destroy()
        next_rounds(lane)
        assert lane.unanswered == frozenset(), "it is not active"
        handle.create()
        wait_until(lambda: lane.readings()[one.uuid.bytes].id == handle.ID())


@pytest.mark.parametrize("wrong", [0, -1.0, math.nan])
def test_numbers_that_make_no_sense_are_refused(wrong):
    connection = Connection("test:///default")
    with pytest.raises(ValueError, match="interval is"):
        Lane(connection, GROUPS, wrong)
    with pytest.raises(ValueError, match="deadline is"):
        Lane(connection, GROUPS, 1.0, wrong)
    with pytest.raises(ValueError, match="most_calls is 1"):
        Lane(connection, GROUPS, most_calls=1)
    with pytest.raises(ValueError, match="there is no statistics group 'beer'"):
        Lane(connection, ["beer"])


# Stuck guests


@contextlib.contextmanager
def all_stuck(daemon, domains):
    with contextlib.ExitStack() as stack:
        for domain in domains:
            stack.enter_context(qemu.stuck(daemon, domain, at_most=100.0))
        yield


@pytest.mark.timeout(300)
def test_one_six_and_twelve_of_twenty_stuck_guests_silence_no_other(qemu_daemon, lasting):
    with guests(qemu_daemon.qemu_uri, 20) as domains, lane_of(qemu_daemon.qemu_uri) as lane:
        wait_until(lambda: lane.readings().keys() == uuids(domains), 2 * LONG)
        for number in (1, 6, 9):
            silent, others = uuids(domains[-number:]), uuids(domains[:-number])
            with all_stuck(qemu_daemon, domains[-number:]), pytest.MonkeyPatch.context() as patch:
                wait_until(lambda: lane.unanswered == silent, 2 * LONG)  # noqa: B023
                wait_until(lambda: lane.hanging == number, 2 * LONG)  # noqa: B023
                patch.setattr(one_round, "LEAST_PATIENCE", LONG)  # no further call may hang
                next_rounds(lane)
                for _ in range(3):
                    asked = lane.readings()
                    next_rounds(lane)
                    assert lane.unanswered == silent
                    for uuid in others:
                        assert lane.readings()[uuid].asked_at > asked[uuid].asked_at
                assert lane.hanging == number
            wait_until(lambda: not (lane.unanswered or lane.hanging), 2 * LONG)


def test_with_more_stuck_guests_than_calls_may_hang_those_that_answered_go_on(
    qemu_daemon, monkeypatch, lasting
):
    with guests(qemu_daemon.qemu_uri, 6) as domains:
        with lane_of(qemu_daemon.qemu_uri, most_calls=4) as lane:
            wait_until(lambda: len(lane.readings()) == 6)
            with all_stuck(qemu_daemon, domains[:4]):
                wait_until(lambda: lane.hanging == 3)
                next_rounds(lane)
                answering = uuids(domains) - lane.unanswered - lane.not_asked
                assert lane.unanswered | lane.not_asked >= uuids(domains[:4])
                monkeypatch.setattr(one_round, "LEAST_PATIENCE", LONG)
                before = lane.readings()
                next_rounds(lane, 3)
                assert lane.hanging == 3, "the last call is for those that answer"
                assert uuids(domains) - lane.unanswered - lane.not_asked == answering
                for uuid in answering:
                    assert lane.readings()[uuid].asked_at > before[uuid].asked_at
            wait_until(lambda: not (lane.unanswered or lane.hanging))


def test_where_every_call_hangs_a_round_ends_at_once_and_says_so(qemu_daemon):
    with guests(qemu_daemon.qemu_uri, 2) as domains:
        with lane_of(qemu_daemon.qemu_uri, most_calls=2) as lane:
            wait_until(lambda: len(lane.readings()) == 2)
            with all_stuck(qemu_daemon, domains):
                wait_until(lambda: lane.unanswered | lane.not_asked == uuids(domains))
                wait_until(lambda: not lane.readings())
                assert lane.hanging == 1, "the last call only lists"
                assert lane.failure is None
            wait_until(lambda: lane.readings().keys() == uuids(domains))


def test_a_guest_that_goes_on_is_asked_at_once_and_its_late_answer_is_dropped(qemu_daemon, lasting):
    with guests(qemu_daemon.qemu_uri, 3) as domains:
        first = domains[0]
        with qemu.stuck(qemu_daemon, first):
            with lane_of(qemu_daemon.qemu_uri, interval=NEVER) as lane:
                wait_until(lambda: lane.readings().keys() == uuids(domains[1:]))
                wait_until(lambda: lane.rounds and lane.unanswered == {first.uuid.bytes})
                newest = max(one.asked_at for one in lane.readings().values())
                os.kill(qemu_daemon.guest_pid(first.name), signal.SIGCONT)
                wait_until(lambda: lane.readings().keys() == uuids(domains))
                # The call that hung began before those that went on with the others.
                assert lane.readings()[first.uuid.bytes].asked_at > newest
                wait_until(lambda: not lane.unanswered)


def test_a_stuck_guest_is_asked_again_within_a_round_no_more_after_a_few_rounds(
    qemu_daemon, monkeypatch
):
    with guests(qemu_daemon.qemu_uri, 2) as domains, Proxy(qemu_daemon) as proxy:
        with qemu.stuck(qemu_daemon, domains[0]), lane_of(proxy.qemu_uri) as lane:
            wait_until(lambda: lane.unanswered == uuids(domains[:1]))
            monkeypatch.setattr(one_round, "LEAST_PATIENCE", LONG)
            next_rounds(lane, 5)
            proxy.clear()
            done = lane.rounds
            next_rounds(lane, 5)
            calls = list(proxy.calls)
            assert set(calls) == {STATS}
            assert len(calls) <= lane.rounds - done + 2


def test_without_nowait_the_others_are_asked_by_name(qemu_daemon, lasting, monkeypatch):
    """As libvirt before 4.5.0: a call waits for a guest in which another call waits."""
    monkeypatch.setattr(lane_module, "_SHARE", 1)  # no rest: several rounds find the guest
    with guests(qemu_daemon.qemu_uri, 4) as domains, Proxy(qemu_daemon) as proxy:
        proxy.refuse_flag(STATS, NOWAIT)
        with lane_of(proxy.qemu_uri, deadline=6.0) as lane:
            wait_until(lambda: lane.readings().keys() == uuids(domains))
            with qemu.stuck(qemu_daemon, domains[1]):
                wait_until(lambda: lane.unanswered == uuids(domains[1:2]))
                before = lane.readings()
                for uuid in uuids(domains) - uuids(domains[1:2]):
                    wait_until(lambda: lane.readings()[uuid].asked_at > before[uuid].asked_at)  # noqa: B023
            wait_until(lambda: not lane.unanswered)


# A daemon that goes away


def test_while_libvirt_is_away_readings_vanish_and_come_back_by_themselves(own_daemon, caplog):
    caplog.set_level(logging.INFO, "guestlist")
    node_file = own_daemon.write_node(node(nova_instance(n) for n in range(5)))
    with lane_of(own_daemon.uri(node_file)) as lane:
        wait_until(lambda: len(lane.readings()) == 5)
        assert lane.failure is None
        own_daemon.kill()
        wait_until(lambda: lane.failures > 2)
        assert isinstance(lane.failure, GuestlistError)
        wait_until(lambda: not lane.readings())
        complete, age = lane.rounds, lane.age
        wait_until(lambda: lane.age > age)
        own_daemon.restart()
        wait_until(lambda: lane.rounds > complete)
        wait_until(lambda: len(lane.readings()) == 5)
        assert lane.failure is None
    told = [record.message for record in caplog.records if "statistics" in record.message]
    assert len(told) < lane.failures + 2, "a reason is logged once"
    assert told[-1].endswith("the guests are asked for statistics again")


def test_a_daemon_that_is_frozen_fails_a_round_and_does_not_keep_close(daemon, proxy, monkeypatch):
    monkeypatch.setattr(one_round, "LEAST_PATIENCE", 0.25)
    node_file = daemon.write_node(node([nova_instance(1)]))
    with lane_of(proxy.uri(node_file), deadline=1.0) as lane:
        assert lane.wait_round(LONG)
        proxy.stall()
        wait_until(lambda: isinstance(lane.failure, ConnectionFailed))
        lane.close()
        proxy.resume()
    assert not any(thread.name == "guestlist-lane" for thread in threading.enumerate())


def test_a_lane_that_is_closed_in_a_round_ends(daemon, proxy):
    go_on = threading.Event()
    proxy.on_call(STATS, go_on.wait)
    with lane_of(proxy.uri(), interval=NEVER) as lane:
        proxy.wait_called(STATS)
        lane.close()
        assert lane._is_over
        assert not lane.readings()
        assert not lane.wait_round(0), "no round has ended"
        go_on.set()
    wait_until(lambda: not proxy.connections)
