"""The end of a libvirt connection, also where an interrupted call has left something behind.

In: a connection that takes no question any more. Out: its socket is closed, as early as possible.

libvirt counts the references to a connection and closes the socket with the last one. An exception
from a signal handler can lose a reference: it comes between the return of a C call and the line
that stores the result, or stops a handle's `__del__`. The C handle is then out of reach for good,
and the socket stays open behind `close()`. But each Python object of a connection (a domain, a
registration, the frame of a call under way) holds the connection's own Python object. When that
object has no other holder, every reference besides ours is a lost one, and is given back until
libvirt says that the socket is closed.

Source: libvirt-python (capsules without destructors), libvirt src/libvirt-host.c (virConnectClose).
"""

from __future__ import annotations

import contextlib
import weakref

import libvirt

from guestlist import threads
from guestlist.unpatched import threading, time

PAUSES = 0.05, 5.0
"""Seconds between two looks at who still holds a connection; doubled up to the second number."""


class _Leaving:
    """Connections that wait for their last holder to go before they are closed."""

    def __init__(self) -> None:
        self._connections: list[tuple[libvirt.virConnect, object]] = []
        self._is_watched = False
        self._lock = threading.Lock()

    def add(self, connection: libvirt.virConnect, capsule: object) -> None:
        """Close it as soon as nothing else holds it. On a thread that no signal interrupts."""
        with self._lock:
            self._connections.append((connection, capsule))
            if self._is_watched:
                return
            self._is_watched = True
        threads.endings[self.close_unheld] = None
        threads.later(self._watch, "guestlist-close")

    def close_unheld(self) -> bool:
        """Close the connections that nothing else holds; whether any are left."""
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
    """Close the one connection in the list, and empty the list, which must be its last holder.

    `doubtful`: a call on it may have been interrupted. It then stays open until its other holders
    (handles, tracebacks) are gone, and is certain to be closed after that. Otherwise only handles
    keep it open.

    Call it on a thread that no signal interrupts, and after a turn of the event loop: libvirt may
    drop a registration's reference as late as that.

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
    """Give back every reference to a connection that no Python object refers to."""
    while _release(capsule):
        pass


def _release(capsule: object) -> bool:
    """Give one reference back; whether there are more."""
    with contextlib.suppress(libvirt.libvirtError):  # a dead one cannot be closed any better
        return libvirt.virConnect(_obj=capsule).close() > 0
    return False
