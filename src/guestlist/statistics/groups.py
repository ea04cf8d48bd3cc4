"""Groups of statistics: their names, libvirt's bits, and whether a guest has answered. Pure.

In: names of groups, and what libvirt told of one guest. Out: the bits of a call; whether the record
holds what only the guest can tell. Makes no call. A key that is not known here stays as it is.

Source: libvirt src/qemu/qemu_driver.c (qemuDomainGetStats*); which keys a guest leaves out while
its monitor is not available: measured on libvirt 9.0.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from guestlist.statistics.reading import Values


@dataclass(frozen=True, slots=True)
class Group:
    """A group: libvirt's bit, and whether a record holds what only the guest can tell.

    `at_least` is a key that is in the record also where the guest was passed over. Where that key
    is missing too, this libvirt does not have the group.
    """

    bit: int
    is_there: Callable[[Values], bool]
    at_least: str | None = None


def _has(key: str) -> Callable[[Values], bool]:
    return lambda values: key in values


def _has_blocks(values: Values) -> bool:
    """A guest answers for all its disks at once; libvirt itself tells their names and paths."""
    return values.get("block.count") == 0 or any(key.endswith(".rd.reqs") for key in values)


def _anything(_values: Values) -> bool:
    return True


GROUPS: dict[str, Group] = {
    "cpu-total": Group(1 << 1, _has("cpu.time")),
    "balloon": Group(1 << 2, _has("balloon.rss"), "balloon.current"),
    "vcpu": Group(1 << 3, _has("vcpu.current")),
    "interface": Group(1 << 4, _anything),
    "block": Group(1 << 5, _has_blocks, "block.count"),
    "perf": Group(1 << 6, _anything),
    "iothread": Group(1 << 7, _anything),
    "memory": Group(1 << 8, _anything),
    "dirtyrate": Group(1 << 9, _has("dirtyrate.calc_status")),
    "vm": Group(1 << 10, _anything),
}
"""The groups, by their names in `virsh domstats` (`--block`)."""


def chosen(names: Iterable[str]) -> tuple[Group, ...]:
    """Return the groups of these names.

    Raises:
        ValueError: there is no group of one of the names.
    """
    names = tuple(names)
    for name in names:
        if name not in GROUPS:
            raise ValueError(
                f"there is no statistics group {name!r}; there are {', '.join(GROUPS)}"
            )
    return tuple(GROUPS[name] for name in names)


def bits_of(groups: Iterable[Group]) -> int:
    """Return the bits of all these groups, as libvirt's call takes them."""
    bits = 0
    for group in groups:
        bits |= group.bit
    return bits


def is_complete(values: Values, groups: Iterable[Group]) -> bool:
    """Return whether a record holds what only the guest can tell, for each group."""
    return all(group.is_there(values) for group in groups)


def is_passed_over(values: Values, groups: Iterable[Group]) -> bool:
    """Return whether libvirt has a group, and this guest did not answer for it."""
    return any(group.at_least in values and not group.is_there(values) for group in groups)
