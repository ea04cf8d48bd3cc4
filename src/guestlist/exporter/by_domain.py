"""What is kept of domains until they are gone. Pure.

In: a value for a domain, from an event; which domains exist, at a scrape. Out: the values. An event
may name a domain that the view does not have yet, and a domain may come and go between two scrapes:
so a value stays until the second scrape that does not have its domain, and the number of values is
bounded. Takes no lock: its owner does.
"""

from __future__ import annotations

from collections.abc import Container
from typing import TypeVar
from uuid import UUID

MOST = 20_000
"""Domains of which values are kept, where nothing scrapes. Beyond it the oldest value goes."""

T = TypeVar("T")


class ByDomain(dict[UUID, T]):
    """Values by the UUID of their domain."""

    def __init__(self) -> None:
        super().__init__()
        self._fresh: set[UUID] = set()

    def put(self, uuid: UUID, value: T) -> None:
        """Keep a value of a domain that an event has named."""
        self[uuid] = value
        self._fresh.add(uuid)
        if len(self) > MOST:
            oldest = next(iter(self))
            del self[oldest]
            self._fresh.discard(oldest)

    def keep_only(self, existing: Container[UUID]) -> None:
        """Forget the domains that do not exist, except those put since the last call."""
        for uuid in [uuid for uuid in self if uuid not in existing and uuid not in self._fresh]:
            del self[uuid]
        self._fresh.clear()
