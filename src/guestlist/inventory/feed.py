"""What libvirt tells of its own accord: the events of one connection, kept until they are taken.

In: a peer. Out: who was named, and by what, in the order of arrival; and whether anything may have
been lost on the way. libvirt's loop hands events out on a thread that must not be held up, so they
are only kept here. Kinds that an old libvirt does not have are done without, one by one.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from datetime import UTC, datetime
from functools import partial
from typing import NamedTuple
from uuid import UUID

import libvirt

from guestlist import threads
from guestlist.details import XML_EVENTS
from guestlist.event import Event, EventKind
from guestlist.peer import Peer
from guestlist.unpatched import threading

MOST = 10_000
"""Events that are kept. Beyond it they are worth less than a new list, and are let go."""

_KINDS = (*XML_EVENTS, EventKind.REBOOT, EventKind.LIFECYCLE)
"""The newest first, see `Peer.events`."""


class Raw(NamedTuple):
    """An event as it arrived: `arrived` by the monotonic clock, `at` by the other one."""

    uuid: bytes
    domain: libvirt.virDomain
    kind: EventKind
    event: int | None
    detail: int | None
    arrived: float
    at: float

    def of(self, uuid: UUID) -> Event:
        """The event as a value; `uuid` is its own."""
        at = datetime.fromtimestamp(self.at, UTC)
        return Event(uuid, self.kind, at, self.event, self.detail)


class Inbox:
    """What one thread is to look at next: events, and nudges. Any thread may put into it."""

    def __init__(self) -> None:
        self.lost: str | None = None
        """Why something may be missing; whoever lists anew sets it back."""
        self._raws: list[Raw] = []
        self._named: dict[bytes, int] = {}
        self._is_nudged = False
        self._lock = threading.Lock()
        self._bell = threads.Bell()

    def names(self, uuid: bytes) -> bool:
        """Whether a domain may have changed since the last event that is `done`. Takes no lock."""
        return uuid in self._named or self.lost is not None

    @property
    def waiting_since(self) -> float | None:
        """When (monotonic) the first event arrived that is not taken yet. Takes no lock."""
        raws = self._raws
        return raws[0].arrived if raws else None

    def nudge(self) -> None:
        """Have `take` return. Takes no lock: also for signal handlers and finalizers."""
        self._is_nudged = True
        self._bell.ring()

    def put(self, raw: Raw) -> None:
        """Keep an event, if there is room."""
        with self._lock:
            if len(self._raws) >= MOST:
                self.lost = f"more than {MOST:,} events at a time"
                return
            self._named[raw.uuid] = self._named.get(raw.uuid, 0) + 1
            self._raws.append(raw)
        self._bell.ring()

    def take(self, timeout: float = 0.0) -> list[Raw]:
        """What has arrived since the last time; the first of it is waited for so long."""
        if timeout > 0:
            self._bell.wait_for(lambda: self._raws or self._is_nudged, timeout)
        with self._lock:
            taken, self._raws = self._raws, []
            self._is_nudged = False
            return taken

    def done(self, raws: Iterable[Raw]) -> None:
        """What these events tell of is known now."""
        with self._lock:
            for raw in raws:
                if (left := self._named.get(raw.uuid, 0) - 1) > 0:
                    self._named[raw.uuid] = left
                else:
                    self._named.pop(raw.uuid, None)

    def clear(self) -> None:
        """Forget everything: the connection is gone, and its handles hold it open."""
        self.take()
        with self._lock:
            self._named.clear()


def register(peer: Peer) -> None:
    """Have libvirt send the events, before anybody subscribes. Cost: 10 calls at most, once."""
    for kind in _KINDS:
        peer.events(kind, kind.since)


class Feed:
    """Puts the events of one peer, from now on, into an inbox."""

    def __init__(self, peer: Peer, inbox: Inbox) -> None:
        self._inbox = inbox
        self.has_lifecycle = False
        for kind in _KINDS:
            stream = peer.events(kind, kind.since)
            if stream is not None:
                stream.subscribe(partial(self._on_event, kind))
                self.has_lifecycle = kind is EventKind.LIFECYCLE

    def _on_event(self, kind: EventKind, domain: libvirt.virDomain, *facts: int) -> None:
        try:
            event, detail = facts if kind is EventKind.LIFECYCLE else (None, None)
            uuid, now = domain.UUID(), time.monotonic()
            self._inbox.put(Raw(uuid, domain, kind, event, detail, now, time.time()))
        except Exception as error:
            self._inbox.lost = f"the callback failed: {error!r}"
            self._inbox.nudge()
            raise
