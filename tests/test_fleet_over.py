"""The fleet without an engine: live views of real hosts, and the rule over all of them."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from uuid import UUID, uuid4

import libvirt
import pytest
from lab.command import NO_HOST, served, uri_of
from lab.daemon import Daemon
from lab.migration import migrating, two_hosts
from lab.nodes import Domain, domain_xml, handmade, node, nova_instance
from lab.proxy import Proxy
from lab.qemu import guests
from lab.waiting import LONG, wait_until

from guestlist import Changed, Gone, Host, Started, Stopped
from guestlist.fleet import over as over_module
from guestlist.fleet.over import HostsFleet, look, over
from guestlist.fleet.readers import FleetChanges
from guestlist.fleet.rows import (
    FleetNews,
    FleetSnapshot,
    HostChange,
    Relisted,
    RowChange,
    Standing,
)
from guestlist.inventory import board

ONE, TWO, OFF = nova_instance(1), nova_instance(2), nova_instance(3, active=False)
GUEST = Domain("guest", uuid4())


def named(**uris: str) -> dict[str, Host]:
    return {name: Host(uri, open_timeout=LONG) for name, uri in uris.items()}


@contextlib.contextmanager
def fleet_of(**uris: str) -> Iterator[HostsFleet]:
    """A fleet whose hosts have all answered or failed."""
    with over(named(**uris), timeout=LONG) as fleet:
        assert fleet.wait_told(LONG)
        yield fleet


def place(tmp_path: Path, name: str) -> Path:
    directory = tmp_path / name
    directory.mkdir()
    return directory


def where(fleet: FleetSnapshot) -> dict[UUID, tuple[str, Standing]]:
    return {uuid: (row.host, row.standing) for uuid, row in fleet.items()}


class Replica:
    """The rows of the fleet, as its news add up to."""

    def __init__(self, changes: FleetChanges) -> None:
        self._changes = changes
        self.rows: dict[UUID, object] = {}
        self.news: list[FleetNews] = []

    def take(self, timeout: float = LONG) -> FleetNews:
        news = self._changes.get(timeout)
        assert news is not None
        self.news.append(news)
        if isinstance(news, Relisted):
            self.rows = dict(news.snapshot)
        elif isinstance(news, RowChange):
            assert self.rows.get(news.row.uuid) == news.before
            assert news.change.before == (news.before and news.before.instance)
            assert news.change.after == (news.after and news.after.instance)
            if news.after is None:
                del self.rows[news.row.uuid]
            else:
                self.rows[news.row.uuid] = news.after
        return news

    def drain(self) -> None:
        with contextlib.suppress(TimeoutError):
            while True:
                self.take(0)


# Without a daemon


def test_a_fleet_has_each_guest_of_each_host_once(tmp_path: Path) -> None:
    a = served(place(tmp_path, "a"), [ONE, OFF])
    b = served(place(tmp_path, "b"), [TWO, handmade(0)])
    with fleet_of(a=a, b=b) as fleet:
        found = fleet.snapshot()
        assert where(found) == {
            ONE.uuid: ("a", Standing.RESIDENT),
            OFF.uuid: ("a", Standing.RESIDENT),
            TWO.uuid: ("b", Standing.RESIDENT),
            handmade(0).uuid: ("b", Standing.RESIDENT),
        }
        assert found.complete
        assert [each.host for each in found.hosts] == ["a", "b"]
        assert found[ONE.uuid].instance.details is not None
        assert fleet.snapshot() is found
        assert dict(fleet.confirm(LONG)) == dict(found)
    assert look(named(a=a, b=b), timeout=LONG, deadline=LONG).complete


def test_a_fleet_without_hosts_is_not_complete() -> None:
    """F7."""
    with fleet_of() as fleet:
        assert not fleet.snapshot().complete
        assert not fleet.confirm(LONG).complete


def test_a_guest_that_runs_on_two_hosts_is_a_conflict(tmp_path: Path) -> None:
    """F5."""
    a = served(place(tmp_path, "a"), [ONE])
    b = served(place(tmp_path, "b"), [ONE, TWO])
    found = look(named(a=a, b=b), timeout=LONG, deadline=LONG)
    assert where(found)[TWO.uuid] == ("b", Standing.RESIDENT)
    row = found[ONE.uuid]
    assert row.standing is Standing.CONFLICT
    assert {row.host, *row.others} == {"a", "b"}


def test_a_host_that_hangs_or_fails_costs_no_other(tmp_path: Path, deaf: socket.socket) -> None:
    """F7: each of them is named with its failure."""
    hosts = named(a=served(tmp_path, [ONE]), failing=NO_HOST)
    hosts["hanging"] = Host(uri_of(deaf), open_timeout=LONG)
    found = look(hosts, timeout=0.3, deadline=LONG, at_once=1)
    assert where(found) == {ONE.uuid: ("a", Standing.RESIDENT)}
    assert not found.complete
    failing, hanging = found.incomplete
    assert (failing.host, hanging.host) == ("failing", "hanging")
    assert "cannot connect" in str(failing.failure)
    assert "no answer" in str(hanging.failure)


def test_before_a_host_has_answered_the_fleet_is_not_complete(deaf: socket.socket) -> None:
    with over([Host(uri_of(deaf), open_timeout=LONG)], timeout=LONG) as fleet:
        assert not fleet.wait_told(0)
        [state] = fleet.snapshot().incomplete
        assert state.failure == "the host has not answered yet"
        assert not fleet.confirm(LONG).complete
    assert not fleet.wait_told(LONG)  # it was closed


def test_hosts_that_cannot_be_told_apart_and_too_many_are_refused() -> None:
    same = Host("test:///default")
    with pytest.raises(ValueError, match="the same name"):
        over([same, same])
    with pytest.raises(ValueError, match="3 hosts: a live view is kept of 2 hosts at most"):
        HostsFleet(named(a=NO_HOST, b=NO_HOST, c=NO_HOST), most=2)


# Over real daemons


def test_what_happens_on_a_host_is_told_in_the_words_of_its_live_view(
    own_daemon: Daemon, tmp_path: Path
) -> None:
    still = served(tmp_path, [TWO])
    connection = libvirt.open(own_daemon.uri())
    with fleet_of(a=own_daemon.uri(), b=still) as fleet, fleet.watch() as changes:
        replica = Replica(changes)
        assert isinstance(first := replica.take(), Relisted)
        assert first.snapshot.complete
        domain = connection.createXML(domain_xml(ONE))
        started = replica.take()
        assert isinstance(started, RowChange)
        assert isinstance(started.change, Started)
        assert started.row.host == "a"
        assert started.change.why == "started (booted)"
        domain.suspend()
        wait_until(lambda: not isinstance(replica.take(), RowChange) or replica.rows)
        domain.destroy()
        wait_until(lambda: replica.drain() or ONE.uuid not in replica.rows)
        ended = replica.news[-1]
        assert isinstance(ended, RowChange)
        assert isinstance(ended.change, Stopped)
        assert ended.after is None
        assert any(
            isinstance(each, RowChange) and isinstance(each.change, Changed)
            for each in replica.news
        )
        assert replica.rows == dict(fleet.snapshot())
    assert changes.get() is None
    connection.close()


def test_the_guests_of_a_host_that_is_lost_are_unknown_until_it_is_back(
    own_daemon: Daemon, tmp_path: Path
) -> None:
    """F6, F7."""
    lost = own_daemon.uri(node([ONE]))
    with fleet_of(a=lost, b=served(tmp_path, [TWO])) as fleet, fleet.watch() as changes:
        replica = Replica(changes)
        replica.take()
        own_daemon.kill()
        wait_until(lambda: isinstance(replica.take(), RowChange))
        found = fleet.snapshot()
        assert where(found) == {
            ONE.uuid: ("a", Standing.UNKNOWN),
            TWO.uuid: ("b", Standing.RESIDENT),
        }
        [state] = found.incomplete
        assert state.host == "a"
        assert state.failure
        assert found[ONE.uuid].since == state.since is not None
        assert any(isinstance(each, HostChange) for each in replica.news)
        assert not fleet.confirm(LONG).complete
        own_daemon.restart()
        wait_until(lambda: fleet.snapshot().complete)
        assert where(fleet.snapshot())[ONE.uuid] == ("a", Standing.RESIDENT)
        wait_until(lambda: replica.drain() or replica.rows == dict(fleet.snapshot()))


def test_a_view_that_is_late_is_not_complete_and_no_error_says_so(
    daemon: Daemon, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A daemon that does not answer a question makes no error before keepalive gives it up."""
    monkeypatch.setattr(board, "PATIENCE", 0.05)
    monkeypatch.setattr(over_module, "_TICK", 0.01)
    uri = proxy.uri(node([ONE]))
    with fleet_of(a=uri) as fleet:
        assert fleet.snapshot().complete
        proxy.stall()
        asking = threading.Thread(target=fleet.confirm)
        asking.start()
        wait_until(lambda: not fleet.snapshot().complete)
        [state] = fleet.snapshot().incomplete
        assert "without an answer" in str(state.failure)
        assert where(fleet.snapshot()) == {ONE.uuid: ("a", Standing.UNKNOWN)}
        proxy.resume()
        asking.join(LONG)
        wait_until(lambda: fleet.snapshot().complete)


