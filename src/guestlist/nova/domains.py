"""A domain off a list, which answers what is known of all without a call.

In: what was listed, and how to find out the rest. Out: what Nova takes for a libvirt.virDomain. It
answers for name, UUID, id and its XML; for anything else the real one is looked up, as Nova would
have had it. Knows neither libvirt nor Nova.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar
from functools import cached_property
from typing import Any, NamedTuple


class ListedDomain(NamedTuple):
    """A domain as a list has it. `id` is -1 while it is inactive."""

    uuid: str
    name: str
    id: int


class DomainDocuments:
    """What the domains of one list have in common: their documents, asked for all at once."""

    def __init__(self, read: Callable[[], Mapping[str, str] | None]) -> None:
        self._read = read

    @cached_property
    def documents(self) -> Mapping[str, str]:
        """The XML of each, by UUID; of one whose XML could not be had, none."""
        return self._read() or {}


class KnownDomain:
    """One domain of a list."""

    def __init__(
        self, listed: ListedDomain, documents: DomainDocuments, find: Callable[[], Any]
    ) -> None:
        self._listed = listed
        self._documents = documents
        self._find = find

    def name(self) -> str:
        """As virDomain.name."""
        return self._listed.name

    def UUIDString(self) -> str:  # noqa: N802  libvirt's
        """As virDomain.UUIDString."""
        return self._listed.uuid

    def ID(self) -> int:  # noqa: N802  libvirt's
        """As virDomain.ID."""
        return self._listed.id

    def XMLDesc(self, flags: int = 0) -> str:  # noqa: N802  libvirt's
        """As virDomain.XMLDesc; with flags libvirt is asked."""
        document = self._documents.documents.get(self._listed.uuid) if flags == 0 else None
        if document is None:
            text: str = self._real.XMLDesc(flags)
            return text
        return document

    @cached_property
    def _real(self) -> Any:
        return self._find()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    def __repr__(self) -> str:
        return f"<KnownDomain {self._listed.name} {self._listed.uuid}>"


class StatedDomain(KnownDomain):
    """One whose state is known, for Nova's code that reads no more of its `info`."""

    def __init__(self, listed: ListedDomain, state: int, find: Callable[[], Any]) -> None:
        super().__init__(listed, DomainDocuments(dict), find)
        self._state = state

    def info(self) -> tuple[int]:
        """The first of what virDomain.info has."""
        return (self._state,)


class CountedDomain(KnownDomain):
    """One whose disks have been counted; `silent` is raised where its guest does not answer.

    Nor is one without any disk asked about one: stuck or not it has the same answer for all of
    them, `none`, and a stuck one would hold the call up.
    """

    def __init__(
        self,
        listed: ListedDomain,
        counters: Mapping[str, tuple[int, ...]] | None,
        silent: Exception,
        none: Callable[[str], Exception],
        find: Callable[[], Any],
    ) -> None:
        super().__init__(listed, DomainDocuments(dict), find)
        self._counters = counters
        self._silent = silent
        self._none = none

    def blockStats(self, disk: str) -> tuple[int, ...]:  # noqa: N802  libvirt's
        """As virDomain.blockStats, without the errors, which QEMU does not count."""
        if self._counters is None:
            raise self._silent
        if not self._counters:
            raise self._none(disk)
        counters = self._counters.get(disk)
        if counters is None:
            asked: tuple[int, ...] = self._real.blockStats(disk)
            return asked
        return (*counters, -1)


_stand_ins: ContextVar[Mapping[str, Any]] = ContextVar("guestlist_stand_ins", default={})  # noqa: B039


def stand_in(uuid: str) -> Any:
    """What Nova's code that runs just now is to take for a domain; None: it is looked up."""
    return _stand_ins.get().get(uuid)


@contextlib.contextmanager
def standing_in(domains: Mapping[str, Any]) -> Iterator[None]:
    """Within, on this thread alone, nobody looks these domains (by UUID) up."""
    token = _stand_ins.set(domains)
    try:
        yield
    finally:
        _stand_ins.reset(token)
