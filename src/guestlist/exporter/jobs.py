"""Jobs of guests: the progress of migrations that are under way, and what completed jobs took.

In: the events that come over the connections of a live view, and the job statistics of those guests
alone that have a job. Out: lines of the exposition. An event names a guest whose memory is moved
(MIGRATION_ITERATION: a migration, a save); it is asked about its job at each scrape until the job
has ended. Guests without a job are never asked. JOB_COMPLETED tells what a job took.

A job that was under way before the connection was opened is seen from its next iteration on, which
may take minutes.

Source: libvirt include/libvirt/libvirt-domain.h (VIR_DOMAIN_JOB_*), src/qemu/qemu_migration.c
(qemuDomainEventEmitJobCompleted: a migration that fails sends no such event).
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple
from uuid import UUID

from guestlist.event import Lifecycle
from guestlist.exporter.by_domain import ByDomain
from guestlist.exporter.histogram import Histogram
from guestlist.exporter.job_calls import Job, JobCalls
from guestlist.inventory import Inventory
from guestlist.inventory.lifetime import listen
from guestlist.unpatched import threading

if TYPE_CHECKING:
    import libvirt

_ITERATION, _COMPLETED = 20, 21
"""VIR_DOMAIN_EVENT_ID_MIGRATION_ITERATION and _JOB_COMPLETED."""

_STOPPED: int = Lifecycle.STOPPED
_MIGRATION_OUT = 5
_OPERATIONS = {
    1: "start",
    2: "save",
    3: "restore",
    4: "incoming migration",
    5: "outgoing migration",
    6: "snapshot",
    7: "snapshot revert",
    8: "dump",
    9: "backup",
    10: "snapshot delete",
}
"""virDomainJobOperation, and virsh's words for it."""

_COMPLETE = 2, 5, 6, 8, 9
"""Operations that end with JOB_COMPLETED."""

_RESULTS = "success", "failure"


class _Row(NamedTuple):
    """A field of libvirt's job statistics, and the family that it goes to."""

    field: str
    family: str
    """The end of the family's name."""
    factor: float = 1
    times: str | None = None
    """Another field to multiply with."""
    needs: tuple[tuple[str, int], ...] = ()
    """Fields, and what they must be at least: else the number is not known yet, and told as 0."""


_PREFIX = "libvirt_domain_job_info_"
_MS = 0.001

_ROWS = (
    _Row("type", "type"),
    _Row("operation", "operation"),
    _Row("time_elapsed", "time_elapsed_seconds", _MS),
    _Row("time_remaining", "time_remaining_seconds", _MS),
    _Row("data_total", "data_total_bytes"),
    _Row("data_processed", "data_processed_bytes"),
    _Row("data_remaining", "data_remaining_bytes"),
    _Row("memory_total", "memory_total_bytes"),
    _Row("memory_processed", "memory_processed_bytes"),
    _Row("memory_remaining", "memory_remaining_bytes"),
    _Row("disk_total", "file_total_bytes"),
    _Row("disk_processed", "file_processed_bytes"),
    _Row("disk_remaining", "file_remaining_bytes"),
    _Row("downtime", "downtime_seconds", _MS),
    _Row("setup_time", "setup_time_seconds", _MS),
    _Row("memory_bps", "memory_bytes_per_second"),
    _Row("disk_bps", "disk_bytes_per_second"),
    _Row(
        "memory_dirty_rate",
        "memory_dirty_bytes_per_second",
        times="memory_page_size",
        needs=(("memory_page_size", 1), ("memory_iteration", 2)),
    ),
    _Row("memory_iteration", "memory_iteration"),
    _Row("memory_postcopy_requests", "memory_postcopy_requests"),
    _Row("auto_converge_throttle", "auto_converge_throttle_ratio", 0.01),
    _Row("vfio_data_transferred", "vfio_transferred_bytes"),
)
"""libvirt's field to family. A field that libvirt does not tell has no sample."""

COMPLETED = "libvirt_domain_jobs_completed_total"
DOWNTIME = "libvirt_domain_migration_downtime_seconds"
DURATION = "libvirt_domain_migration_duration_seconds"

DOWNTIME_BUCKETS = 0.025, 0.05, 0.1, 0.2, 0.3, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0
"""Bounds in seconds. 0.3 is QEMU's limit unless told otherwise and 0.5 is Nova's, so the two bounds
tell which migrations kept to them; below are idle guests, and TCP connections break above 30."""

DURATION_BUCKETS = 1.0, 5.0, 15.0, 60.0, 180.0, 600.0, 1_800.0, 3_600.0, 10_800.0
"""Bounds in seconds: an idle guest, up to one of a terabyte. Nova aborts or forces a migration
after 800 s for each GiB (live_migration_completion_timeout)."""


