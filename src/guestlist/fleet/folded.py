"""What all hosts publish, kept with the row of each guest, and what changes of the rows. Pure.

In: publications, tombstones and the states of hosts, one after the other, each with its revision.
Out: the fleet as it is, and the changes of its rows. Work grows with what changes, not with the
fleet: only the guests that a publication or a host concerns are judged again.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from guestlist.event import Event
from guestlist.fleet.rows import (
    FleetNews,
    FleetRow,
    FleetSnapshot,
    HostChange,
    HostState,
    Publication,
    RowChange,
    Tombstone,
)
from guestlist.fleet.rule import judge, stranger
from guestlist.inventory.changes import Change, Changed, Started, Stopped
from guestlist.inventory.merging import kind_of


class _Claims(NamedTuple):
    """What is published of one guest, by host."""

    present: dict[str, Publication]
    absent: dict[str, Tombstone]


class Folded:
    """The fleet at the revision of the last publication. One thread at a time."""

    def __init__(
        self,
        publications: Iterable[Publication] = (),
        tombstones: Iterable[Tombstone] = (),
        hosts: Iterable[HostState] = (),
        revision: int = 0,
    ) -> None:
        self.revision = revision
        self._roster = {each.host: each for each in hosts}
        self._claims: dict[UUID, _Claims] = {}
        self._guests: defaultdict[str, set[UUID]] = defaultdict(set)
        """The guests of which a host publishes something."""
        for publication in publications:
            self._put(publication.host, publication.instance.uuid, publication, None)
        for tombstone in tombstones:
            uuid = tombstone.instance.uuid
            self._put(tombstone.host, uuid, self.publication(tombstone.host, uuid), tombstone)
        self._rows: dict[UUID, FleetRow] = {}
        for uuid in self._claims:
            self._judge(uuid)
        self._snapshot: FleetSnapshot | None = None

    def snapshot(self) -> FleetSnapshot:
        """Return the fleet as it is. The same object again while nothing changes."""
        if self._snapshot is None:
            self._snapshot = FleetSnapshot(self._rows.values(), self._states(), self.revision)
        return self._snapshot

    def publication(self, host: str, uuid: UUID) -> Publication | None:
        """Return what a host publishes of a guest, if it does."""
        claims = self._claims.get(uuid)
        return claims.present.get(host) if claims else None

    def publications_of(self, host: str) -> Iterator[Publication]:
        """Yield what a host publishes of its guests."""
        for uuid in self._guests.get(host, ()):
            if (publication := self.publication(host, uuid)) is not None:
                yield publication

    def tombstones_of(self, host: str) -> Iterator[Tombstone]:
        """Yield what a host publishes of guests that it had."""
        for uuid in self._guests.get(host, ()):
            if (tombstone := self._claims[uuid].absent.get(host)) is not None:
                yield tombstone

    def publish(
        self,
        host: str,
        uuid: UUID,
        publication: Publication | None,
        tombstone: Tombstone | None,
        *,
        revision: int,
        learned_at: datetime,
        events: tuple[Event, ...] = (),
    ) -> RowChange | None:
        """Take what a host publishes of a guest, in the place of what it published before.

        Where `born` is 0 it becomes the revision at which the host first published the guest, or
        that it runs again: what is left defined on a host may be older than where it ran last.

        Returns:
            How the guest's row changed; None if it did not.
        """
        known = self.publication(host, uuid)
        born = known.born if known else revision
        if publication is not None and not publication.born:
            begins = publication.instance.active and not (known and known.instance.active)
            publication = publication._replace(born=revision if begins else born)
        if tombstone is not None and not tombstone.born:
            tombstone = tombstone._replace(born=born)
        self._advance(revision)
        self._put(host, uuid, publication, tombstone)
        return self._judged(uuid, learned_at, events)

    def see(self, state: HostState, *, revision: int, learned_at: datetime) -> list[FleetNews]:
        """Take the state of a host; return what changed: the host, then the rows of its guests."""
        before = self._roster.get(state.host)
        if before == state:
            return []
        self._advance(revision)
        self._roster[state.host] = state
        return [HostChange(before, state), *self._judged_of(state.host, learned_at)]

    def forget(self, host: str, *, revision: int, learned_at: datetime) -> list[FleetNews]:
        """Drop a host from the roster, and all that it published; return what changed."""
        self._advance(revision)
        guests = list(self._guests.get(host, ()))
        for uuid in guests:
            self._put(host, uuid, None, None)
        before = self._roster.pop(host, None)
        changes = [self._judged(uuid, learned_at, ()) for uuid in guests]
        gone = [HostChange(before, None)] if before else []
        return [*gone, *(each for each in changes if each is not None)]

    def _advance(self, revision: int) -> None:
        self.revision = max(self.revision, revision)
        self._snapshot = None

    def _put(
        self, host: str, uuid: UUID, publication: Publication | None, tombstone: Tombstone | None
    ) -> None:
        claims = self._claims.setdefault(uuid, _Claims({}, {}))
        claims.present.pop(host, None)
        claims.absent.pop(host, None)
        if publication is not None:
            claims.present[host] = publication
        if tombstone is not None:
            claims.absent[host] = tombstone
        if publication is None and tombstone is None:
            self._guests[host].discard(uuid)
            if not claims.present and not claims.absent:
                del self._claims[uuid]
        else:
            self._guests[host].add(uuid)

    def _states(self) -> Iterator[HostState]:
        yield from self._roster.values()
        for host, guests in self._guests.items():
            if guests and host not in self._roster:
                yield stranger(host)

    def _judged_of(self, host: str, learned_at: datetime) -> Iterator[RowChange]:
        for uuid in list(self._guests.get(host, ())):
            change = self._judged(uuid, learned_at, ())
            if change is not None:
                yield change

    def _judged(
        self, uuid: UUID, learned_at: datetime, events: tuple[Event, ...]
    ) -> RowChange | None:
        before, after = self._rows.get(uuid), self._judge(uuid)
        return row_change(before, after, learned_at, events) if before != after else None

    def _judge(self, uuid: UUID) -> FleetRow | None:
        claims = self._claims.get(uuid)
        row = None
        if claims is not None:
            hosts = {
                host: self._roster.get(host) or stranger(host)
                for host in (*claims.present, *claims.absent)
            }
            row = judge(tuple(claims.present.values()), tuple(claims.absent.values()), hosts)
        if row is None:
            self._rows.pop(uuid, None)
        else:
            self._rows[uuid] = row
        return row


def row_change(
    before: FleetRow | None, after: FleetRow | None, at: datetime, events: tuple[Event, ...] = ()
) -> RowChange:
    """Return the change of a row in the words of a live view. A guest that moved is `Changed`."""
    was, now = before and before.instance, after and after.instance
    if before and after and before.host != after.host:
        kind: type[Change] = Changed
        if before.instance.active != after.instance.active:
            kind = Started if after.instance.active else Stopped
    else:
        kind = kind_of(was, now, events) or Changed
    return RowChange(before, after, kind(was, now, events, at))