def test_two_uris_of_one_host_make_no_double_run(qemu_daemon: Daemon, tmp_path: Path) -> None:
    """F1: the second URI publishes nothing, and says why."""
    with (
        Proxy(qemu_daemon) as rpc,
        guests(qemu_daemon.qemu_uri, [replace(GUEST, transient=True)]),
    ):
        uris = {
            "a": qemu_daemon.qemu_uri,
            "b": served(tmp_path, [TWO]),
            "c": rpc.qemu_uri,
        }
        found = look(named(**uris), timeout=LONG, deadline=LONG)
        assert where(found)[GUEST.uuid] == ("a", Standing.RESIDENT)
        assert found[GUEST.uuid].others == ()
        assert {each.host: each.same_as for each in found.hosts} == {"a": None, "b": None, "c": "a"}
        assert found.complete
        with fleet_of(**uris) as fleet:
            assert fleet.snapshot().hosts[2].same_as == "a"
            assert where(fleet.snapshot()) == where(found)
            assert rpc.calls.count("CONNECT_GET_CAPABILITIES") == 4  # twice for each fleet


def test_a_host_that_did_not_say_which_machine_it_is_is_asked_again(qemu_daemon: Daemon) -> None:
    """F1: once for each list that it answers, and not more often."""
    procedure = "CONNECT_GET_CAPABILITIES"
    with (
        Proxy(qemu_daemon) as rpc,
        guests(qemu_daemon.qemu_uri, [replace(GUEST, transient=True)]),
    ):
        rpc.fail(procedure, libvirt.VIR_ERR_INTERNAL_ERROR)
        with fleet_of(a=qemu_daemon.qemu_uri, c=rpc.qemu_uri) as fleet:
            rpc.wait_called(procedure)
            for _ in range(3):
                assert where(fleet.confirm(LONG))[GUEST.uuid][1] is Standing.CONFLICT
            refused = rpc.calls.count(procedure)
            assert 2 <= refused <= rpc.calls.count("CONNECT_GET_ALL_DOMAIN_STATS")
            rpc.reset()
            found = fleet.confirm(LONG)
            assert where(found)[GUEST.uuid] == ("a", Standing.RESIDENT)
            assert found.hosts[1].same_as == "a"
            fleet.confirm(LONG)
            assert rpc.calls.count(procedure) == refused + 2  # a machine is asked twice


