"""libvirt's statistics of one guest to samples: the table of keys. Pure.

In: libvirt's names and values ("block.0.rd.bytes": 512), and the labels of the guest. Out: lines by
family. A key that is missing has no sample; a key that the table lacks is left out; a value that is
not of its type has no sample. A disk or a network interface without a name has none either, and of
two with one name the first has all. What a newer libvirt tells is a row here.

Source: libvirt include/libvirt/libvirt-domain.h, VIR_DOMAIN_STATS_* of 12.8 (keys, units, and since
which release). The file name "core_energy" is the Linux kernel's (resctrl, 7.0).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from typing import Any, NamedTuple

from guestlist.exporter.exposition import Lines, label, sample
from guestlist.exporter.labels import GuestLabels
from guestlist.statistics.reading import Values


def _count(value: object) -> int | None:
    return value if type(value) is int and value >= 0 else None


def _seconds(value: object) -> float | None:
    return value / 1_000_000_000 if type(value) is int and value >= 0 else None


def _bytes(value: object) -> int | None:
    return value * 1_024 if type(value) is int and value >= 0 else None


def _flag(value: object) -> int | None:
    return int(value) if isinstance(value, bool) else None


def _real(value: object) -> float | None:
    return value if type(value) in (int, float) and 0 <= value < float("inf") else None  # type: ignore[operator,return-value]


class Row(NamedTuple):
    """One row: the family that a key becomes, and how."""

    family: str
    convert: Callable[[Any], float | None]
    labels: str = ""
    """Labels that the key itself tells, after those of guest and device."""


_OPERATIONS = {"rd": "read", "wr": "write", "flush": "flush", "zone_append": "zone_append"}
_EXTREMES = {"min": "minimum", "max": "maximum", "avg": "average"}

_MEMORY = "libvirt_domain_memory_stats_"
_DISK = "libvirt_domain_block_stats_"
_NIC = "libvirt_domain_interface_stats_"
_VCPU = "libvirt_domain_vcpu_"

KEYS: Mapping[str, Row] = {
    "cpu.time": Row("libvirt_domain_info_cpu_time_seconds_total", _seconds),
    "cpu.user": Row("libvirt_domain_cpu_user_seconds_total", _seconds),
    "cpu.system": Row("libvirt_domain_cpu_system_seconds_total", _seconds),
    "cpu.haltpoll.success.time": Row("libvirt_domain_cpu_haltpoll_success_seconds_total", _seconds),
    "cpu.haltpoll.fail.time": Row("libvirt_domain_cpu_haltpoll_fail_seconds_total", _seconds),
    "cpu.energy.monitor.N.pkg.M.core_energy": Row("libvirt_domain_cpu_energy_joules_total", _real),
    "vcpu.current": Row(f"{_VCPU}current", _count),
    "vcpu.maximum": Row(f"{_VCPU}maximum", _count),
    "vcpu.N.state": Row(f"{_VCPU}state", _count),
    "vcpu.N.halted": Row(f"{_VCPU}halted", _flag),
    "vcpu.N.time": Row(f"{_VCPU}time_seconds_total", _seconds),
    "vcpu.N.wait": Row(f"{_VCPU}wait_seconds_total", _seconds),
    "vcpu.N.delay": Row(f"{_VCPU}delay_seconds_total", _seconds),
    "balloon.current": Row(f"{_MEMORY}current_balloon_bytes", _bytes),
    "balloon.maximum": Row(f"{_MEMORY}maximum_bytes", _bytes),
    "balloon.available": Row(f"{_MEMORY}available_bytes", _bytes),
    "balloon.usable": Row(f"{_MEMORY}usable_bytes", _bytes),
    "balloon.unused": Row(f"{_MEMORY}unused_bytes", _bytes),
    "balloon.disk_caches": Row(f"{_MEMORY}disk_caches_bytes", _bytes),
    "balloon.rss": Row(f"{_MEMORY}rss_bytes", _bytes),
    "balloon.swap_in": Row(f"{_MEMORY}swap_in_bytes", _bytes),
    "balloon.swap_out": Row(f"{_MEMORY}swap_out_bytes", _bytes),
    "balloon.major_fault": Row(f"{_MEMORY}major_fault_total", _count),
    "balloon.minor_fault": Row(f"{_MEMORY}minor_fault_total", _count),
    "balloon.hugetlb_pgalloc": Row(f"{_MEMORY}hugetlb_pgalloc_total", _count),
    "balloon.hugetlb_pgfail": Row(f"{_MEMORY}hugetlb_pgfail_total", _count),
    "balloon.last-update": Row(f"{_MEMORY}last_update_timestamp_seconds", _count),
    "block.N.rd.bytes": Row(f"{_DISK}read_bytes_total", _count),
    "block.N.rd.reqs": Row(f"{_DISK}read_requests_total", _count),
    "block.N.rd.times": Row(f"{_DISK}read_time_seconds_total", _seconds),
    "block.N.wr.bytes": Row(f"{_DISK}write_bytes_total", _count),
    "block.N.wr.reqs": Row(f"{_DISK}write_requests_total", _count),
    "block.N.wr.times": Row(f"{_DISK}write_time_seconds_total", _seconds),
    "block.N.fl.reqs": Row(f"{_DISK}flush_requests_total", _count),
    "block.N.fl.times": Row(f"{_DISK}flush_time_seconds_total", _seconds),
    "block.N.errors": Row(f"{_DISK}errors_total", _count),
    "block.N.capacity": Row(f"{_DISK}capacity_bytes", _count),
    "block.N.allocation": Row(f"{_DISK}allocation_bytes", _count),
    "block.N.physical": Row(f"{_DISK}physicalsize_bytes", _count),
    "block.N.threshold": Row(f"{_DISK}threshold_bytes", _count),
    **{
        f"block.N.timed_group.M.{key}_latency_{which}": Row(
            f"libvirt_domain_block_timed_latency_{words}_seconds",
            _seconds,
            label("operation", operation),
        )
        for key, operation in _OPERATIONS.items()
        for which, words in _EXTREMES.items()
    },
    **{
        f"block.N.timed_group.M.{key}_queue_depth_avg": Row(
            "libvirt_domain_block_timed_queue_depth_average", _real, label("operation", operation)
        )
        for key, operation in _OPERATIONS.items()
    },
    "net.N.rx.bytes": Row(f"{_NIC}receive_bytes_total", _count),
    "net.N.rx.pkts": Row(f"{_NIC}receive_packets_total", _count),
    "net.N.rx.errs": Row(f"{_NIC}receive_errors_total", _count),
    "net.N.rx.drop": Row(f"{_NIC}receive_drops_total", _count),
    "net.N.tx.bytes": Row(f"{_NIC}transmit_bytes_total", _count),
    "net.N.tx.pkts": Row(f"{_NIC}transmit_packets_total", _count),
    "net.N.tx.errs": Row(f"{_NIC}transmit_errors_total", _count),
    "net.N.tx.drop": Row(f"{_NIC}transmit_drops_total", _count),
}
"""By libvirt's key, with N and M in the place of its numbers."""

