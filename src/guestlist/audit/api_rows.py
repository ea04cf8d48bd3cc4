"""Rows of Nova's API, as JSON gives them -> values of `rows`. Pure.

In: what `json` made of an answer of Nova, of any microversion. Out: servers, migrations, request
ids. A value that Nova's schema does not allow is an error and never a guess; an unknown word
("FOO" as a status) is kept as text.

A server of a cell that is down has an id, a project and the status UNKNOWN, and nothing else: no
server has an empty name otherwise (`is_of_down_cell`).

Source: nova/api/openstack/compute/views/servers.py (`show`, `_show_from_down_cell`), migrations.py
and instance_actions.py, and their schemas.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Any
from uuid import UUID

from guestlist.audit.rows import Migration, PowerState, Server
from guestlist.errors import one_line, short

UNKNOWN = "UNKNOWN"
"""The status of a server of a cell that is down."""

MOST_NAMED = 5
"""Names that a line lists; of more it says how many there are."""

_LONGEST = 10_000
"""Characters of a text of others that are read at all."""

_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", re.IGNORECASE)
_STATUS = re.compile(r"[A-Z][A-Z0-9_]*")
_FREQUENT = frozenset({"ACTIVE", "SHUTOFF"})
_POWER_STATES = {each.value: each for each in PowerState}


class BadRow(ValueError):
    """A row is no row of Nova's. The message completes "a server …"."""


def server(row: object) -> Server:
    """Return the server of a row of GET /servers/detail or of GET /servers/{id}.

    Raises:
        BadRow: the row is not one of Nova's.
    """
    fields = mapping(row)
    return Server(
        uuid=uuid(fields, "id"),
        name=text(fields, "name"),
        status=status(fields, "status"),
        host=text(fields, "OS-EXT-SRV-ATTR:host") or None,
        hypervisor_hostname=text(fields, "OS-EXT-SRV-ATTR:hypervisor_hostname") or None,
        has_host="OS-EXT-SRV-ATTR:host" in fields,
        task_state=text(fields, "OS-EXT-STS:task_state") or None,
        vm_state=text(fields, "OS-EXT-STS:vm_state") or None,
        power_state=power_state(fields, "OS-EXT-STS:power_state"),
        has_state="OS-EXT-STS:task_state" in fields,
        instance_name=text(fields, "OS-EXT-SRV-ATTR:instance_name") or None,
        project_id=text(fields, "tenant_id") or None,
        updated=text(fields, "updated") or None,
    )


def migration(row: object) -> Migration:
    """Return the migration of a row of GET /os-migrations.

    Raises:
        BadRow: the row is not one of Nova's.
    """
    fields = mapping(row)
    return Migration(
        id=str(fields.get("uuid") or fields.get("id")),
        kind=text(fields, "migration_type"),
        status=text(fields, "status"),
        source=text(fields, "source_compute"),
        dest=text(fields, "dest_compute"),
        source_node=text(fields, "source_node"),
        dest_node=text(fields, "dest_node"),
    )


def request_id(row: object) -> str:
    """Return the request id of a row of GET /servers/{id}/os-instance-actions.

    Raises:
        BadRow: the row is not one of Nova's.
    """
    found = text(mapping(row), "request_id")
    if found is None:
        raise BadRow("has an action without a request id")
    return found


def is_of_down_cell(row: Server) -> bool:
    """Return whether Nova could not read the server: its cell is down."""
    return row.status == UNKNOWN and not row.name


def down_cell(servers: Collection[Server]) -> tuple[str, ...]:
    """Return the line for `NovaLook.missing` about servers of cells that are down, if any."""
    down = [str(each.uuid) for each in servers if is_of_down_cell(each)]
    if not down:
        return ()
    noun = "1 server" if len(down) == 1 else f"{len(down):,} servers"
    return (
        f"a cell of Nova is down: of {noun} Nova tells the id alone, without host and state "
        f"({some_of(down)})",
    )


def some_of(names: Collection[str]) -> str:
    """Return the first names, and how many more there are."""
    named = ", ".join(short(name, 60) for name in list(names)[:MOST_NAMED])
    left = len(names) - MOST_NAMED
    return f"{named} and {left:,} more" if left > 0 else named


def printable(text: object) -> str:
    """Return a text that others wrote, on one printable line of bounded length."""
    head = str(text)[:_LONGEST]
    return one_line("".join(each if each.isprintable() else " " for each in head))


# One value of a row


def mapping(row: object) -> Mapping[str, Any]:
    """Return the row, which has to be an object."""
    if not isinstance(row, dict):
        raise BadRow("is no object")
    return row


def uuid(row: Mapping[str, Any], key: str) -> UUID:
    """Return a UUID in the form that Nova writes."""
    value = row.get(key)
    if not isinstance(value, str) or not _UUID.fullmatch(value):
        raise BadRow(f"has {shown(value)} as {key}, which is no UUID")
    return UUID(int=int(value.replace("-", ""), 16))


def status(row: Mapping[str, Any], key: str) -> str:
    """Return a status: any word in capitals, known or not."""
    value = row.get(key)
    if not isinstance(value, str) or (value not in _FREQUENT and not _STATUS.fullmatch(value)):
        raise BadRow(f"has {shown(value)} as {key}, which is no status of a server")
    return value


def text(row: Mapping[str, Any], key: str) -> str | None:
    """Return a text; None if the row has none.

    JSON may hold half a character (a lone surrogate), which no output could carry: it becomes "�".
    """
    value = row.get(key)
    if value is None or (isinstance(value, str) and value.isascii()):
        return value
    if isinstance(value, str):
        return value.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    raise BadRow(f"has {shown(value)} as {key}, which is no text")


def power_state(row: Mapping[str, Any], key: str) -> PowerState | None:
    """Return the power state of a number; None if the row has none."""
    value = row.get(key)
    if value is None:
        return None
    if type(value) is not int:
        raise BadRow(f"has {shown(value)} as {key}, which is no power state")
    return _POWER_STATES.get(value) or PowerState(value)


def shown(value: object) -> str:
    """Return how a message quotes a value: on one line, in a bounded length."""
    if isinstance(value, str):
        return repr(short(value, 60))
    if isinstance(value, dict | list):
        return "an object" if isinstance(value, dict) else "a list"
    return "nothing" if value is None else repr(value)[:60]