def test_one_look_subscribes_to_each_host_and_lists_it_twice(daemon: Daemon) -> None:
    with Proxy(daemon) as first, Proxy(daemon) as second:
        hosts = named(a=first.uri(node([ONE])), b=second.uri(node([TWO, OFF])))
        found = look(hosts, timeout=LONG, deadline=LONG)
        assert found.complete
        assert len(found) == 3
        for rpc in (first, second):
            lists = [each for each in rpc.calls if each == "CONNECT_GET_ALL_DOMAIN_STATS"]
            assert len(lists) == 2


def test_a_slow_reader_gets_the_whole_fleet_in_place_of_what_it_missed(
    own_daemon: Daemon,
) -> None:
    connection = libvirt.open(own_daemon.uri())
    with fleet_of(a=own_daemon.uri()) as fleet, fleet.watch(longest_queue=2) as changes:
        domains = [connection.createXML(domain_xml(nova_instance(n))) for n in range(5)]
        wait_until(lambda: len(fleet.snapshot()) == len(domains) + 1)
        news = changes.get(LONG)
        assert isinstance(news, Relisted)
        assert "changes missed" in news.why
        assert len(news.snapshot) == len(domains) + 1
    connection.close()


# Real migrations


class Looking:
    """Looks at a fleet without a pause, in threads, until the block ends: live and one-shot."""

    def __init__(self, fleet: HostsFleet, hosts: dict[str, Host], guest: UUID) -> None:
        self._fleet, self._hosts, self._guest = fleet, hosts, guest
        self._over = threading.Event()
        self.live: list[tuple[str, Standing] | None] = []
        self.once: list[tuple[str, Standing] | None] = []
        self.complete = self.unexplained = 0
        self._threads = [
            threading.Thread(target=self._run, args=(self.live, self._fleet.snapshot)),
            threading.Thread(target=self._run, args=(self.once, self._look)),
        ]

    def _look(self) -> FleetSnapshot:
        return look(self._hosts, timeout=LONG, deadline=LONG)

    def _run(self, seen, take) -> None:
        while not self._over.is_set():
            found = take()
            self.complete += found.complete
            self.unexplained += not all(each.failure for each in found.incomplete)
            if not seen or seen[-1] != where(found).get(self._guest):
                seen.append(where(found).get(self._guest))

    def __enter__(self) -> Looking:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join(LONG)


