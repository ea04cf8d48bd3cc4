"""Statistics to records: libvirt's names and values, typed.

In: what libvirt answered for one domain (`Instance.statistics`): a flat mapping of names such as
"block.0.rd.bytes". Out: a record for each disk, vCPU and interface, and one for the balloon and the
processor time. A field has libvirt's name (`rd_bytes` for
"rd.bytes") and libvirt's unit. A key that
libvirt did not tell, or whose value is not of its type, is None; a key that is not known here is
ignored. Nothing is counted by `block.count` and its like: a domain has the disks whose keys are
there, so no number that a daemon writes makes this allocate anything.

A guest that is busy or stuck is passed over: its record has the names of its disks, and None for
its counters. None is never 0: a counter that falls to 0 is one that was reset.

Source: libvirt src/libvirt-domain.c (virConnectGetAllDomainStats); since which release each name
exists is said there. libvirt's unsigned numbers are below 2^64.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any, TypeGuard, TypeVar

from guestlist.errors import NotSupported
from guestlist.records import Snapshot

Values = Mapping[str, Any]
"""libvirt's names ("balloon.current", "block.0.rd.bytes") and values: int, bool, float or str."""

Counters = tuple[int, int, int, int]
"""Of a disk: requests and bytes read, requests and bytes written, as `virDomain.blockStats`."""

_R = TypeVar("_R")

_UINT64 = 2**64


@dataclass(frozen=True, slots=True)
class Block:
    """One disk (group "block").

    `index` is the N of "block.N", which changes when disks are plugged: name the disk by `name`.
    Where backing images are listed too, they have the name of their disk and come after it.
    """

    index: int
    name: str | None = None
    """libvirt's name for the disk: vda."""
    path: str | None = None
    """The file or the device; None for a network disk, and for a drive without a medium."""
    backing_index: int | None = None
    """libvirt's index of the image: the one in its XML."""
    rd_reqs: int | None = None
    """Read requests since the start."""
    rd_bytes: int | None = None
    """Bytes read since the start."""
    rd_times: int | None = None
    """Nanoseconds spent on reads since the start."""
    wr_reqs: int | None = None
    """Write requests since the start."""
    wr_bytes: int | None = None
    """Bytes written since the start."""
    wr_times: int | None = None
    """Nanoseconds spent on writes since the start."""
    fl_reqs: int | None = None
    """Flush requests since the start."""
    fl_times: int | None = None
    """Nanoseconds spent on flushes since the start."""
    errors: int | None = None
    """Errors since the start (Xen only)."""
    allocation: int | None = None
    """Bytes: the offset of the highest sector that was written."""
    capacity: int | None = None
    """Bytes that the guest sees."""
    physical: int | None = None
    """Bytes of the file or the device."""
    threshold: int | None = None
    """Bytes: an event is sent when `allocation` passes this; None without a threshold."""


@dataclass(frozen=True, slots=True)
class Vcpu:
    """One vCPU (group "vcpu"). libvirt lists those that are plugged in; indexes may have gaps."""

    index: int
    state: int | None = None
    """virVcpuState: 0 offline, 1 running, 2 blocked. None where libvirt cannot tell (no KVM)."""
    time: int | None = None
    """Nanoseconds that it ran since the start."""
    wait: int | None = None
    """Nanoseconds that it waited for I/O since the start (Linux, with schedstats)."""
    halted: bool | None = None
    """Whether the guest halted it (QEMU 2.12 and newer)."""
    delay: int | None = None
    """Nanoseconds that it waited for a processor of the host: what its guest calls steal."""


@dataclass(frozen=True, slots=True)
class Interface:
    """One network interface (group "interface"). `rx` is what the guest received."""

    index: int
    name: str | None = None
    """The device on the host: tap…."""
    rx_bytes: int | None = None
    """Bytes received since the start."""
    rx_pkts: int | None = None
    """Packets received since the start."""
    rx_errs: int | None = None
    """Errors on receipt since the start."""
    rx_drop: int | None = None
    """Packets dropped on receipt since the start."""
    tx_bytes: int | None = None
    """Bytes sent since the start."""
    tx_pkts: int | None = None
    """Packets sent since the start."""
    tx_errs: int | None = None
    """Errors on sending since the start."""
    tx_drop: int | None = None
    """Packets dropped on sending since the start."""


@dataclass(frozen=True, slots=True)
class Balloon:
    """The memory of a domain, in KiB (group "balloon").

    All but `current`, `maximum` and `rss` come from the balloon driver in the guest: they are None
    without one, and as old as `last_update` says.
    """

    current: int | None = None
    """KiB that the domain has now."""
    maximum: int | None = None
    """KiB that the domain may have."""
    swap_in: int | None = None
    """KiB that the guest read from swap since its boot."""
    swap_out: int | None = None
    """KiB that the guest wrote to swap since its boot."""
    major_fault: int | None = None
    """Page faults that needed a disk, since the guest's boot."""
    minor_fault: int | None = None
    """Page faults that needed none, since the guest's boot."""
    unused: int | None = None
    """KiB that nothing in the guest uses."""
    available: int | None = None
    """KiB that the guest sees."""
    usable: int | None = None
    """KiB that the guest can give away without swapping."""
    last_update: int | None = None
    """Seconds since the epoch when the guest last told these numbers."""
    disk_caches: int | None = None
    """KiB of caches that the guest can drop."""
    hugetlb_pgalloc: int | None = None
    """Huge pages that the guest allocated since its boot."""
    hugetlb_pgfail: int | None = None
    """Huge pages that the guest could not allocate since its boot."""
    rss: int | None = None
    """KiB of the host's memory that the process of the domain occupies."""


