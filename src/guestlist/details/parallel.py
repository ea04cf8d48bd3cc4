"""The XML of many domains, read side by side where that is worth more connections.

In: handles of one connection. Out: what was read of each domain. One connection alone reads a
hundred in some 20 ms on its own host, and most of that is this process's own work, which threads
cannot share. Where an answer takes longer (a network between, a busy daemon) helpers join it, each
on a connection of its own. Never do several threads use one connection: libvirt's client (9.0)
stalls one behind the other now and then, and crashes if the connection is lost under both.

A helper that cannot be started or cannot connect, or that loses its connection, changes nothing:
the first connection reads what the helper did not read. Nothing waits for a helper to connect.
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
from guestlist.details.reader import ReadDetails, XmlReader
from guestlist.errors import GuestlistError, ThreadUnavailable
from guestlist.handle import Handle
from guestlist.peer import Peer, unsupported
from guestlist.unpatched import threading
from guestlist.waiting import Bell

log = logging.getLogger(__name__)

SIZE = 5
"""Calls at a time: as many as libvirtd serves of one client (max_client_requests)."""

HELPED_SINCE = 1_002_008
"""The libvirt (1.2.8), client and daemon, from which on helpers join. They need the bulk listing
to get their handles in one call, and an older daemon serves only 20 clients by default."""

ALONE = 0.05
"""Seconds that one connection reads alone: a helper costs ten calls, to connect and to list."""

SLOW = 0.001
"""Seconds that a domain must take on average for helpers to join. On the same host it takes a third
of that, and helpers would only contend for Python's lock."""

BATCH = 1_000_000
"""Characters that are fetched before they are parsed, some 150 domains. To fetch and parse in turns
costs up to half as much processor time again (measured at 400 domains): each turn wakes the thread
of the event loop, which then competes for Python's lock."""


def read(
    handles: Iterable[Handle],
    peer: Peer,
    connection: Connection,
    reader: XmlReader,
    tell: Callable[[int, int], object] | None = None,
) -> list[tuple[Handle, ReadDetails | None]]:
    """Read each domain's XML; None where the domain is gone. In no particular order.

    `tell` is called before each domain is read, on the thread that reads it, and at the end: with
    the number of domains before it, and that of all.

    Raises:
        libvirt.libvirtError: `peer` is lost.

    Cost: 1 call per domain, see `XmlReader.read`; and for each helper one connection and one
    listing, which are not in `Peer.calls`.
    """
    work = _Work(handles, tell)
    began = time.monotonic()
    joined = not peer.location().asked_again_at_will
    taken, characters = 0, 0
    unparsed: list[tuple[Handle, str]] = []
    try:
        while (handle := work.take()) is not None:
            fetched = reader.fetch(handle, peer)
            if isinstance(fetched, str):
                unparsed.append((handle, fetched))
                characters += len(fetched)
            else:
                work.done(handle, fetched)
            if characters >= BATCH:
                _parse(unparsed, work, peer, reader)
                characters = 0
            taken += 1
            if not joined and _is_slow(time.monotonic() - began, taken):
                joined = True
                if min(peer.release, libvirt.getVersion()) >= HELPED_SINCE:
                    _start_helpers(min(SIZE - 1, work.left()), work, connection, reader)
        _parse(unparsed, work, peer, reader)
        for handle in work.wait_for_helpers():
            work.done(handle, reader.read(handle, peer))
        work.tell(work.number)
    finally:
        work.abandon()
        peer.count(work.helped_calls)
    return work.results


def _parse(unparsed: list[tuple[Handle, str]], work: _Work, peer: Peer, reader: XmlReader) -> None:
    for handle, document in unparsed:
        work.done(handle, reader.parse(handle, document, peer))
    unparsed.clear()


def _is_slow(seconds: float, domains: int) -> bool:
    """Return whether helpers pay, after reading so many domains alone for so long."""
    return seconds > ALONE and seconds > SLOW * domains


class _Work:
    """The domains still to be read, and what was read."""

    def __init__(
        self, handles: Iterable[Handle], tell: Callable[[int, int], object] | None
    ) -> None:
        self.results: list[tuple[Handle, ReadDetails | None]] = []
        self.helped_calls = 0
        self._tell = tell
        self._todo = deque(handles)
        self.number = len(self._todo)
        self._returned: list[Handle] = []
        self._with_helpers = 0
        self._lock = threading.Lock()
        self._helped = Bell()

    def left(self) -> int:
        """Return how many domains nothing reads yet."""
        return len(self._todo)

    def take(self, *, helper: bool = False) -> Handle | None:
        """Return the next domain to read; None if there are no more."""
        with self._lock:
            if not self._todo:
                return None
            self._with_helpers += helper
            handle = self._todo.popleft()
        self.tell(self.number - self.left() - 1)
        return handle

    def tell(self, read: int) -> None:
        """Tell how many of the domains have been read."""
        if self._tell is not None:
            self._tell(read, self.number)

    def done(self, handle: Handle, outcome: ReadDetails | None) -> None:
        """Keep what was read of a domain."""
        with self._lock:
            self.results.append((handle, outcome))

    def helped(self, handle: Handle, outcome: ReadDetails | None, calls: int) -> None:
        """Keep what a helper read of a domain; None: the first connection must read it."""
        with self._lock:
            self._with_helpers -= 1
            if outcome is None:
                self._returned.append(handle)
            else:
                self.helped_calls += calls
                self.results.append((handle, outcome))
        self._helped.ring()

    def wait_for_helpers(self) -> list[Handle]:
        """Wait until no helper is reading; return the domains that helpers could not read.

        A helper's call lasts as long as any: until its connection's keepalive ends it.
        """
        self._helped.wait_for(lambda: not self._with_helpers)
        return self._returned

    def abandon(self) -> None:
        """Leave nothing to read."""
        self._todo.clear()


def _start_helpers(number: int, work: _Work, connection: Connection, reader: XmlReader) -> None:
    try:
        for _ in range(number):
            help_it = partial(_help, work, connection.like_this(), reader)
            threads.start(help_it, "guestlist-details")
    except ThreadUnavailable as error:
        log.debug("the first connection reads without more helpers: %s", error)


def _help(work: _Work, connection: Connection, reader: XmlReader) -> None:
    def read(peer: Peer) -> None:
        there = _handles(peer)
        while there and (handle := work.take(helper=True)) is not None:
            before, outcome = peer.calls, None
            try:
                if handle.uuid in there:
                    outcome = reader.read(handle.over(there[handle.uuid]), peer)
            finally:
                work.helped(handle, outcome, peer.calls - before)

    try:
        connection.ask("read the XML of the domains", read)
    except GuestlistError as error:
        log.debug("a helper gave up: %s", error)
    finally:
        connection.close()


def _handles(peer: Peer) -> dict[bytes, libvirt.virDomain]:
    """Return this connection's handles by UUID; none where the bulk listing is missing."""
    try:
        return {domain.UUID(): domain for domain in peer.call(peer.connection.listAllDomains, 0)}
    except (libvirt.libvirtError, AttributeError) as error:
        if not unsupported(error):
            raise
        return {}
