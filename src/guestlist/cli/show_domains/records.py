"""A domain for programs: what JSON and YAML carry, described by docs/schemas/show.schema.json.

In: a domain that was found. Out: an object of plain values. Its keys are those of `guestlist ls`,
those of `guestlist usage` for disks, and `details`, which has the names of `guestlist.Details`: a
field that is added there appears here.
"""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from datetime import datetime
from enum import StrEnum
from ipaddress import IPv4Address, IPv6Address
from typing import Any
from uuid import UUID

from guestlist.cli.show import words
from guestlist.cli.show.columns import COLUMNS, record
from guestlist.cli.show_domains.found import FoundDomain
from guestlist.records import Details

_SAID_BEFORE = {"uuid", "name", "id", "xml", "unknown"}
"""The fields of `Details` that are not in `details`: the domain itself has them."""


def domain_record(found: FoundDomain) -> dict[str, Any]:
    """Return the object of one domain."""
    instance, used = found.row.instance, found.usage
    return {
        **record(COLUMNS.values(), found.row),
        "ours": instance.ours,
        "disk_virtual_bytes": used.disk_virtual_bytes,
        "disk_allocated_bytes": used.disk_allocated_bytes,
        "disk_over_committed_bytes": used.disk_over_committed_bytes,
        "unknown": found.unknown,
        "details": None if instance.details is None else _details(instance.details, found),
    }


def _details(details: Details, found: FoundDomain) -> dict[str, Any]:
    disks = []
    for disk in details.disks:
        virtual, allocated = found.size(disk)
        disks.append(plain(disk) | {"virtual_bytes": virtual, "allocated_bytes": allocated})
    told = {name: value for name, value in plain(details).items() if name not in _SAID_BEFORE}
    return told | {"disks": disks}


def plain(value: object) -> Any:
    """Return a value of guestlist's records as JSON has it; a time in UTC, a set in order."""
    match value:
        case StrEnum() | UUID() | IPv4Address() | IPv6Address():
            return str(value)
        case datetime():
            return words.instant(value)
        case tuple():
            return [plain(each) for each in value]
        case frozenset():
            return sorted(value)
    if is_dataclass(value):
        return {each.name: plain(getattr(value, each.name)) for each in fields(value)}
    return value
