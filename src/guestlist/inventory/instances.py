"""The domains of one connection: what libvirt last stated of each, and its record.

In: states off a list or an answer. Out: an `Instance` for each, with the details that are believed;
the domains whose XML must be read again are put into `backlog`. Keeps handles, and a handle keeps
the connection's socket open: so this ends with the connection.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import replace
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING
from uuid import UUID

from guestlist import snapshot
from guestlist.event import Event
from guestlist.handle import Stated
from guestlist.inventory.backlog import Backlog
from guestlist.records import Instance
from guestlist.session import Session

if TYPE_CHECKING:
    from guestlist.details import DetailsMemory


class Instances:
    """The domains as libvirt last stated them over one connection. One thread."""

    def __init__(self, session: Session, *, details: bool) -> None:
        self.backlog = Backlog(time.monotonic())
        """The domains whose XML waits to be read."""
        self._session = session
        self._shows_details = details
        self._stated: dict[bytes, Stated] = {}

    @cached_property
    def _details(self) -> DetailsMemory:
        """The session's memory of details, which is made when it is first needed."""
        return self._session.details

    def stated(self, uuid: bytes) -> Stated | None:
        """Return what was last stated of a domain, with its handle."""
        return self._stated.get(uuid)

    def note(self, one: Stated) -> None:
        """Keep what was stated of a domain."""
        self._stated[one.uuid] = one

    def clear(self) -> None:
        """Forget every handle: a list brings others."""
        self._stated.clear()

    def forget(self, uuids: Iterable[bytes]) -> None:
        """Forget domains that are gone, and their details."""
        for uuid in uuids:
            self.backlog.drop(uuid)
            self._stated.pop(uuid, None)
            self._details.discard(uuid)

    def tell(self, uuid: bytes, event: Event, arrived: float) -> None:
        """Note an event of a domain: it may change the XML, if that is read at all."""
        known = self._stated.get(uuid)
        if known is not None and self._is_read(known):
            self.backlog.tell(uuid, event, arrived)

    def of(self, one: Stated, before: Instance | None) -> Instance | None:
        """Return the record of a domain: the same object as `before` where nothing is new.

        Details that are no longer believed stay until the XML is read again, and so does the
        launcher of a domain that keeps its name. None: the domain went before libvirt told who
        launched it.

        Cost: none for a known domain; 1 call for a new one whose name does not tell its launcher.
        """
        details = None
        if self._is_read(one):
            details = self._details.believed(one)
            if details is None:
                self.backlog.add(one.uuid)
        if not self._shows_details:
            details = None
        elif details is None and before is not None:
            details = before.details
        if before is None or before.name != one.name or 0 in (before.id, one.id):
            made = snapshot.instance(self._session, one, details)
            if made is not None and self._shows_details:  # that may have read the XML
                return replace(made, details=self._details.believed(one) or details)
            return made
        return snapshot.renewed(before, one, details)

    def read_all(self, stated: Iterable[Stated]) -> None:
        """Read the XML of all these domains. Cost: 1 call for each domain that is not known."""
        if self._shows_details:
            self._details.read(stated)

    def read_again(self, one: Stated, before: Instance) -> Instance | None:
        """Read a domain's XML, and return its record with that; None if it is gone. Cost: 1 call.

        The state stays as it was: only an answer about states moves it.
        """
        read = self._details.read([one]).get(one.uuid)
        verdict = self._session.ownership.of(one) if read else None
        if verdict is None:
            return None
        details = read if self._shows_details else None
        return replace(before, details=details, launcher=verdict.launcher, ours=verdict.ours)

    def is_believed(self, one: Stated) -> bool:
        """Whether the XML of a domain was read, and nothing has contradicted it since."""
        return self._details.believed(one) is not None

    def _is_read(self, one: Stated) -> bool:
        """Whether a domain's XML is read: for its details, or to tell who launched it."""
        return self._shows_details or not self._session.ownership.is_told_by_name(one.name)


@lru_cache(maxsize=65_536)
def uuid_of(raw: bytes) -> UUID:
    """Return libvirt's 16 bytes as a UUID, remembered: making one costs more than looking."""
    return UUID(bytes=raw)
