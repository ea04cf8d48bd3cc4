"""What all hosts publish of all guests, and a row for each, made when it is looked at. Pure.

In: publications and tombstones, one after the other. Out: the rows. Judges by `rule` alone, and
knows neither revisions nor times.

A fleet has up to a million guests, and nearly each of them is published by one host and is no
problem. So such a guest costs one entry here: its publication itself. Only where two hosts publish
a guest, or a tombstone tells of it, there is more. The keys are the numbers of UUIDs: Python's
collector of garbage has nothing to look at in them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence, ValuesView
from itertools import chain, compress
from operator import is_not
from typing import NamedTuple, TypeVar
from uuid import UUID

from guestlist.fleet.rows import FleetRow, HostState, Publication, Tombstone
from guestlist.fleet.rule import judge
from guestlist.fleet.stored import made

Hosts = Mapping[str, HostState]

T = TypeVar("T", Publication, Tombstone)


class _Several(NamedTuple):
    """What is published of a guest by several hosts, or after it has left one."""

    present: tuple[Publication, ...]
    absent: tuple[Tombstone, ...] = ()


class Claims:
    """What is published of each guest, by the number of its UUID. One thread at a time."""

    def __init__(self) -> None:
        self._of: dict[int, Publication | _Several] = {}
        self._several: set[int] = set()
        """The numbers with more than one publication."""

    def copy(self) -> Claims:
        """Return a copy, which does not change with this one."""
        made = Claims()
        made._of = self._of.copy()
        made._several = self._several.copy()
        return made

    def publish(self, number: int, publication: Publication) -> None:
        """Take what a host publishes of a guest, in the place of what it published before."""
        known = self._of.setdefault(number, publication)
        if known is not publication:
            present, absent = _parts(known)
            self._keep(number, (*_without(present, publication.host), publication), absent)

    def publish_all(self, numbers: Sequence[int], publications: Sequence[Publication]) -> None:
        """Take what hosts publish of guests, one after the other, as `publish`."""
        known = list(map(self._of.setdefault, numbers, publications))
        is_another = map(is_not, known, publications)
        for number, publication in compress(zip(numbers, publications, strict=True), is_another):
            self.publish(number, publication)

    def withdraw(self, number: int, host: str) -> None:
        """Take back what a host publishes of a guest."""
        present, absent = _parts(self._of.get(number))
        self._keep(number, _without(present, host), absent)

    def bury(self, number: int, tombstone: Tombstone) -> None:
        """Take a host's tombstone of a guest, in the place of the one before."""
        present, absent = _parts(self._of.get(number))
        self._keep(number, present, (*_without(absent, tombstone.host), tombstone))

    def unbury(self, number: int, host: str) -> None:
        """Take back the tombstone of a host."""
        present, absent = _parts(self._of.get(number))
        self._keep(number, present, _without(absent, host))

    def publishes(self, host: str, number: int) -> bool:
        """Return whether a host publishes something of a guest."""
        present, absent = _parts(self._of.get(number))
        return any(each.host == host for each in chain[Publication | Tombstone](present, absent))

    def row(self, number: int, hosts: Hosts) -> FleetRow | None:
        """Return the row of a guest; None if there is none."""
        present, absent = _parts(self._of.get(number))
        return judge(tuple(map(made, present)), absent, hosts) if present or absent else None

    def rows(self, hosts: Hosts) -> Mapping[UUID, FleetRow]:
        """Return all rows by UUID. Neither the claims nor `hosts` may change from then on."""
        return _Rows(self._of, {each: self.row(each, hosts) for each in self._several}, hosts)

    def by_host(self) -> Iterator[tuple[str, int]]:
        """Yield each host, and each guest of which it publishes something, now and then twice."""
        for number, known in self._of.items():
            if isinstance(known, _Several):
                for each in chain[Publication | Tombstone](known.present, known.absent):
                    yield each.host, number
            else:
                yield known.host, number

    def _keep(
        self, number: int, present: tuple[Publication, ...], absent: tuple[Tombstone, ...]
    ) -> None:
        if len(present) == 1 and not absent:
            self._of[number] = present[0]
            self._several.discard(number)
        elif present or absent:
            self._of[number] = _Several(present, absent)
            self._several.add(number)
        else:
            self._of.pop(number, None)
            self._several.discard(number)


Known = Publication | _Several | None


def _parts(known: Known) -> tuple[tuple[Publication, ...], tuple[Tombstone, ...]]:
    if isinstance(known, _Several):
        return known
    return (() if known is None else (known,)), ()


def _without(some: tuple[T, ...], host: str) -> tuple[T, ...]:
    """Return these without that of a host."""
    return tuple(each for each in some if each.host != host)


class _Rows(Mapping[UUID, FleetRow]):
    """A row for each guest; that of a guest which one host publishes is made when looked at."""

    __slots__ = ("_hosts", "_judged", "_of", "_rowless")

    def __init__(
        self,
        of: Mapping[int, Publication | _Several],
        judged: Mapping[int, FleetRow | None],
        hosts: Hosts,
    ) -> None:
        self._of = of
        self._judged = judged
        self._hosts = hosts
        self._rowless = sum(row is None for row in judged.values())

    def __getitem__(self, uuid: UUID) -> FleetRow:
        row = self._row(uuid.int) if isinstance(uuid, UUID) else None
        if row is None:
            raise KeyError(uuid)
        return row

    def __iter__(self) -> Iterator[UUID]:
        for number in self._of:
            if self._judged.get(number, True) is not None:
                yield UUID(int=number)

    def __len__(self) -> int:
        return len(self._of) - self._rowless

    def values(self) -> ValuesView[FleetRow]:
        return _Values(self)

    def each(self) -> Iterator[FleetRow]:
        """Yield all rows, without a look-up for each."""
        hosts, judged = self._hosts, self._judged
        for number, known in self._of.items():
            if isinstance(known, _Several):
                row = judged[number]
            else:
                row = judge((made(known),), (), hosts)
            if row is not None:
                yield row

    def _row(self, number: int) -> FleetRow | None:
        known = self._of.get(number)
        if known is None or isinstance(known, _Several):
            return self._judged.get(number)
        return judge((made(known),), (), self._hosts)


class _Values(ValuesView[FleetRow]):
    """The rows alone."""

    def __init__(self, rows: _Rows) -> None:
        super().__init__(rows)
        self._rows = rows

    def __iter__(self) -> Iterator[FleetRow]:
        return self._rows.each()
