"""What can be shown, column by column: domains by `guestlist ls`, what they use by `usage`.

In: a row, which one line of a table shows. Out: values under the names that JSON, YAML and CSV
carry, units included. To add a column, add it to `COLUMNS` or `USAGE_COLUMNS`, and a property to
the schema in docs/schemas; from then on its name is a promise.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar

from guestlist.cli.show import words

if TYPE_CHECKING:
    from datetime import datetime

    from guestlist.fleet.rows import FleetRow
    from guestlist.records import Details, Instance, NovaMetadata, Owner
    from guestlist.usage import InstanceUsage

Value = str | int | bool | list[str] | None
Record = dict[str, Value]

R = TypeVar("R")


class Column(NamedTuple, Generic[R]):
    """A column: its name, its meaning, its value in a row, and how a table shows that value."""

    name: str
    about: str
    value: Callable[[R], Value]
    title: str = ""
    """The header in a table; empty: the name."""
    shown: Callable[[Any], str] | None = None
    """Returns the text in a table, of a value that is known."""
    number: bool = False
    """Whether the text stands flush right."""
    details: bool = False
    """Whether the value needs the details of `Host.snapshot`."""
    least: int | None = None
    """Cells that are left of the column on a narrow terminal. None: it keeps its width."""
    folds: bool = False
    """Whether a narrow column continues on the next line; else it is cut."""
    colours: Mapping[str, str] = {}
    """SGR attributes, by the text that they colour."""


class DomainRow(NamedTuple):
    """A row of `guestlist ls`: a domain, its host, and the time of the question."""

    host: str
    instance: Instance
    now: datetime | None = None
    """The time of the question; None: no column tells an age."""
    guest: FleetRow | None = None
    """The row of the fleet that it is; None: one host was asked (`fleet_columns`)."""


class UsageRow(NamedTuple):
    """A row of `guestlist usage`: what an instance uses, and its host."""

    host: str
    instance: InstanceUsage


def _reason(row: DomainRow) -> str:
    from guestlist.states import state_reason  # noqa: PLC0415  not for --help

    return state_reason(row.instance.state, row.instance.reason)


def _of_details(read: Callable[[Details], Value]) -> Callable[[DomainRow], Value]:
    """Make a value of the details; None if they could not be read."""

    def value(row: DomainRow) -> Value:
        details = row.instance.details
        return None if details is None else read(details)

    return value


def _of_devices(read: Callable[[Details], Value]) -> Callable[[DomainRow], Value]:
    """Make a value of the devices; None if there may be more than could be read."""
    return _of_details(lambda details: read(details) if details.devices_known else None)


def _of_nova(read: Callable[[NovaMetadata], Value]) -> Callable[[DomainRow], Value]:
    """Make a value of Nova's metadata; None if there is none."""
    return _of_details(lambda details: None if details.nova is None else read(details.nova))


def _of_owner(read: Callable[[Owner], Value]) -> Callable[[DomainRow], Value]:
    return _of_nova(lambda nova: None if nova.owner is None else read(nova.owner))


def _memory_mib(details: Details) -> int | None:
    kib = details.current_memory_kib
    return None if kib is None else kib // 1024


def _macs(details: Details) -> list[str] | None:
    macs = [nic.mac for nic in details.nics if nic.mac is not None]
    return macs if len(macs) == len(details.nics) else None


def _ips(nova: NovaMetadata) -> list[str] | None:
    return [str(ip) for port in nova.ports for ip in port.ips] or None


def _created_at(nova: NovaMetadata) -> str | None:
    if nova.created_at is None:
        return None
    return words.instant(nova.created_at)


def _age_seconds(row: DomainRow) -> Value:
    def age(nova: NovaMetadata) -> int | None:
        if nova.created_at is None or row.now is None:
            return None
        return int((row.now - nova.created_at).total_seconds())

    return _of_nova(age)(row)


def by_name(*columns: Column[R]) -> Mapping[str, Column[R]]:
    return {column.name: column for column in columns}


_STATE_COLOURS = {"running": "32", "paused": "33", "crashed": "31", "shut off": "2"}

