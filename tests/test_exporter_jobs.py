"""Migrations: the jobs of their guests, what completed ones took, and guests that arrive."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from dataclasses import replace
from uuid import UUID, uuid4

import libvirt
import pytest
from lab.boot import busy_guest
from lab.daemon import Daemon
from lab.exposition import samples
from lab.migration import Migration, migrating, two_hosts
from lab.nodes import Domain, domain_xml
from lab.proxy import Proxy
from lab.qemu import guests, stuck
from lab.waiting import LONG, wait_until

from guestlist import Anyone, DomainState, Host, Instance, Inventory
from guestlist.connection import Connection
from guestlist.exporter.families import FAMILIES
from guestlist.exporter.histogram import Histogram
from guestlist.exporter.incoming import LONGEST_START, Incoming, is_incoming
from guestlist.exporter.job_calls import JobCalls
from guestlist.exporter.jobs import Jobs, progress

A = Domain("a", uuid4())
B = Domain("b", uuid4())

JOB = "libvirt_domain_job_info_"
DONE = 'libvirt_domain_jobs_completed_total{operation="outgoing migration",result="success"}'
FAILED = 'libvirt_domain_jobs_completed_total{operation="outgoing migration",result="failure"}'

PAUSED, RUNNING = DomainState.PAUSED, DomainState.RUNNING


class Exporter:
    """What an exporter has of one host, for these families. It makes one scrape at a time."""

    def __init__(self, uri: str, *, asks: str | None = None) -> None:
        self.calls = JobCalls(Connection(asks or uri, readonly=True))
        self.jobs, self.incoming = Jobs(self.calls), Incoming(self.calls)
        self.view = Inventory(uri, readonly=True, launched_by=Anyone())
        self.jobs.attach(self.view)
        self.incoming.attach(self.view)
        self._turn = threading.Lock()

    def samples(self, deadline: float = LONG) -> dict[str, float]:
        """Scrape the jobs."""
        snapshot = self.view.snapshot(include_inactive=True)
        labels = {each.uuid: f'domain="{each.name}"' for each in snapshot.values()}
        return samples(self.jobs.lines(labels, deadline))

    def job(self, domain: Domain = A, deadline: float = LONG) -> dict[str, float]:
        """Return the fields of a job, without prefix and labels."""
        ending = f'{{domain="{domain.name}"}}'
        return {
            name.removeprefix(JOB).removesuffix(ending): value
            for name, value in self.samples(deadline).items()
            if name.startswith(JOB) and name.endswith(ending)
        }

    def announced(self, deadline: float = LONG) -> dict[UUID, tuple[DomainState, int]]:
        """Return the active domains that a scrape announces, with their states and reasons."""
        snapshot = self.view.snapshot(include_inactive=True)
        with self._turn:
            withheld = self.incoming.withheld(snapshot.values(), deadline)
        return {
            each.uuid: (each.state, each.reason)
            for each in snapshot.values()
            if each.active and each.uuid not in withheld
        }

    def state(self, domain: Domain = A) -> tuple[DomainState, int] | None:
        found = self.view.snapshot(include_inactive=True).get(domain.uuid)
        return (found.state, found.reason) if found is not None and found.active else None


@contextlib.contextmanager
def exporting(uri: str, *, asks: str | None = None) -> Iterator[Exporter]:
    exporter = Exporter(uri, asks=asks)
    try:
        with exporter.view:
            exporter.view.wait_synced(LONG)
            yield exporter
    finally:
        exporter.calls.close()


@pytest.fixture
def hosts(needs_qemu: None) -> Iterator[tuple[Daemon, Daemon]]:
    with two_hosts() as hosts:
        yield hosts


@contextlib.contextmanager
def started(daemon: Daemon, domain: Domain) -> Iterator[libvirt.virDomain]:
    """Start a guest, paused, until the block ends."""
    with guests(daemon.qemu_uri, [replace(domain, transient=True)]):
        connection = libvirt.open(daemon.qemu_uri)
        try:
            yield connection.lookupByUUIDString(str(domain.uuid))
        finally:
            connection.close()


# The progress of a migration


def test_a_migration_is_seen_while_it_goes_on_and_counted_when_it_is_over(
    hosts: tuple[Daemon, Daemon],
) -> None:
    source, target = hosts
    with Proxy(source) as rpc, exporting(source.qemu_uri, asks=rpc.qemu_uri) as exporter:
        before = exporter.samples()
        assert rpc.calls == []  # without a job no guest is asked
        with migrating(source, target, A) as migration:
            wait_until(lambda: exporter.job().get("memory_bytes_per_second"))
            with rpc.counting() as calls:
                job = exporter.job()
            assert [call for call in calls if call.startswith("DOMAIN_")] == [
                "DOMAIN_GET_JOB_STATS"
            ]
            migration.complete()
            wait_until(lambda: exporter.samples()[DONE] == 1)
        after = exporter.samples()
        rpc.clear()
        exporter.samples()
        assert rpc.calls == []

    assert job["type"] == 2
    assert job["operation"] == 5
    assert job["time_elapsed_seconds"] > 0
    assert job["memory_total_bytes"] >= 16 << 20
    assert job["data_processed_bytes"] >= job["memory_processed_bytes"] > 0
    assert job["memory_remaining_bytes"] > 0
    assert job["downtime_seconds"] > 0
    assert {JOB + name for name in job} <= {family.name for family in FAMILIES}

    assert before[DONE] == before[FAILED] == after[FAILED] == 0
    assert before["libvirt_domain_migration_downtime_seconds_count"] == 0
    assert after["libvirt_domain_migration_downtime_seconds_count"] == 1
    assert 0 < after["libvirt_domain_migration_downtime_seconds_sum"] < LONG
    assert after["libvirt_domain_migration_duration_seconds_count"] == 1
    assert not [name for name in after if name.startswith(JOB)]


# As libvirt 9.0 tells of a migration in its second iteration.
TOLD = {
    "type": 2,
    "operation": 5,
    "time_elapsed": 4189,
    "downtime": 300,
    "setup_time": 7,
    "memory_bps": 1056653,
    "memory_dirty_rate": 100,
    "memory_page_size": 4096,
    "memory_iteration": 2,
    "memory_constant": 3960,
    "disk_total": 0,
    "auto_converge_throttle": 20,
}


def test_fields_become_seconds_bytes_and_ratios() -> None:
    told = samples(progress("x", TOLD))
    assert {name.removeprefix(JOB).removesuffix("{x}"): value for name, value in told.items()} == {
        "type": 2,
        "operation": 5,
        "time_elapsed_seconds": 4.189,
        "downtime_seconds": 0.3,
        "setup_time_seconds": 0.007,
        "memory_bytes_per_second": 1056653,
        "memory_dirty_bytes_per_second": 409600,
        "memory_iteration": 2,
        "file_total_bytes": 0,
        "auto_converge_throttle_ratio": 0.2,
    }


@pytest.mark.parametrize("unknown", [{"memory_iteration": 1}, {"memory_page_size": 0}])
def test_a_dirty_rate_that_is_not_measured_yet_is_absent(unknown: dict[str, int]) -> None:
    """libvirt tells 0 until the second iteration."""
    assert JOB + "memory_dirty_bytes_per_second" not in progress("x", TOLD | unknown)


def test_a_migration_that_is_cancelled_counts_as_failed_once(hosts: tuple[Daemon, Daemon]) -> None:
    source, target = hosts
    with exporting(source.qemu_uri) as exporter, migrating(source, target, A) as migration:
        wait_until(lambda: exporter.job().get("operation") == 5)
        migration.cancel()
        assert migration.error is not None
        assert exporter.samples()[FAILED] == 0  # the event of its end may be on the way
        for _ in range(3):
            ended = exporter.samples()
            assert ended[FAILED] == 1
            assert ended[DONE] == 0
            assert not [name for name in ended if name.startswith(JOB)]


def test_a_stuck_guest_delays_no_other(hosts: tuple[Daemon, Daemon]) -> None:
    source, target = hosts
    with (
        exporting(source.qemu_uri) as exporter,
        migrating(source, target, A),
        migrating(source, target, B),
    ):
        wait_until(lambda: exporter.job(A))
        wait_until(lambda: exporter.job(B))
        with stuck(source, A):
            wait_until(lambda: not exporter.job(A, deadline=0.5))
            assert exporter.job(B, deadline=0.5)["operation"] == 5
        wait_until(lambda: exporter.job(A, deadline=0.5).get("operation") == 5)


def test_a_job_that_is_no_migration(qemu_daemon: Daemon) -> None:
    """A guest that is saved has a job too; it is no migration, so no downtime is counted."""
    saved = 'libvirt_domain_jobs_completed_total{operation="save",result="success"}'
    with exporting(qemu_daemon.qemu_uri) as exporter, started(qemu_daemon, A) as domain:
        domain.save(str(qemu_daemon.directory / "saved"))
        wait_until(lambda: exporter.samples()[saved] == 1)
        after = exporter.samples()
    assert after["libvirt_domain_migration_downtime_seconds_count"] == 0
    assert after[DONE] == after[FAILED] == 0


def test_no_counter_of_jobs_without_a_connection(own_daemon: Daemon) -> None:
    with exporting(own_daemon.uri()) as exporter:
        assert exporter.samples()[DONE] == 0
        own_daemon.kill()
        wait_until(lambda: exporter.samples() == {})
        own_daemon.restart()
        wait_until(lambda: exporter.samples().get(DONE) == 0)


def test_a_histogram_counts_what_does_not_exceed_a_bound() -> None:
    histogram = Histogram("h", (0.1, 1.0))
    for value in (0.05, 0.1, 0.5, 1.5):
        histogram.observe(value)
    assert histogram.lines() == (
        'h_bucket{le="0.1"} 2\nh_bucket{le="1.0"} 3\nh_bucket{le="+Inf"} 4\nh_sum 2.15\nh_count 4\n'
    )


# Guests that arrive


@pytest.mark.parametrize(
    ("state", "reason", "last", "refused", "expected"),
    [
        (RUNNING, 2, (2, 1), None, False),  # migrated: it runs here
        (RUNNING, 10, (2, 1), None, False),  # post-copy: it runs here, its memory is elsewhere
        (PAUSED, 1, (2, 1), None, False),  # it arrived paused, and is here
        (PAUSED, 5, None, None, False),  # I/O error
        (PAUSED, 2, (2, 1), None, True),  # the target, after STARTED (migrated)
        (PAUSED, 2, (2, 1), False, True),
        (PAUSED, 2, (3, 1), None, False),  # the source, after SUSPENDED (migrated)
        (PAUSED, 2, (2, 0), None, False),  # the source, which was started here
        (PAUSED, 2, (4, 1), None, False),  # the source, which came from elsewhere before
        (PAUSED, 2, None, None, None),
        (PAUSED, 2, None, True, True),
        (PAUSED, 2, None, False, False),
        (PAUSED, 2, (5, 5), None, True),  # the target failed; the view has not seen it yet
        (PAUSED, 2, (5, 3), None, True),  # it left, and arrives again
        (PAUSED, 11, (5, 3), None, None),
        (PAUSED, 11, None, None, None),  # QEMU starts
        (PAUSED, 11, (0, 0), None, False),  # defined, and started here
        (PAUSED, 11, (5, 1), None, False),  # destroyed, and started again here
        (DomainState.SHUTOFF, 2, (2, 1), True, False),
    ],
)
def test_the_rule_for_a_guest_that_arrives(
    state: DomainState,
    reason: int,
    last: tuple[int, int] | None,
    refused: bool | None,
    expected: bool | None,
) -> None:
    assert is_incoming(state, reason, last, refused) is expected


class Scraping:
    """Scrapes without a pause, in a thread, until the block ends; `seen` is what was announced.

    A view may be a moment behind libvirt: of a domain that is announced as paused, libvirt itself
    is asked for the state.
    """

    def __init__(self, exporter: Exporter, uri: str) -> None:
        self._exporter = exporter
        self._connection = libvirt.open(uri)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.seen: set[tuple[DomainState, int] | None] = set()

    def _run(self) -> None:
        while not self._over.is_set():
            found = self._exporter.announced().get(A.uuid)
            if found is not None and found[0] is PAUSED:
                with contextlib.suppress(libvirt.libvirtError):  # it is gone
                    domain = self._connection.lookupByUUIDString(str(A.uuid))
                    state, reason = domain.state()
                    found = DomainState(state), reason
            self.seen.add(found)

    def __enter__(self) -> set[tuple[DomainState, int] | None]:
        self._thread.start()
        return self.seen

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join(LONG)
        self._connection.close()


def test_the_target_is_announced_when_the_guest_runs_there(hosts: tuple[Daemon, Daemon]) -> None:
    source, target = hosts
    with (
        Proxy(target) as rpc,
        exporting(source.qemu_uri) as leaving,
        exporting(target.qemu_uri, asks=rpc.qemu_uri) as arriving,
        Scraping(arriving, target.qemu_uri) as announced,
        migrating(source, target, A) as migration,
    ):
        wait_until(lambda: leaving.job().get("memory_iteration", 0) >= 1)
        wait_until(lambda: arriving.state() == (PAUSED, 2))
        assert A.uuid not in arriving.announced()
        assert leaving.announced() == {A.uuid: (RUNNING, 1)}
        migration.complete()
        assert migration.error is None
        wait_until(lambda: arriving.announced() == {A.uuid: (RUNNING, 2)})
        wait_until(lambda: leaving.announced() == {})
        # The events tell all, unless a scrape comes between the state and its event.
        assert rpc.calls.count("DOMAIN_GET_JOB_STATS") <= 1
    assert announced == {None, (RUNNING, 2)}


def test_a_target_whose_migration_fails_is_never_announced(hosts: tuple[Daemon, Daemon]) -> None:
    source, target = hosts
    with (
        exporting(source.qemu_uri) as leaving,
        exporting(target.qemu_uri) as arriving,
        Scraping(arriving, target.qemu_uri) as announced,
    ):
        with migrating(source, target, A) as migration:
            wait_until(lambda: arriving.state() == (PAUSED, 2))
            migration.cancel()
            wait_until(lambda: arriving.state() is None)
            assert leaving.announced().keys() == {A.uuid}
            again = Migration(source, target, A)
            wait_until(lambda: arriving.state() == (PAUSED, 2))
            again.cancel()
            wait_until(lambda: arriving.state() is None)
            again.close()
    assert announced == {None}


def test_an_exporter_that_starts_in_the_middle_asks_once(hosts: tuple[Daemon, Daemon]) -> None:
    source, target = hosts
    with (
        Proxy(target) as rpc,
        exporting(source.qemu_uri) as leaving,
        migrating(source, target, A) as migration,
    ):
        wait_until(lambda: leaving.job().get("memory_iteration", 0) >= 1)
        with exporting(target.qemu_uri, asks=rpc.qemu_uri) as arriving:
            assert arriving.state() == (PAUSED, 2)
            for _ in range(3):
                assert arriving.announced() == {}
            assert rpc.calls.count("DOMAIN_GET_JOB_STATS") == 1
            migration.complete()
            wait_until(lambda: arriving.announced() == {A.uuid: (RUNNING, 2)})
            assert rpc.calls.count("DOMAIN_GET_JOB_STATS") == 1


def test_a_source_in_the_last_phase_stays_announced(hosts: tuple[Daemon, Daemon]) -> None:
    """Its guest is paused as that of a target is, and its monitor may not answer."""
    source, target = hosts
    with (
        exporting(source.qemu_uri) as leaving,
        Scraping(leaving, source.qemu_uri) as announced,
        migrating(source, target, A) as migration,
    ):
        wait_until(lambda: leaving.job().get("memory_iteration", 0) >= 1)
        with stuck(target, A):
            migration.let_last_phase_begin()
            wait_until(lambda: leaving.announced() == {A.uuid: (PAUSED, 2)})
            with exporting(source.qemu_uri) as restarted:
                for _ in range(2):
                    assert restarted.announced(deadline=0.5) == {A.uuid: (PAUSED, 2)}
        migration.wait()
        assert migration.error is None
        wait_until(lambda: leaving.announced() == {})
    assert (PAUSED, 2) in announced


def test_a_guest_that_starts_here_is_announced(qemu_daemon: Daemon) -> None:
    uri = qemu_daemon.qemu_uri
    connection = libvirt.open(uri)
    try:
        with exporting(uri) as exporter:
            domain = connection.defineXML(busy_guest(qemu_daemon, A))
            for _ in range(2):
                domain.create()
                wait_until(lambda: exporter.announced() == {A.uuid: (RUNNING, 1)})
                domain.destroy()
                wait_until(lambda: exporter.announced() == {})
    finally:
        connection.close()


@pytest.fixture
def unheard(daemon: Daemon) -> Iterator[tuple[JobCalls, Instance]]:
    """A domain of which no event was heard, and calls about it."""
    connection = libvirt.open(daemon.uri())
    domain = connection.createXML(domain_xml(A))
    calls = JobCalls(Connection(daemon.uri(), readonly=True))
    try:
        with Host(daemon.uri()) as host:
            yield calls, host.instance(A.uuid)
    finally:
        domain.destroy()
        connection.close()
        calls.close()


def test_a_start_that_hangs_is_announced_after_a_while(unheard: tuple[JobCalls, Instance]) -> None:
    """Nothing was heard of it, so it may arrive; the test driver has no jobs to ask about."""
    calls, instance = unheard
    starting = replace(instance, state=PAUSED, reason=11)
    now = 0.0
    incoming = Incoming(calls, lambda: now)
    assert incoming.withheld([starting]) == {A.uuid}
    now = LONGEST_START - 1
    assert incoming.withheld([starting]) == {A.uuid}
    now = LONGEST_START + 1
    assert incoming.withheld([starting], LONG) == frozenset()
    assert incoming.withheld([replace(starting, id=99)]) == {A.uuid}


def test_a_source_that_was_seen_to_run_is_not_asked(unheard: tuple[JobCalls, Instance]) -> None:
    calls, running = unheard
    paused = replace(running, state=PAUSED, reason=2)
    incoming = Incoming(calls)
    assert incoming.withheld([running]) == frozenset()
    assert incoming.withheld([paused], deadline=0) == frozenset()
    assert incoming.withheld([replace(paused, id=99)], deadline=0) == {A.uuid}


def test_a_target_that_was_seen_shut_off_is_not_announced(
    unheard: tuple[JobCalls, Instance],
) -> None:
    """A migration that fails leaves it so for a moment; the next one may begin at once."""
    calls, running = unheard
    incoming = Incoming(calls)
    shut_off = replace(running, state=DomainState.SHUTOFF, id=None)
    assert incoming.withheld([shut_off]) == frozenset()
    assert incoming.withheld([replace(running, state=PAUSED, reason=11)]) == {A.uuid}
    assert incoming.withheld([replace(running, state=DomainState.SHUTOFF)]) == frozenset()
    assert incoming.withheld([replace(running, state=PAUSED, reason=2)], 0) == {A.uuid}


def test_with_post_copy_the_source_is_not_announced(unheard: tuple[JobCalls, Instance]) -> None:
    """Its guest runs on the target. If post-copy fails, an operator must see both."""
    calls, running = unheard
    incoming = Incoming(calls)
    assert incoming.withheld([replace(running, state=PAUSED, reason=12)]) == {A.uuid}
    assert incoming.withheld([replace(running, state=PAUSED, reason=13)]) == frozenset()


@pytest.mark.parametrize("odd", ["9\nfoo 1", -5, float("nan"), None, True, [1]])
def test_a_value_that_is_no_number_has_no_sample(odd: object) -> None:
    values = {"type": 2, "memory_bps": odd, "time_elapsed": odd, "memory_page_size": odd}
    values |= {"memory_dirty_rate": 3, "memory_iteration": 2}
    lines = progress('domain="a"', values)
    assert set(lines) == {JOB + "type", JOB + "memory_iteration"}
