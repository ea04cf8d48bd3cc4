"""A mapping by UUID that iterates by name. Pure.

In: values that have a UUID and a name. Out: the same values, found by UUID, and in order: by name,
then by UUID. They are sorted when they are first read in order: most readers never do that.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, ValuesView
from operator import attrgetter
from typing import ClassVar, TypeVar
from uuid import UUID

T = TypeVar("T")


class ByName(Mapping[UUID, T]):
    """Values by UUID, in the order of their names. It never changes."""

    __slots__ = ("_by_uuid", "_in_order")

    _order: ClassVar = staticmethod(attrgetter("name", "uuid.int"))
    _of_uuid: ClassVar = staticmethod(attrgetter("uuid"))
    """Where a value has its name and its UUID. Numbers compare faster than UUIDs."""

    def __init__(self, by_uuid: Mapping[UUID, T], *, in_order: bool = False) -> None:
        self._by_uuid = by_uuid
        self._in_order = in_order

    def __getitem__(self, uuid: UUID) -> T:
        return self._by_uuid[uuid]

    def __iter__(self) -> Iterator[UUID]:
        return iter(self._ordered())

    def __len__(self) -> int:
        return len(self._by_uuid)

    def values(self) -> ValuesView[T]:
        """Return the values, in order."""
        return self._ordered().values()

    def _ordered(self) -> Mapping[UUID, T]:
        if not self._in_order:
            ordered = sorted(self._by_uuid.values(), key=self._order)
            self._by_uuid = dict(zip(map(self._of_uuid, ordered), ordered, strict=True))
            self._in_order = True
        return self._by_uuid
