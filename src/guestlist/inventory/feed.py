"""What libvirt tells of its own accord: the events of one connection, kept until they are taken.

In: a peer. Out: who was named, and by what, in the order of arrival; and whether anything may have
been lost on the way. libvirt's loop hands events out on a thread that must not be held up, so they
are only kept here. Kinds that an old libvirt does not have are done without, one by one.
"""

from __future__ import annotations

import threading
import time
from datetime import UTC, datetime
from functools import partial
from typing import NamedTuple
from uuid import UUID

import libvirt

from guestlist.connection import Peer
from guestlist.details import XML_EVENTS
from guestlist.told import Event, EventKind

MOST = 10_000
"""Events that are kept. Beyond it they are worth less than a new list, and are let go."""

_KINDS = (*XML_EVENTS, EventKind.REBOOT, EventKind.LIFECYCLE)
"""The newest first, see `Peer.events`."""


class Raw(NamedTuple):
    """An event as it arrived: `arrived` by the monotonic clock, `at` by the other one."""

    domain: libvirt.virDomain
    kind: EventKind
    event: int | None
    detail: int | None
    arrived: float
    at: float

    def of(self, uuid: UUID) -> Event:
        """The event as a value, of the domain with this UUID, which is the one it names."""
        at = datetime.fromtimestamp(self.at, UTC)
        return Event(uuid, self.kind, at, self.event, self.detail)


def register(peer: Peer) -> None:
    """Have libvirt send the events, before anybody subscribes. Cost: 10 calls at most, once."""
    for kind in _KINDS:
        peer.events(kind, kind.since)


class Feed:
    """The events of one peer from now on. Whoever takes them is woken by `bell`."""

    def __init__(self, peer: Peer, bell: threading.Event) -> None:
        self.peer = peer
        self._bell = bell
        self._raw: list[Raw] = []
        self._lost: str | None = None
        self._lock = threading.Lock()
        self.has_lifecycle = False
        for kind in _KINDS:
            stream = peer.events(kind, kind.since)
            if stream is not None:
                stream.subscribe(partial(self._on_event, kind))
                self.has_lifecycle = kind is EventKind.LIFECYCLE

    def take(self) -> tuple[list[Raw], str | None]:
        """What has arrived since the last time; and why something may be missing, if it may."""
        with self._lock:
            raw, self._raw = self._raw, []
            lost, self._lost = self._lost, None
        return raw, lost

    def _on_event(self, kind: EventKind, domain: libvirt.virDomain, *facts: int) -> None:
        try:
            event, detail = facts if kind is EventKind.LIFECYCLE else (None, None)
            raw = Raw(domain, kind, event, detail, time.monotonic(), time.time())
            with self._lock:
                if len(self._raw) == MOST:
                    self._raw.clear()
                    self._lost = f"more than {MOST:,} events at a time"
                self._raw.append(raw)
        except Exception as error:
            self._lost = f"the callback failed: {error!r}"
            raise
        finally:
            self._bell.set()
