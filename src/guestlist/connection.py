"""One libvirt connection: opened when first needed, asked in turns, opened again after a loss.

In: a URI, and questions. Out: the answers of the `Peer`; libvirt's errors as guestlist's own. Never
repeats a call that failed: the caller gets the error, and its next call reconnects. Does not list,
does not parse.

Source: libvirt docs/uri.rst.
"""

from __future__ import annotations

import contextlib
import logging
import weakref
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

import libvirt

from guestlist import event_loop, process, threads, uris
from guestlist.capabilities import Versions
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
"""The largest number that libvirt accepts for keepalive, in seconds or in messages."""

T = TypeVar("T")


def known_versions(peer: Peer) -> Versions:
    """Return the versions of a host, for an error; None for a daemon's that it does not tell.

    Cost: see `Peer.release`; none if the connection is lost or closed.
    """
    if peer.alive():
        with contextlib.suppress(libvirt.libvirtError):  # it was lost before it told its version
            _ = peer.release
    driver = uris.split(peer.uri).scheme.partition("+")[0] or "unknown"
    return Versions(libvirt.getVersion(), peer.known_release or None, driver, hypervisor=None)


class Connection:
    """A libvirt connection that opens when first used and reopens on the next use after a loss.

    Threads may share it and take turns: one question at a time. libvirt would interleave their
    calls. But its client (9.0) can stall one of two threads behind the other, and it crashes when a
    connection is lost or closed while several threads wait on it.
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
        _check(keepalive_interval=keepalive_interval, keepalive_count=keepalive_count)
        self._owner = owner
        self.uri = uri
        self.prompts = prompts
        self._asked_uri = uri if prompts else uris.without_prompts(uri)  # what libvirt gets
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
        """Return another connection to the same libvirt, with the same options, not yet opened."""
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
        """The host's name in messages: `resolved_uri`, of bounded length."""
        return short(self.resolved_uri)

    @property
    def resolved_uri(self) -> str:
        """The URI as the caller gave it or libvirt resolved it; before either, words for it."""
        peer = self._peer
        return peer.uri if peer else self.uri or "libvirt's default URI"

    @property
    def current(self) -> Peer | None:
        """The open peer, or None. Opens nothing."""
        return self._peer

    @property
    def is_open(self) -> bool:
        """Whether there is a connection, or an attempt to connect, to close. Cost: none."""
        return self._close in threads.endings or self._opening.is_under_way

    @property
    def may_wait_here(self) -> bool:
        """Whether this thread may wait for the end of a question and for the event loop."""
        return not (threads.is_held_here(self._turn) or is_on_loop())

    def peer(self) -> Peer:
        """Return the open peer; open a connection if there is none, or only a dead one.

        Raises:
            ConnectionFailed, AccessDenied: see `refusals.open_failure`.
            ForkedProcess, ThreadsReplaced: see `process.check`.
            ThreadUnavailable: opening needs a thread, and none could be started.
        """
        process.claim()
        with self._turn:
            return self._live_peer()

    def _live_peer(self) -> Peer:
        """Do what `peer` does. Call it in the turn, in a process that may ask."""
        if threads.is_ending():
            raise threads.at_the_end(f"connect to {self.label}")
        if self._is_in_doubt or (self._peer is not None and not self._peer.alive()):
            self._discard()
        return self._peer or self._attempt()

    def ask(self, what: str, question: Callable[[Peer], T]) -> T:
        """Ask the open peer, and return the answer.

        An exception that is neither libvirt's nor guestlist's leaves the peer in doubt: a signal
        handler may have raised it between any two steps, so half of what was learned or registered
        may be missing. The next question closes such a peer and opens another. The doubt begins
        before the question and ends with its answer. So nothing has to be done when an exception
        leaves this method; a second signal could come just then.

        Args:
            what: completes "cannot …" in an error: "list the domains".
            question: makes the calls.

        Raises:
            GuestlistError: libvirt's error in the question, translated. After a loss the peer is
                closed, so that the next use opens another. No call is made twice.
            Reentered: this thread is already asking: a signal handler has interrupted it.
        """
        process.claim()
        if threads.is_held_here(self._turn):
            raise threads.reentered(f"{what} of {self.label}")
        with self._turn:
            peer = self._live_peer()
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
                    del failure  # else frame and error keep each other alive, and the handles
            self._is_in_doubt = False
            process.log_printed()
            return answer

    def _failed(
        self, what: str, peer: Peer, error: libvirt.libvirtError | GuestlistError | UnicodeError
    ) -> GuestlistError:
        """Return the error to raise for a question that failed; close the peer if it is lost."""
        process.log_printed()
        lost = isinstance(error, libvirt.libvirtError) and peer.lost(error)
        if is_ours(error):
            self._is_in_doubt = False
        if lost and self._peer is peer:
            self._discard()
        return _translated(error, what, peer, lost=lost)

    def others_turn(self, wait: Callable[[], T]) -> T:
        """Let other threads ask while this one waits for something else. Call it within `ask`.

        `wait` must not use the peer; its result is returned.

        Raises:
            ConnectionLost: another thread closed the connection meanwhile, or found it lost.
        """
        peer, me = self._peer, threading.get_ident()
        try:
            self._is_in_doubt = False
            self._turn.release()
            answer = wait()
        finally:
            # One call of C, which no signal interrupts: `ask` releases the lock taken here.
            self._turn._acquire_restore((1, me))  # type: ignore[attr-defined]
        if self._peer is not peer:
            raise ConnectionLost(
                f"the connection to {self.label} was closed while it was asked; ask again"
            )
        self._is_in_doubt = True
        return answer

    def close(self) -> None:
        """Close the connection. Domains already handed out keep libvirt's own reference to it.

        Waits until another thread's question has ended. Two callers cannot wait for that, a signal
        handler that has interrupted a question and the thread of the event loop: for them the
        connection is closed a little later. An exception from a signal handler ends the wait, not
        the closing. In a forked process this does nothing.

        Cost: 1 call if it was open; with a silent daemon as long as keepalive takes.
        """
        if not process.belongs_to_parent():
            threads.finish(self._close, "guestlist-close", wait=self.may_wait_here)

    def _close(self) -> None:
        """Close. Runs on a thread that no signal interrupts.

        The turn is given up before the peer is closed: closing waits for the event loop, and a
        question that a callback of the loop asks waits for the turn.
        """
        with self._closing:  # two threads that close: the second waits for the first
            with self._turn:
                self._opening.abandon()
                peer, self._peer = self._peer, None
                is_doubtful, self._is_in_doubt = self._is_in_doubt, False
                threads.endings.pop(self._close, None)
            if peer is not None:
                peer.close(doubtful=is_doubtful)

    @property
    def attempt(self) -> Attempt | None:
        """The attempt to connect that is under way; always None on the thread that waits for it."""
        return None if threads.is_held_here(self._turn) else self._opening.wanted

    def give_up(self, attempt: Attempt | None) -> None:
        """Give up an attempt to connect if it is still under way, and end its ssh.

        The question that waits for the attempt fails. Waits half a second at most, for ssh to end.
        """
        if attempt is not None:
            self._opening.abandon(attempt)

    def _discard(self) -> None:
        """Close the peer. After an interrupt in here the next question closes it."""
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

    def _open(self, tunnel: Tunnel) -> Peer:
        ensure_loop()
        threads.end_orphans()
        opener = libvirt.openReadOnly if self.readonly else libvirt.open
        connection = tunnel.carry(self._asked_uri, opener)
        keepalive = _keep_alive(connection, like=self)
        uri = self.uri or uris.resolved(None) or resolved_uri(connection)
        wake()  # for keepalive's timer
        return Peer(connection, uri, keepalive=keepalive)

    def _keep(self, peer: Peer) -> bool:
        """Keep a new peer, unless the attempt of an interrupted caller has opened one already."""
        if self._peer is not None:
            return False
        self._peer = peer
        threads.endings[self._close] = self._owner
        return True