class Jobs:
    """The jobs of one host. Threads may share it.

    Attach it before the view is started, and ask it at each scrape.
    """

    kinds: Mapping[int, int] = {_COMPLETED: 1_003_003, _ITERATION: 1_003_002, 0: 0}

    def __init__(self, calls: JobCalls) -> None:
        self._calls = calls
        self._under_way: ByDomain[int] = ByDomain()
        """The operation of each job that is under way; 0 until libvirt has told it."""
        self._ending: set[UUID] = set()
        """Domains of which libvirt said last that they have no job."""
        self._completed: dict[tuple[str, str], int] = {}
        self._downtime = Histogram(DOWNTIME, DOWNTIME_BUCKETS)
        self._duration = Histogram(DURATION, DURATION_BUCKETS)
        self._heard: Collection[int] = ()
        self._lock = threading.Lock()

    def attach(self, view: Inventory) -> None:
        """Hear the events of a live view. Cost: 2 calls more for each connection of the view.

        Raises:
            RuntimeError: the view was started already.
        """
        listen(view, self)

    def lines(self, labels: Mapping[UUID, str], deadline: float = 0.5) -> dict[str, str]:
        """Return the lines of the collector "job", by family.

        Args:
            labels: the finished label of each domain that exists (`domain="instance-00000001"`);
                what is known of other domains is dropped.
            deadline: seconds that the calls may take together. A guest that does not answer has no
                sample.

        Cost: 1 call for each guest with a job, over another connection, and 1 more the first time;
        no call where there is no job.
        """
        with self._lock:
            self._under_way.keep_only(labels)
            asked = [uuid for uuid in self._under_way if uuid in labels] if self._heard else []
        jobs = self._calls.ask(asked, deadline).jobs
        lines: dict[str, str] = {}
        for uuid, job in jobs.items():
            if job.is_under_way:
                for name, line in progress(labels[uuid], job.values).items():
                    lines[name] = lines.get(name, "") + line
        with self._lock:
            for uuid, job in jobs.items():
                self._heard_of(uuid, job)
            if _COMPLETED in self._heard:
                lines[COMPLETED] = "".join(map(_completed_line, self._completed.items()))
                lines[DOWNTIME] = self._downtime.lines()
                lines[DURATION] = self._duration.lines()
        return lines

    def _heard_of(self, uuid: UUID, job: Job) -> None:
        """Note whether a job goes on. The event of its end may come after the answer to a question.

        So a job counts as failed when libvirt has said twice that there is none, and no event told
        of its end in between.
        """
        if uuid not in self._under_way:
            return
        if job.is_under_way:
            self._ending.discard(uuid)
            self._under_way[uuid] = job.values.get("operation", 0)
        elif uuid in self._ending:
            self._count(self._under_way[uuid], "failure")
            self._forget(uuid)
        else:
            self._ending.add(uuid)

    def _count(self, operation: int, result: str) -> None:
        counted = _OPERATIONS.get(operation, "unknown"), result
        self._completed[counted] = self._completed.get(counted, 0) + 1

    def _forget(self, uuid: UUID) -> None:
        self._under_way.discard(uuid)
        self._ending.discard(uuid)

    # As a listener of the view

    def begin(self, kinds: Collection[int]) -> None:
        """Count the jobs that complete, from 0 on where none was counted before.

        Jobs that were under way before may have ended without being heard of, and are forgotten.
        """
        with self._lock:
            self._heard = kinds
            self._under_way.clear()
            self._ending.clear()
            for operation in _COMPLETE if _COMPLETED in kinds else ():
                for result in _RESULTS:
                    self._completed.setdefault((_OPERATIONS[operation], result), 0)

    def hear(self, kind: int, domain: libvirt.virDomain, *facts: Any) -> None:
        """Note that a job has begun or goes on, or has ended."""
        uuid = UUID(bytes=domain.UUID())
        with self._lock:
            if kind == _ITERATION:
                self._under_way.put(uuid, self._under_way.get(uuid, 0))
                self._ending.discard(uuid)
            elif kind == _COMPLETED:
                self._forget(uuid)
                self._complete(facts[0])
            elif facts[0] == _STOPPED:
                self._forget(uuid)

    def _complete(self, values: Mapping[str, Any]) -> None:
        is_well = bool(values.get("success", True))
        numbers = _numbers_in(values)
        operation = int(numbers.get("operation", 0))
        self._count(operation, _RESULTS[0] if is_well else _RESULTS[1])
        if is_well and operation == _MIGRATION_OUT:
            if "downtime" in numbers:
                self._downtime.observe(numbers["downtime"] * _MS)
            if "time_elapsed" in numbers:
                self._duration.observe(numbers["time_elapsed"] * _MS)

    def end(self) -> None:
        """Show no counters until the next connection: events are missed until then."""
        with self._lock:
            self._heard = ()


def progress(label: str, values: Mapping[str, Any]) -> dict[str, str]:
    """Return the lines of one job, by family.

    Args:
        label: the finished label of its domain.
        values: libvirt's, by the names of VIR_DOMAIN_JOB_*, and "type".
    """
    lines = {}
    values = _numbers_in(values)
    for row in _ROWS:
        value = values.get(row.field)
        if value is None or not all(values.get(other, 0) >= least for other, least in row.needs):
            continue
        if row.times is not None:
            if row.times not in values:
                continue
            value *= values[row.times]
        if row.factor != 1:
            value = round(value * row.factor, 6)
        name = _PREFIX + row.family
        lines[name] = f"{name}{{{label}}} {value}\n"
    return lines


def _numbers_in(values: Mapping[str, Any]) -> dict[str, float]:
    """Return the values that are numbers of libvirt's: finite, and not below 0."""
    return {
        name: value
        for name, value in values.items()
        if type(value) in (int, float) and 0 <= value < math.inf
    }


def _completed_line(counted: tuple[tuple[str, str], int]) -> str:
    (operation, result), count = counted
    return f'{COMPLETED}{{operation="{operation}",result="{result}"}} {count}\n'