_NUMBERED = re.compile(r"(block|vcpu|net)\.(0|[1-9][0-9]{0,9})\.(.+)")
_ENERGY = re.compile(r"cpu\.energy\.monitor\.(0|[1-9][0-9]{0,9})\.pkg\.(0|[1-9][0-9]{0,9})\.(.+)")
_TIMED = re.compile(r"timed_group\.(0|[1-9][0-9]{0,9})\.(.+)")
_LATENCIES = re.compile(
    r"block\.(0|[1-9][0-9]{0,9})\.latency_histogram\.(read|write|flush|zone_append)"
    r"\.bin\.(0|[1-9][0-9]{0,9})\.(start|value)"
)

_LATENCY = "libvirt_domain_block_latency_seconds"
_USED = f"{_MEMORY}used_percent"


class _Step(NamedTuple):
    """What becomes of one key of one guest."""

    family: str
    convert: Callable[[Any], float | None]
    start: str
    """The line as far as the value: name and labels."""


class Reader:
    """Reads the statistics of one guest, time and again.

    It keeps the beginning of each line. That is made again when a device has another name.
    """

    __slots__ = ("_has_latencies", "_names", "_of", "_steps", "_taken")

    def __init__(self, of: GuestLabels) -> None:
        self._of = of
        self._forget()

    def _forget(self) -> None:
        self._steps: dict[str, _Step | None] = {}
        self._names: dict[str, object] = {}
        """Texts that are in the labels, by their keys: names of devices, and intervals."""
        self._taken: dict[str, str] = {}
        """By labels: the place in libvirt's answer that has them first."""
        self._has_latencies = False

    def lines(self, values: Values) -> Lines:
        """Return the lines that these statistics give, of any groups. Cost: no call."""
        if any(values.get(key) != name for key, name in self._names.items()):
            self._forget()
        lines: dict[str, str] = {}
        steps = self._steps
        for key, value in values.items():  # 70 times for each guest: what is short here is fast
            step = steps[key] if key in steps else self._add(key, values)
            if step is not None and (converted := step.convert(value)) is not None:
                family = step.family
                line = f"{step.start}{converted}\n"
                lines[family] = lines[family] + line if family in lines else line
        if (used := _used_percent(values)) is not None:
            lines[_USED] = sample(_USED, self._of.guest, used)
        if self._has_latencies:
            lines[_LATENCY] = "".join(self._latencies(values))
        return lines

    def _add(self, key: str, values: Values) -> _Step | None:
        """Return what becomes of a key that is new, and keep it."""
        step = None
        found = _row_of(key)
        if found is not None:
            row, group, numbers = found
            its_labels = self._labels(group, numbers, values)
            if its_labels is not None:
                its_labels = f"{its_labels},{row.labels}" if row.labels else its_labels
                step = _Step(row.family, row.convert, f"{row.family}{{{its_labels}}} ")
        elif _LATENCIES.fullmatch(key):
            self._has_latencies = True
        self._steps[key] = step
        return step

    def _labels(self, group: str, numbers: tuple[int, ...], values: Values) -> str | None:
        """Return the labels of a key with these numbers; None for a device without its own name."""
        if not numbers:
            return self._of.guest
        if group == "energy":
            monitor = self._name(f"cpu.energy.monitor.{numbers[0]}.name", values)
            package = self._name(f"cpu.energy.monitor.{numbers[0]}.pkg.{numbers[1]}.id", values)
            if not monitor:
                return None
            of_it = f"{self._of.guest},{label('monitor', monitor)},{label('package', package)}"
            return self._first(of_it, f"{group}.{numbers}")
        its_labels = self._device(group, numbers[0], values)
        if its_labels is None or len(numbers) == 1:
            return its_labels
        interval = self._name(f"{group}.{numbers[0]}.timed_group.{numbers[1]}.interval", values)
        if not interval:
            return None
        its_labels = f"{its_labels},{label('interval', interval)}"
        return self._first(its_labels, f"{group}.{numbers}")

    def _first(self, its_labels: str, place: str) -> str | None:
        """Return the labels to the place that has them first, and None to every other place."""
        return its_labels if self._taken.setdefault(its_labels, place) == place else None

    def _device(self, group: str, number: int, values: Values) -> str | None:
        """Return the labels of a device; None if it has no name, or the name of one before it."""
        if group == "vcpu":
            return self._of.vcpu(number)
        key = f"{group}.{number}.name"
        name = self._name(key, values)
        if not name:
            return None
        its_labels = self._of.disk(name) if group == "block" else self._of.nic(name)
        return None if self._first(f"{group} {its_labels}", key) is None else its_labels

    def _name(self, key: str, values: Values) -> str:
        """Return a text for a label; empty if libvirt does not tell it."""
        found = self._names[key] = values.get(key)
        return str(found) if isinstance(found, str | int) else ""

    def _latencies(self, values: Values) -> Iterator[str]:
        """Yield the latency histograms of the disks: libvirt's bins, added up as Prometheus does.

        A bin begins at its start and ends where the next one begins; the last one has no end.
        """
        bins: dict[tuple[int, str], dict[int, dict[str, int]]] = {}
        for key, value in values.items():
            found = _LATENCIES.fullmatch(key)
            if found and (number := _count(value)) is not None:
                histogram = bins.setdefault((int(found[1]), found[2]), {})
                histogram.setdefault(int(found[3]), {})[found[4]] = number
        for (disk, operation), histogram in sorted(bins.items()):
            its_labels = self._device("block", disk, values)
            if its_labels is not None:
                yield from _buckets(f"{its_labels},{label('operation', operation)}", histogram)


