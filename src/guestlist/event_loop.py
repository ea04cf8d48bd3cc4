"""libvirt's event loop, and the domain events of one connection.

In: a libvirt connection. Out: the loop's thread; and each event of a kind, handed to any number of
subscribers. Keepalive needs the loop too: without it guestlist never notices a silent daemon. Does
not interpret events.

A connection registers once for each kind of event, keeps that registration for its life, and this
module hands the events to the subscribers. There are two reasons: libvirt takes one global
registration of a kind per connection; and if the last registration is taken back and another one is
made while domains change, the stream of events can stay dead for good.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import logging
import os
import sys
from collections.abc import Callable
from typing import Any

import libvirt

from guestlist import logs, process, threads
from guestlist.errors import NotSupported
from guestlist.unpatched import threading
from guestlist.waiting import Bell

log = logging.getLogger(__name__)

Subscriber = Callable[..., None]
"""A function that is called on the loop's thread with the domain and the facts of the event (for a
lifecycle event: event and detail). It must be quick and must not raise.
"""

LONGEST_PROOF = 1.0
"""Seconds within which the program's own loop must turn, for guestlist to rely on it."""

LONGEST_TURN = 5.0
"""Seconds to wait for one turn of the loop."""

_loop_lock = threading.Lock()
_is_registered = False
"""Whether guestlist has registered libvirt's default loop."""

_has_loop = False
"""Whether a thread of guestlist's turns the loop."""

_borrowed = False
"""Whether the program turns the loop."""

_asyncio: Any = None
"""The libvirtaio.virEventAsyncIOImpl, if it is libvirt's event loop in this process."""

_is_warned = False


def ensure_loop() -> None:
    """Make sure that libvirt's event loop runs: one loop, for as long as the process lives.

    Call it before a connection opens: only then has that connection keepalive and events. If the
    program turns a loop, guestlist uses that one. It recognises libvirtaio's loop always, and
    libvirt's default loop if the program's thread is in it at this moment. Otherwise guestlist
    turns the default loop, on a daemon thread of its own.

    Raises:
        ForkedProcess, ThreadsReplaced: no loop can run here; see `process.check`.
        NotSupported: libvirtaio's loop is in asyncio's debug mode.
        ThreadUnavailable: the thread cannot be started; the next call tries again.
    """
    global _has_loop  # noqa: PLW0603  libvirt has one loop per process
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
    """Register libvirt's default event loop; libvirt accepts a loop only once."""
    global _is_registered  # noqa: PLW0603  as the loop is
    if not _is_registered:
        libvirt.virEventRegisterDefaultImpl()
        _turns.make_timer()
        _is_registered = True


def use_running_event_loop() -> bool:
    """Use the libvirt event loop that this program runs; return whether guestlist uses it.

    For a program that turns libvirt's loop itself: `virEventRunDefaultImpl`, or a loop of its own
    given to `virEventRegisterImpl`. Call this after that loop has begun and before the first
    question. The loop must run for as long as guestlist is used. If two threads turned one loop
    they would take turns and hand out each other's events. guestlist finds most loops by itself;
    this function makes it certain: `assert guestlist.use_running_event_loop()`.

    False: no loop has turned within a second, or guestlist turns one already. Then guestlist's loop
    is the only one of the process: do not start another.

    Raises:
        ForkedProcess, ThreadsReplaced: no loop can run here; see the errors.
        NotSupported: libvirtaio's loop is in asyncio's debug mode.

    Cost: no call; a millisecond where a loop runs, a second where none does.
    """
    process.claim()
    with _loop_lock:
        return _borrowed or (not _has_loop and _borrow(only_if_seen=False))


def _borrow(*, only_if_seen: bool) -> bool:
    """Use a loop that turns already, and return whether there is one.

    Without libvirtaio, libvirt's default loop is registered.

    Args:
        only_if_seen: whether to wait for a turn only if a thread is in the default loop now.
    """
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
        if process.is_forked():  # its parent ran the loop without guestlist
            process.refuse()
        log.warning(
            "a thread is in libvirt's event loop and has not turned it for %g s: guestlist turns "
            "the loop too",
            LONGEST_PROOF,
        )
    return _borrowed


def _warn_of_latecomer() -> None:
    """Warn, once, if libvirt was given asyncio's loop when it already had another."""
    global _is_warned  # noqa: PLW0603  as the loop is
    libvirtaio = sys.modules.get("libvirtaio")
    if not _is_warned and libvirtaio is not None and libvirtaio.getCurrentImpl() is not None:
        _is_warned = True
        log.warning(
            "libvirtaio was registered after guestlist's first question, and libvirt ignores it: "
            "its callbacks come on guestlist's thread; call virEventRegisterAsyncIOImpl() first"
        )


def note_turner() -> None:
    """Note that this thread turns libvirt's default loop, if it does. Cost: none.

    Call it before a question waits: while its thread waits, a loop cannot prove that it turns.
    """
    glib = _glib()
    if glib is not None and glib.g_main_context_is_owner(ctypes.c_void_p(None)):
        _turns.turner = threading.get_ident()


@functools.cache
def _glib() -> ctypes.CDLL | None:
    """Return the GLib that libvirt's client has loaded; None if it has loaded none.

    The client loads it when it is loaded itself, or never. To look takes 0.05 ms.
    """
    try:
        return ctypes.CDLL("libglib-2.0.so.0", mode=os.RTLD_NOW | os.RTLD_NOLOAD)
    except OSError:
        return None


