"""The facts of the host itself: read when a caller first asks for them, and after the first list.

In: the connection of a live view, and callers that ask. Out: a `Node`. A daemon that has just been
started may take seconds to tell its capabilities, because it probes each QEMU. So they are read on
a connection and a thread of their own, and delay neither the list nor the questions that events
cause. Where a second connection is impossible (ssh that may want a password, a node file, a daemon
that is full) they are read on the view's own connection, when nothing else is due.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

import libvirt

from guestlist import threads
from guestlist.connection import Connection
from guestlist.errors import (
    GuestlistError,
    LibvirtFailure,
    NotSupported,
    NotSynced,
    ThreadUnavailable,
    codes,
    one_line,
    without_frames,
)
from guestlist.node import Hypervisor, Node, NodeMemory
from guestlist.peer import Peer
from guestlist.unpatched import threading
from guestlist.waiting import Bell

log = logging.getLogger(__name__)


class Facts:
    """The facts of one host. Any thread may ask; the thread that follows tells what happens."""

    def __init__(self, connection: Connection, nudge: Callable[[], None]) -> None:
        self.is_due = False
        """Whether the thread that follows must call `read` when nothing else is due."""
        self._connection = connection
        self._nudge = nudge
        self._is_here: bool | None = None
        self._is_connected = self._is_wanted = self._has_second = False
        self._found: Node | NotSupported | None = None
        self._hypervisor: Hypervisor | None = None
        self._connections = 0
        self._is_being_read = False
        self._lock = threading.RLock()
        self._changed = Bell()

    # For other threads

    @property
    def is_local(self) -> bool:
        """Whether this libvirt is on this machine."""
        if self._is_here is None:
            raise self._unknown("has not been reached yet; call wait_synced() first")
        return self._is_here

    def node(self, timeout: float | None) -> Node:
        """Return the host as it last was. The first call starts the reading, and waits for it."""
        if not self._is_wanted:
            threads.run_uninterrupted(self._want, "guestlist-inventory-node")
        _ = self.is_local
        self._changed.wait_for(lambda: self._found or not self._is_connected, timeout)
        found = self._found
        if found is None:
            raise self._unknown("has not told yet what it is; ask again, with a longer timeout")
        if isinstance(found, NotSupported):
            raise without_frames(found)
        return found

    def wait_ended(self, timeout: float) -> None:
        """Wait until nothing reads aside, so many seconds at most."""
        self._changed.wait_for(lambda: not self._is_being_read, timeout)

    def _want(self) -> None:
        with self._lock:
            if not self._is_wanted:
                self._is_wanted = True
                self._begin()

    # For the thread that follows

    def connected(self, peer: Peer) -> None:
        """Note that the view is in step over a new connection; its libvirt may be another one."""
        location = peer.location()
        with self._lock:
            self._is_here, self._has_second = location.is_local, location.asked_again_at_will
            self._is_connected = True
            self._connections += 1
            self._hypervisor = None
            self._begin()

    def compared(self) -> None:
        """Read again what may have changed: all domains are being compared."""
        with self._lock:
            self._begin()

    def read(self, peer: Peer) -> None:
        """Read the facts over the view's own connection. Cost: 2 calls; 4 more the first time.

        Raises:
            libvirt.libvirtError: the connection is lost.
        """
        self.is_due = False
        memory = NodeMemory(peer, self._hypervisor)
        found = _read(memory)
        with self._lock:
            self._found, self._hypervisor = found, memory.hypervisor
        self._changed.ring()

    def lost(self) -> None:
        """Note that the connection is gone; what is known stays as it is."""
        with self._lock:
            self._is_connected = self.is_due = False
        self._changed.ring()

    # How it is done, under the lock

    def _begin(self) -> None:
        """Start the reading, if a caller has ever asked for the facts."""
        if not (self._is_wanted and self._is_connected) or self._is_being_read:
            return
        if self._hypervisor is None and self._has_second:
            self._is_being_read = True
            try:
                threads.start(self._read_aside, "guestlist-inventory-node")
            except ThreadUnavailable as error:
                log.debug("%s: no thread to read the node: %s", self._connection.label, error)
                self._is_being_read = False
            else:
                return
        self._put_off()

    def _put_off(self) -> None:
        self.is_due = True
        self._nudge()

    def _read_aside(self) -> None:
        began_over = self._connections
        connection = self._connection.like_this()
        found, memory = None, None

        def read(peer: Peer) -> tuple[Node | NotSupported, NodeMemory]:
            memory = NodeMemory(peer)
            return _read(memory), memory

        try:
            found, memory = connection.ask("read the facts of the node", read)
        except GuestlistError as error:
            log.debug("the node is read over the view's own connection: %s", error)
        finally:
            with self._lock:
                is_current = self._connections == began_over
                if is_current and found is not None and memory is not None:
                    self._found, self._hypervisor = found, memory.hypervisor
            self._changed.ring()
            connection.close()
            with self._lock:
                self._is_being_read = False
                if not is_current:
                    self._begin()
                elif found is None:
                    self._put_off()
            self._changed.ring()

    def _unknown(self, why: str) -> NotSynced:
        return NotSynced(f"{self._connection.label} {why}")


def _read(memory: NodeMemory) -> Node | NotSupported:
    """Return the host; or the error that says that it does not tell."""
    try:
        return memory.now()
    except (libvirt.libvirtError, LibvirtFailure) as error:
        if isinstance(error, libvirt.libvirtError) and memory.peer.lost(error):
            raise
        label = memory.peer.label
        return NotSupported(f"{label} does not tell what it is: {one_line(error)}", **codes(error))
