"""One libvirt connection: opened when first needed, asked in turns, opened again after a loss.

In: a URI, and questions. Out: what the `Peer` answered; libvirt's errors as guestlist's own. Never
repeats a call that failed: the caller is told, and its next call reconnects. Does not list, does
not parse.

Source: libvirt docs/uri.rst.
"""

from __future__ import annotations

import contextlib
import logging
import weakref
from collections.abc import Callable
from typing import Any, TypeVar

import libvirt

from guestlist import event_loop, process, threads, uris
from guestlist.errors import (
    ConnectionFailed,
    ConnectionLost,
    GuestlistError,
    LibvirtFailure,
    call_failure,
    is_ours,
    short,
)
from guestlist.event_loop import ensure_loop, is_on_loop, wake
from guestlist.opening import Abandoned, Attempt, Opening
from guestlist.peer import Peer, resolved_uri, unsupported
from guestlist.refusals import no_answer, open_failure
from guestlist.tunnel import Tunnel
from guestlist.unpatched import threading

log = logging.getLogger(__name__)

_LARGEST = 2**31 - 1
"""The largest number that libvirt takes for keepalive."""

T = TypeVar("T")


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
        owner: weakref.ref[Any] | None = None,
    ) -> None:
        for name, value in {
            "keepalive_interval": keepalive_interval,
            "keepalive_count": keepalive_count,
        }.items():
            if not isinstance(value, int) or not 0 <= value <= _LARGEST:
                raise ValueError(f"{name} is {value!r}: it must be a whole number from 0 on")
        self._owner = owner
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
        self._closing = threading.Lock()

    def like_this(self) -> Connection:
        """Another connection to the same libvirt, with the same options: asked beside this one."""
        return Connection(
            self.uri,
            readonly=self.readonly,
            keepalive_interval=self.keepalive_interval,
            keepalive_count=self.keepalive_count,
            open_timeout=self.open_timeout,
            prompts=self.prompts,
            owner=self._owner,
        )

    @property
    def label(self) -> str:
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
        process.claim()
        if threads.is_ending():
            raise threads.at_the_end(f"connect to {self.label}")
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
        process.claim()
        if threads.is_held_here(self._turn):
            raise threads.reentered(f"{what} of {self.label}")
        with self._turn:
            peer = self.peer()
            self._is_in_doubt = True
            try:
                answer = question(peer)
            except (libvirt.libvirtError, GuestlistError, UnicodeDecodeError) as error:
                failure = self._failed(what, peer, error)
                try:
                    if failure is error:
                        raise
                    raise failure from error
                finally:
                    del failure  # else frame and error keep each other, and handles with them
            self._is_in_doubt = False
            process.log_printed()
            return answer

    def _failed(
        self, what: str, peer: Peer, error: libvirt.libvirtError | GuestlistError | UnicodeError
    ) -> GuestlistError:
        """The error to raise for a question that failed; closes the peer if it is lost."""
        process.log_printed()
        lost = isinstance(error, libvirt.libvirtError) and peer.lost(error)
        if is_ours(error):
            self._is_in_doubt = False
        if lost and self._peer is peer:
            self._discard()
        if isinstance(error, GuestlistError):
            return error
        if isinstance(error, libvirt.libvirtError):
            return call_failure(error, what, peer.label, lost=lost)
        return LibvirtFailure(
            f"cannot {what} of {peer.label}: it answered with text that is not UTF-8 ({error})"
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
                f"the connection to {self.label} was closed while it was asked; ask again"
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
        """Close on a thread that no signal interrupts.

        The turn is given up before: closing waits for the event loop, and a question that is asked
        in one of its callbacks waits for the turn.
        """
        with self._closing:  # who closes what another thread is closing waits for that
            with self._turn:
                self._opening.abandon()
                peer, self._peer = self._peer, None
                is_doubtful, self._is_in_doubt = self._is_in_doubt, False
                threads.endings.pop(self._close, None)
            if peer is not None:
                peer.close(doubtful=is_doubtful)

    @property
    def attempt(self) -> Attempt | None:
        """The attempt to connect that is under way; None on the thread that waits for it."""
        return None if threads.is_held_here(self._turn) else self._opening.wanted

    def give_up(self, attempt: Attempt | None) -> None:
        """Give up this attempt to connect, if it is still under way; ssh ends with it.

        The question that waits for it fails. Waits for ssh, half a second at most.
        """
        if attempt is not None:
            self._opening.abandon(attempt)

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
        event_loop.note_turner()
        try:
            self._opening.attempt(self.open_timeout)
        except Abandoned as error:
            raise ConnectionFailed(
                f"cannot connect to {self.label}: it was closed while it connected"
            ) from error
        except libvirt.libvirtError as error:
            raise open_failure(error, self.label, self._asked_uri) from error
        except ValueError as error:  # a URI with a NUL or a lone surrogate in it
            raise ConnectionFailed(f"cannot connect to {self.label!r}: {error}") from error
        finally:
            process.log_printed()
        if self._peer is None:
            raise no_answer(self.label, self._asked_uri, self.open_timeout)
        return self._peer

    @property
    def _asked_uri(self) -> str | None:
        """The URI that libvirt is given: without prompts, unless they are wanted."""
        return self.uri if self.prompts else uris.without_prompts(self.uri)

    def _open(self, tunnel: Tunnel) -> Peer:
        ensure_loop()
        threads.end_orphans()
        opener = libvirt.openReadOnly if self.readonly else libvirt.open
        connection = tunnel.carry(self._asked_uri, opener)
        keepalive = self._keep_alive(connection)
        uri = self.uri or uris.resolved(None) or resolved_uri(connection)
        peer = Peer(connection, uri, keepalive=keepalive)
        with contextlib.suppress(libvirt.libvirtError):  # lost at once: the first question says so
            _ = peer.release
        wake()  # for keepalive's timer
        return peer

    def _keep(self, peer: Peer) -> bool:
        """Keep a new peer, unless the attempt of an interrupted caller has opened one already."""
        if self._peer is not None:
            return False
        self._peer = peer
        threads.endings[self._close] = self._owner
        return True

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
            log.warning("no keepalive on %s: %s", self.label, error)
            return False