@pytest.fixture
def hosts(needs_qemu: None) -> Iterator[tuple[Daemon, Daemon]]:
    with two_hosts() as hosts:
        yield hosts


def test_while_a_real_guest_migrates_no_list_loses_or_doubles_it(
    hosts: tuple[Daemon, Daemon],
) -> None:
    """F1, F2, F4: in each list, live or one-shot, and in the changes."""
    source, target = hosts
    uris = {"source": source.qemu_uri, "target": target.qemu_uri}
    with fleet_of(**uris) as fleet, migrating(source, target, GUEST) as migration:
        wait_until(lambda: GUEST.uuid in fleet.snapshot())
        with Looking(fleet, named(**uris), GUEST.uuid) as seen, fleet.watch() as changes:
            wait_until(
                lambda: where(fleet.snapshot())[GUEST.uuid] == ("source", Standing.MIGRATING)
            )
            wait_until(lambda: ("source", Standing.MIGRATING) in seen.once)
            migration.complete()
            assert migration.error is None
            arrived = ("target", Standing.RESIDENT)
            wait_until(lambda: where(fleet.snapshot())[GUEST.uuid] == arrived)
            wait_until(lambda: seen.once[-1] == seen.live[-1] == arrived)
            replica = Replica(changes)
            replica.drain()
        assert None not in seen.live
        assert None not in seen.once
        assert seen.complete
        assert not seen.unexplained  # a host whose first events come late is named meanwhile
        assert Standing.CONFLICT not in {each[1] for each in seen.live + seen.once if each}
        told = [each for each in replica.news if isinstance(each, RowChange)]
        assert told
        assert all(each.before and each.after for each in told)
        assert not any(isinstance(each.change, (Started, Stopped, Gone)) for each in told)


def test_a_migration_that_is_cancelled_leaves_the_guest_where_it_was(
    hosts: tuple[Daemon, Daemon],
) -> None:
    source, target = hosts
    uris = {"source": source.qemu_uri, "target": target.qemu_uri}
    with fleet_of(**uris) as fleet, migrating(source, target, GUEST) as migration:
        wait_until(
            lambda: where(fleet.snapshot()).get(GUEST.uuid) == ("source", Standing.MIGRATING)
        )
        with Looking(fleet, named(**uris), GUEST.uuid) as seen:
            migration.cancel()
            home = ("source", Standing.RESIDENT)
            wait_until(lambda: where(fleet.snapshot())[GUEST.uuid] == home)
            wait_until(lambda: seen.once and seen.once[-1] == home)
        assert None not in seen.live
        assert None not in seen.once


@pytest.mark.parametrize(
    ("dying", "standing"), [("target", Standing.RESIDENT), ("source", Standing.UNKNOWN)]
)
def test_a_daemon_that_dies_in_the_middle_costs_the_list_no_guest(
    hosts: tuple[Daemon, Daemon], dying: str, standing: Standing
) -> None:
    """F2, F6, F7: the guest runs on in the source's QEMU."""
    source, target = hosts
    uris = {"source": source.qemu_uri, "target": target.qemu_uri}
    with fleet_of(**uris) as fleet, migrating(source, target, GUEST):
        wait_until(
            lambda: where(fleet.snapshot()).get(GUEST.uuid) == ("source", Standing.MIGRATING)
        )
        daemon = target if dying == "target" else source
        daemon.kill()
        wait_until(lambda: not fleet.snapshot().complete)
        wait_until(lambda: where(fleet.snapshot())[GUEST.uuid] == ("source", standing))
        daemon.restart()
        wait_until(lambda: fleet.snapshot().complete)
        wait_until(lambda: where(fleet.snapshot())[GUEST.uuid] == ("source", Standing.RESIDENT))
