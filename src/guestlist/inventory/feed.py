"""The events of one connection, kept until they are taken; and when an event comes.

In: a peer. Out: the domains that events named, in the order of arrival; and whether events may have
been lost on the way. libvirt's loop hands events out on a thread that must not wait, so they are
only kept here. Kinds of events that an old libvirt lacks are left out, one by one.

**When an event comes.** libvirt changes a domain first and queues the event then, beside the
replies to questions. From that follows:

- An event never arrives before its change is visible: a question that is asked after the arrival is
  answered with this change, or with a later one.
- An event may arrive long after its change (0.76 s on QEMU): after an answer that shows it, after
  the next change, twice. A view that believed what events say would go back in time.
- An event that arrives while a question is under way tells nothing of the answer: that may show the
  change or not, whichever of the two arrives first.
- Some changes send no event: a start that fails; the removal of a transient domain, which may still
  be listed as shut off when its STOPPED event arrives. And an event can be lost.

So an event names a domain, and the domain is asked about after the event has arrived. Asking after
the last event is enough, except for changes without an event: `merging.must_pass` knows the states
that announce one, and a comparison with a new list finds the others.

Source: libvirt src/qemu/qemu_process.c (qemuProcessHandleMonitorEOF stops, then queues the event).
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Mapping
from datetime import UTC, datetime
from functools import partial
from typing import Any, NamedTuple, Protocol
from uuid import UUID

import libvirt

from guestlist.details import XML_EVENTS
from guestlist.event import Event, EventKind
from guestlist.peer import Peer
from guestlist.unpatched import threading

MOST = 10_000
"""Events that are kept. More of them cost more than a new list, and are dropped."""

_KINDS = (*XML_EVENTS, EventKind.REBOOT, EventKind.LIFECYCLE)
"""The newest first, see `Peer.events`."""


class Raw(NamedTuple):
    """An event as it arrived: `arrived` is monotonic time, `at` is seconds since the epoch."""

    uuid: bytes
    domain: libvirt.virDomain
    kind: EventKind
    event: int | None
    detail: int | None
    arrived: float
    at: float

    def of(self, uuid: UUID) -> Event:
        """Return the event as a value; `uuid` is its own, as an object."""
        at = datetime.fromtimestamp(self.at, UTC)
        return Event(uuid, self.kind, at, self.event, self.detail)


class Inbox:
    """Events and nudges for the one thread that takes them. Any thread may put into it."""

    def __init__(self) -> None:
        self.lost: str | None = None
        """Why events may be missing; the thread that lists all domains for it sets it to None."""
        self._raws: list[Raw] = []
        self._named: dict[bytes, int] = {}
        self._is_nudged = False
        self._lock = threading.Lock()
        self._asleep = threading.Lock()
        """Held while nothing has come; `_wake` releases it. One lock for all waits: a `Bell` makes
        one for each wait, and a view waits up to a thousand times a second."""
        self._asleep.acquire()

    def names(self, uuid: bytes) -> bool:
        """Whether an event has named a domain, or was lost, and is not `done`. Takes no lock."""
        return uuid in self._named or self.lost is not None

    @property
    def waiting_since(self) -> float | None:
        """When (monotonic) the first event arrived that is not taken; None: all are. No lock."""
        raws = self._raws
        return raws[0].arrived if raws else None

    def nudge(self) -> None:
        """Let `take` return. Takes no lock: also for signal handlers and finalizers."""
        self._is_nudged = True
        self._wake()

    def put(self, raw: Raw) -> None:
        """Keep an event; where there is no room, note the loss."""
        with self._lock:
            if len(self._raws) >= MOST:
                self.lost = f"more than {MOST:,} events at a time"
                return
            self._named[raw.uuid] = self._named.get(raw.uuid, 0) + 1
            self._raws.append(raw)
        self._wake()

    def _wake(self) -> None:
        """Wake the thread that waits, or that waits next."""
        if self._asleep.locked():
            try:  # noqa: SIM105  `suppress` takes longer than all that is done here
                self._asleep.release()
            except RuntimeError:  # another thread has just released it
                pass

    def take(self, timeout: float = 0.0) -> list[Raw]:
        """Return the events since the last call; wait `timeout` seconds for one, or for a nudge.

        Call it on guestlist's own threads: no signal handler runs while a main thread waits here.
        """
        self._asleep.acquire(blocking=False)  # before it looks: what comes later releases it again
        if timeout > 0 and not (self._raws or self._is_nudged):
            self._asleep.acquire(timeout=timeout)
        with self._lock:
            taken, self._raws = self._raws, []
            self._is_nudged = False
            return taken

    def done(self, raws: Iterable[Raw]) -> None:
        """Note that the view has what these events told of."""
        with self._lock:
            for raw in raws:
                if (left := self._named.get(raw.uuid, 0) - 1) > 0:
                    self._named[raw.uuid] = left
                else:
                    self._named.pop(raw.uuid, None)

    def clear(self) -> None:
        """Forget all events: the connection is gone, and their handles hold its socket open."""
        self.take()
        with self._lock:
            self._named.clear()


class Listener(Protocol):
    """A part of the program that hears events over the view's connection, beside the view.

    `begin` and `end` are called on the view's thread, `hear` on the thread of the event loop.
    """

    kinds: Mapping[int, int]
    """The kinds that it hears (VIR_DOMAIN_EVENT_ID_*), and the libvirt that brought each."""

    def begin(self, kinds: Collection[int]) -> None:
        """A connection was opened, and these of `kinds` come over it."""

    def hear(self, kind: int, domain: libvirt.virDomain, *facts: Any) -> None:
        """An event has come. It keeps no handle, and neither waits nor raises."""

    def end(self) -> None:
        """The connection is gone: events are missed until the next `begin`."""


def register(peer: Peer, listeners: Collection[Listener] = ()) -> None:
    """Register with libvirt for all kinds of events, the view's and those of listeners.

    The newest kinds are first and lifecycle events last: see `Peer.events`.

    Cost: 11 calls at most, once; 1 more for each kind that only a listener hears.
    """
    kinds = {int(kind): kind.since for kind in _KINDS}
    for listener in listeners:
        kinds.update(listener.kinds)
    newest_first = sorted(kinds, key=kinds.__getitem__, reverse=True)
    streams = {kind: peer.events(kind, kinds[kind]) for kind in newest_first}
    for listener in listeners:
        listener.begin([kind for kind in listener.kinds if streams[kind] is not None])
        for kind in listener.kinds:
            if (stream := streams[kind]) is not None:
                stream.subscribe(partial(listener.hear, kind))


class Feed:
    """The events of one peer, from now on, put into an inbox."""

    def __init__(self, peer: Peer, inbox: Inbox) -> None:
        self._inbox = inbox
        self.has_lifecycle = False
        """Whether this driver has lifecycle events."""
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
