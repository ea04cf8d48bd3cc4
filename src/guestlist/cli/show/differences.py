"""What differs between a domain before and after, in the columns of `guestlist ls`.

In: two instances. Out: for each column in which they differ its name and both values; for a
difference that no column shows, a name alone. Pure.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import NamedTuple

from guestlist.cli.show.columns import COLUMNS, Column, DomainRow, Record, Value, record
from guestlist.records import Details, Instance

SHOWN = tuple(column for column in COLUMNS.values() if column.name not in {"host", "age_seconds"})
"""The columns about the domain alone: neither its host nor the time of the question."""

_OF_NOVA = {
    "ips",
    "nova_name",
    "flavor",
    "project",
    "project_id",
    "user",
    "user_id",
    "created_at",
}

_BEHIND = {
    "vcpus": ("maximum vCPUs", {"vcpus"}),
    "memory_kib": ("maximum memory", {"memory_mib"}),
    "max_memory_kib": ("room for memory", set[str]()),
    "disks": ("disks", {"disks"}),
    "nics": ("interfaces", {"macs"}),
    "os": ("machine", set[str]()),
    "agent_connected": ("guest agent", set[str]()),
    "nova": ("Nova's metadata", _OF_NOVA),
    "namespaces": ("metadata", set[str]()),
    "unknown": ("what cannot be read", set[str]()),
}
"""Fields of `Details`: their names for people, and the columns that would show a difference."""


class Difference(NamedTuple):
    """One difference. `before` and `after` are values of the column; None without a column."""

    name: str
    column: Column[DomainRow] | None = None
    before: Value = None
    after: Value = None


def shown(instance: Instance) -> Record:
    """Return the domain as a record: `guestlist ls -l -f json` without the host and the age."""
    return record(SHOWN, DomainRow("", instance))


def differences(before: Instance, after: Instance) -> Iterator[Difference]:
    """Yield where the two differ.

    Details are compared only if both instances have them. A domain may be seen first without its
    details, after an event, and with them a moment later: that is no difference.
    """
    comparable = before.details is not None and after.details is not None
    was, now = shown(before), shown(after)
    found = {
        column.name
        for column in SHOWN
        if was[column.name] != now[column.name] and (comparable or not column.details)
    }
    for column in SHOWN:
        if column.name in found:
            yield Difference(column.name, column, was[column.name], now[column.name])
    if before.details is not None and after.details is not None:
        for name, (words, columns) in _BEHIND.items():
            if not found & columns and _differ(name, before.details, after.details):
                yield Difference(words)


def _differ(name: str, before: Details, after: Details) -> bool:
    was, now = _field(before, name), _field(after, name)
    if name == "agent_connected" and None in (was, now):
        return False  # the domain has started or stopped, and that is told
    return was != now


def _field(details: Details, name: str) -> object:
    """Return a field, without the names that libvirt gives interfaces at each start."""
    if name == "nics":
        return [replace(nic, target=None) for nic in details.nics]
    value: object = getattr(details, name)
    return value
