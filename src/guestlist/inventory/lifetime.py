"""The life of a live view: it starts, callers wait for it, it ends.

In: a host, options. Out: a board that one thread keeps in step, and the end of both. What is read
from the board is `Inventory`'s.
"""

from __future__ import annotations

import sys
import time
import warnings
import weakref
from collections.abc import Callable
from functools import partial
from typing import Self

from guestlist import event_loop, process, threads
from guestlist.errors import NotSynced
from guestlist.host import Host, sessions_apart
from guestlist.inventory.board import Board
from guestlist.inventory.feed import Listener
from guestlist.inventory.following import Follower
from guestlist.inventory.options import Options
from guestlist.waiting import Outcome

CLOSE_WAIT = 1.0
"""Seconds that closing waits for a call that is under way."""


class Lifetime:
    """What `Inventory` has of it: see there. Threads may share it."""

    def __init__(self, host: Host, options: Options, *, owns_host: bool) -> None:
        self._host, self._owns_host = host, owns_host
        self._board = Board(options.longest_queue)
        self._follower = Follower(
            sessions_apart(host, options.details_max_age),
            self._board,
            options,
            owner=weakref.ref(self),
        )
        self._is_started = False

    @property
    def label(self) -> str:
        """The host's name in messages, as `Host.label`."""
        return self._follower.label

    def start(self) -> None:
        """Start to follow the host, on a thread of its own; harmless twice.

        Raises:
            ForkedProcess: this process was forked after its parent had asked libvirt.
            ThreadUnavailable: the system gives no thread; the next call tries again.
        """
        process.claim()
        if not self._is_started and not self._follower.is_closing:
            self._follower.start()
            self._is_started = True

    def wait_synced(self, timeout: float | None = None) -> None:
        """Wait until the view is in step with libvirt; starts the inventory.

        In step means `stale_for` 0.0: connected, listed, and no event and no question has been
        without an answer for more than 1 s. So the view is at most 1 s behind what libvirt has
        told. A daemon that hangs while no question is asked is noticed by keepalive alone, after
        6 s; `resync` asks one.

        Raises:
            GuestlistError: the view is not in step after `timeout` seconds. The error that is the
                reason, as a Host would raise it; `NotSynced` where there is none, or the inventory
                was closed.

        Cost: no call.
        """
        self._board.refuse_within_read("wait for the view")
        self.start()
        self._board.wait_synced(timeout)

    def resync(self, timeout: float | None = None) -> None:
        """List all domains now, whatever the view has; return when that is in the view.

        Raises:
            GuestlistError: the list is not in the view after `timeout` seconds.

        Cost: 1 call.
        """
        self._board.refuse_within_read("list all domains")
        self.start()
        if not self._follower.list_again(timeout):
            self._board.wait_synced(0)
            why = (
                "the view was closed"
                if self._follower.is_closing
                else f"no answer within {timeout:g} s; ask again with a longer timeout"
            )
            raise NotSynced(f"the domains of {self.label} were not listed: {why}")

    def close(self) -> None:
        """End it, and every iteration over its changes; harmless twice, and from any thread.

        Does not wait for a daemon that hangs: a call that is under way ends by itself, when
        keepalive gives it up, and with it the thread and the connection. The last view can still be
        read, and gets old.
        """
        if process.belongs_to_parent():
            return
        self._follower.close()
        self._board.end()
        deadline = time.monotonic() + CLOSE_WAIT
        may_wait = not (event_loop.is_on_loop() or threads.is_over() or self._board.is_read_here())
        if self._owns_host:  # another thread may be asking it, and wait for an answer
            closed: Outcome[None] = Outcome()
            threads.later(partial(closed.of, self._host.close), "guestlist-inventory-close")
            if may_wait:
                closed.wait(CLOSE_WAIT)
        if self._is_started and may_wait:
            self._follower.wait_ended(deadline)

    def __del__(self, _is_finalizing: Callable[[], bool] = sys.is_finalizing) -> None:
        """Close a view that was left running, with a ResourceWarning."""
        if _is_finalizing() or not hasattr(self, "_is_started") or threads.is_over():
            return  # in the first case this module's names may be gone
        if not (self._follower.is_closing or process.belongs_to_parent()):
            self._follower.close()
            if not self._is_started:
                return
            text = f"unclosed {self!r}: it is closed now; close() it, or use 'with'"
            warnings.warn(text, ResourceWarning, stacklevel=2, source=self)

    def __enter__(self) -> Self:
        """Start."""
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Close."""
        self.close()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self.label}>"


def listen(view: Lifetime, listener: Listener) -> None:
    """Let a listener hear events over each connection of a live view. For the exporter only.

    The listener must not hold the view: a view that only its own thread holds ends by itself.

    Raises:
        RuntimeError: the view was started, and its first connection may be open already.
    """
    if view._is_started:
        raise RuntimeError(f"{view!r} was started: attach listeners to it before that")
    view._follower.listeners.append(listener)
