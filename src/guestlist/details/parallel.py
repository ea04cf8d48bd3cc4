"""Many domains' XML, read side by side where that is worth more connections.

In: handles of one connection. Out: what was read of each. One connection alone reads a hundred in
some 20 ms on its own host; where it takes longer (many domains, a network between), helpers join
it, each on a connection of its own. Never several threads on one connection: libvirt's client (9.0)
stalls one behind the other now and then, and crashes if the connection is lost under both.

A helper that cannot be started or cannot connect, or whose connection is lost, changes nothing:
what it did not read is read by the first. Nobody waits for one to connect.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Iterable
from functools import partial

import libvirt

from guestlist import threads
from guestlist.connection import Connection
from guestlist.details.reader import ReadDetails
from guestlist.errors import GuestlistError, ThreadUnavailable
from guestlist.handle import Handle
from guestlist.peer import Peer, unsupported
from guestlist.unpatched import threading

log = logging.getLogger(__name__)

SIZE = 5
"""Calls at a time: what libvirtd serves of one client (max_client_requests)."""

HELPED_SINCE = 1_002_008
"""The libvirt (1.2.8), client and daemon, from which on helpers join: they need the bulk listing
to have their handles in one call, and an older daemon serves but 20 clients by default."""

ALONE = 0.05
"""Seconds that one connection reads alone: a helper costs ten calls, to connect and to list."""


Reader = Callable[[Handle, Peer], ReadDetails | None]
"""What reads one of them: `reader.read`."""


def read(
    handles: Iterable[Handle], peer: Peer, connection: Connection, read_one: Reader
) -> list[tuple[Handle, ReadDetails | None]]:
    """ReadDetails each domain's XML; None where the domain is gone. In no particular order.

    Raises:
        libvirt.libvirtError: `peer` is lost.

    Cost: 1 call per domain, see `reader.read`; and for each helper one connection and one listing,
    which are not in `Peer.calls`.
    """
    work = _Work(handles)
    began = time.monotonic()
    helped = min(peer.release, libvirt.getVersion()) >= HELPED_SINCE
    joined = not (helped and peer.location().asked_again_at_will)
    try:
        while (handle := work.take()) is not None:
            work.done(handle, read_one(handle, peer))
            if not joined and time.monotonic() - began > ALONE:
                joined = True
                _start_helpers(min(SIZE - 1, work.left()), work, connection, read_one)
        for handle in work.wait_for_helpers():
            work.done(handle, read_one(handle, peer))
    finally:
        work.abandon()
        peer.count(work.helped_calls)
    return work.results


class _Work:
    """What is still to be read, and what has been."""

    def __init__(self, handles: Iterable[Handle]) -> None:
        self.results: list[tuple[Handle, ReadDetails | None]] = []
        self.helped_calls: int = 0
        self._todo = deque(handles)
        self._returned: list[Handle] = []
        self._with_helpers = 0
        self._lock = threading.Lock()
        self._helped = threads.Bell()

    def left(self) -> int:
        return len(self._todo)

    def take(self, *, helper: bool = False) -> Handle | None:
        with self._lock:
            if not self._todo:
                return None
            self._with_helpers += helper
            return self._todo.popleft()

    def done(self, handle: Handle, outcome: ReadDetails | None) -> None:
        with self._lock:
            self.results.append((handle, outcome))

    def helped(self, handle: Handle, outcome: ReadDetails | None, calls: int) -> None:
        """A helper has read it; or could not, and `outcome` is None: the first one shall."""
        with self._lock:
            self._with_helpers -= 1
            if outcome is None:
                self._returned.append(handle)
            else:
                self.helped_calls += calls
                self.results.append((handle, outcome))
        self._helped.ring()

    def wait_for_helpers(self) -> list[Handle]:
        """Return when no helper is reading, with what they have given back.

        A helper's call lasts as long as any: until its connection's keepalive ends it.
        """
        self._helped.wait_for(lambda: not self._with_helpers)
        return self._returned

    def abandon(self) -> None:
        self._todo.clear()


def _start_helpers(number: int, work: _Work, connection: Connection, read_one: Reader) -> None:
    try:
        for _ in range(number):
            help_it = partial(_help, work, connection.like_this(), read_one)
            threads.start(help_it, "guestlist-details")
    except ThreadUnavailable as error:
        log.debug("the first connection reads without more helpers: %s", error)


def _help(work: _Work, connection: Connection, read_one: Reader) -> None:
    def read(peer: Peer) -> None:
        there = _handles(peer)
        while there and (handle := work.take(helper=True)) is not None:
            before, outcome = peer.calls, None
            try:
                if handle.uuid in there:
                    outcome = read_one(handle.over(there[handle.uuid]), peer)
            finally:
                work.helped(handle, outcome, peer.calls - before)

    try:
        connection.ask("read the XML of the domains", read)
    except GuestlistError as error:
        log.debug("a helper gave up: %s", error)
    finally:
        connection.close()


def _handles(peer: Peer) -> dict[bytes, libvirt.virDomain]:
    """The handles of this connection, by UUID; none where it takes more than a call to get them."""
    try:
        return {domain.UUID(): domain for domain in peer.call(peer.connection.listAllDomains, 0)}
    except (libvirt.libvirtError, AttributeError) as error:
        if not unsupported(error):
            raise
        return {}