@dataclass(frozen=True, slots=True)
class CpuTotal:
    """The processor time of a domain since its start (group "cpu-total")."""

    time: int | None = None
    """Nanoseconds in all."""
    user: int | None = None
    """Nanoseconds in user space."""
    system: int | None = None
    """Nanoseconds in the kernel."""
    haltpoll_success_time: int | None = None
    """Nanoseconds of polling in halt that ended with work."""
    haltpoll_fail_time: int | None = None
    """Nanoseconds of polling in halt that ended without."""


def blocks_in(values: Values) -> tuple[Block, ...]:
    """Return the disks, by index. Cost: none."""
    return _indexed(Block, "block", values)


def vcpus_in(values: Values) -> tuple[Vcpu, ...]:
    """Return the vCPUs, by index; empty where libvirt tells only how many there are. Cost: none."""
    return _indexed(Vcpu, "vcpu", values)


def interfaces_in(values: Values) -> tuple[Interface, ...]:
    """Return the network interfaces, by index. Cost: none."""
    return _indexed(Interface, "net", values)


def balloon_in(values: Values) -> Balloon | None:
    """Return the memory; None where libvirt told nothing of it. Cost: none."""
    return _single(Balloon, "balloon", values)


def cpu_total_in(values: Values) -> CpuTotal | None:
    """Return the processor time; None where libvirt told nothing of it. Cost: none."""
    return _single(CpuTotal, "cpu", values)


def counters_in(values: Values) -> dict[str, Counters]:
    """Return the counters of the disks, by libvirt's name for the disk ("vda").

    A disk that has no name, or lacks one of its counters, is left out. Cost: none.
    """
    found: dict[str, Counters] = {}
    for block in blocks_in(values):
        counted = block.rd_reqs, block.rd_bytes, block.wr_reqs, block.wr_bytes
        if block.name is not None and _is_whole(counted):
            found.setdefault(block.name, counted)  # the images of its chain come after it
    return found


def _is_whole(counted: tuple[int | None, ...]) -> TypeGuard[Counters]:
    return None not in counted


def tells_of_disks(snapshot: Snapshot) -> bool:
    """Return whether this libvirt has bulk statistics of disks: those of 1.2.8 are of states alone.

    The snapshot is one with the group "block". Cost: none.
    """
    if isinstance(snapshot.statistics_failure, NotSupported):
        return False
    told = [each.statistics for each in snapshot.values() if each.statistics is not None]
    return not told or any("block.count" in values for values in told)


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _flag(value: object) -> bool | None:
    return value if isinstance(value, bool) else None


def _count(value: object) -> int | None:
    """Return an unsigned number of libvirt's; None for a bool, which Python counts as a number."""
    return value if type(value) is int and 0 <= value < _UINT64 else None


_CHECKS: Mapping[object, Callable[[object], Any]] = {
    "int | None": _count,
    "str | None": _text,
    "bool | None": _flag,
}
"""What a value has to be, by the type of its field."""

_Keys = Mapping[str, tuple[str, Callable[[object], Any]]]
"""By libvirt's key, without the group and the index: the field, and what its value has to be."""


def _keys(kind: type, **otherwise: str) -> _Keys:
    """Return the keys of a record: libvirt writes a dot for `_`, or `otherwise`."""
    return {
        otherwise.get(field.name, field.name.replace("_", ".")): (field.name, _CHECKS[field.type])
        for field in fields(kind)
        if field.name != "index"
    }


_KEYS: Mapping[type, _Keys] = {
    Block: _keys(Block, backing_index="backingIndex"),
    Vcpu: _keys(Vcpu),
    Interface: _keys(Interface),
    Balloon: _keys(
        Balloon,
        last_update="last-update",
        **{field.name: field.name for field in fields(Balloon) if field.name != "last_update"},
    ),
    CpuTotal: _keys(CpuTotal),
}

_is_index = re.compile(r"0|[1-9][0-9]{0,9}").fullmatch
"""libvirt's indexes are below 2^32."""


def _indexed(kind: type[_R], group: str, values: Values) -> tuple[_R, ...]:
    """Return the records of "GROUP.N.…", by N."""
    keys, prefix = _KEYS[kind], f"{group}."
    found: dict[int, dict[str, Any]] = {}
    for key, value in values.items():
        if key.startswith(prefix):
            number, _, name = key[len(prefix) :].partition(".")
            if name in keys and _is_index(number):
                field, check = keys[name]
                found.setdefault(int(number), {})[field] = check(value)
    make: Callable[..., _R] = kind
    return tuple(make(index, **facts) for index, facts in sorted(found.items()))


def _single(kind: type[_R], group: str, values: Values) -> _R | None:
    keys, make = _KEYS[kind], kind
    facts = {
        field: check(values[f"{group}.{key}"])
        for key, (field, check) in keys.items()
        if f"{group}.{key}" in values
    }
    return make(**facts) if facts else None
