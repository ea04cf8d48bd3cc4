"""The JSON of `openstack server list`, or of Nova's API -> a look at Nova. Pure.

In: the bytes of a file or of standard input, at most `MOST_BYTES`. Out: a `NovaLook`, or
`BadServersFile` with one line that says what is wrong; a finding is never made of bad input.

What is read:

- `openstack server list --all-projects --long -f json`, of old and new clients; also the list
  without --long, which tells no host and no state;
- an answer of Nova's API, {"servers": [...]}, or only the list in it.

**The column Host.** Up to python-openstackclient 6.0 it is the name of the compute service
(OS-EXT-SRV-ATTR:host), from 6.1 on that of the hypervisor (OS-EXT-SRV-ATTR:hypervisor_hostname).
The JSON does not tell which, so `Server.host` and `Server.hypervisor_hostname` both get it.

**What a list lacks** is named in `NovaLook.missing` where the list shows it: servers of a cell that
is down, a link to a next page, exactly 1,000 servers (Nova's default `max_limit`, at which clients
before 6.1 stop without a word), and no server at all.

**What no list shows.** A cell that is down: clients from 6.1 on send a filter (deleted=False), with
which Nova leaves the servers of such a cell out; older clients show them with
--os-compute-api-version 2.69 only. Another `max_limit`. That the list has the servers of one
project, one host or one status (`--all-projects` left out, a filter); the projects of the servers
are in `Server.project_id` where the list has them. Nova's list leaves out servers that are
soft-deleted; their domains stay until Nova reclaims them.

Source: openstackclient/compute/v2/server.py of 3.12 to 10.3; nova/compute/api.py (`get_all`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from typing import Any
from uuid import UUID

from guestlist.audit import api_rows
from guestlist.audit.api_rows import BadRow
from guestlist.audit.rows import NovaLook, PowerState, Server
from guestlist.errors import BadServersFile, one_line

MOST_BYTES = 256 * 1024 * 1024
"""Bytes of a servers file that is read at all: 100,000 servers of the API's JSON fit in."""

MAX_LIMIT = 1_000
"""Servers that Nova gives at a time, unless its configuration says another `max_limit`."""

HOW = "openstack server list --all-projects --long -f json"
"""The command that makes the file."""

_POWER_STATES = {
    "NOSTATE": PowerState.NOSTATE,
    "Running": PowerState.RUNNING,
    "Paused": PowerState.PAUSED,
    "Shutdown": PowerState.SHUTDOWN,
    "Crashed": PowerState.CRASHED,
    "Suspended": PowerState.SUSPENDED,
}
"""The words of clients before 6.0; newer ones write the number."""

_WORD = len(r"\u0000")
"""Characters of the longest thing in JSON, a string apart, that can be cut in two: it, or false."""

_CUT = "unexpected end of data", "truncated data"
"""What Python's decoders say of a text that ends within a character."""

_NO_POWER_STATE = "", "N/A"

_OF_SERVERS = frozenset(
    {"Networks", "Flavor", "Flavor Name", "Flavor ID", "Task State", "Power State"}
)
"""Columns that only a list of servers has. `image`, `volume` and `port list`, too, have the columns
ID, Name and Status."""

_COLUMNS = _OF_SERVERS | {
    "ID",
    "Name",
    "Status",
    "Host",
    "Image",
    "Image Name",
    "Image ID",
    "Availability Zone",
    "Pinned Availability Zone",
    "Properties",
    "Scheduler Hints",
    "Project ID",
    "User ID",
    "Created At",
    "Security Groups",
    "Host Status",
}
"""All columns of `openstack server list`."""


class FileNova:
    """A look that a file holds, in the place of a Nova; it cannot be taken again."""

    can_look_again = False

    def __init__(self, look: NovaLook) -> None:
        self._look = look

    def servers(self) -> NovaLook:
        """Return the servers of the file."""
        return self._look

    def some(self, uuids: Collection[UUID]) -> NovaLook:
        """Return those servers of the file that have these UUIDs: the file tells nothing more."""
        found = {uuid: server for uuid, server in self._look.servers.items() if uuid in uuids}
        return replace(self._look, servers=found)


def read(content: bytes, where: str, *, at: float) -> NovaLook:
    """Return the look at Nova that a file holds.

    Args:
        content: the bytes of the file, in UTF-8, or in UTF-16 or UTF-32 as PowerShell writes it.
        where: the name of the file in messages.
        at: the moment of the reading (monotonic seconds). The list is older; nothing tells by how
            much.

    Raises:
        BadServersFile: the file is no list of servers, for the reason that the message tells.

    Cost: no call; 100,000 servers take about a second.
    """
    found = _parsed(content, where)
    rows, is_cut = _rows(found, where)
    servers = _servers(rows, where)
    missing = list(api_rows.down_cell(servers.values()))
    if is_cut:
        missing.append(f"{where} is one page of Nova's list: it has a link to the next page")
    elif len(rows) == MAX_LIMIT:
        missing.append(
            f"{where} has exactly {MAX_LIMIT:,} servers, as many as Nova gives at a time: the list "
            "may have been cut there"
        )
    if not rows:
        missing.append(f"{where} has no server at all: {HOW} lists those of all projects")
    return NovaLook(began=at, ended=at, servers=servers, missing=tuple(missing))


