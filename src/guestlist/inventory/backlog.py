"""The domains whose details must be read again, in what order, and how fast. Pure.

In: domains whose XML may have changed, and the events that say so. Out: one domain at a time, when
there is time for it: states come first, and details are a call for each domain. Reads no clock: the
caller passes the time (monotonic).
"""

from __future__ import annotations

from guestlist.event import Event, EventKind

QUIET = 0.05
"""Seconds without an event after which details are read at full speed."""

LARGEST_SHARE = 0.25
"""The largest share of its time for which the thread reads details while events keep coming."""

FEW_EVENTS = 10.0
"""The share is this, divided by the events a second: at 1,000 it is 1 % of the time."""

CATCHING_UP_SHARE = 0.5
"""The share for domains that have not been read over this connection."""

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
        """Add a domain whose details must be read."""
        self._waiting.setdefault(uuid, ())

    def catch_up(self) -> None:
        """Note that no domain that waits was ever read over this connection: all are urgent."""
        self._never_read = set(self._waiting)

    def tell(self, uuid: bytes, event: Event, now: float) -> None:
        """Note an event: it may tell of new details, or explain a domain that waits already."""
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
        """Return when the first domain may be read."""
        return min(self._due, self._last_event + QUIET)

    def take(self) -> tuple[bytes, tuple[Event, ...]]:
        """Return the domain that has waited longest, and its events."""
        uuid = next(iter(self._waiting))
        return uuid, self._waiting.pop(uuid)

    def took(self, uuid: bytes, seconds: float, now: float) -> None:
        """Note that reading a domain took so many seconds, and put the next one off by a share."""
        if uuid in self._never_read:
            self._never_read.discard(uuid)
            share = CATCHING_UP_SHARE
        else:
            rate = self._events / max(now - self._last_read, seconds)
            share = min(LARGEST_SHARE, FEW_EVENTS / rate) if rate else LARGEST_SHARE
        self._last_read, self._events = now, 0
        self._due = now + seconds * (1 / share - 1)
