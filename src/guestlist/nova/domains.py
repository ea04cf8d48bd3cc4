"""Domains as Nova's code takes them, which answer without a call what is known of all.

In: what was listed, and how to look the rest up. Out: objects that Nova takes for a
libvirt.virDomain. They answer for name, UUID, id and XML; for anything else they look up the real
one, as Nova would have done. Knows neither libvirt nor Nova.
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


class XmlDocuments:
    """The XML documents of the domains of one list, read together when the first is wanted."""

    def __init__(self, read: Callable[[], Mapping[str, str] | None]) -> None:
        self._read = read

    @cached_property
    def by_uuid(self) -> Mapping[str, str]:
        """The documents by UUID; a domain whose XML could not be read is missing."""
        return self._read() or {}


NO_DOCUMENTS = XmlDocuments(dict)
"""For domains whose XML is read one by one, if at all."""


class KnownDomain:
    """One domain of a list; `look_up` returns the real one by its UUID."""

    def __init__(
        self, listed: ListedDomain, documents: XmlDocuments, look_up: Callable[[str], Any]
    ) -> None:
        self._listed = listed
        self._documents = documents
        self._look_up = look_up

    def name(self) -> str:
        """Answer as virDomain.name."""
        return self._listed.name

    def UUIDString(self) -> str:  # noqa: N802  libvirt's
        """Answer as virDomain.UUIDString."""
        return self._listed.uuid

    def ID(self) -> int:  # noqa: N802  libvirt's
        """Answer as virDomain.ID."""
        return self._listed.id

    def XMLDesc(self, flags: int = 0) -> str:  # noqa: N802  libvirt's
        """Answer as virDomain.XMLDesc; with flags libvirt is asked."""
        document = self._documents.by_uuid.get(self._listed.uuid) if flags == 0 else None
        if document is None:
            text: str = self._real.XMLDesc(flags)
            return text
        return document

    @cached_property
    def _real(self) -> Any:
        return self._look_up(self._listed.uuid)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    def __repr__(self) -> str:
        return f"<KnownDomain {self._listed.name} {self._listed.uuid}>"


class StatedDomain(KnownDomain):
    """A domain whose state is known, for Nova's code that reads nothing else of its `info`."""

    def __init__(self, listed: ListedDomain, state: int, look_up: Callable[[str], Any]) -> None:
        super().__init__(listed, NO_DOCUMENTS, look_up)
        self._state = state

    def info(self) -> tuple[int]:
        """Return the first field of virDomain.info."""
        return (self._state,)


class CountedDomain(KnownDomain):
    """A domain whose disks have been counted.

    A domain without disks is not asked about a disk: libvirt's answer is always the error that
    `none` makes, and a stuck guest would block the call.

    Args:
        listed: the domain.
        counters: by target; None: the guest did not answer.
        silent: what `blockStats` raises where the guest did not answer.
        none: makes what `blockStats` raises for a disk where the domain has no disks.
        look_up: returns the real one by its UUID.
    """

    def __init__(
        self,
        listed: ListedDomain,
        counters: Mapping[str, tuple[int, ...]] | None,
        silent: Exception,
        none: Callable[[str], Exception],
        look_up: Callable[[str], Any],
    ) -> None:
        super().__init__(listed, NO_DOCUMENTS, look_up)
        self._counters = counters
        self._silent = silent
        self._none = none

    def blockStats(self, disk: str) -> tuple[int, ...]:  # noqa: N802  libvirt's
        """Answer as virDomain.blockStats, without the number of errors, which QEMU does not count.

        libvirt is asked about a disk that was not counted.
        """
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
    """Return what Nova's running code takes for a domain; None: the domain is looked up."""
    return _stand_ins.get().get(uuid)


@contextlib.contextmanager
def standing_in(domains: Mapping[str, Any]) -> Iterator[None]:
    """Within, on this thread, these domains (by UUID) are taken and not looked up."""
    token = _stand_ins.set(domains)
    try:
        yield
    finally:
        _stand_ins.reset(token)
