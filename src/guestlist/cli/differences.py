"""What is different between a domain as it was and as it is: in the columns of `guestlist ls`.

In: two instances. Out: a name, and both values, for each column where they differ; and for what no
column shows, the name of it alone. Pure.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime
from typing import NamedTuple

from guestlist.cli.columns import COLUMNS, Column, Guest, Record, Value, record
from guestlist.records import Details, Instance

SHOWN = tuple(column for column in COLUMNS.values() if column.name not in {"host", "age_seconds"})
"""The columns that tell of a domain alone: neither where it is, nor when that was asked."""

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
    "nova": ("Nova's metadata", _OF_NOVA),
    "namespaces": ("metadata", set[str]()),
    "unknown": ("what cannot be read", set[str]()),
}
"""Fields of `Details`: in words, and the columns that would show a difference."""


class Difference(NamedTuple):
    """`before` and `after` are values of the column; without one there are none to show."""

    name: str
    column: Column[Guest] | None = None
    before: Value = None
    after: Value = None


def shown(instance: Instance) -> Record:
    """The domain as a record: the keys of `guestlist ls -l -f json` but for host and age."""
    return record(SHOWN, Guest("", instance, datetime.min))


def differences(before: Instance, after: Instance) -> Iterator[Difference]:
    """Where the two differ.

    Details that were not read, or could not be, are compared with nothing: a domain that is found
    shut off by an event, and described a moment later, has not changed in between.
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
            if not found & columns and _field(before.details, name) != _field(after.details, name):
                yield Difference(words)


def _field(details: Details, name: str) -> object:
    """A field, but for what libvirt names anew at every start."""
    if name == "nics":
        return [replace(nic, target=None) for nic in details.nics]
    value: object = getattr(details, name)
    return value
