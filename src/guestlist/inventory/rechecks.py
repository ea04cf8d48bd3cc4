"""Rechecks: domains that must be asked about again, though no event may ever name them.

In: what a domain was and was found to be. Out: the domains that are due. Reads no clock: the caller
passes the time (monotonic).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import libvirt

from guestlist.handle import Stated
from guestlist.inventory.merging import must_pass
from guestlist.records import Instance

RECHECK_AFTER = 0.05
"""Seconds after which a domain that cannot stay in its state is asked about again; doubled each
time, up to `SELDOM`."""

SELDOM = 1.0
"""Seconds between two rechecks of a domain, at most."""

SLACK = 0.05
"""Seconds that a recheck may wait for an event, to share the call that the event causes."""


class _Recheck(NamedTuple):
    """A domain, when it is due, and the seconds that it had to wait for that."""

    domain: libvirt.virDomain
    due: float
    patience: float


class Rechecks:
    """The domains to ask about again, each with its time. One thread; `in` is for any."""

    def __init__(self) -> None:
        self._rechecks: dict[bytes, _Recheck] = {}
        self._first = math.inf  # no domain is due before
        self._suspects: set[bytes] = set()

    def put(self, uuid: bytes, domain: libvirt.virDomain, due: float) -> None:
        """Add a domain to ask about."""
        self._rechecks[uuid] = _Recheck(domain, due, RECHECK_AFTER)
        self._first = min(self._first, due)

    def suspect(self, one: Stated, due: float) -> None:
        """Add a domain that a comparison found to differ from the view.

        A domain that was added before keeps its time.
        """
        if one.uuid not in self._rechecks:
            self.put(one.uuid, one.domain, due)
        self._suspects.add(one.uuid)

    def __contains__(self, uuid: bytes) -> bool:
        """Whether a domain must be asked about again."""
        return uuid in self._rechecks

    @property
    def suspects(self) -> frozenset[bytes]:
        """The domains that are asked about only because a comparison found a difference."""
        return frozenset(self._suspects) if self._suspects else _NONE

    def next(self) -> float:
        """Return when a domain must be asked about, with or without an event."""
        return self._first + SLACK

    def due(self, now: float, *, shared: bool) -> dict[bytes, libvirt.virDomain]:
        """Return the domains that are due, by UUID; `shared`: for a call that is made anyway."""
        if now < (self._first if shared else self._first + SLACK):
            return {}
        soon = now + SLACK / 2
        due = {uuid: look.domain for uuid, look in self._rechecks.items() if look.due <= soon}
        self._first = min(
            (look.due for look in self._rechecks.values() if look.due > soon), default=math.inf
        )
        return due

    def settle(self, one: Stated, before: Instance | None, after: Instance, now: float) -> None:
        """Note what a domain was found to be: it is settled, or must be asked about again."""
        last = self._rechecks.pop(one.uuid, None)
        if self._suspects:
            self._suspects.discard(one.uuid)
        if must_pass(before, after):
            patience = min(SELDOM, last.patience * 2) if last else RECHECK_AFTER
            self._rechecks[one.uuid] = _Recheck(one.domain, now + patience, patience)
            self._first = min(self._first, now + patience)
        elif last is not None and last.due > now + SLACK / 2 and not after.active:
            self._rechecks[one.uuid] = (
                last  # asked before it was due: perhaps it is about to be gone
            )

    def drop(self, uuid: bytes) -> None:
        """Forget a domain that is gone."""
        self._rechecks.pop(uuid, None)
        self._suspects.discard(uuid)


_NONE: frozenset[bytes] = frozenset()
