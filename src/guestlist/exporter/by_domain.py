"""What is kept of domains until they are gone. Pure.

In: a value for a domain, from an event; which domains exist, at a scrape. Out: the values. An event
may name a domain that the view does not have yet: its value stays for `GRACE` seconds. A value of a
domain that was there goes with the domain. The number of values is bounded. Takes no lock: its
owner does.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Container
from typing import TypeVar
from uuid import UUID

GRACE = 60.0
"""Seconds in which the view comes to have a domain that an event has named."""

MOST = 20_000
"""Domains of which values are kept, where nothing scrapes. Beyond it the oldest value goes."""

T = TypeVar("T")


class ByDomain(dict[UUID, T]):
    """Values by the UUID of their domain."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._clock = clock
        self._early: dict[UUID, float] = {}
        """When the value came of a domain that no scrape has had yet."""

    def put(self, uuid: UUID, value: T) -> None:
        """Keep a value of a domain that an event has named."""
        if uuid not in self:
            self._early[uuid] = self._clock()
        self[uuid] = value
        if len(self) > MOST:
            self.discard(next(iter(self)))

    def keep_only(self, existing: Container[UUID]) -> None:
        """Forget the domains that do not exist, except those that may come yet."""
        oldest = self._clock() - GRACE
        for uuid in list(self):
            if uuid in existing:
                self._early.pop(uuid, None)
            elif self._early.get(uuid, oldest) <= oldest:
                self.discard(uuid)

    def discard(self, uuid: UUID) -> None:
        """Forget a domain, if anything is kept of it."""
        self.pop(uuid, None)
        self._early.pop(uuid, None)
