"""Whose details are to be read again, in what order, and how fast.

In: who may have changed, and what was said of it. Out: one at a time, when there is time for it:
states come first, and details are a call for each domain. Knows no clock: it is told the time.
"""

from __future__ import annotations

from guestlist.event import Event, EventKind

QUIET = 0.05
"""Seconds without an event after which details are read at full speed."""

LARGEST_SHARE = 0.25
"""The share of its time that a thread reads details for while events keep coming, at most."""

FEW_EVENTS = 10.0
"""By how many events a second the share is divided: at 1,000 it is a hundredth of the time."""

CATCHING_UP_SHARE = 0.5
"""The share for those that have not been read over this connection."""

EVENTS_KEPT = 4
"""Events that are kept of one domain."""


class Backlog:
    """The domains whose details wait to be read, first come, first served. One thread."""

    def __init__(self, now: float) -> None:
        self._waiting: dict[bytes, tuple[Event, ...]] = {}
        self._never_read: set[bytes] = set()
        self._last_event = 0.0
        self._last_read = now
        self._events = 0
        self._due = 0.0

    def __len__(self) -> int:
        return len(self._waiting)

    def __contains__(self, uuid: bytes) -> bool:
        return uuid in self._waiting

    def add(self, uuid: bytes) -> None:
        """Have a domain's details read."""
        self._waiting.setdefault(uuid, ())

    def catch_up(self) -> None:
        """Nobody has read those who wait over this connection: they are in more of a hurry."""
        self._never_read = set(self._waiting)

    def tell(self, uuid: bytes, event: Event, now: float) -> None:
        """Note an event: it may tell of other details, or why others are waited for."""
        self._last_event = now
        self._events += 1
        if event.kind is EventKind.REBOOT:
            return
        told = self._waiting.get(uuid)
        if told is not None or event.kind is not EventKind.LIFECYCLE:
            self._waiting[uuid] = (*(told or ()), event)[-EVENTS_KEPT:]

    def drop(self, uuid: bytes) -> None:
        """Forget a domain that is gone."""
        self._waiting.pop(uuid, None)

    def next(self) -> float:
        """When the first may be read."""
        return min(self._due, self._last_event + QUIET)

    def take(self) -> tuple[bytes, tuple[Event, ...]]:
        """The first, and what was said of it."""
        uuid = next(iter(self._waiting))
        return uuid, self._waiting.pop(uuid)

    def took(self, uuid: bytes, seconds: float, now: float) -> None:
        """Reading one took so long."""
        if uuid in self._never_read:
            self._never_read.discard(uuid)
            share = CATCHING_UP_SHARE
        else:
            rate = self._events / max(now - self._last_read, seconds)
            share = min(LARGEST_SHARE, FEW_EVENTS / rate) if rate else LARGEST_SHARE
        self._last_read, self._events = now, 0
        self._due = now + seconds * (1 / share - 1)
