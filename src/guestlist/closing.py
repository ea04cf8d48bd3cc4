"""The end of a libvirt connection, also after an interrupted call has lost a reference to it.

In: a connection that no question uses any more. Out: its socket is closed, as early as possible.

libvirt counts the references to a connection and closes the socket with the last one. An exception
from a signal handler can lose a reference: it arrives between the return of a C call and the line
that stores the result, or it stops a handle's `__del__`. Python can then never reach the C handle
again, and the socket stays open although `close()` was called.

Such references can still be given back. Each Python object of a connection (a domain, a
registration, the frame of a call under way) holds the connection's own Python object. So when only
this module holds that object, every other reference that libvirt counts is a lost one. This module
gives them back, one by one, until libvirt says that the socket is closed.

Source: libvirt-python (capsules without destructors), libvirt src/libvirt-host.c (virConnectClose).
"""

from __future__ import annotations

import contextlib
import weakref

import libvirt

from guestlist import threads
from guestlist.unpatched import threading, time

PAUSES = 0.05, 5.0
"""Seconds between two checks whether a connection is still held: the first pause, and the longest.
Each pause is twice the last one."""


class _Leaving:
    """Connections that are closed as soon as no other Python object holds them."""

    def __init__(self) -> None:
        self._connections: list[tuple[libvirt.virConnect, object]] = []
        self._is_watched = False
        self._lock = threading.Lock()

    def add(self, connection: libvirt.virConnect, capsule: object) -> None:
        """Close a connection as soon as nothing else holds it.

        Call it on a thread that no signal interrupts.
        """
        with self._lock:
            self._connections.append((connection, capsule))
            if self._is_watched:
                return
            self._is_watched = True
        threads.endings[self.close_unheld] = None
        threads.later(self._watch, "guestlist-close")

    def close_unheld(self) -> bool:
        """Close the connections that nothing else holds; return whether any are left."""
        with self._lock:
            waiting, self._connections = self._connections, []
            while waiting:
                connection, capsule = waiting.pop()
                probe = weakref.ref(connection)
                del connection
                if (held := probe()) is None:
                    _give_back(capsule)
                else:
                    self._connections.append((held, capsule))
                    del held
            return bool(self._connections)

    def _watch(self) -> None:
        """Check again and again until every connection is closed."""
        pause, longest = PAUSES
        while self.close_unheld():
            time.sleep(pause)
            pause = min(pause * 2, longest)
        with self._lock:
            self._is_watched = bool(self._connections)
        if self._is_watched:
            threads.later(self._watch, "guestlist-close")


_leaving = _Leaving()


def close(connections: list[libvirt.virConnect], *, doubtful: bool) -> None:
    """Close a connection.

    Call it on a thread that no signal interrupts, and after a turn of the event loop: libvirt may
    drop a registration's reference as late as that.

    Args:
        connections: a list of the one connection, which is taken out. The list must be the caller's
            only reference to it.
        doubtful: whether a call on it may have been interrupted. Such a connection stays open until
            its other holders (handles, tracebacks) are gone, and is then closed for certain. Any
            other is closed now, and only handles keep its socket open.

    Cost: 1 call.
    """
    connection = connections.pop()
    capsule = getattr(connection, "_o", None)
    if capsule is None:
        connection.close()
        return
    connection._o = None
    probe = weakref.ref(connection)
    del connection
    held = probe()
    if held is None:
        _give_back(capsule)
    elif doubtful:
        _leaving.add(held, capsule)
    else:
        _release(capsule)


def _give_back(capsule: object) -> None:
    """Give back all references to a connection that no Python object holds."""
    while _release(capsule):
        pass


def _release(capsule: object) -> bool:
    """Give one reference back; return whether there are more."""
    with contextlib.suppress(libvirt.libvirtError):  # a dead connection has nothing left to close
        return libvirt.virConnect(_obj=capsule).close() > 0
    return False
