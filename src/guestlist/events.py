"""libvirt's event loop, and the domain events of one connection.

In: a libvirt connection. Out: the loop's thread, and each event of a kind handed to any number of
subscribers. Keepalive needs the loop too: without it a silent daemon is never noticed.

libvirt takes one global registration of a kind per connection, and taking the last one back and
registering again under churn can leave the stream dead for good; so a connection registers once,
keeps that registration for its life, and the fan-out happens here. Does not interpret events.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable

import libvirt

from guestlist import threads
from guestlist.native import threading

log = logging.getLogger(__name__)

Subscriber = Callable[..., None]
"""Called on the loop's thread with the domain and what libvirt says of that kind of event (of a
lifecycle event: event and detail); must be quick and must not raise.
"""

LONGEST_PROOF = 1.0
"""Seconds within which a loop of somebody else's must turn, to be relied upon."""

LONGEST_TURN = 5.0
"""Seconds that one turn of the loop is waited for."""

_loop_lock = threading.Lock()
_is_registered = False
_has_loop = False
_borrowed = False


def ensure_loop() -> None:
    """Start libvirt's default event loop, once per process, on a daemon thread of its own.

    Must happen before a connection opens for that connection to have keepalive and events.

    Raises:
        ThreadUnavailable: the thread cannot be started; the next call tries again.
    """
    global _has_loop  # noqa: PLW0603  libvirt's loop is one per process, whatever we would prefer
    with _loop_lock:
        if not _has_loop and not _borrowed:
            _register()
            threads.start(_run_loop, "guestlist-libvirt-events")
            _has_loop = True


def _register() -> None:
    """Have libvirt use its default event loop; it takes that once."""
    global _is_registered  # noqa: PLW0603  as the loop is
    if not _is_registered:
        libvirt.virEventRegisterDefaultImpl()
        _turns.make_timer()
        _is_registered = True


def borrow_loop() -> bool:
    """Have no loop of our own where somebody else runs libvirt's in this process; whether so.

    For who lives in a program that does. Two threads that run it would take turns, and hand each
    other's events out. Must come before the first connection; costs a second where nobody does.
    """
    global _borrowed  # noqa: PLW0603  as the loop is
    with _loop_lock:
        if not _has_loop and not _borrowed:
            _register()
            _borrowed = _turns.wait_for(1, LONGEST_PROOF)
        return _borrowed


def drain(longest_turn: float = LONGEST_TURN) -> bool:
    """Wait until the loop has handed out every event that this process had received at the call.

    False if they may still be outstanding: it gives up on a loop that is busy, or held up, for
    `longest_turn` seconds, and cannot wait at all where the binding has no timers or on the thread
    that turns the loop.

    libvirt hands out all that is queued in one turn of the loop; a timer that fires at once is of
    the same turn or the next, and may have been about to fire for somebody else, so three in a row
    come after them.
    """
    return _turns.wait_for(3, longest_turn)


def is_on_loop() -> bool:
    """Whether this is the thread that turns the loop, which must not wait for it."""
    return _turns.is_turned_here()


class Pulse:
    """Tells whether the loop turns, without waiting for it. One thread at a time."""

    def __init__(self) -> None:
        self._count: int | None = None

    def beat(self) -> bool:
        """Whether the loop has turned since the last beat; asks it to turn before the next."""
        turned = self._count is None or _turns.count > self._count
        if turned:
            self._count = _turns.request()
        return turned


class _Turns:
    """Counts turns of the loop for who waits for them: a timer that is set when one does.

    It is one for the life of the process: the binding never frees what a timer was added with.
    Callers wait on their own threads, where a signal handler may raise: so nothing is locked while
    one waits, or while one is woken.
    """

    def __init__(self) -> None:
        self.count = 0
        self.turner: int | None = None
        """The thread that turns the loop, as far as it is known."""
        self._timer: int | None = None
        self._bell = threads.Bell()

    def is_turned_here(self) -> bool:
        return threading.get_ident() == self.turner

    def make_timer(self) -> None:
        """Make the timer, where the binding has any."""
        if hasattr(libvirt, "virEventAddTimeout"):
            self._timer = libvirt.virEventAddTimeout(-1, self._turned, None)

    def request(self) -> int | None:
        """Have the loop make a turn, and tell how many it had made; None without a timer."""
        if self._timer is None:
            return None
        count = self.count
        libvirt.virEventUpdateTimeout(self._timer, 0)
        return count

    def wait_for(self, turns: int, longest: float) -> bool:
        """Whether the loop made so many turns, none of which took longer than `longest` seconds."""
        if self.is_turned_here():
            return False
        for _ in range(turns):
            count = self.request()
            if count is None or not self._bell.wait_for(lambda: self.count > count, longest):  # noqa: B023
                return False
        return True

    def _turned(self, timer: int, _opaque: None) -> None:
        libvirt.virEventUpdateTimeout(timer, -1)
        self.turner = threading.get_ident()
        self.count += 1
        self._bell.ring()


_turns = _Turns()


def _run_loop() -> None:
    _turns.turner = threading.get_ident()
    pause = threading.Event()
    while True:
        try:
            libvirt.virEventRunDefaultImpl()
        except libvirt.libvirtError as error:
            log.warning("libvirt's event loop failed and is run again: %s", error)
            pause.wait(1)


class Stream:
    """The events of one kind (VIR_DOMAIN_EVENT_ID_*) on a connection, for any number of readers."""

    def __init__(self, connection: libvirt.virConnect, kind: int) -> None:
        """Register with libvirt.

        Raises:
            libvirt.libvirtError: this peer has no such events.

        Cost: 1 call.
        """
        self._subscribers: tuple[Subscriber, ...] = ()
        self._connection = connection
        self._kind = kind
        self._registration = connection.domainEventRegisterAny(None, kind, self._dispatch, None)

    def subscribe(self, subscriber: Subscriber) -> None:
        """Hand every later event to `subscriber` as well."""
        self._subscribers = (*self._subscribers, subscriber)

    def end(self) -> None:
        """Take the registration back, for good. Cost: 1 call.

        While it stands libvirt keeps the connection open, closed or not.
        """
        self._subscribers = ()
        with contextlib.suppress(libvirt.libvirtError):  # a dead connection has nothing to end
            self._connection.domainEventDeregisterAny(self._registration)

    def _dispatch(
        self, _connection: libvirt.virConnect, domain: libvirt.virDomain, *facts: object
    ) -> None:
        for subscriber in self._subscribers:
            try:
                subscriber(domain, *facts[:-1])  # the last one is the registration's own argument
            except Exception:  # libvirt-python would print it and go on; so do we, in the log
                log.exception("a subscriber failed on an event %d of %s", self._kind, domain.name())
