"""Hosts that publish to an etcd as agents do, written by hand: readers of a fleet read them.

In: a connection, the name of a fleet, the name of a host, records of domains. Out: keys and values
of `guestlist.fleet.layout`, in transactions that also rewrite the host's record, as the agent's
are. Follows no libvirt.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from uuid import UUID, uuid4

from guestlist.fleet.etcd import kv, lease
from guestlist.fleet.etcd.connection import Etcd
from guestlist.fleet.etcd.span import Span
from guestlist.fleet.layout import Layout
from guestlist.fleet.rows import Fate, Phase, Publication, Tombstone
from guestlist.fleet.values import (
    HostRecord,
    LiveRecord,
    publication_value,
    record_value,
    tombstone_value,
)
from guestlist.launcher import Launcher
from guestlist.records import Details, Instance, NovaMetadata, Owner
from guestlist.states import DomainState

_MOST = 100
"""Domains in a transaction."""

_numbers = itertools.count(1)


def guest(
    name: str | None = None,
    *,
    uuid: UUID | None = None,
    state: DomainState = DomainState.RUNNING,
    reason: int = 1,
    project: str | None = None,
    ours: bool = True,
) -> Instance:
    """Return the record of a domain; inactive if it is shut off."""
    number = next(_numbers)
    owner = NovaMetadata("", None, None, None, None, Owner(None, None, project, None))
    return Instance(
        uuid or uuid4(),
        name or f"instance-{number:08x}",
        None if state is DomainState.SHUTOFF else number,
        state,
        reason,
        Launcher.NOVA if ours else Launcher.OTHER,
        Details(
            None,
            None,
            None,
            2,
            2,
            2 << 20,
            2 << 20,
            nova=owner if project else None,
            unknown=("devices",),
        ),
        ours=ours,
    )


class PublishedHost:
    """One host of a fleet. `domains` are those that it publishes."""

    def __init__(self, etcd: Etcd, host: str, fleet: str = "default") -> None:
        self.host = host
        self.layout = Layout(fleet)
        self.domains: dict[UUID, Publication] = {}
        self._etcd = etcd
        self._term = 0
        self._sequence = 0
        self._synced = False

    def move_to(self, etcd: Etcd) -> None:
        """Write over another connection from now on."""
        self._etcd = etcd

    def go_live(self, guests: Iterable[Instance] = (), *, ttl: int = 600) -> PublishedHost:
        """Take a lease, publish these domains, and say that they are all."""
        self.take_lease(ttl)
        self.publish(*guests)
        self.finish()
        return self

    def take_lease(self, ttl: int = 600) -> None:
        """Take the lease: the host is live, and not synced."""
        record = record_value(LiveRecord("machine", "incarnation", "test"))
        held = lease.grant(self._etcd, ttl)
        self._term = kv.put(self._etcd, self.layout.live(self.host), record, lease=held.id)
        self._synced = False

    def finish(self) -> None:
        """Say that all domains are published."""
        self._synced = True
        self._write([])

    def drop_lease(self) -> None:
        """Lose the lease, as if it had expired."""
        kv.delete(self._etcd, Span(self.layout.live(self.host)))

    def publish(
        self,
        *guests: Instance,
        phase: Phase = Phase.RESIDENT,
        arrived: bool = False,
        began: int = 0,
    ) -> None:
        """Publish domains, at most so many in a transaction; `began` as for the value."""
        for some in _batches(guests):
            self._write(
                [
                    kv.Put(
                        self.layout.domain(self.host, each.uuid),
                        publication_value(published, began),
                    )
                    for each in some
                    for published in [self._known(each, phase, arrived)]
                ]
            )

    def withdraw(self, uuid: UUID, fate: Fate | None = None) -> None:
        """Publish no longer that the host has a domain; with a fate, a tombstone instead."""
        gone = self.domains.pop(uuid)
        operations: list[kv.Operation] = [
            kv.Delete(Span(self.layout.domain(self.host, uuid))),
        ]
        if fate is not None:
            tombstone = Tombstone(self.host, gone.instance, fate, gone.born)
            key = self.layout.gone(self.host, uuid)
            operations.append(kv.Put(key, tombstone_value(tombstone)))
        self._write(operations)

    def bury(self, uuid: UUID) -> None:
        """Delete a tombstone."""
        self._write([kv.Delete(Span(self.layout.gone(self.host, uuid)))])

    def put_raw(self, uuid: UUID | str, value: bytes) -> None:
        """Write bytes in the place of a domain's value, as another program might."""
        key = self.layout.domains(self.host).start + str(uuid).encode()
        kv.put(self._etcd, key, value)

    def _known(self, instance: Instance, phase: Phase, arrived: bool) -> Publication:
        before = self.domains.get(instance.uuid)
        born = before.born if before else 0
        made = Publication(self.host, instance, phase, arrived, born)
        self.domains[instance.uuid] = made
        return made

    def _write(self, operations: Sequence[kv.Operation]) -> None:
        self._sequence += 1
        record = HostRecord(
            self._term,
            self._synced,
            self._sequence,
            len(self.domains),
            "guestlist test",
            "2026-11-27T00:00:00+00:00",
        )
        put = kv.Put(self.layout.host(self.host), record_value(record))
        done = kv.transact(self._etcd, [], [*operations, put])
        for uuid, each in self.domains.items():
            if not each.born:
                self.domains[uuid] = each._replace(born=done.revision)


def _batches(guests: Sequence[Instance]) -> Iterable[Sequence[Instance]]:
    return (guests[first : first + _MOST] for first in range(0, len(guests), _MOST))