COLUMNS: Mapping[str, Column[DomainRow]] = by_name(
    Column(
        "host",
        "URI of the host; a table shows the alias that it was given by",
        lambda row: row.host,
        least=8,
        folds=True,
    ),
    Column("id", "libvirt's id of an active domain", lambda row: row.instance.id),
    Column("name", "libvirt's name", lambda row: row.instance.name, least=8, folds=True),
    Column("uuid", "UUID, the same in Nova", lambda row: str(row.instance.uuid), least=6),
    Column(
        "state",
        "running, paused, shut off, … in virsh's words",
        lambda row: str(row.instance.state),
        least=7,
        colours=_STATE_COLOURS,
    ),
    Column("reason", "the reason of the state: booted, migrated, …", _reason, least=6),
    Column(
        "active",
        "whether it is active: libvirt gives it an id",
        lambda row: row.instance.active,
    ),
    Column(
        "launcher", "nova, libguestfs, dom0, …", lambda row: str(row.instance.launcher), least=6
    ),
    Column(
        "vcpus",
        "vCPUs, without those unplugged",
        _of_details(lambda details: details.current_vcpus),
        number=True,
        details=True,
    ),
    Column(
        "memory_mib",
        "memory in MiB, rounded down: what the balloon leaves to the guest",
        _of_details(_memory_mib),
        title="memory",
        shown=lambda mib: words.size(mib << 20),
        number=True,
        details=True,
    ),
    Column(
        "disks",
        "number of disks, drives for CDs and floppies included",
        _of_devices(lambda details: len(details.disks)),
        number=True,
        details=True,
    ),
    Column(
        "macs",
        "MAC addresses of its interfaces",
        _of_devices(_macs),
        details=True,
        least=17,
        folds=True,
    ),
    Column(
        "ips",
        "IP addresses, if Nova wrote them (since 23.0)",
        _of_nova(_ips),
        details=True,
        least=8,
        folds=True,
    ),
    Column(
        "nova_name",
        "the name its owner gave it in Nova",
        _of_nova(lambda nova: nova.name),
        details=True,
        least=8,
        folds=True,
    ),
    Column(
        "flavor",
        "Nova's flavor, by name",
        _of_nova(lambda nova: None if nova.flavor is None else nova.flavor.name),
        details=True,
        least=6,
    ),
    Column(
        "project",
        "its owner's project, by name",
        _of_owner(lambda owner: owner.project_name),
        details=True,
        least=7,
    ),
    Column(
        "project_id",
        "Keystone's id of the project",
        _of_owner(lambda owner: owner.project_id),
        details=True,
        least=6,
    ),
    Column(
        "user",
        "its owner, by name",
        _of_owner(lambda owner: owner.user_name),
        details=True,
        least=6,
    ),
    Column(
        "user_id",
        "Keystone's id of the owner",
        _of_owner(lambda owner: owner.user_id),
        details=True,
        least=6,
    ),
    Column(
        "created_at",
        "when Nova last wrote the domain: ISO 8601, UTC",
        _of_nova(_created_at),
        details=True,
    ),
    Column(
        "age_seconds",
        "seconds since created_at; a table shows 3d or 5h",
        _age_seconds,
        title="age",
        shown=words.age,
        number=True,
        details=True,
    ),
)
"""The columns of `guestlist ls`, by name."""

BRIEF = ("host", "id", "name", "uuid", "state", "active", "launcher")
"""What JSON, YAML and CSV carry by default. They need no details: one call."""

SAID_SHORTER = frozenset({"active", "project_id", "user_id", "created_at"})
"""What a table of all columns leaves out: another column says it in fewer cells."""

USAGE_COLUMNS: Mapping[str, Column[UsageRow]] = by_name(
    Column("host", "URI of the host", lambda row: row.host, least=8, folds=True),
    Column("name", "libvirt's name", lambda row: row.instance.name, least=8, folds=True),
    Column("uuid", "UUID, the same in Nova", lambda row: str(row.instance.uuid), least=6),
    Column("vcpus", "vCPUs while active", lambda row: row.instance.vcpus, number=True),
    Column(
        "memory_kib",
        "memory in KiB while active",
        lambda row: row.instance.memory_kib,
        title="memory",
        shown=lambda kib: words.size(kib << 10),
        number=True,
    ),
    Column(
        "disk_virtual_bytes",
        "size of its disks, as the guest sees them",
        lambda row: row.instance.disk_virtual_bytes,
        title="disk",
        shown=words.size,
        number=True,
    ),
    Column(
        "disk_allocated_bytes",
        "what their images take on the host",
        lambda row: row.instance.disk_allocated_bytes,
        title="allocated",
        shown=words.size,
        number=True,
    ),
    Column(
        "disk_over_committed_bytes",
        "how much these images may still grow",
        lambda row: row.instance.disk_over_committed_bytes,
        title="may grow",
        shown=words.size,
        number=True,
    ),
    Column(
        "block_devices",
        "the host's block devices that are its disks while active",
        lambda row: list(row.instance.block_devices),
        title="devices",
        shown=words.count,
        number=True,
    ),
    Column(
        "unknown",
        "which values are missing from its numbers",
        lambda row: list(row.instance.unknown),
        shown=words.count,
        number=True,
    ),
)
"""The columns of `guestlist usage`, by name."""


def chosen(
    names: Iterable[str], known: Mapping[str, Column[DomainRow]] = COLUMNS
) -> tuple[Column[DomainRow], ...]:
    """Return the columns of these names, of those that are known, in this order, each once.

    Raises:
        KeyError: there is no column of that name.
    """
    return tuple(known[name] for name in dict.fromkeys(names))


def with_aliases(columns: Iterable[Column[R]], aliases: Mapping[str, str]) -> tuple[Column[R], ...]:
    """Return the columns; a table shows the alias of a host that was given by one.

    `aliases` has them by URI. Other formats carry the URI.
    """
    from guestlist.cli.show.terminal import escape  # noqa: PLC0415  not for --help

    return tuple(
        column._replace(shown=lambda uri: escape(aliases.get(uri, uri)))
        if aliases and column.name == "host"
        else column
        for column in columns
    )


def record(columns: Iterable[Column[R]], row: R) -> Record:
    """Return the values of one row, by column."""
    return {column.name: column.value(row) for column in columns}


def in_order(rows: Iterable[R], column: Column[R] | None, *, reverse: bool = False) -> list[R]:
    """Return the rows sorted by the column, unknown values last; None: as they came.

    Rows with equal values stay as they came. Lists are sorted by their length first. `reverse`
    reverses the known values, and leaves unknown ones last.
    """
    if column is None:
        return list(rows)[:: -1 if reverse else 1]
    known: list[tuple[Any, R]] = []
    unknown = []
    for row in rows:
        value = column.value(row)
        if value is None:
            unknown.append(row)
        else:
            known.append(((len(value), value) if isinstance(value, list) else value, row))
    known.sort(key=lambda pair: pair[0], reverse=reverse)
    return [row for _, row in known] + unknown


def help_text(known: Mapping[str, Column[DomainRow]] = COLUMNS) -> str:
    """Return what `--columns help` prints of these columns."""
    width = max(map(len, known)) + 2
    return "".join(f"{column.name:<{width}}{column.about}\n" for column in known.values())
