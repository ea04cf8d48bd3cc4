"""libvirt's event loop, and the domain events of one connection.

In: a libvirt connection. Out: the loop's thread, and each event of a kind handed to any number of
subscribers. Keepalive needs the loop too: without it a silent daemon is never noticed.

libvirt takes one global registration of a kind per connection, and taking the last one back and
registering again under churn can leave the stream dead for good; so a connection registers once,
keeps that registration for its life, and the fan-out happens here. Does not interpret events.
"""

from __future__ import annotations

import contextlib
import ctypes
import logging
import os
import sys
from collections.abc import Callable
from typing import Any

import libvirt

from guestlist import logs, process, threads
from guestlist.errors import NotSupported
from guestlist.unpatched import threading

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
_asyncio: Any = None  # the libvirtaio.virEventAsyncIOImpl that is libvirt's event loop here
_is_warned = False


def ensure_loop() -> None:
    """See to it that libvirt's event loop runs, once per process, for as long as the process does.

    Must happen before a connection opens for that connection to have keepalive and events. A loop
    that the program turns is used: libvirtaio's always, libvirt's default one where its thread is
    in it at this moment. Else guestlist turns the default one, on a daemon thread of its own.

    Raises:
        ForkedProcess, ThreadsReplaced: no loop can run here; see `process.check`.
        NotSupported: libvirtaio's loop is in asyncio's debug mode.
        ThreadUnavailable: the thread cannot be started; the next call tries again.
    """
    global _has_loop  # noqa: PLW0603  libvirt's loop is one per process, whatever we would prefer
    process.claim()
    with _loop_lock:
        logs.relay()
        if _has_loop:
            _warn_of_latecomer()
            return
        if _borrowed or _borrow(only_if_seen=True):
            return
        threads.start(_run_loop, "guestlist-libvirt-events")
        _has_loop = True


def _register() -> None:
    """Give libvirt its default event loop; it takes one once."""
    global _is_registered  # noqa: PLW0603  as the loop is
    if not _is_registered:
        libvirt.virEventRegisterDefaultImpl()
        _turns.make_timer()
        _is_registered = True


def use_running_event_loop() -> bool:
    """Use the event loop of libvirt's that this program runs, and start none; whether that is so.

    For a program that turns libvirt's loop itself (`virEventRunDefaultImpl`, or one of its own by
    `virEventRegisterImpl`), called before the first question and after its loop has begun. The loop
    must go on for as long as guestlist is used. Two threads that turn one loop would take turns,
    and hand each other's events out; guestlist finds out by itself where it can, and this is how to
    be sure: `assert guestlist.use_running_event_loop()`.

    False: no loop has turned within a second, or guestlist turns one already. Then guestlist's is
    the process's: do not start another.

    Raises:
        ForkedProcess, ThreadsReplaced: no loop can run here; see the errors.
        NotSupported: libvirtaio's loop is in asyncio's debug mode.

    Cost: no call; a millisecond where a loop runs, a second where none does.
    """
    process.claim()
    with _loop_lock:
        return _borrowed or (not _has_loop and _borrow(only_if_seen=False))


def _borrow(*, only_if_seen: bool) -> bool:
    """Use a loop that turns already, if there is one; else libvirt's default one is registered."""
    global _asyncio, _borrowed  # noqa: PLW0603  as the loop is
    libvirtaio = sys.modules.get("libvirtaio")
    _asyncio = libvirtaio.getCurrentImpl() if libvirtaio is not None else None
    if _asyncio is not None:
        if _asyncio.loop.get_debug():
            raise NotSupported(
                "libvirtaio loses events while asyncio's debug mode is on (python -X dev, "
                "PYTHONASYNCIODEBUG): it refuses timers that are set on another thread than its own"
            )
        _borrowed = True
        return True
    _register()
    seen = _is_being_turned()
    if seen or not only_if_seen:
        _borrowed = _turns.turner is not None or _turns.wait_for(1, LONGEST_PROOF)
    if seen and not _borrowed:
        if process.is_forked():  # by a program that ran the loop without guestlist
            process.refuse()
        log.warning(
            "a thread is in libvirt's event loop and has not turned it for %g s: guestlist turns "
            "it too",
            LONGEST_PROOF,
        )
    return _borrowed