def _is_being_turned() -> bool:
    """Return whether a thread is in libvirt's default loop now; False if that cannot be seen.

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
    """Wake asyncio's loop, so that it hands out the events that came with the answer to a call.

    libvirtaio sets its timers as if every libvirt call were made on asyncio's thread. After a call
    on another thread the events wait until something wakes that loop. Does nothing with any other
    loop. Cost: none.
    """
    if _asyncio is not None:
        with contextlib.suppress(RuntimeError):  # the loop was closed and hands out nothing more
            _asyncio.loop.call_soon_threadsafe(_nothing)


def _nothing() -> None:
    pass


def drain(longest_turn: float = LONGEST_TURN) -> bool:
    """Wait until the loop has handed out every event that this process had received at the call.

    Return False if events may still be outstanding. That happens if one turn takes longer than
    `longest_turn` seconds. It also happens where waiting is impossible: if the binding has no
    timers, on the thread that turns the loop, and if the loop is asyncio's and is closed.

    This waits for three turns, for this reason: libvirt hands out all queued events in one turn of
    the loop. A timer that fires at once fires in the same turn or in the next one. It may also have
    been about to fire for another thread that waits. So after three turns in a row all events that
    were queued have been handed out.
    """
    return not is_on_loop() and _turns.wait_for(3, longest_turn)


def is_on_loop() -> bool:
    """Return whether this thread turns the loop; that thread must not wait for the loop."""
    if _asyncio is not None:
        try:
            return sys.modules["asyncio"].get_running_loop() is _asyncio.loop
        except RuntimeError:  # no asyncio loop runs on this thread
            return False
    return _turns.is_turned_here()


class Pulse:
    """A check, without waiting, whether the loop turns. For one thread at a time."""

    def __init__(self) -> None:
        self._count: int | None = None

    def beat(self) -> bool:
        """Return whether the loop has turned since the last beat, and ask it for another turn."""
        turned = self._count is None or _turns.count > self._count
        if turned:
            self._count = _turns.request()
        return turned


class _Turns:
    """The turns of the loop, counted for threads that wait for them.

    A thread that waits sets a timer, and the timer counts. There is one timer for the life of the
    process, since the binding never frees the objects that a timer was added with. Callers wait on
    their own threads, where a signal handler may raise: so no lock is taken to wait or to wake.
    """

    def __init__(self) -> None:
        self.count = 0
        self.turner: int | None = None
        """The thread that turns the loop; None until it is known."""
        self.has_timers = hasattr(libvirt, "virEventAddTimeout")
        self._timer: int | None = None
        self._bell = Bell()

    def is_turned_here(self) -> bool:
        """Return whether this thread turns the loop."""
        return threading.get_ident() == self.turner

    def make_timer(self) -> None:
        """Make the timer, if the binding has timers and this one does not exist yet."""
        if self.has_timers and self._timer is None:
            self._timer = libvirt.virEventAddTimeout(-1, self._turned, None)

    def request(self) -> int | None:
        """Ask the loop for a turn; return how many it had made before, None without timers."""
        if not self.has_timers:
            return None
        count = self.count
        with contextlib.suppress(RuntimeError):  # the loop is asyncio's, and closed
            self._set_timer()
        return count

    def wait_for(self, turns: int, longest: float) -> bool:
        """Wait for a number of turns; return False if one takes more than `longest` seconds."""
        if self.is_turned_here() or not self.has_timers:
            return False
        for _ in range(turns):
            count = self.count
            try:
                self._set_timer()
            except RuntimeError:  # the loop is asyncio's, and closed
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
            log.warning("libvirt's event loop failed; guestlist runs it again: %s", error)
            pause.wait(1)


class Stream:
    """The events of one kind (VIR_DOMAIN_EVENT_ID_*) on a connection, for all its subscribers."""

    def __init__(self, connection: libvirt.virConnect, kind: int) -> None:
        """Register with libvirt.

        Raises:
            libvirt.libvirtError: this libvirt has no such events, or the connection is lost.

        Cost: 1 call.
        """
        self._subscribers: tuple[Subscriber, ...] = ()
        self._connection = connection
        self._kind = kind
        self._registration = connection.domainEventRegisterAny(None, kind, self._dispatch, None)

    def subscribe(self, subscriber: Subscriber) -> None:
        """Hand every later event to this subscriber as well."""
        self._subscribers = (*self._subscribers, subscriber)

    def end(self) -> None:
        """Take the registration back for good. Cost: 1 call.

        As long as a registration exists libvirt keeps the connection's socket open, even after the
        connection was closed.
        """
        self._subscribers = ()
        with contextlib.suppress(libvirt.libvirtError):  # a dead connection has no registration
            self._connection.domainEventDeregisterAny(self._registration)

    def _dispatch(
        self, _connection: libvirt.virConnect, domain: libvirt.virDomain, *facts: object
    ) -> None:
        told = facts[:-1]  # the last one is the registration's own argument
        for subscriber in self._subscribers:
            try:
                subscriber(domain, *told)
            except Exception:  # libvirt-python would print the error and go on; this logs it
                log.exception("a subscriber failed on an event %d of %s", self._kind, domain.name())
