"""What can be shown of a fleet, column by column: guests by `guestlist fleet ls`, hosts by `hosts`.

In: a row. Out: values under the names that JSON, YAML and CSV carry. The columns of a guest are
those of `guestlist ls`, and how the guest stands among the hosts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from guestlist.cli.show import words
from guestlist.cli.show.columns import COLUMNS, Column, DomainRow, Value, by_name

if TYPE_CHECKING:
    from guestlist.fleet.rows import FleetRow
    from guestlist.fleet.summary import HostSummary


def _of_guest(read: Callable[[FleetRow], Value]) -> Callable[[DomainRow], Value]:
    return lambda row: None if row.guest is None else read(row.guest)


def _since(row: FleetRow | HostSummary) -> str | None:
    return None if row.since is None else words.instant(row.since)


_STANDING = Column[DomainRow](
    "standing",
    "resident, migrating, in-transit, …, unknown, conflict: how it stands among the hosts",
    _of_guest(lambda guest: str(guest.standing)),
    least=8,
    colours={"conflict": "31", "unknown": "33", "stale copy": "33"},
)

_FIRST = ("host", "id", "name", "uuid", "state", "reason")

GUEST_COLUMNS: Mapping[str, Column[DomainRow]] = {
    **{name: COLUMNS[name] for name in _FIRST},
    "host": COLUMNS["host"]._replace(about="the host that has it, or had it last"),
    "standing": _STANDING,
    **{name: column for name, column in COLUMNS.items() if name not in _FIRST},
    "others": Column(
        "others",
        "the other hosts that publish it: the target of its migration, a second copy",
        _of_guest(lambda guest: list(guest.others)),
        least=8,
        folds=True,
    ),
    "since": Column(
        "since",
        "for a guest that is 'unknown': the last sign of its host, ISO 8601, UTC",
        _of_guest(_since),
    ),
}
"""The columns of `guestlist fleet ls`, by name."""

BRIEF = ("host", "id", "name", "uuid", "state", "standing", "active", "launcher")
"""What JSON, YAML and CSV carry by default."""

HOST_COLUMNS: Mapping[str, Column[HostSummary]] = by_name(
    Column("host", "the host", lambda row: row.host, least=8, folds=True),
    Column(
        "status",
        "current; syncing, while its domains are not all published; or unknown",
        lambda row: str(row.status),
        colours={"current": "32", "syncing": "33", "unknown": "31"},
    ),
    Column(
        "since",
        "for a host that is 'unknown': its last sign, ISO 8601, UTC",
        _since,
    ),
    Column("domains", "the domains that it publishes", lambda row: row.domains, number=True),
    Column("agent", "the version of its agent", lambda row: row.agent, least=6),
    Column("failure", "why it is not current", lambda row: row.failure, least=12, folds=True),
)
"""The columns of `guestlist fleet hosts`, by name."""