def _warn_of_latecomer() -> None:
    """Say so, once, where asyncio's loop was given to libvirt when that had one already."""
    global _is_warned  # noqa: PLW0603  as the loop is
    libvirtaio = sys.modules.get("libvirtaio")
    if not _is_warned and libvirtaio is not None and libvirtaio.getCurrentImpl() is not None:
        _is_warned = True
        log.warning(
            "libvirtaio was registered after guestlist's first question, and libvirt ignores it: "
            "its callbacks come on guestlist's thread; call virEventRegisterAsyncIOImpl() first"
        )


def note_turner() -> None:
    """Note this thread as the one that turns libvirt's default loop, if it does. Cost: none.

    Called before a question waits: a loop whose thread waits cannot prove that it turns.
    """
    glib = _glib()
    if glib is not None and glib.g_main_context_is_owner(ctypes.c_void_p(None)):
        _turns.turner = threading.get_ident()


def _glib() -> ctypes.CDLL | None:
    """The GLib that libvirt's client has loaded, if it has."""
    try:
        return ctypes.CDLL("libglib-2.0.so.0", mode=os.RTLD_NOW | os.RTLD_NOLOAD)
    except OSError:
        return None


def _is_being_turned() -> bool:
    """Whether a thread is in libvirt's default loop now. False where that cannot be seen.

    libvirt (from 6.1 on) turns GLib's default context, which has one owner at a time.
    """
    glib = _glib()
    if glib is None:
        return False
    context = ctypes.c_void_p(None)
    if not glib.g_main_context_acquire(context):
        return True
    glib.g_main_context_release(context)
    return False


def wake() -> None:
    """Have a loop that only its own thread can wake take in what a call here has left for it.

    libvirtaio sets its timers as if every call of libvirt's were made on asyncio's thread: the
    events that came with an answer wait there until something else wakes it. Cost: none.
    """
    if _asyncio is not None:
        with contextlib.suppress(RuntimeError):  # it was closed, and nothing will be taken in
            _asyncio.loop.call_soon_threadsafe(_nothing)


def _nothing() -> None:
    pass


def drain(longest_turn: float = LONGEST_TURN) -> bool:
    """Wait until the loop has handed out every event that this process had received at the call.

    False if they may still be outstanding: it gives up on a loop that is busy, or held up, for
    `longest_turn` seconds, and cannot wait at all where the binding has no timers, on the thread
    that turns the loop, or where that is asyncio's and closed.

    libvirt hands out all that is queued in one turn of the loop; a timer that fires at once is of
    the same turn or the next, and may have been about to fire for somebody else, so three in a row
    come after them.
    """
    return not is_on_loop() and _turns.wait_for(3, longest_turn)


def is_on_loop() -> bool:
    """Whether this is the thread that turns the loop, which must not wait for it."""
    if _asyncio is not None:
        try:
            return sys.modules["asyncio"].get_running_loop() is _asyncio.loop
        except RuntimeError:  # none runs on this thread
            return False
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
        self.has_timers = hasattr(libvirt, "virEventAddTimeout")
        self._timer: int | None = None
        self._bell = threads.Bell()

    def is_turned_here(self) -> bool:
        return threading.get_ident() == self.turner

    def make_timer(self) -> None:
        """Make the timer, where the binding has any and there is none yet."""
        if self.has_timers and self._timer is None:
            self._timer = libvirt.virEventAddTimeout(-1, self._turned, None)

    def request(self) -> int | None:
        """Have the loop make a turn, and tell how many it had made; None without a timer."""
        if not self.has_timers:
            return None
        count = self.count
        with contextlib.suppress(RuntimeError):  # asyncio's loop, and it is closed
            self._set_timer()
        return count

    def wait_for(self, turns: int, longest: float) -> bool:
        """Whether the loop made so many turns, none of which took longer than `longest` seconds."""
        if self.is_turned_here() or not self.has_timers:
            return False
        for _ in range(turns):
            count = self.count
            try:
                self._set_timer()
            except RuntimeError:  # asyncio's loop, and it is closed
                return False
            if not self._bell.wait_for(lambda: self.count > count, longest):  # noqa: B023
                return False
        return True

    def _set_timer(self) -> None:
        if _asyncio is not None:
            _asyncio.loop.call_soon_threadsafe(self._set_timer_here)
        else:
            self._set_timer_here()

    def _set_timer_here(self) -> None:
        self.make_timer()
        if self._timer is not None:
            libvirt.virEventUpdateTimeout(self._timer, 0)

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