@lru_cache(maxsize=16_384)
def _row_of(key: str) -> tuple[Row, str, tuple[int, ...]] | None:
    """Return the row of a key, what its numbers count, and the numbers; None if there is none."""
    group, pattern = "", key
    numbers: tuple[int, ...] = ()
    if energy := _ENERGY.fullmatch(key):
        group, numbers = "energy", (int(energy[1]), int(energy[2]))
        pattern = f"cpu.energy.monitor.N.pkg.M.{energy[3]}"
    elif numbered := _NUMBERED.fullmatch(key):
        group, numbers = numbered[1], (int(numbered[2]),)
        pattern = f"{group}.N.{numbered[3]}"
        if timed := _TIMED.fullmatch(numbered[3]):
            numbers = *numbers, int(timed[1])
            pattern = f"{group}.N.timed_group.M.{timed[2]}"
    row = KEYS.get(pattern)
    return None if row is None else (row, group, numbers)


def _used_percent(values: Values) -> float | None:
    """Return the share of memory in use, 0 to 100; None where the guest does not tell it."""
    available = _count(values.get("balloon.available"))
    usable = _count(values.get("balloon.usable"))
    if not available or usable is None or usable > available:
        return None
    return (available - usable) / available * 100


def _buckets(its_labels: str, histogram: Mapping[int, Mapping[str, int]]) -> Iterator[str]:
    whole = [each for each in histogram.values() if len(each) == len(("start", "value"))]
    in_order = sorted(whole, key=lambda each: each["start"])
    if not in_order or len(whole) != len(histogram):
        return
    total = 0
    ends = [*(str(each["start"] / 1_000_000_000) for each in in_order[1:]), "+Inf"]
    for end, each in zip(ends, in_order, strict=True):
        total += each["value"]
        yield sample(f"{_LATENCY}_bucket", f"{its_labels},{label('le', end)}", total)
    yield sample(f"{_LATENCY}_count", its_labels, total)
