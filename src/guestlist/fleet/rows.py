"""What a host publishes of its domains, and what a reader sees of the fleet: frozen values. Pure.

In: records of domains, and the order in which they were published. Out: values that may be kept,
compared and handed to another thread. An order is a *revision*: a number that grows with each
publication in one store. Times are for people; the clocks of two machines are never compared.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from operator import attrgetter
from typing import NamedTuple, Self
from uuid import UUID

from guestlist.by_name import ByName
from guestlist.inventory.changes import Change
from guestlist.records import Instance


class Phase(StrEnum):
    """What a host's copy of a domain is to a live migration."""

    RESIDENT = "resident"
    """The domain is on this host; also while a migration copies its memory."""
    INCOMING = "incoming"
    """The guest does not run here yet: a target, or a domain that starts up, boot or target."""
    OUTGOING = "outgoing"
    """The source, after its guest was paused for the last phase: it runs elsewhere, or soon."""


class Fate(StrEnum):
    """What became of a domain that a host has no more."""

    LEFT = "left"
    """It migrated to another host."""
    ENDED = "ended"
    """It ended on this host: if another host has sent it here, it is not on its way any more."""
    UNKNOWN = "unknown"
    """libvirt sent no event that says so: for example, the connection was down meanwhile."""


class Publication(NamedTuple):
    """What one host publishes of one domain that it has.

    `arrived` says that the guest came by a live migration not long ago: the host takes it back
    after a while (see `guestlist.fleet.phases.HOLD`). `born` is the revision at which the host
    first published this domain, or that it runs again; of a domain that does not run, that of its
    last run.
    """

    host: str
    instance: Instance
    phase: Phase = Phase.RESIDENT
    arrived: bool = False
    born: int = 0


class Tombstone(NamedTuple):
    """What one host publishes, for a while, of a domain that it had.

    `instance` is the last record of the domain. `born` is the revision of the publication that the
    tombstone replaces (`Publication.born`); where the host had published none, its own revision.
    """

    host: str
    instance: Instance
    fate: Fate
    born: int = 0


@dataclass(frozen=True, slots=True)
class HostState:
    """A host of the fleet, as a reader knows it.

    `live` says that the host is not silent: its lease is held, or its live view is in step.
    `synced` says that all of its domains are published. `failure` is the line that says why one of
    them is false. `since` is the last sign of a silent host; None if there never was one, or if it
    is not known. `same_as` is another host of the fleet, if this one is the same libvirt under
    another URI: then this one publishes nothing. `denied` says that the host refused this user.
    """

    host: str
    live: bool = True
    synced: bool = True
    failure: str | None = None
    since: datetime | None = None
    same_as: str | None = None
    denied: bool = False

    @property
    def is_current(self) -> bool:
        """Whether what the host publishes is what it has, up to the lag of its publications."""
        return self.live and self.synced


class Standing(StrEnum):
    """How a guest stands among the hosts of the fleet. A value keeps its meaning for ever."""

    RESIDENT = "resident"
    """One host has the guest."""
    MIGRATING = "migrating"
    """The host has the guest, and a migration to another host is under way."""
    HANDOVER = "handover"
    """Two hosts publish the guest at the end of a migration; the row has the target."""
    ARRIVING = "arriving"
    """The host is the target of a migration, and no other host has the guest any more."""
    IN_TRANSIT = "in-transit"
    """The host has sent the guest away, and no host has published its arrival yet."""
    STALE_COPY = "stale copy"
    """The host has the guest; so had another host, which is silent now."""
    CONFLICT = "conflict"
    """Two hosts run the guest, and no migration explains it: a true double run."""
    UNKNOWN = "unknown"
    """The host had the guest and is silent now; or it has not said what became of the guest."""


class FleetRow(NamedTuple):
    """One guest of the fleet: the host that has it, and its record there.

    `others` are the other hosts that publish the domain, by name: the target of a migration, the
    second host of a conflict, a host with an inactive definition of it. `since` is the last sign of
    the host of an UNKNOWN guest, as `HostState.since`.
    """

    host: str
    instance: Instance
    standing: Standing
    others: tuple[str, ...] = ()
    since: datetime | None = None

    @property
    def uuid(self) -> UUID:
        """The UUID of the guest."""
        return self.instance.uuid


class FleetSnapshot(ByName[FleetRow]):
    """The whole fleet at one revision: its guests by UUID. Iterates by name, then by UUID.

    `hosts` are all hosts of the fleet, by name. `revision` is the revision of the store.
    """

    __slots__ = ("hosts", "revision")

    _order = staticmethod(attrgetter("instance.name", "instance.uuid.int"))
    _of_uuid = staticmethod(attrgetter("instance.uuid"))

    def __init__(
        self, rows: Iterable[FleetRow], hosts: Iterable[HostState], revision: int = 0
    ) -> None:
        super().__init__({row.instance.uuid: row for row in rows})
        self.hosts = tuple(sorted(hosts, key=lambda each: each.host))
        self.revision = revision

    @classmethod
    def over(
        cls, by_uuid: Mapping[UUID, FleetRow], hosts: Iterable[HostState], revision: int
    ) -> Self:
        """Return a snapshot of a mapping that never changes, and so is not copied."""
        made = cls((), hosts, revision)
        made._by_uuid = by_uuid
        return made

    @property
    def complete(self) -> bool:
        """Whether every guest of the fleet is in it, up to the lag of the publications.

        False if a host is silent, or has not published all its domains; and without any host.
        """
        return bool(self.hosts) and all(each.is_current for each in self.hosts)

    @property
    def incomplete(self) -> tuple[HostState, ...]:
        """The hosts because of which it is not complete, by name."""
        return tuple(each for each in self.hosts if not each.is_current)

    @property
    def rows(self) -> tuple[FleetRow, ...]:
        """The rows, by the name of the guest."""
        return tuple(self._ordered().values())

    def __repr__(self) -> str:
        missing = f", without {len(self.incomplete)} of them" if self.incomplete else ""
        return f"<FleetSnapshot of {len(self)} guests on {len(self.hosts)} hosts{missing}>"


class RowChange(NamedTuple):
    """One guest's row was `before` and is `after`; None: it was not in the fleet, or is gone.

    `change` says the same in the words of one host's live view (`Started`, `Stopped`, `Changed`,
    …), with libvirt's events where they are known. A guest that migrates is `Changed`.
    """

    before: FleetRow | None
    after: FleetRow | None
    change: Change

    @property
    def row(self) -> FleetRow:
        """The row as it is; the last row of a guest that is gone."""
        known = self.after or self.before
        assert known is not None
        return known


class HostChange(NamedTuple):
    """A host of the fleet was `before` and is `after`: it falls silent, or is heard again."""

    before: HostState | None
    after: HostState | None


class Relisted(NamedTuple):
    """The whole fleet as it is: it replaces what the reader had.

    Comes first, and in place of changes that are not known one by one. `why` says the reason in a
    line for people; empty at the start.
    """

    snapshot: FleetSnapshot
    why: str = ""


FleetNews = RowChange | HostChange | Relisted
"""What a reader of the fleet is told."""