def _check(**numbers: int) -> None:
    """Raise ValueError for a number that libvirt does not accept for keepalive."""
    for name, value in numbers.items():
        if not isinstance(value, int) or not 0 <= value <= _LARGEST:
            raise ValueError(f"{name} is {value!r}: it must be a whole number from 0 on")


def _keep_alive(connection: libvirt.virConnect, like: Connection) -> bool | None:
    """Switch keepalive on; return whether it is on, None for a driver in this process."""
    if not like.keepalive_interval:
        return False
    try:
        return connection.setKeepAlive(like.keepalive_interval, like.keepalive_count) == 0
    except AttributeError:  # setKeepAlive came with 0.9.8
        return False
    except libvirt.libvirtError as error:
        if unsupported(error):
            return None
        log.warning("no keepalive on %s: %s", like.label, error)
        return False


def _translated(
    error: libvirt.libvirtError | GuestlistError | UnicodeError,
    what: str,
    peer: Peer,
    *,
    lost: bool,
) -> GuestlistError:
    """Return the error of a question as one of guestlist's own."""
    if isinstance(error, GuestlistError):
        return error
    if isinstance(error, libvirt.libvirtError):
        versions = partial(known_versions, peer)
        return call_failure(error, what, peer.label, lost=lost, versions=versions)
    return LibvirtFailure(
        f"cannot {what} of {peer.label}: it answered with text that is not UTF-8 ({error})"
    )
