"""Counters of events: what is counted, when it is shown, and what is forgotten."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from uuid import UUID, uuid4

import libvirt
import pytest
from lab.boot import guest_with_disk, guest_with_full_disk, guest_with_watchdog
from lab.daemon import Daemon
from lab.exposition import samples
from lab.nodes import Domain, domain_xml
from lab.proxy import Proxy
from lab.qemu import guest_xml
from lab.waiting import LONG, wait_until

from guestlist import Anyone, Inventory
from guestlist.exporter import by_domain
from guestlist.exporter.by_domain import ByDomain
from guestlist.exporter.events import Events

A = Domain("a", uuid4())
B = Domain("b", uuid4())

MONITOR, IO_ERROR, WATCHDOG, MEMORY_FAILURE, AGENT = 7, 6, 3, 25, 18


class Watched:
    """A live view whose events are counted."""

    def __init__(self, uri: str) -> None:
        self.events = Events()
        self.view = Inventory(uri, readonly=True, launched_by=Anyone())
        self.events.attach(self.view)

    def samples(self) -> dict[str, float]:
        """Scrape."""
        snapshot = self.view.snapshot(include_inactive=True)
        labels = {each.uuid: f'domain="{each.name}"' for each in snapshot.values()}
        return samples(self.events.lines(labels, labels, self.view.statistics()))

    def count(self, event: str, reason: str = "") -> float | None:
        return self.samples().get(counter(event, reason))

    def wait_count(self, event: str, reason: str = "") -> None:
        """Wait until such an event was counted."""
        wait_until(lambda: self.count(event, reason))


def counter(event: str, reason: str = "") -> str:
    return f'libvirt_domain_events_total{{event="{event}",reason="{reason}"}}'


def io_errors(domain: Domain) -> str:
    return f'libvirt_domain_io_errors_total{{domain="{domain.name}"}}'


def last_fault(domain: Domain, fault: str) -> str:
    return f'libvirt_domain_last_fault_timestamp_seconds{{domain="{domain.name}",fault="{fault}"}}'


@contextlib.contextmanager
def watching(uri: str) -> Iterator[Watched]:
    watched = Watched(uri)
    with watched.view:
        watched.view.wait_synced(LONG)
        yield watched


@contextlib.contextmanager
def connected(uri: str) -> Iterator[libvirt.virConnect]:
    connection = libvirt.open(uri)
    try:
        yield connection
    finally:
        connection.close()


# What is counted


def test_each_event_is_counted_by_its_reason(daemon: Daemon) -> None:
    with connected(daemon.uri()) as connection, watching(daemon.uri()) as watched:
        before = watched.samples()
        domain = connection.createXML(domain_xml(A))
        domain.suspend()
        domain.resume()
        domain.suspend()
        domain.destroy()
        watched.wait_count("stopped", "destroyed")
        after = watched.samples()

    assert all(value == 0 for name, value in before.items() if "events_total" in name)
    counted = {name: value for name, value in after.items() if "events_total" in name}
    grown = {name: value for name, value in counted.items() if value != before.get(name)}
    assert grown == {
        counter("started", "booted"): 1,
        counter("suspended", "paused"): 2,
        counter("resumed", "unpaused"): 1,
        counter("stopped", "destroyed"): 1,
    }


def test_a_counter_is_there_before_its_first_event(daemon: Daemon) -> None:
    with watching(daemon.uri()) as watched:
        known = [name for name in watched.samples() if "events_total" in name]
    for event, reason in [
        ("stopped", "crashed"),
        ("suspended", "I/O error"),
        ("I/O error", "enospc"),
        ("watchdog", "reset"),
        ("memory failure", "fatal"),
        ("control error", ""),
        ("agent disconnected", "channel event"),
        ("block threshold", ""),
        ("rebooted", ""),
    ]:
        assert counter(event, reason) in known
    assert 60 <= len(known) <= 80


@pytest.mark.parametrize(
    ("kind", "facts", "words", "fault"),
    [
        (AGENT, (1, 2), ("agent connected", "channel event"), None),
        (AGENT, (2, 9), ("agent disconnected", "other"), None),
        (MEMORY_FAILURE, (1, 2, 0), ("memory failure", "fatal"), "memory failure"),
        (MONITOR, (), ("control error", ""), "control error"),
        (IO_ERROR, ("/i", "virtio-disk0", 1, ""), ("I/O error", "unknown"), "I/O error"),
        (IO_ERROR, ("/i", "virtio-disk0", 1, 'x"\n'), ("I/O error", "unknown"), "I/O error"),
        (WATCHDOG, (6,), ("watchdog", "inject-nmi"), "watchdog"),
        (0, (8, 0), ("crashed", "panicked"), "crashed"),
        (0, (5, 2), ("stopped", "crashed"), "crashed"),
        (0, (5, 77), ("stopped", "other"), None),
    ],
)
def test_events_that_are_hard_to_cause(
    daemon: Daemon,
    kind: int,
    facts: tuple[object, ...],
    words: tuple[str, str],
    fault: str | None,
) -> None:
    """The facts are those that libvirt-python hands over for each kind."""
    with connected(daemon.uri()) as connection, watching(daemon.uri()) as watched:
        domain = connection.createXML(domain_xml(A))
        try:
            wait_until(lambda: A.uuid in watched.view.snapshot())
            watched.events.hear(kind, domain, *facts)
            seen = watched.samples()
        finally:
            domain.destroy()
    assert seen[counter(*words)] == 1
    assert [name for name in seen if "last_fault" in name] == (
        [last_fault(A, fault)] if fault else []
    )
    assert seen[io_errors(A)] == (fault == "I/O error")


# When it is shown


def test_no_counter_is_shown_without_a_connection_and_none_falls(own_daemon: Daemon) -> None:
    with watching(own_daemon.uri()) as watched:
        with connected(own_daemon.uri()) as connection:
            connection.createXML(domain_xml(A)).destroy()
            watched.wait_count("started", "booted")
        own_daemon.kill()
        wait_until(lambda: watched.count("started", "booted") is None)
        gone = watched.samples()
        own_daemon.restart()
        watched.wait_count("started", "booted")
        back = watched.samples()
    assert set(gone) == {
        "guestlist_exporter_connections_total",
        "guestlist_exporter_event_losses_total",
    }
    assert back[counter("started", "booted")] == back[counter("stopped", "destroyed")] == 1
    wait_until(lambda: watched.samples()["guestlist_exporter_connections_total"] == 2)


def test_a_kind_that_this_libvirt_lacks_has_no_counter(proxy: Proxy) -> None:
    proxy.older_daemon("3.0.0")
    with watching(proxy.uri()) as watched:
        assert watched.count("memory failure", "fatal") is None
        assert watched.count("block threshold") is None
        assert watched.count("agent connected", "channel event") == 0


def test_it_must_be_attached_before_the_first_connection(daemon: Daemon) -> None:
    with Inventory(daemon.uri()) as view, pytest.raises(RuntimeError, match="was started"):
        Events().attach(view)


def test_what_it_costs(rpc: Proxy) -> None:
    """One registration for each kind that the view does not hear, and nothing at a scrape."""
    with Inventory(rpc.uri()) as view:
        view.wait_synced(LONG)
    plain = rpc.calls.count("CONNECT_DOMAIN_EVENT_CALLBACK_REGISTER_ANY")
    rpc.clear()
    with watching(rpc.uri()) as watched:
        assert rpc.calls.count("CONNECT_DOMAIN_EVENT_CALLBACK_REGISTER_ANY") == plain + 5
        with rpc.counting() as calls:
            watched.samples()
        assert calls == []


# Domains


def test_faults_go_with_their_domain(daemon: Daemon) -> None:
    with connected(daemon.uri()) as connection, watching(daemon.uri()) as watched:
        a, b = (connection.createXML(domain_xml(each)) for each in (A, B))
        try:
            wait_until(lambda: {A.uuid, B.uuid} <= set(watched.view.snapshot()))
            for domain in (a, b):
                watched.events.hear(IO_ERROR, domain, "/image", "virtio-disk0", 1, "enospc")
            assert watched.samples()[io_errors(A)] == 1
            a.destroy()
            wait_until(lambda: A.uuid not in watched.view.snapshot())
            left = watched.samples()
            assert io_errors(A) not in left
            assert last_fault(A, "I/O error") not in left
            assert left[io_errors(B)] == 1
            connection.createXML(domain_xml(A))
            wait_until(lambda: A.uuid in watched.view.snapshot())
            assert watched.samples()[io_errors(A)] == 0
        finally:
            for each in (A, B):
                connection.lookupByUUIDString(str(each.uuid)).destroy()


def test_a_value_waits_for_its_domain_and_goes_with_it() -> None:
    now = 0.0
    kept: ByDomain[str] = ByDomain(lambda: now)
    early, known = uuid4(), uuid4()
    kept.put(early, "named before the view has it")
    kept.put(known, "in the view")
    kept.keep_only({known})
    kept.keep_only({known})
    assert set(kept) == {early, known}
    kept.keep_only({early})
    assert set(kept) == {early}
    kept.put(known, "named again")
    now = by_domain.GRACE
    kept.keep_only({early})
    assert set(kept) == {early}


def test_values_are_bounded_where_nothing_scrapes() -> None:
    kept: ByDomain[int] = ByDomain()
    for n in range(by_domain.MOST + 5):
        kept.put(UUID(int=n), n)
    assert len(kept) == by_domain.MOST
    assert UUID(int=4) not in kept
    assert UUID(int=5) in kept


# Real guests


def test_a_full_disk_pauses_a_guest_and_is_counted(disk_daemon: Daemon) -> None:
    uri = disk_daemon.qemu_uri
    with connected(uri) as connection, watching(uri) as watched:
        connection.createXML(guest_with_full_disk(disk_daemon, A))
        connection.createXML(guest_xml(B), libvirt.VIR_DOMAIN_START_PAUSED)
        watched.wait_count("I/O error", "enospc")
        watched.wait_count("suspended", "I/O error")
        wait_until(lambda: {A.uuid, B.uuid} <= set(watched.view.snapshot()))
        seen = watched.samples()
    assert seen[io_errors(A)] == seen[counter("I/O error", "enospc")] >= 1
    assert seen[io_errors(B)] == 0
    assert last_fault(A, "I/O error") in seen
    assert not [name for name in seen if "last_fault" in name and 'domain="b"' in name]


def test_errors_that_the_guest_is_told_are_counted_too(disk_daemon: Daemon) -> None:
    """QEMU tells the reason only where it stops the guest for it."""
    uri = disk_daemon.qemu_uri
    with connected(uri) as connection, watching(uri) as watched:
        connection.createXML(guest_with_full_disk(disk_daemon, A, policy="report"))
        watched.wait_count("I/O error", "unknown")
        wait_until(lambda: watched.samples().get(io_errors(A), 0) >= 1)
        assert watched.count("suspended", "I/O error") == 0


def test_a_watchdog_that_fires(qemu_daemon: Daemon) -> None:
    uri = qemu_daemon.qemu_uri
    with connected(uri) as connection, watching(uri) as watched:
        connection.createXML(guest_with_watchdog(qemu_daemon, A))
        watched.wait_count("watchdog", "pause")
        watched.wait_count("suspended", "watchdog")
        wait_until(lambda: last_fault(A, "watchdog") in watched.samples())


def test_a_disk_that_grows_beyond_its_threshold(disk_daemon: Daemon) -> None:
    uri = disk_daemon.qemu_uri
    with connected(uri) as connection, watching(uri) as watched:
        xml = guest_with_disk(disk_daemon, A)
        domain = connection.createXML(xml, libvirt.VIR_DOMAIN_START_PAUSED)
        domain.setBlockThreshold("vda", 1 << 20)
        domain.resume()
        watched.wait_count("block threshold")


def test_a_guest_that_is_reset_and_whose_qemu_ends(qemu_daemon: Daemon) -> None:
    uri = qemu_daemon.qemu_uri
    with connected(uri) as connection, watching(uri) as watched:
        domain = connection.defineXML(guest_xml(A))
        domain.create()
        domain.reset()
        watched.wait_count("rebooted")
        os.kill(qemu_daemon.guest_pid(A.name), signal.SIGKILL)
        watched.wait_count("stopped", "failed")
        wait_until(lambda: last_fault(A, "failed") in watched.samples())
