"""One libvirt connection: open, keepalive, and what the peer at its other end can do.

In: a URI. Out: a `Peer`, opened when first needed and again after a loss; libvirt's errors as
guestlist's own. Never repeats a call that failed: the caller is told, and its next call reconnects.
Does not list, does not parse.

Source: libvirt docs/uri.rst, src/remote/remote_driver.c, src/rpc/virkeepalive.c.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable
from functools import partial
from typing import TypeVar

import libvirt

from guestlist import events, farewell, process, threads, uris
from guestlist.capabilities import Location, Versions
from guestlist.errors import (
    Code,
    ConnectionFailed,
    ConnectionLost,
    GuestlistError,
    LibvirtFailure,
    ThreadUnavailable,
    call_failure,
    is_loss,
    is_ours,
    short,
)
from guestlist.events import Stream, drain, ensure_loop, is_on_loop, wake
from guestlist.native import threading
from guestlist.opening import Opening
from guestlist.refusals import no_answer, open_failure
from guestlist.threads import Outcome
from guestlist.tunnel import Tunnel

log = logging.getLogger(__name__)

_STOPS_KEEPALIVE_QUIETLY = 1_002_008
"""The client from which on keepalive is stopped before a connection is closed. 1.2.7 writes two
warnings to standard error if it is; what that prevents was seen with 9.0 only."""

_TELLS_OF_LOSS = 1_002_008
"""The client from which on `isAlive` is believed. It stays true after the daemon died with 0.9.12;
between that and 1.2.8 it was not measured."""

LONGEST_CLOSE = 10.0
"""Seconds that a daemon may take to say goodbye."""

T = TypeVar("T")


def unsupported(error: Exception) -> bool:
    """Whether a call failed because it does not exist here, and for no other reason.

    Three ways, one meaning: the binding lacks it (AttributeError from the call), the daemon does
    ("unknown procedure"), the hypervisor driver does. libvirt says the last two with code 3.
    """
    if isinstance(error, libvirt.libvirtError):
        return bool(error.get_error_code() == Code.NO_SUPPORT)
    return isinstance(error, AttributeError)


class Peer:
    """An open connection, and what has been learned of the libvirt behind it.

    What is learned belongs to this one connection: after a reconnect the daemon may be another.
    """

    def __init__(self, connection: libvirt.virConnect, uri: str, *, keepalive: bool | None) -> None:
        self.connection = connection
        self.uri = uri
        """As asked for, or as libvirt resolved it."""
        self.whom = short(uri)
        self.keepalive = keepalive
        self.calls = 0
        """Calls about domains so far: lists, states, look-ups, XML and metadata, also those that
        helpers made of the details. Not among them are the connection's own (opening, events,
        versions, closing), facts of the host, statistics, and the one list of each helper."""
        self._streams: dict[int, Stream | None] = {}
        self._daemon: int | None = None
        self._closed = False
        self._lock = threading.Lock()
        process.leave_to_parent(connection)

    def alive(self) -> bool:
        """Whether libvirt still holds the connection open. Cost: none."""
        if self._closed:
            return False
        try:
            return self.connection.isAlive() != 0
        except libvirt.libvirtError:
            return False
        except AttributeError:  # isAlive is of 0.9.8
            return True

    def prove_alive(self) -> None:
        """Ask for a sign of life, where `alive` may be wrong: on client libraries before 1.2.8.

        Raises:
            libvirt.libvirtError: there is none.

        Cost: 1 call on those, which is not in `calls`; else none.
        """
        if libvirt.getVersion() < _TELLS_OF_LOSS:
            self.connection.numOfDomains()

    def lost(self, error: libvirt.libvirtError) -> bool:
        """Whether a call failed because the connection is dead, and not for what was asked.

        Cost: none; 1 call on client libraries before 1.2.8, see `prove_alive`.
        """
        if is_loss(error) or not self.alive():
            return True
        try:
            self.prove_alive()
        except libvirt.libvirtError:
            return True
        return False

    def events(self, kind: int, since: int = 0) -> Stream | None:
        """The events of a kind, registered on first use; None where this libvirt has none.

        Args:
            kind: VIR_DOMAIN_EVENT_ID_*.
            since: the libvirt that brought this kind, as a number; an older daemon is not asked.

        Where a registration fails while events of another kind are handed out, libvirt's client
        (9.0) releases the callback twice, and the process crashes. So ask for what may be missing
        first: the newest kinds before the older ones, and for lifecycle events last.

        Raises:
            libvirt.libvirtError: the connection is lost.

        Cost: 1 call the first time; with `since` 1 more, once per connection.
        """
        if kind in self._streams:
            return self._streams[kind]
        return threads.aside(partial(self._events, kind, since), "guestlist-register")

    def _events(self, kind: int, since: int) -> Stream | None:
        """Register, where no signal interrupts it: C would know more than we do."""
        with self._lock:
            if self._closed:
                return None
            if kind not in self._streams:
                absent = since > 0 and self.release < since
                self._streams[kind] = None if absent else self._register(kind)
            return self._streams[kind]

    def lifecycle(self) -> Stream | None:
        """The lifecycle events: subscribers are called with (domain, event, detail)."""
        return self.events(libvirt.VIR_DOMAIN_EVENT_ID_LIFECYCLE)

    def _register(self, kind: int) -> Stream | None:
        try:
            return Stream(self.connection, kind)
        except AttributeError:  # domainEventRegisterAny is of 0.8.0
            return None
        except libvirt.libvirtError as error:
            # A daemon says code 1 to a kind that it does not know.
            unknown = kind != libvirt.VIR_DOMAIN_EVENT_ID_LIFECYCLE and not self.lost(error)
            if unknown or unsupported(error):
                return None
            raise

    @property
    def release(self) -> int:
        """The daemon's version as libvirt numbers it (9000000 is 9.0.0); 0 where it does not tell.

        Raises:
            libvirt.libvirtError: the connection is lost.

        Cost: 1 call when the connection is opened, none later.
        """
        if self._daemon is None:
            self._daemon = unless_unsupported(self.connection.getLibVersion) or 0
        return self._daemon

    def location(self) -> Location:
        """Where this libvirt is. Cost: none."""
        return Location.of(_resolved_uri(self.connection))

    def close(self, *, doubtful: bool = False) -> None:
        """End the events and close libvirt's connection; harmless on a dead one, and twice.

        A thread does it, which no signal interrupts. After `LONGEST_CLOSE` seconds this returns,
        and the thread goes on until libvirt answers. For `doubtful` see `farewell.close`.

        Cost: 1 call, and 1 more for each kind of events.
        """
        done: Outcome[None] = Outcome()
        end = partial(self._end, doubtful=doubtful)
        try:
            threads.start(partial(done.of, end), "guestlist-close")
        except ThreadUnavailable:
            if not threads.is_over():
                end()
            return
        if not is_on_loop() and done.wait(LONGEST_CLOSE):
            done.get()

    def _end(self, *, doubtful: bool) -> None:
        """Close, on this thread.

        Keepalive is stopped before the last call: libvirt's client (9.0) may free a connection
        whose timer is just about to send a sign of life, and then hangs or crashes. After a turn of
        the event loop nothing else is under way on the connection.
        """
        with self._lock:
            if self._closed:
                return
            self._end_events()
            stops = libvirt.getVersion() >= _STOPS_KEEPALIVE_QUIETLY
            if self.keepalive and stops and self.alive():
                with contextlib.suppress(libvirt.libvirtError):
                    self.connection.setKeepAlive(0, 0)
            drain()
            self._closed = True
            connections = [self.connection]
            del self.connection
            farewell.close(connections, doubtful=doubtful)

    def _end_events(self) -> None:
        while self._streams:
            _, stream = self._streams.popitem()
            if stream is not None:
                stream.end()

    def versions(self) -> Versions:
        """Ask client, daemon and driver for their versions. Cost: 3 calls."""
        asked = self.connection
        return Versions(
            client=libvirt.getVersion(),
            daemon=unless_unsupported(asked.getLibVersion),
            driver=unless_unsupported(asked.getType) or "unknown",
            hypervisor=unless_unsupported(asked.getVersion),
        )


def unless_unsupported(call: Callable[[], T]) -> T | None:
    try:
        return call()
    except (libvirt.libvirtError, AttributeError) as error:
        if unsupported(error):
            return None
        raise


class Connection:
    """A libvirt connection that opens when first used and reopens on the next use after a loss.

    Threads may share it and take turns: one question at a time. libvirt would interleave their
    calls, but its client (9.0) can stall one of two threads behind the other, and crashes when a
    connection that several are waiting on is lost or closed.
    """

    def __init__(
        self,
        uri: str | None = None,
        *,
        readonly: bool = False,
        keepalive_interval: int = 1,
        keepalive_count: int = 5,
        open_timeout: float | None = 10.0,
        prompts: bool = True,
    ) -> None:
        self.uri = uri
        self.prompts = prompts
        self.readonly = readonly
        self.keepalive_interval = keepalive_interval
        self.keepalive_count = keepalive_count
        self.open_timeout = open_timeout
        self._peer: Peer | None = None
        self._is_in_doubt = False
        self._opening = Opening(self._open, self._keep, Peer.close)
        self._turn = threading.RLock()

    def like_this(self) -> Connection:
        """Another connection to the same libvirt, with the same options: one of its own turns."""
        return Connection(
            self.uri,
            readonly=self.readonly,
            keepalive_interval=self.keepalive_interval,
            keepalive_count=self.keepalive_count,
            open_timeout=self.open_timeout,
            prompts=self.prompts,
        )

    @property
    def whom(self) -> str:
        """The peer's name in messages: `resolved_uri`, of bounded length."""
        return short(self.resolved_uri)

    @property
    def resolved_uri(self) -> str:
        """The URI as asked for or as libvirt resolved it; in words where it has not done so yet."""
        peer = self._peer
        return peer.uri if peer else self.uri or "libvirt's default URI"

    @property
    def current(self) -> Peer | None:
        """The open peer, if there is one; opens nothing."""
        return self._peer

    @property
    def is_open(self) -> bool:
        """Whether there is something to close. Cost: none."""
        return self._close in threads.endings or self._opening.is_under_way

    @property
    def may_wait_here(self) -> bool:
        """Whether this thread may wait for the end of a question, and for the event loop."""
        return not (threads.is_held_here(self._turn) or is_on_loop())

    def peer(self) -> Peer:
        """The open peer; opened now if there is none or the last one is known to be dead.

        Raises:
            ConnectionFailed, AccessDenied: see `refusals.open_failure`.
            ForkedProcess, ThreadsReplaced: see `process.check`.
            ThreadUnavailable: opening takes a thread, and none could be started.
        """
        process.check()
        if threads.is_ending():
            raise threads.at_the_end(f"connect to {self.whom}")
        with self._turn:
            if self._is_in_doubt or (self._peer is not None and not self._peer.alive()):
                self._discard()
            return self._peer or self._attempt()

    def ask(self, what: str, question: Callable[[Peer], T]) -> T:
        """Ask the open peer: the calls of `question` together answer `what` ("list the domains").

        An exception that is neither libvirt's nor guestlist's leaves the peer in doubt: a signal
        handler may have raised it between any two steps, so half of what was learned or registered
        may be missing. Such a peer is closed, and the next question opens another. The doubt begins
        before the question and ends with its answer. So nothing has to happen on the way out, where
        a second signal may come.

        Raises:
            GuestlistError: libvirt's error in the question, translated; on a loss the peer is let
                go, so that the next use opens another. Nothing is tried twice.
            Reentered: this thread is already asking: a signal handler has interrupted it.
        """
        process.check()
        if threads.is_held_here(self._turn):
            raise threads.reentered(f"{what} of {self.whom}")
        with self._turn:
            peer = self.peer()
            self._is_in_doubt = True
            try:
                answer = question(peer)
            except (libvirt.libvirtError, GuestlistError, UnicodeDecodeError) as error:
                failure = self._failed(what, peer, error)
                if failure is error:
                    raise
                raise failure from error
            self._is_in_doubt = False
            return answer

    def _failed(
        self, what: str, peer: Peer, error: libvirt.libvirtError | GuestlistError | UnicodeError
    ) -> GuestlistError:
        """The error to raise for a question that failed; closes the peer if it is lost."""
        lost = isinstance(error, libvirt.libvirtError) and peer.lost(error)
        if is_ours(error):
            self._is_in_doubt = False
        if lost and self._peer is peer:
            self._discard()
        if isinstance(error, GuestlistError):
            return error
        if isinstance(error, libvirt.libvirtError):
            return call_failure(error, what, peer.whom, lost=lost)
        return LibvirtFailure(
            f"cannot {what} of {peer.whom}: it answered with text that is not UTF-8 ({error})"
        )

    def others_turn(self, wait: Callable[[], T]) -> T:
        """Within `ask`: let other threads ask while this one waits for something else.

        `wait` must not use the peer.

        Raises:
            ConnectionLost: another thread closed the connection meanwhile, or found it lost.
        """
        peer, me = self._peer, threading.get_ident()
        try:
            self._is_in_doubt = False
            self._turn.release()
            answer = wait()
        finally:
            # One call of C, which no signal interrupts: `ask` gives back what is held here.
            self._turn._acquire_restore((1, me))  # type: ignore[attr-defined]
        if self._peer is not peer:
            raise ConnectionLost(
                f"the connection to {self.whom} was closed while it was asked; ask again"
            )
        self._is_in_doubt = True
        return answer

    def close(self) -> None:
        """Close the connection. Domains already handed out keep libvirt's own reference to it.

        Waits for the question of another thread. Does not wait where that would never end: in a
        signal handler that has interrupted a question, and on the thread of the event loop. The
        connection is then closed a little later. An exception from a signal handler ends the wait,
        not the closing. In a forked process it does nothing. Cost: 1 call if it was open; on a
        silent daemon as long as keepalive takes.
        """
        if not process.is_foreign():
            threads.finish(self._close, "guestlist-close", wait=self.may_wait_here)

    def _close(self) -> None:
        with self._turn:
            self._opening.abandon()
            self._discard()

    def _discard(self) -> None:
        """Close the peer. If this is interrupted, the next question does it again."""
        is_doubtful = self._is_in_doubt
        self._is_in_doubt = True
        if self._peer is not None:
            self._peer.close(doubtful=is_doubtful)
            threads.endings.pop(self._close, None)
            self._peer = None
        self._is_in_doubt = False

    def _attempt(self) -> Peer:
        events.note_turner()
        try:
            self._opening.attempt(self.open_timeout)
        except libvirt.libvirtError as error:
            raise open_failure(error, self.whom, self._asked_uri) from error
        except ValueError as error:  # a URI with a NUL or a lone surrogate in it
            raise ConnectionFailed(f"cannot connect to {self.whom!r}: {error}") from error
        if self._peer is None:
            raise no_answer(self.whom, self._asked_uri, self.open_timeout)
        return self._peer

    @property
    def _asked_uri(self) -> str | None:
        """The URI that libvirt is given: without prompts, unless they are wanted."""
        return self.uri if self.prompts else uris.without_prompts(self.uri)

    def _open(self, tunnel: Tunnel) -> Peer:
        ensure_loop()
        opener = libvirt.openReadOnly if self.readonly else libvirt.open
        connection = tunnel.carry(self._asked_uri, opener)
        keepalive = self._keep_alive(connection)
        uri = self.uri or uris.resolved(None) or _resolved_uri(connection)
        peer = Peer(connection, uri, keepalive=keepalive)
        with contextlib.suppress(libvirt.libvirtError):  # lost at once: the first question says so
            _ = peer.release
        wake()  # for keepalive's timer
        return peer

    def _keep(self, peer: Peer) -> None:
        self._peer = peer
        threads.endings[self._close] = None

    def _keep_alive(self, connection: libvirt.virConnect) -> bool | None:
        if not self.keepalive_interval:
            return False
        try:
            return connection.setKeepAlive(self.keepalive_interval, self.keepalive_count) == 0
        except AttributeError:  # setKeepAlive is of 0.9.8
            return False
        except libvirt.libvirtError as error:
            if unsupported(error):
                return None
            log.warning("no keepalive on %s: %s", self.whom, error)
            return False


def _resolved_uri(connection: libvirt.virConnect) -> str:
    try:
        return connection.getURI()
    except libvirt.libvirtError:
        return "libvirt's default URI"
