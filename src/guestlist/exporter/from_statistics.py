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
_ENERGY = re.compile(r"cpu\.energy\.monitor\.([0-9]{1,10})\.pkg\.([0-9]{1,10})\.(.+)")
_TIMED = re.compile(r"timed_group\.(0|[1-9][0-9]{0,9})\.(.+)")
_LATENCIES = re.compile(
    r"block\.(0|[1-9][0-9]{0,9})\.latency_histogram\.(read|write|flush|zone_append)"
    r"\.bin\.(0|[1-9][0-9]{0,9})\.(start|value)"
)


class _Route(NamedTuple):
    """Where one key leads: its row, and the numbers in it."""

    row: Row
    group: str = ""
    """"block", "net" or "vcpu"; empty for a key of the guest itself."""
    index: int = 0
    inner: int | None = None
    """The number of the timed group, or of the energy monitor."""
    package: int = 0


_routes: dict[str, _Route | None] = {}
"""By key: what was found for it; guests share their keys."""

_MOST_ROUTES = 20_000


def _route(key: str) -> _Route | None:
    """Return where a key leads; None for one that the table lacks."""
    try:
        return _routes[key]
    except KeyError:
        if len(_routes) >= _MOST_ROUTES:
            _routes.clear()
        found = _routes[key] = _found(key)
        return found


def _found(key: str) -> _Route | None:
    if key in KEYS:
        return _Route(KEYS[key])
    if energy := _ENERGY.fullmatch(key):
        row = KEYS.get(f"cpu.energy.monitor.N.pkg.M.{energy[3]}")
        return _Route(row, inner=int(energy[1]), package=int(energy[2])) if row else None
    numbered = _NUMBERED.fullmatch(key)
    if numbered is None:
        return None
    group, index, rest = numbered[1], int(numbered[2]), numbered[3]
    if timed := _TIMED.fullmatch(rest):
        row = KEYS.get(f"{group}.N.timed_group.M.{timed[2]}")
        return _Route(row, group, index, int(timed[1])) if row else None
    row = KEYS.get(f"{group}.N.{rest}")
    return _Route(row, group, index) if row else None


def lines_of(values: Values, of: GuestLabels) -> Lines:
    """Return the lines that a guest's statistics give. Cost: none.

    Args:
        values: libvirt's names and values, of any groups.
        of: the labels of the guest.
    """
    lines: dict[str, str] = {}
    devices = _Devices(values, of)
    for key, value in values.items():
        route = _route(key)
        if route is None:
            continue
        converted = route.row.convert(value)
        if converted is None:
            continue
        its_labels = devices.labels(route)
        if its_labels is not None:
            family = route.row.family
            lines[family] = lines.get(family, "") + sample(family, its_labels, converted)
    if (used := _used_percent(values)) is not None:
        lines[f"{_MEMORY}used_percent"] = sample(f"{_MEMORY}used_percent", of.guest, used)
    if latencies := _latencies(values, devices):
        lines[_LATENCY] = latencies
    return lines


class _Devices:
    """The labels of a guest's devices, by libvirt's number for them."""

    def __init__(self, values: Values, of: GuestLabels) -> None:
        self._values = values
        self._of = of
        self._named: dict[tuple[str, int], str | None] = {}
        self._taken: dict[tuple[str, str], int] = {}

    def labels(self, route: _Route) -> str | None:
        """Return the labels of a sample; None for a device without a name of its own."""
        its_labels: str | None = self._of.guest
        if route.group:
            its_labels = self.device(route.group, route.index)
        if its_labels is not None and route.inner is not None:
            its_labels = self._inner(its_labels, route)
        if its_labels is None or not route.row.labels:
            return its_labels
        return f"{its_labels},{route.row.labels}"

    def device(self, group: str, index: int) -> str | None:
        """Return the labels of a device; None for one without a name of its own."""
        place = group, index
        if place not in self._named:
            self._named[place] = self._name_of(group, index)
        return self._named[place]

    def _name_of(self, group: str, index: int) -> str | None:
        if group == "vcpu":
            return self._of.vcpu(index)
        name = self._values.get(f"{group}.{index}.name")
        if not isinstance(name, str) or not name:
            return None
        if self._taken.setdefault((group, name), index) != index:
            return None
        return self._of.disk(name) if group == "block" else self._of.nic(name)

    def _inner(self, its_labels: str, route: _Route) -> str | None:
        if route.group:
            interval = self._values.get(
                f"{route.group}.{route.index}.timed_group.{route.inner}.interval"
            )
            if _count(interval) is None:
                return None
            return f"{its_labels},{label('interval', str(interval))}"
        monitor = self._values.get(f"cpu.energy.monitor.{route.inner}.name", route.inner)
        package = f"cpu.energy.monitor.{route.inner}.pkg.{route.package}.id"
        number = self._values.get(package, route.package)
        return f"{its_labels},{label('monitor', str(monitor))},{label('package', str(number))}"


def _used_percent(values: Values) -> float | None:
    """Return the share of memory in use, 0 to 100; None where the guest does not tell it."""
    available, usable = values.get("balloon.available"), values.get("balloon.usable")
    if _count(available) is None or _count(usable) is None or not 0 < available >= usable:
        return None
    return (available - usable) / available * 100


_LATENCY = "libvirt_domain_block_latency_seconds"


def _latencies(values: Values, devices: _Devices) -> str:
    """Return the latency histograms of the disks: libvirt's bins, added up as Prometheus has them.

    A bin begins at its start and ends where the next one begins; the last one has no end.
    """
    if not any(key.startswith("block.0.latency_histogram.") for key in values):
        return ""
    bins: dict[tuple[int, str], dict[int, dict[str, int]]] = {}
    for key, value in values.items():
        found = _LATENCIES.fullmatch(key)
        if found and (number := _count(value)) is not None:
            histogram = bins.setdefault((int(found[1]), found[2]), {})
            histogram.setdefault(int(found[3]), {})[found[4]] = number
    return "".join(
        line
        for (disk, operation), histogram in sorted(bins.items())
        if (its_labels := devices.device("block", disk)) is not None
        for line in _buckets(f"{its_labels},{label('operation', operation)}", histogram)
    )


def _buckets(its_labels: str, histogram: Mapping[int, Mapping[str, int]]) -> Iterator[str]:
    whole = [each for each in histogram.values() if len(each) == len(("start", "value"))]
    in_order = sorted(whole, key=lambda each: each["start"])
    if not in_order or len(whole) != len(histogram):
        return
    total = 0
    ends = [*(f"{each['start'] / 1e9:g}" for each in in_order[1:]), "+Inf"]
    for end, each in zip(ends, in_order, strict=True):
        total += each["value"]
        yield sample(f"{_LATENCY}_bucket", f"{its_labels},{label('le', end)}", total)
    yield sample(f"{_LATENCY}_count", its_labels, total)
