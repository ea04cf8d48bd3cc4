"""An open libvirt connection, and what the libvirt at its other end can do.

In: a connection that was just opened. Out: whether it is alive, the events of each kind, the
daemon's versions, and an orderly end. What is learned belongs to this one connection: after a
reconnect another daemon may answer. Does not open, does not take turns, does not list.

Source: libvirt src/remote/remote_driver.c, src/rpc/virkeepalive.c.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from functools import partial
from typing import ParamSpec, TypeVar

import libvirt

from guestlist import closing, process, threads
from guestlist.capabilities import Location, Versions
from guestlist.errors import Code, ThreadUnavailable, is_loss, short
from guestlist.event_loop import Stream, drain, is_on_loop
from guestlist.unpatched import threading
from guestlist.waiting import Outcome

_STOPS_KEEPALIVE_QUIETLY = 1_002_008
"""The client from which on keepalive is stopped before a connection is closed. Client 1.2.7 would
write two warnings to standard error; the crash that this prevents was seen with 9.0 only."""

_TELLS_OF_LOSS = 1_002_008
"""The client from which on guestlist trusts `isAlive`. With client 0.9.12 it stays true after the
daemon died; the clients between that and 1.2.8 were not measured."""

LONGEST_CLOSE = 10.0
"""Seconds that closing may take before `close` returns without it."""

P = ParamSpec("P")
T = TypeVar("T")


def unsupported(error: Exception) -> bool:
    """Return whether a call failed because it does not exist here, and for no other reason.

    That shows in three ways: the binding lacks the call (AttributeError), the daemon lacks it
    ("unknown procedure"), or the hypervisor driver lacks it. libvirt's code for the last two is 3.
    """
    if isinstance(error, libvirt.libvirtError):
        return bool(error.get_error_code() == Code.NO_SUPPORT)
    return isinstance(error, AttributeError)


class Peer:
    """An open connection, and what has been learned of the libvirt behind it.

    What is learned belongs to this one connection: after a reconnect another daemon may answer.
    """

    def __init__(self, connection: libvirt.virConnect, uri: str, *, keepalive: bool | None) -> None:
        self.connection = connection
        self.uri = uri
        """As the caller gave it, or as libvirt resolved it."""
        self.label = short(uri)
        self.keepalive = keepalive
        self.calls = 0
        """The number of calls about domains so far, which `call` counts: lists, states, look-ups,
        XML and metadata, also those that helpers made to read details (`count`). The calls of the
        connection itself (opening, events, versions, closing), facts of the host, statistics and
        the one list of each helper are not in it."""
        self.handles: dict[bytes, libvirt.virDomain] = {}
        """Handles of domains that are asked about one by one, by UUID; see `lookup.keep_known`."""
        self._streams: dict[int, Stream | None] = {}
        self._daemon: int | None = None
        self._closed = False
        self._lock = threading.Lock()
        process.leave_to_parent(connection)

    def call(self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Make a call about domains, and count it in `calls`, whether it fails or not."""
        self.count(1)
        return function(*args, **kwargs)

    def count(self, calls: int) -> None:
        """Add calls that were made for this peer: by `call`, or by helpers on their connections."""
        self.calls += calls

    def alive(self) -> bool:
        """Return whether libvirt still holds the connection open. Cost: none."""
        if self._closed:
            return False
        try:
            return self.connection.isAlive() != 0
        except libvirt.libvirtError:
            return False
        except AttributeError:  # isAlive came with 0.9.8
            return True

    def prove_alive(self) -> None:
        """Make a call where `alive` may be wrong: with client libraries before 1.2.8.

        Raises:
            libvirt.libvirtError: the call failed, so the connection is dead.

        Cost: 1 call with those, which is not in `calls`; else none.
        """
        if libvirt.getVersion() < _TELLS_OF_LOSS:
            self.connection.numOfDomains()

    def lost(self, error: libvirt.libvirtError) -> bool:
        """Return whether a call failed because the connection is dead.

        Cost: none; 1 call with client libraries before 1.2.8, see `prove_alive`.
        """
        if is_loss(error) or not self.alive():
            return True
        try:
            self.prove_alive()
        except libvirt.libvirtError:
            return True
        return False

    def events(self, kind: int, since: int = 0) -> Stream | None:
        """Return the events of a kind, registered on first use; None: this libvirt has none.

        Args:
            kind: VIR_DOMAIN_EVENT_ID_*.
            since: the libvirt that brought this kind, as a number; an older daemon is not asked.

        If a registration fails while events of another kind are handed out, libvirt's client (9.0)
        releases the callback twice, and the process crashes. So ask first for the kinds that may be
        missing: the newest kinds before the older ones, and lifecycle events last.

        Raises:
            libvirt.libvirtError: the connection is lost.

        Cost: 1 call the first time; with `since` 1 more, once per connection.
        """
        if kind in self._streams:
            return self._streams[kind]
        return threads.run_uninterrupted(partial(self._events, kind, since), "guestlist-register")

    def _events(self, kind: int, since: int) -> Stream | None:
        """Register on a thread that no signal interrupts.

        After an interrupt libvirt could have a registration that guestlist knows nothing about.
        """
        with self._lock:
            if self._closed:
                return None
            if kind not in self._streams:
                absent = since > 0 and self.release < since
                self._streams[kind] = None if absent else self._register(kind)
            return self._streams[kind]

    def lifecycle(self) -> Stream | None:
        """Return the lifecycle events: subscribers are called with (domain, event, detail)."""
        return self.events(libvirt.VIR_DOMAIN_EVENT_ID_LIFECYCLE)

    def _register(self, kind: int) -> Stream | None:
        try:
            return Stream(self.connection, kind)
        except AttributeError:  # domainEventRegisterAny came with 0.8.0
            return None
        except libvirt.libvirtError as error:
            # A daemon answers with code 1 to a kind that it does not know.
            unknown = kind != libvirt.VIR_DOMAIN_EVENT_ID_LIFECYCLE and not self.lost(error)
            if unknown or unsupported(error):
                return None
            raise

    @property
    def release(self) -> int:
        """The daemon's version as libvirt numbers it (9000000 is 9.0.0); 0: it does not tell.

        Raises:
            libvirt.libvirtError: the connection is lost.

        Cost: 1 call the first time, which is not in `calls`; none later.
        """
        if self._daemon is None:
            self._daemon = unless_unsupported(self.connection.getLibVersion) or 0
        return self._daemon

    @property
    def known_release(self) -> int | None:
        """`release` if it was told, also after the peer was closed; else None. Cost: none."""
        return self._daemon

    def location(self) -> Location:
        """Return where this libvirt is. Cost: none."""
        return Location.of(resolved_uri(self.connection))

    def close(self, *, doubtful: bool = False) -> None:
        """End the events and close libvirt's connection; harmless on a dead or a closed one.

        A thread that no signal interrupts does it. After `LONGEST_CLOSE` seconds this method
        returns, and the thread goes on until libvirt answers. For `doubtful` see `closing.close`.

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
        just before its timer sends a keepalive message, and then hangs or crashes. After a turn of
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
            self.handles.clear()  # each one holds the connection
            connections = [self.connection]
            del self.connection
            closing.close(connections, doubtful=doubtful)

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
    """Return the answer to a call; None where the call does not exist here."""
    try:
        return call()
    except (libvirt.libvirtError, AttributeError) as error:
        if unsupported(error):
            return None
        raise


def resolved_uri(connection: libvirt.virConnect) -> str:
    """Return the URI as libvirt resolved it; words for it where libvirt does not tell."""
    try:
        return connection.getURI()
    except libvirt.libvirtError:
        return "libvirt's default URI"