def _parsed(content: bytes, where: str) -> object:
    """Return what the JSON says."""
    if len(content) > MOST_BYTES:
        raise BadServersFile(f"{where} has more than {MOST_BYTES:,} bytes")
    try:
        text = content.decode(json.detect_encoding(content)).lstrip("\ufeff").strip()
    except UnicodeDecodeError as error:
        if error.reason in _CUT:
            raise BadServersFile(f"{where} ends in the middle of a character: it was cut") from None
        raise BadServersFile(
            f"{where} is no text in {error.encoding}; make it with: {HOW}"
        ) from None
    if not text:
        raise BadServersFile(f"{where} is empty; make it with: {HOW}")
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise BadServersFile(f"{where} {_no_json(text, error)}") from None
    except RecursionError:
        raise BadServersFile(f"{where} is no list of servers: it is nested too deep") from None
    except ValueError as error:  # an integer without end
        raise BadServersFile(f"{where} is no list of servers: {one_line(error)}") from None


def _no_json(text: str, error: json.JSONDecodeError) -> str:
    """Return why a text is no JSON: the end of "FILE …"."""
    first = text[:200].splitlines()[0]
    if first.startswith("+-"):
        return f"is a table and no JSON; make it with: {HOW}"
    if re.match(r'"?(ID|Name)"?,', first):
        return f"is CSV and no JSON; make it with: {HOW}"
    left = len(text) - error.pos
    ends_within = left <= 0 or error.msg.startswith("Unterminated")
    if text[0] in "[{" and (ends_within or (left <= _WORD and text[-1] not in "]}")):
        return f"ends in the middle of its JSON, at line {text.count(chr(10)) + 1:,}: it was cut"
    return f"is no JSON (line {error.lineno:,}: {error.msg}); make it with: {HOW}"


def _rows(found: object, where: str) -> tuple[list[object], bool]:
    """Return the rows, and whether the API says that there are more."""
    if isinstance(found, list):
        return found, False
    if not isinstance(found, dict):
        raise BadServersFile(f"{where} has JSON, but no list of servers; make it with: {HOW}")
    rows = found.get("servers")
    if isinstance(rows, list):
        links = found.get("servers_links")
        return rows, isinstance(links, list) and bool(links)
    if "server" in found or "id" in found or "ID" in found:
        raise BadServersFile(f"{where} has one object and no list of servers; make it with: {HOW}")
    for error in found.values():
        if isinstance(error, dict) and "message" in error:
            said = api_rows.printable(error["message"])
            raise BadServersFile(f"{where} has an error of the API and no list of servers: {said}")
    raise BadServersFile(f"{where} has no list of servers; make it with: {HOW}")


def _servers(rows: list[object], where: str) -> dict[UUID, Server]:
    """Return the servers of all rows, which are all of one kind."""
    if not rows:
        return {}
    read_row = _reader(rows[0], where)
    servers: dict[UUID, Server] = {}
    for place, row in enumerate(rows, 1):
        try:
            server = read_row(row)
        except BadRow as error:
            raise BadServersFile(f"{where}: server {place:,} {error}") from None
        earlier = servers.setdefault(server.uuid, server)
        if earlier is not server and earlier != server:
            raise BadServersFile(
                f"{where}: server {place:,} has the id {server.uuid}, which an earlier server has "
                "as well, and they differ; make the list again"
            )
        if server.status == "DELETED":
            raise BadServersFile(
                f"{where}: server {place:,} ({server.uuid}) is deleted: a list made with --deleted "
                f"or --changes-since is not the list of all servers; make it with: {HOW}"
            )
    return servers


def _reader(row: object, where: str) -> Callable[[object], Server]:
    """Return the function that reads rows like this one: a client's, or those of the API."""
    if not isinstance(row, dict):
        raise BadServersFile(f"{where} is a list, but not of servers; make it with: {HOW}")
    if "id" in row:
        if "status" in row and ("links" in row or "tenant_id" in row):
            return api_rows.server
        if "links" in row and "name" in row:
            raise BadServersFile(
                f"{where} has the API's list without details, which tells no status; "
                "ask GET /servers/detail?all_tenants=1"
            )
    elif "ID" in row or _OF_SERVERS & row.keys():
        lacking = [column for column in ("ID", "Status") if column not in row]
        if lacking and _OF_SERVERS & row.keys():
            raise BadServersFile(
                f"{where} lacks the column {' and '.join(lacking)}; make it with: {HOW}"
            )
        if _OF_SERVERS & row.keys() or (not lacking and row.keys() <= _COLUMNS):
            return _server
    columns = api_rows.printable(", ".join(map(str, row)))
    raise BadServersFile(
        f"{where} has the list of another command ({columns}); make it with: {HOW}"
    )


def _server(row: object) -> Server:
    """Return the server of a row that the client wrote."""
    fields = api_rows.mapping(row)
    name = api_rows.text(fields, "Name")
    status = api_rows.status(fields, "Status")
    host = api_rows.text(fields, "Host") or None
    is_told = bool(name) or status != api_rows.UNKNOWN
    return Server(
        uuid=api_rows.uuid(fields, "ID"),
        name=name,
        status=status,
        host=host,
        hypervisor_hostname=host,
        has_host=is_told and "Host" in fields,
        task_state=_task_state(fields),
        power_state=_power_state(fields),
        has_state=is_told and "Task State" in fields and "Power State" in fields,
        project_id=api_rows.text(fields, "Project ID") or None,
    )


def _task_state(fields: Mapping[str, Any]) -> str | None:
    """Return the task state; old clients write the word None."""
    found = api_rows.text(fields, "Task State")
    return None if found in ("", "None") else found


def _power_state(fields: Mapping[str, Any]) -> PowerState | None:
    """Return the power state of a number, or of a word of an old client."""
    value = fields.get("Power State")
    if value in _NO_POWER_STATE:
        return None
    if isinstance(value, str):
        if value not in _POWER_STATES:
            raise BadRow(f"has {api_rows.shown(value)} as Power State, which is no power state")
        return _POWER_STATES[value]
    return api_rows.power_state(fields, "Power State")
