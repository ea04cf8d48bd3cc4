"""Domains that have no metadata, told without a parser.

In: handles. Out: which of them have XML without any `<metadata>`, and the documents of the others.
A short command asks for the launcher of a domain or two, and to import a parser for that takes as
long as to import libvirt. Parses nothing; used only until something needs the details themselves.
"""

from __future__ import annotations

import time
from collections.abc import Container, Iterable
from typing import NamedTuple

import libvirt

from guestlist.handle import INACTIVE_ID, Handle
from guestlist.peer import Peer

Fetched = str | ValueError | libvirt.libvirtError
"""A domain's XML, or the error in its place."""

MOST = 3
"""Domains that are told this way at a time. Many are read side by side, and then parsed."""

_ASKS_NO_GUEST = 5_000_000
"""The daemon from which on XMLDesc waits for no guest; see `details.bounded`."""


def is_plain(document: str) -> bool:
    """Return whether a domain's XML surely has no `<metadata>`.

    The name of an element is written out in XML: neither an encoding (this text is decoded) nor a
    character reference can hide it. Only an entity could bring one, and entities need a document
    type. A document that does not end as libvirt ends it is left to the parser.
    """
    return (
        "<metadata" not in document
        and "<!DOCTYPE" not in document
        and document.rstrip().endswith("</domain>")
    )


class _Told(NamedTuple):
    """What a domain was when its XML had no metadata. It is believed until `due` (monotonic)."""

    id: int
    name: str
    due: float


class PlainDomains:
    """The domains of one connection that have no metadata; threads take turns on it.

    They are remembered as `DetailsMemory` remembers without events: under UUID, id and name, for
    `max_age` seconds, until a list does not show them.
    """

    def __init__(self, peer: Peer, max_age: float) -> None:
        self._peer = peer
        self._max_age = max_age
        self._known: dict[bytes, _Told] = {}
        self._is_over = False

    def holds(self, handle: Handle) -> bool:
        """Return whether a domain is known to have no metadata. Cost: none."""
        told = self._known.get(handle.uuid)
        return (
            told is not None
            and (told.id, told.name) == (handle.id, handle.name)
            and time.monotonic() < told.due
        )

    def look(self, handles: Iterable[Handle]) -> list[tuple[Handle, Fetched]]:
        """Note which of a few domains have no metadata; return what was fetched otherwise.

        That is empty if none has any. If one has, it is what was fetched of all: then the details
        memory remembers them. Does nothing where many are asked about, where the daemon is so old
        that their XML may wait for a guest, and after `end`.

        Cost: 1 call for each domain that is not known; 1 more, once, for the daemon's version.
        """
        unknown = [handle for handle in handles if not self.holds(handle)]
        if not 0 < len(unknown) <= MOST or self._is_over or self._peer.release < _ASKS_NO_GUEST:
            return []
        due = time.monotonic() + self._max_age
        fetched = [(handle, self._fetch(handle)) for handle in unknown]
        if not all(isinstance(one, str) and is_plain(one) for _, one in fetched):
            return fetched
        self._known.update({one.uuid: _Told(one.id, one.name, due) for one in unknown})
        return []

    def _fetch(self, handle: Handle) -> Fetched:
        try:
            return self._peer.call(handle.domain.XMLDesc, 0)
        except (ValueError, libvirt.libvirtError) as error:
            return error

    def discard(self, uuid: bytes) -> None:
        """Forget a domain. Any thread may call it."""
        self._known.pop(uuid, None)

    def discard_absent(self, listed: Container[bytes], *, include_inactive: bool) -> None:
        """Forget the domains that a list should show and does not."""
        for uuid, told in list(self._known.items()):
            if uuid not in listed and (include_inactive or told.id != INACTIVE_ID):
                self.discard(uuid)

    def __len__(self) -> int:
        return len(self._known)

    def end(self) -> None:
        """Forget all, and look no more: from now on the details memory tells."""
        self._is_over = True
        self._known.clear()
