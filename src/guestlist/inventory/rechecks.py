"""Who is to be asked about again, and when, though no event may ever name them.

In: what a domain was and was found to be. Out: the domains that are due. Knows no clock: it is told
the time (monotonic).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import libvirt

from guestlist.handle import Stated
from guestlist.inventory.merging import must_pass
from guestlist.records import Instance

RECHECK_AFTER = 0.05
"""Seconds after which who cannot stay as it is is asked about again; doubled each time, up to
`SELDOM`."""

SELDOM = 1.0

SLACK = 0.05
"""Seconds that a look may wait for an event, whose call it then shares."""


class _Recheck(NamedTuple):
    domain: libvirt.virDomain
    due: float
    patience: float


class Rechecks:
    """The looks that are to be taken. One thread."""

    def __init__(self) -> None:
        self._rechecks: dict[bytes, _Recheck] = {}
        self._first = math.inf  # nobody is due before
        self._suspects: set[bytes] = set()

    def put(self, uuid: bytes, domain: libvirt.virDomain, due: float) -> None:
        """Have a domain asked about."""
        self._rechecks[uuid] = _Recheck(domain, due, RECHECK_AFTER)
        self._first = min(self._first, due)

    def suspect(self, one: Stated, due: float) -> None:
        """Have one asked about of which only a comparison tells that it has changed.

        One that is to be asked about already is not put off.
        """
        if one.uuid not in self._rechecks:
            self.put(one.uuid, one.domain, due)
        self._suspects.add(one.uuid)

    def __contains__(self, uuid: bytes) -> bool:
        """Whether a domain is to be asked about again."""
        return uuid in self._rechecks

    @property
    def suspects(self) -> frozenset[bytes]:
        """Whom a comparison is why they are asked about."""
        return frozenset(self._suspects) if self._suspects else _NOBODY

    def next(self) -> float:
        """When somebody must be asked about, event or not."""
        return self._first + SLACK

    def due(self, now: float, *, shared: bool) -> dict[bytes, libvirt.virDomain]:
        """Who is due, by UUID; `shared`: for a call that is made anyway."""
        if now < (self._first if shared else self._first + SLACK):
            return {}
        soon = now + SLACK / 2
        due = {uuid: look.domain for uuid, look in self._rechecks.items() if look.due <= soon}
        self._first = min(
            (look.due for look in self._rechecks.values() if look.due > soon), default=math.inf
        )
        return due

    def settle(self, one: Stated, before: Instance | None, after: Instance, now: float) -> None:
        """Note what a domain was found to be: done with, or to be looked at again, later."""
        last = self._rechecks.pop(one.uuid, None)
        if self._suspects:
            self._suspects.discard(one.uuid)
        if must_pass(before, after):
            patience = min(SELDOM, last.patience * 2) if last else RECHECK_AFTER
            self._rechecks[one.uuid] = _Recheck(one.domain, now + patience, patience)
            self._first = min(self._first, now + patience)
        elif last is not None and last.due > now + SLACK / 2 and not after.active:
            self._rechecks[one.uuid] = last  # so soon it is as it was: about to be gone, perhaps

    def drop(self, uuid: bytes) -> None:
        """Forget a domain that is gone."""
        self._rechecks.pop(uuid, None)
        self._suspects.discard(uuid)


_NOBODY: frozenset[bytes] = frozenset()
